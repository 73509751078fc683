"""A new primitive is one row and its function: nothing else knows the primitives by name."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from evonas.report.documents import catalog_page, gates_page, primitives_page
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "developers" / "extend.md").read_text(encoding="utf-8")
ADDED = re.findall(
    r"```python\n# search_space/primitives\.py: [^\n]*\n(.*?)```", PAGE, re.DOTALL
)  # a function, and its row


def test_a_primitive_is_one_row(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "search_space", tmp_path / "search_space", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "evonas", tmp_path / "evonas", symlinks=True)
    (tmp_path / "workers").symlink_to(ROOT / "workers")
    table = tmp_path / "search_space" / "primitives.py"
    source = table.read_text(encoding="utf-8")
    function, row = ADDED
    for before, added in (("@dataclass(", f"{function}\n\n"), ('    Primitive("tanh", ', row)):
        assert source.count(before) == 1
        source = source.replace(before, added + before)
    table.write_text(source, encoding="utf-8")
    script = [sys.executable, "-B", str(ROOT / "tests" / "search_space" / "one_row.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.stdout == "softplus is everywhere\n", result.stderr


def test_the_documented_tables_are_the_tables() -> None:
    assert (ROOT / "docs" / "primitives.md").read_text(encoding="utf-8") == primitives_page()
    assert (ROOT / "docs" / "catalog.md").read_text(encoding="utf-8") == catalog_page()
    assert (ROOT / "docs" / "gates.md").read_text(encoding="utf-8") == gates_page()
