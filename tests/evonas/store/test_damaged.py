"""Damaged databases are one line that names the row. `damage.py` has all of them; here are some of each kind."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from evonas.cli.main import app
from evonas.search_space.errors import InputError
from evonas.store.database import Database
from evonas.store.dump import dump
from tests.evonas.store.damage import BIRTH, COMMANDS, Damage, damages, fault, prepared, read_as_resume

ALL = {each.name: each for each in damages()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return prepared(tmp_path_factory.mktemp("whole")).read_bytes()


def damaged(whole: bytes, folder: Path, damage: Damage) -> Path:
    path = folder / "run.db"
    path.write_bytes(whole)
    damage.apply(path)
    return path


def read_all(path: Path) -> None:
    reader = Database.open(path).reader()
    list(dump(reader, logical_only=False))
    reader.front()
    read_as_resume(reader)
    reader.lineage(BIRTH)


SAID = {
    "evaluation.verdict text": "evaluation 30: verdict 'fitnes' is unknown; did you mean 'fitness'?",
    "evaluation.verdict null": "evaluation 30: verdict is NULL, not text",
    "baseline evaluation.verdict text": "evaluation 1: verdict 'fitnes' is unknown; did you mean 'fitness'?",
    "baseline score.value text": "value is str, not a number",
    "baseline crashed": "the baseline: BN-ReLU ended without accuracies; the file is damaged",
    "baseline point.accuracy infinite": "evaluation 1: point mobilenet, 0, 3: accuracy is inf, not 0.0 to 1.0",
    "score.value far": "evaluation 30: its accuracy on mobilenet is 7e+300, not 0.0 to 1.0; the file is damaged",
    "audit point.accuracy far": "evaluation 10: point mobilenet, 0, 6: accuracy is 7e+300, not 0.0 to 1.0",
    "rerank evaluation.seconds negative": "evaluation 40: seconds is -1.0, not 0.0 or more; the file is damaged",
    "validate score.value far": "evaluation 44: its accuracy on mobilenet is 7e+300, not 0.0 to 1.0",
    "evaluation.purpose text": "evaluation 30: purpose 'fitnes' is unknown",
    "evaluation.purpose null": "birth 22: its state is evaluated, and its outcome is not there",
    "evaluation.advantage far": "evaluation 30: advantage is 7e+300, not -1.0 to 1.0; the file is damaged",
    "measurement.gate text": "gate 'fitnes' is none of the config's",
    "event.kind text": "event 1: event 'fitnes' is unknown",
    "candidate.state text": "birth 22: state 'fitnes' is unknown",
    "candidate.formula text": "birth 22: its formula cannot be read (graph text, line 1, column 1: unknown",
    "rerank evaluation.birth null": "evaluation 40: it is that of no layer; the file is damaged",
    "front of nobody": "birth 999: other tables name it, and it is not there; the file is damaged",
    "front of a rejected": "is rejected; the file is damaged",
    "candidate.live_nodes negative": "birth 22: live_nodes is -1, not 0 to 100; the file is damaged",
    "candidate.graph text": "birth 22: its graph cannot be read (graph text, line 1, column 1: unknown",
    "candidate.state blob": "birth 22: state is bytes, not text",
    "candidate.graph blob": "birth 22: graph is bytes, not text",
    "candidate.operator text": "birth 22: operator 'fitnes' is unknown",
    "measurement.value text": "value is str, not a number",
    "candidate.batch_dependent text": "birth 22: batch_dependent is str, not true or false; the file is damaged",
    "measurement.passed text": "passed is str, not true or false; the file is damaged",
    "score.proxy text": "proxy 'fitnes' is none of the config's",
    "score.value null": "value is NULL, not a number",
    "run.config text": "run 1: config is no JSON",
    "run.config nested": "run 1: config is no JSON",
    "run.versions no utf-8": "Could not decode to UTF-8",
    "run.versions nested": "run 1: versions is no JSON",
    "run.name nul": "run 1: its name is",
    "own parent": "birth 22: parent is birth 22, which is not older",
    "circle of parents": "birth 22: parent is birth 23, which is not older",
    "own equal": "birth 22: equal_to is birth 22, which is not older",
    "proposed late": "birth 22: it was proposed after 1000 outcomes",
    "births with a gap": "evaluation 40: birth 22 is not there",
    "evaluation.layer renamed": "no such column: evaluation.layer",
    "point dropped": "no such table: point",
    "version of tomorrow": "schema 9999, this evonas reads up to",
    "cut to 0 tenths": "not a database of evonas",
    "cut to 3 tenths": "malformed",
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_damaged_is_named_in_one_line(whole: bytes, tmp_path: Path, name: str) -> None:
    path = damaged(whole, tmp_path, ALL[name])
    with pytest.raises(InputError) as refusal:
        read_all(path)
    assert str(refusal.value).startswith(str(path))
    assert SAID[name] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("command", [("dump", "RUN"), ("status", "RUN"), ("top", "RUN"), ("funnel", "RUN")])
def test_nothing_is_printed_before_the_damage_of_a_late_row(
    whole: bytes, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = damaged(whole, tmp_path, ALL["rerank score.value far"])
    assert fault(command, path) is None
    result = CliRunner().invoke(app, [str(path) if word == "RUN" else word for word in command])
    assert isinstance(result.exception, InputError)
    assert result.stdout == ""


@pytest.mark.parametrize(
    "name",
    [
        "candidate.amplification negative",
        "candidate.amplification huge",
        "candidate.graph text",
        "candidate.birth nested",
    ],
)
def test_a_damaged_candidate_is_shown_or_one_line(whole: bytes, tmp_path: Path, name: str) -> None:
    assert fault(("show", "RUN", "BIRTH"), damaged(whole, tmp_path, ALL[name])) is None


@pytest.mark.parametrize("command", [("replay", "RUN"), ("resume", "RUN")])
def test_a_baseline_that_crashed_is_one_line(whole: bytes, tmp_path: Path, command: tuple[str, ...]) -> None:
    assert fault(command, damaged(whole, tmp_path, ALL["baseline crashed"])) is None


@pytest.mark.parametrize("number", range(20))
def test_damage_is_never_a_traceback(whole: bytes, tmp_path: Path, number: int) -> None:
    """A different damage and command for each number; the second tier has all."""
    name = sorted(ALL)[number * 53 % len(ALL)]
    path = damaged(whole, tmp_path, ALL[name])
    for command in (COMMANDS[number % len(COMMANDS)], ("resume", "RUN")):
        assert fault(command, path) is None, name


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_no_damage_is_a_traceback(whole: bytes, tmp_path: Path, part: int) -> None:
    for number, (name, damage) in enumerate(ALL.items()):
        if number % 10 == part:
            path = damaged(whole, tmp_path, damage)
            command = COMMANDS[number // 10 % len(COMMANDS)]
            for each in (command, ("resume", "RUN"), ("dump", "RUN")):
                assert fault(each, path) is None, name
