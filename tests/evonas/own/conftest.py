"""The page's files, for each test of this folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evonas.own.own_cases import FILES, forget


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """The page's files, in a folder that is not the working directory."""
    before = set(sys.modules)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    forget()
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]
