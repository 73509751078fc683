"""The runs of a folder or a database, each with its state."""

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.config import Config
from evonas.config_file import dump_config, parse_config
from evonas.run_list import runs
from evonas.run_state import RunState
from evonas.search_space.errors import InputError
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Event, Purpose
from evonas.store.writer import Writer
from evonas.workers.outcome import Evaluation, Fitness
from tests.conftest import ROOT
from tests.evonas.store_cases import FIT, REJECTED, propose_and_record


def begin(folder: Path, config: Config, url: str | None = None) -> Writer:
    """A run that is driven, with one candidate trained and one rejected."""
    address = Address.of_url(url, folder.name, folder) if url else Address.of_file(folder / "run.db", None, folder)
    store = Database(address).create(config, {"folder": str(folder)})
    propose_and_record(store, 1, FIT, 1, advantage=0.1)
    propose_and_record(store, 2, REJECTED, 2)
    return store


def finish(store: Writer) -> None:
    """The final table with two seeds: 0.25 better than BN-ReLU on each proxy."""
    for seed in (1, 2):
        for name, birth, accuracy in (("BN-ReLU", None, 0.25), (None, 1, 0.5)):
            fitness = Fitness({"resnet": accuracy, "mobilenet": accuracy})
            store.record_beside(Purpose.RERANK, "x", seed, Evaluation(fitness), birth=birth, name=name)
    store.finish()
    store.close()


def test_each_run_has_its_state_and_its_best(tmp_path: Path, config: Config) -> None:
    finish(begin(tmp_path / "finished", config))
    driven = begin(tmp_path / "driven", config)
    stopped = begin(tmp_path / "stopped", config)
    stopped.event(Event.STOPPED, "asked to stop")
    stopped.close()
    begin(tmp_path / "dead", config).close()  # a driver that ends without a word
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.db").write_text("no database")
    (tmp_path / "other").mkdir()  # no run, and no line
    lines = {line.name: line for line in runs(tmp_path)}
    assert {name: line.state for name, line in lines.items()} == {
        "finished": RunState.FINISHED,
        "driven": RunState.RUNNING,
        "stopped": RunState.STOPPED,
        "dead": RunState.DEAD,
        "damaged": RunState.UNREADABLE,
    }
    assert {(line.births, line.trained) for line in lines.values() if not line.error} == {(2, 1)}
    best = lines["finished"]
    assert (best.best, best.best_birth, best.run) == (pytest.approx(0.25), 1, str(tmp_path / "finished"))
    assert lines["driven"].best is None
    assert "not a database" in lines["damaged"].error
    order = [line.name for line in runs(tmp_path)]
    assert order == ["finished", "driven", "stopped", "dead", "damaged"]  # as they began
    driven.close()


def test_a_look_leaves_a_drivers_lock_alone(tmp_path: Path, config: Config) -> None:
    begin(tmp_path / "run", config).close()
    lock = tmp_path / "run" / ".run.db.run.lock"
    before = lock.read_text()
    assert [line.state for line in runs(tmp_path)] == [RunState.DEAD]
    assert lock.read_text() == before
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is free again
        assert [line.state for line in runs(tmp_path)] == [RunState.RUNNING]


def test_runs_of_a_shared_database_are_listed_once_by_their_folders(tmp_path: Path, config: Config) -> None:
    url = f"sqlite:///{tmp_path / 'all.db'}"
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        mine = config.model_copy(update={"store": config.store.model_copy(update={"url": url})})
        (folder / "config.yaml").write_text(dump_config(mine))
        begin(folder, mine, url).close()
    expected = [str(tmp_path / name) for name in ("a", "b")]
    assert [line.run for line in runs(tmp_path)] == expected
    assert [line.run for line in runs(url)] == [f"{url}#{name}" for name in ("a", "b")]
    assert [line.name for line in evonas.runs(tmp_path / "all.db")] == ["a", "b"]
    (tmp_path / "b" / "config.yaml").unlink()
    assert [line.run for line in runs(tmp_path)] == [expected[0], f"{url}#b"]
    assert all(evonas.open_run(line.run).name == line.name for line in runs(url))


def test_a_runs_own_folder_and_file_are_a_line(tmp_path: Path, config: Config) -> None:
    begin(tmp_path / "run", config).close()
    assert [line.name for line in runs(tmp_path / "run")] == ["run"]
    assert [line.name for line in runs(tmp_path / "run" / "run.db")] == ["run"]


def test_a_server_tells_who_drives(server_database: str, tmp_path: Path, config: Config) -> None:
    driven = begin(tmp_path / "driven", config, server_database)
    begin(tmp_path / "dead", config, server_database).close()
    states = {line.name: line.state for line in runs(server_database)}
    assert states == {"driven": RunState.RUNNING, "dead": RunState.DEAD}
    driven.close()


def test_a_folder_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        runs(tmp_path / "none")
    assert runs(tmp_path) == []


def test_one_damaged_run_of_a_folder_is_a_line(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Whatever is wrong with it, the others are listed."""
    import sqlite3
    from contextlib import closing

    config = parse_config(json.dumps(tiny))
    for name in ("whole", "config", "state"):
        finish(begin(tmp_path / name, config))
    for name, change in (("config", "UPDATE run SET config = 'no JSON'"), ("state", "UPDATE candidate SET state = 7")):
        with closing(sqlite3.connect(tmp_path / name / "run.db")) as connection, connection:
            connection.execute(change)
    lines = {line.name: line for line in runs(tmp_path)}
    assert lines["whole"].state == RunState.FINISHED
    assert lines["config"].state == RunState.UNREADABLE
    assert "no JSON" in lines["config"].error
    assert set(lines) == {"whole", "config", "state"}


def test_a_list_does_not_upgrade_an_older_database(tmp_path: Path) -> None:
    old = shutil.copy(ROOT / "tests" / "evonas" / "databases" / "0003.db", tmp_path / "old.db")
    before = Path(old).read_bytes()
    (line,) = runs(tmp_path)
    assert (line.state, "schema 0003" in line.error) == (RunState.OLDER, True)
    assert Path(old).read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["old.db"]


@pytest.mark.parametrize("place", ["a" * 5000, "a\0b", "~nobody99/x"])
def test_a_place_that_cannot_be_is_one_short_line(place: str) -> None:
    with pytest.raises(InputError) as refusal:
        runs(place)
    assert len(str(refusal.value)) < 400
    assert str(refusal.value).isprintable()
