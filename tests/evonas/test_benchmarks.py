"""The benchmarks are run by hand; a refactor must not leave them behind."""

import ast
import sys
from importlib import import_module
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest

from evonas.config import Config
from evonas.search_space.errors import InputError
from tests.benchmarks.command import in_one_line
from tests.conftest import ROOT
from tests.evonas.test_house import file_of

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


def test_holds_runs_without_ray() -> None:
    """The machine that lends its GPU may not have it."""
    waiting, seen = [Path(ROOT, "tests", "benchmarks", "holds.py")], set[str]()
    while waiting:
        for node in ast.parse(waiting.pop().read_text()).body:
            modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [str(node.module), *(f"{node.module}.{each.name}" for each in node.names)]
            for module in set(modules) - seen:
                seen.add(module)
                if file := file_of(module):
                    waiting.append(ROOT / file)
    assert {"torch", "evonas.workers.training", "evonas.store.tables"} <= seen  # so that a blind parser would be seen
    assert "ray" not in {module.split(".")[0] for module in seen}


RESUMED = [name for name in BENCHMARKS if "ResultFile(" in Path(ROOT, "tests", "benchmarks", f"{name}.py").read_text()]


@pytest.mark.parametrize("name", RESUMED)
def test_a_file_of_other_results_is_refused_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(path: Path, *configs: Config, **arguments: Any) -> None:
        raise InputError(f"{path.name}: results of another config")

    module = import_module(f"tests.benchmarks.{name}")
    assert "in_one_line(main)" in getsource(module)
    monkeypatch.setattr(module, "ResultFile", refuse)
    config = str(ROOT / "configs" / "quickstart.yaml")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", config, "--out", str(tmp_path / "results.jsonl")])
    with pytest.raises(SystemExit) as ended:
        in_one_line(module.main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{name}.py: results.jsonl: results of another config\n"
