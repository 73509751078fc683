"""Databases: how a run is named, several of them in one database, and a run long after its end."""

import os
import shutil
import stat
from pathlib import Path

import pytest
from sqlalchemy import select, update

from evonas.config import Config
from evonas.run import open_run
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store import tables
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Event
from evonas.store.writer import Writer
from tests.evonas.store_cases import FIT, IN_A_FILE, REJECTED, S0, candidate, files, propose, propose_and_record, record

# --------------------------------------------------------------------------- references


FORMS = ("{}", "{}/", "{}/run.db", "sqlite:///{}/run.db", "sqlite:///{}/run.db#run-000")


@IN_A_FILE
@pytest.mark.parametrize("form", FORMS)
def test_a_run_is_a_folder_a_file_or_a_url(store: Writer, address: Address, form: str) -> None:
    run = open_run(form.format(address.folder))
    assert (run.name, Path(run.folder)) == ("run-000", address.folder)


def test_several_runs_share_a_database_and_nothing_else(tmp_path: Path, config: Config) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    both = [Database(Address.of_url(url, name, tmp_path / name)).create(config, {}) for name in ("first", "second")]
    propose(both[0], 1, text="x + v0")
    record(both[0], 1, FIT, 1, 0.1)
    propose(both[1], 1, 2, text="sigmoid(x)")
    record(both[1], 1, REJECTED, 1)
    for store in both:
        store.close()
    first, second = open_run(f"{url}#first"), open_run(f"{url}#second")
    assert (first.candidate(1).formula, second.candidate(1).formula) == ("v0 + x", "sigmoid(x)")
    assert [each.birth for each in first.top()] == [1]
    assert second.top() == []
    assert len(Database.open(f"{url}#second").reader().candidates()) == 2
    for found_by in (url, str(tmp_path / "shared.db")):
        with pytest.raises(InputError, match=r"2 runs; name one as URL#run: first, second"):
            open_run(found_by)
    with pytest.raises(InputError, match=r"no run 'secnod'; did you mean 'second'\?"):
        open_run(f"{url}#secnod")


def test_two_runs_of_one_database_may_be_driven_at_once(tmp_path: Path, config: Config) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first, second = (
        Database(Address.of_url(url, name, tmp_path / name)).create(config, {}) for name in ("first", "second")
    )
    for birth in range(1, 4):
        first.propose(candidate(birth))
        second.propose(candidate(birth))
    first.close()
    second.propose(candidate(4))
    second.close()
    assert len(Database.open(f"{url}#first").reader().candidates()) == 3
    assert len(Database.open(f"{url}#second").reader().candidates()) == 4


@pytest.mark.parametrize("name", ["with space", "größe", "50%", "per%41cent", "a#b", "what?mode=rw", "[red]"])
def test_a_runs_folder_may_have_any_name(tmp_path: Path, config: Config, name: str) -> None:
    folder = tmp_path / name
    store = Database(Address.of_file(folder / "run.db", name, folder)).create(config, {})
    propose(store, 1)
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / "run.db").is_file()
    assert open_run(folder).candidate(1).formula == Graph.parse(S0).formula


# --------------------------------------------------------------------------- long after


@pytest.fixture
def finished(address: Address, config: Config) -> Path:
    store = Database(address).create(config, {})
    propose_and_record(store, 1, FIT, 1, 0.1)
    store.finish()
    store.close()
    return address.folder


@IN_A_FILE
def test_a_closed_run_is_one_file_that_readers_leave_alone(finished: Path) -> None:
    before = files(finished)
    assert sorted(Path(path).suffix for path in before) == [".db", ".lock"]
    run = open_run(finished)
    assert [each.birth for each in run.top()] == [1]
    assert files(finished) == before


@IN_A_FILE
def test_the_database_file_alone_is_enough(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "kept.db"
    copy.parent.mkdir()
    shutil.copy(finished / "run.db", copy)
    assert open_run(copy).candidate(1).outcome == FIT.outcome
    assert [path.name for path in copy.parent.iterdir()] == ["kept.db"]


@IN_A_FILE
@pytest.mark.parametrize("purpose", [Event.VALIDATING, Event.RESUMED])
def test_who_would_write_into_a_read_only_folder_is_told_what_to_do(
    finished: Path, purpose: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, before = Database.open(finished), files(finished)
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: not mode & os.W_OK)
    with pytest.raises(
        InputError, match=r"run\.db: the run is read-only; copy its folder to a place that can be written"
    ):
        database.own(purpose)
    assert files(finished) == before


@IN_A_FILE
def test_a_finished_run_opens_from_a_read_only_folder(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writable = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: not mode & os.W_OK and writable(path, mode, **rest))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (finished, finished / "run.db")}
    before = files(finished)
    (finished / "run.db").chmod(0o444)
    finished.chmod(0o555)
    try:
        run = open_run(finished)
        assert (run.name, run.finished, len(run.top())) == (finished.name, True, 1)
        with Database.open(finished).reader().engine.connect() as connection:
            connection.execute(select(tables.run)).all()
            assert files(finished) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@IN_A_FILE
def test_a_killed_runs_file_opens_from_a_read_only_folder(
    store: Writer, address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose(store, 1)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "medium" / "run.db"  # still in write-ahead mode, without its log
    copy.parent.mkdir()
    shutil.copy(address.folder / "run.db", copy)
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: not mode & os.W_OK)
    with Database.open(copy).reader().engine.connect() as connection:
        assert connection.execute(select(tables.candidate.c.birth)).scalars().all() == [1]
        assert [path.name for path in copy.parent.iterdir()] == ["run.db"]


def test_a_reader_cannot_write(store: Writer, address: Address) -> None:
    with (
        Database(address).reader().engine.connect() as connection,
        pytest.raises(InputError, match=r"read-?only"),
    ):
        connection.execute(update(tables.run).values(seed=1))
