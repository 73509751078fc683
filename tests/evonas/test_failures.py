"""The table of failures: each row names tests, and they exist."""

import ast
import re

from tests.conftest import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")]
    for line in (ROOT / "docs" / "failures.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| failure"))
]


def defined_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_failure_says_what_is_lost_what_to_do_and_which_tests_hold_it() -> None:
    assert len(ROWS) >= 20
    for row in ROWS:
        assert len(row) == 4, row[0]
        assert all(row), row[0]
        named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row[3])
        assert named, row[0]
        for path, name in named:
            assert name in defined_in(path), f"{row[0]}: {path} has no {name}"
