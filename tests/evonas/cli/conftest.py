"""A command in this process, and a finished run."""

import sys
from pathlib import Path

import pytest

from evonas.cli.main import main
from evonas.run import Run
from tests.evonas.cli.cases import Answer, Command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`evonas ARGUMENTS` in this process."""

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
