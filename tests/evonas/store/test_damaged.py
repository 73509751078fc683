"""Damaged databases are one line that names the row. `damage.py` has all of them; here are some of each kind."""

from pathlib import Path

import pytest

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
    list(dump(reader))
    read_as_resume(reader)
    reader.lineage(BIRTH)


SAID = {
    "evaluation.verdict text": "evaluation 30: verdict 'fitnes' is unknown; did you mean 'fitness'?",
    "evaluation.verdict null": "evaluation 30: verdict is NULL, not text",
    "baseline evaluation.verdict text": "evaluation 1: verdict 'fitnes' is unknown; did you mean 'fitness'?",
    "baseline score.value text": "value is str, not a number",
    "baseline crashed": "the baseline: BN-ReLU ended without finite accuracies; the file is damaged",
    "baseline point.accuracy infinite": "the baseline: BN-ReLU ended without finite accuracies",
    "candidate.graph text": "birth 22: its graph cannot be read (graph text, line 1, column 1: unknown",
    "candidate.state blob": "birth 22: state is bytes, not text",
    "candidate.graph blob": "birth 22: graph is bytes, not text",
    "candidate.operator text": "birth 22: operator 'fitnes' is unknown",
    "measurement.value text": "value is str, not a number",
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
    "births with a gap": "birth 23: it follows birth 21",
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


@pytest.mark.parametrize("name", ["candidate.amplification negative", "candidate.graph text", "candidate.birth nested"])
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
