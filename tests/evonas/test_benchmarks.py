"""The benchmarks are run by hand; a refactor must not leave them behind."""

import sys
from importlib import import_module
from inspect import getsource
from pathlib import Path

import pytest

from tests.conftest import ROOT

BENCHMARKS = sorted(path.stem for path in Path(ROOT, "tests", "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_can_be_imported_and_shows_its_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(f"tests.benchmarks.{name}")
    if "__main__" not in getsource(module):
        return  # shared by the others
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code in (None, 0)
    assert "usage:" in capsys.readouterr().out
