"""The progress of a study on standard error."""

import time

import click
import pytest

from evonas.cli.progress import progress_of


def test_where_nothing_can_be_drawn_over_a_study_says_how_far_it_is_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_of("trainings") as progress:
        for done in range(41):
            progress(done, 40)
            now += 3.0
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "4 of 40 trainings, about 1 min 48 s left"
    assert len(lines) == 40 // 4  # one every fourth call: 12 seconds


def test_a_stopped_study_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.Abort), progress_of("trainings"):
        raise KeyboardInterrupt
    assert capsys.readouterr().out == ""
