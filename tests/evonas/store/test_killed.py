"""A driver killed at any system call of beginning, closing, taking over, finishing and upgrading a run."""

import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from evonas.search_space.errors import InputError
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.writer import Writer
from evonas.views import status
from tests.conftest import ROOT
from tests.evonas.store.deaths import NotTraceable, State, put, states
from tests.evonas.store_cases import IN_A_FILE, propose

OLD = Path(__file__).parents[1] / "databases" / "0002.db"
_LIFE = """
import json
sys.path.insert(0, {root!r})
from pathlib import Path
from evonas.config_file import parse_config
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Event
from tests.conftest import TINY
from tests.evonas.store_cases import FIT, propose, record

folder = Path({folder!r})
config = parse_config(json.dumps(TINY))
database = Database(Address.of_file(folder / "run.db", "run", folder))
trace()
store = database.create(config, {{}})
propose(store, 1)
record(store, 1, FIT, 1, 0.1)
store.close()
store = database.own()
propose(store, 2)
record(store, 2, FIT, 2, 0.1)
store.finish()
store.close()
database.own(Event.VALIDATING).close()
"""
_UPGRADE = """
sys.path.insert(0, {root!r})
from evonas.store.database import Database

trace()
Database.open({folder!r}).close()
"""


def traced(code: str, folder: Path) -> list[State]:
    try:
        return states(code.format(root=str(ROOT), folder=str(folder)), folder)
    except NotTraceable:
        pytest.skip("this machine does not let a process trace its child")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> list[State]:
    return traced(_LIFE, tmp_path_factory.mktemp("life"))


def is_locked_to_readers(state: State, folder: Path) -> bool:
    """Whether no read-only connection can open it: the rollback journal has to be played back."""
    path = put(state, folder) / "run.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            assert error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK
            return True
    return False


def look(state: State, folder: Path) -> tuple[int, int, bool] | None:
    """Candidates, outcomes and whether the run is finished, as the next command reads them; None where there is no run
    yet."""
    put(state, folder)
    try:
        reader = Database.open(folder).reader()
    except InputError as refusal:
        assert "no run.db in it" in str(refusal) or "holds no run" in str(refusal)
        return None
    records = reader.candidates()
    assert status(reader).births == len(records)
    return len(records), sum(each.outcome is not None for each in records), reader.finished


def go_on(folder: Path) -> None:
    """The next driver writes and closes."""
    store = Database.open(folder).own()
    births = len(Database.open(folder).reader().candidates())
    propose(store, births + 1)
    store.close()
    assert len(Database.open(folder).reader().candidates()) == births + 1
    assert not (folder / "run.db-journal").exists()


def check(life: list[State], chosen: list[int], folder: Path) -> None:
    """From its first record on a run is there for good, only grows, and can be gone on with."""
    before: tuple[int, int, bool] | None = None
    for number in chosen:
        now = look(life[number], folder / str(number))
        assert now is not None or before is None, number
        if now is not None:
            assert before is None or all(new >= old for new, old in zip(now, before, strict=True)), number
            go_on(folder / str(number))
        before = now
        shutil.rmtree(folder / str(number))
    assert before == (2, 2, True)


def test_who_was_killed_while_it_opened_or_closed_locks_nobody_out(life: list[State], tmp_path: Path) -> None:
    with_journal = [n for n, state in enumerate(life) if "run.db-journal" in state]
    locked = [n for n in with_journal if is_locked_to_readers(life[n], tmp_path / "as it is" / str(n))]
    assert len(locked) >= 6  # two a switch of the journal's mode, of three that are made
    check(life, [*locked[:: len(locked) // 6], len(life) - 1], tmp_path)


@pytest.mark.long
def test_a_death_at_any_system_call_loses_nothing_and_locks_nobody_out(life: list[State], tmp_path: Path) -> None:
    assert len(life) > 200
    check(life, list(range(len(life))), tmp_path)


def test_a_lost_end_of_the_log_is_a_run_that_ended_earlier(life: list[State], tmp_path: Path) -> None:
    """As after a power failure: what the system had not written yet is missing, whole transactions of it."""
    state = max(life, key=lambda each: len(each.get("run.db-wal", b"")))
    log = state["run.db-wal"]
    runs = []
    for number, length in enumerate(range(0, len(log) + 1, len(log) // 12)):
        left = {name: content for name, content in state.items() if not name.endswith("-shm")}
        runs.append(look(left | {"run.db-wal": log[:length]}, tmp_path / str(number)))
        if runs[-1] is not None:
            go_on(tmp_path / str(number))
    known = [run for run in runs if run is not None]
    assert known == sorted(known)
    assert len(set(known)) > 2


def rows(folder: Path) -> list[object]:
    return list(dump(Database.open(folder).reader()))


@pytest.mark.long
def test_a_death_at_any_system_call_of_an_upgrade_leaves_the_old_records(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    shutil.copy(OLD, tmp_path / "old" / "run.db")
    seen = traced(_UPGRADE, tmp_path / "old")
    expected = rows(tmp_path / "old")
    assert len(seen) > 50
    of_database = [{name: content for name, content in state.items() if name.startswith("run.db")} for state in seen]
    for number, state in enumerate(seen):
        if number % 8 and of_database[number] == of_database[number - 1]:
            continue  # the copy that is upgraded has grown by one more call
        assert rows(put(state, tmp_path / str(number))) == expected, number
        shutil.rmtree(tmp_path / str(number))


def test_a_read_only_folder_with_a_killed_drivers_journal_says_what_to_do(
    life: list[State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = next(
        state
        for number, state in enumerate(life)
        if "run.db-journal" in state and is_locked_to_readers(state, tmp_path / str(number))
    )
    folder = put(chosen, tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode, **rest: not mode & os.W_OK)
        with pytest.raises(InputError, match="run any evonas command on it once where the folder can be written") as no:
            Database.open(folder)
    assert "\n" not in str(no.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == chosen


_SIGNALLED = """
sys.path.insert(0, {root!r})
from evonas.session import stop_signals
from evonas.store.database import Database

database = Database.open({folder!r})
with stop_signals() as should_stop:
    store = database.own()
    os.kill(os.getpid(), signal.SIGTERM)
    assert should_stop()
with store.engine.connect() as connection:
    original = connection.connection.driver_connection
    def stop(statement):
        if "journal_mode=DELETE" in statement:
            os.kill(os.getpid(), {number})
    original.set_trace_callback(stop)
store.close()
"""


@pytest.mark.long
@IN_A_FILE
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_second_signal_while_a_run_is_closed_ends_the_process_and_not_the_run(
    store: Writer, tmp_path: Path, number: signal.Signals
) -> None:
    import subprocess

    propose(store, 1)
    store.close()
    folder = tmp_path / "run-000"
    code = "import os, signal, sys\n" + _SIGNALLED.format(root=str(ROOT), folder=str(folder), number=int(number))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == -number, ended.stderr
    go_on(folder)
