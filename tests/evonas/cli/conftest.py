"""A command in this process, a finished run, and one that is driven by hand."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evonas.cli import progress
from evonas.cli.main import main
from evonas.overview import Overview, overview
from evonas.run import Run, open_run
from evonas.store.records import Purpose
from tests.evonas.cli.cases import Answer, Command
from tests.evonas.cli.driven import Driven
from tests.evonas.search_cases import configured
from tests.evonas.store_cases import CRASHED, REJECTED, fit, new_run, propose


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`evonas ARGUMENTS` in this process. A study says nothing of its progress, however slow the machine is."""
    monkeypatch.setattr(progress, "LINE_SECONDS", math.inf)

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["evonas", *map(str, arguments)])
        capfd.readouterr()
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        output = capfd.readouterr()
        assert code is None or isinstance(code, int)
        return Answer(code or 0, output.out, output.err)

    return run


@pytest.fixture
def run(calm: Run) -> Path:
    """The folder of a finished run."""
    return Path(calm.folder)


@pytest.fixture
def driven(tiny: dict[str, Any], tmp_path: Path) -> Iterator[Driven]:
    config = configured(tiny, births=20, surrogate={}, operators={"op": 1}, remeasure={})
    store = new_run(tmp_path / "run", config)
    store.record_beside(Purpose.BASELINE, "x", config.seed, fit(0.25, 0.25), name="BN-ReLU")
    yield Driven(open_run(tmp_path / "run"), store)
    store.close()


@pytest.fixture
def searching(driven: Driven) -> Overview:
    """Four births of 20: one trained, one stopped by a gate, one crashed, and one in flight."""
    driven.trained(1, 1)
    driven.trained(2, 2, REJECTED)
    driven.trained(3, 3, CRASHED)
    propose(driven.store, 4)
    return replace(overview(driven.run), busy=1, workers=2)
