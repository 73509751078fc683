"""The store's contract: transactions, ownership, references, and readers that disturb nobody."""

import fcntl
import math
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select, text, update

from evonas.config import Config
from evonas.run import open_run
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store import engines, tables
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.engines import open_writer
from evonas.store.ownership import own
from evonas.store.records import Event, Purpose
from evonas.store.writer import StoreError, TakenOver, Writer
from evonas.workers.outcome import Evaluation, Fitness, Measurement, Point, Rejection
from tests.evonas.store_cases import (
    CRASHED,
    FIT,
    IN_A_FILE,
    REJECTED,
    S0,
    candidate,
    files,
    propose,
    propose_and_record,
    record,
    reference,
    told,
)

# --------------------------------------------------------------------------- round trips


def test_a_proposed_candidate_is_pending_and_comes_back_whole(store: Writer, address: Address) -> None:
    given = candidate(1, "n0 = exp(v0)\nn1 = n0 * x\nsigmoid(x)")  # with dead nodes
    store.propose(given)
    store.flush()
    found = Database(address).reader().candidate(1)
    assert found.graph == given.graph
    assert (found.formula, found.digest) == (given.formula, given.digest)
    assert (found.fingerprint, found.family, found.operator) == ("fingerprint 1", "family 1", "random")
    assert (found.state, found.outcome, found.seq, found.accuracy) == ("pending", None, None, {})


@pytest.mark.parametrize(
    ("evaluation", "state"),
    [(FIT, "evaluated"), (REJECTED, "rejected"), (CRASHED, "crashed")],
    ids=lambda v: str(v)[:9],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_an_outcome_comes_back_whole(
    store: Writer, address: Address, evaluation: Evaluation, state: str, at_once: bool
) -> None:
    advantage = 0.125 if evaluation is FIT else None
    if at_once:
        propose_and_record(store, 1, evaluation, 1, advantage)
    else:
        propose(store, 1)
        record(store, 1, evaluation, 1, advantage)
    reader = Database(address).reader()
    found = reader.candidate(1)
    assert (found.state, found.seq, found.outcome, found.advantage) == (state, 1, evaluation.outcome, advantage)
    assert (found.seconds, found.host) == (evaluation.seconds, evaluation.host)
    back = reader.evaluation_of(1)
    assert back is not None
    assert (back.outcome, back.measurements) == (evaluation.outcome, evaluation.measurements)
    assert sorted(back.points, key=str) == sorted(evaluation.points, key=str)
    assert (back.seconds, back.memory_mb, back.host) == (evaluation.seconds, evaluation.memory_mb, evaluation.host)
    assert (back.conditions, back.attempts) == (evaluation.conditions, evaluation.attempts)
    if isinstance(back.outcome, Fitness) and isinstance(evaluation.outcome, Fitness):
        assert back.outcome.step_seconds == evaluation.outcome.step_seconds


def test_an_evaluation_beside_the_search_is_no_outcome_of_it(store: Writer, address: Address) -> None:
    propose(store, 1)
    store.record_beside("rerank", S0, 5, FIT, birth=1, name=None)
    store.record_beside("baseline", "max(x, zero)", 0, FIT, birth=None, name="ReLU")
    reader = Database(address).reader()
    assert reader.candidate(1).outcome is None
    assert [(each.birth, each.seed) for each in reader.evaluations("rerank")] == [(1, 5)]
    assert [(each.name, each.formula) for each in reader.evaluations("baseline")] == [("ReLU", "max(x, zero)")]


@pytest.mark.parametrize("baseline_first", [False, True])
@pytest.mark.parametrize("purpose", [Purpose.RERANK, Purpose.VALIDATE])
def test_a_retraining_has_its_advantage_over_bn_relu_of_the_same_purpose_and_seed(
    store: Writer, address: Address, purpose: Purpose, baseline_first: bool
) -> None:
    def fit(resnet: float, mobilenet: float) -> Evaluation:
        return Evaluation(Fitness({"resnet": resnet, "mobilenet": mobilenet}))

    propose(store, 1)
    baselines = [(5, fit(0.5, 0.25)), (6, fit(0.25, 0.25))]
    for seed, evaluation in baselines if baseline_first else ():
        store.record_beside(purpose, "x", seed, evaluation, name="BN-ReLU")
    store.record_beside(purpose, S0, 5, fit(0.75, 0.5), birth=1)  # +0.25 on both
    store.record_beside(purpose, S0, 6, fit(0.25, 0.5), birth=1)  # 0 and +0.25
    store.record_beside(purpose, S0, 7, fit(0.25, 0.5), birth=1)  # no BN-ReLU with this seed
    store.record_beside(purpose, S0, 6, REJECTED, name="GN-ReLU")
    other = Purpose.RERANK if purpose is Purpose.VALIDATE else Purpose.VALIDATE
    store.record_beside(other, "x", 7, fit(0.0, 0.0), name="BN-ReLU")
    for seed, evaluation in () if baseline_first else baselines:
        store.record_beside(purpose, "x", seed, evaluation, name="BN-ReLU")
    evaluations = Database(address).reader().evaluations(purpose)
    by_layer = {(each.birth, each.name, each.seed): each.advantage for each in evaluations}
    assert by_layer == {
        (1, None, 5): 0.25,
        (1, None, 6): 0.125,
        (1, None, 7): None,
        (None, "GN-ReLU", 6): None,
        (None, "BN-ReLU", 5): 0.0,
        (None, "BN-ReLU", 6): 0.0,
    }
    with store.engine.connect() as connection:
        view = text("SELECT birth, seeds, failed, advantage FROM retrained WHERE purpose = :p AND birth = 1")
        assert connection.execute(view, {"p": purpose}).all() == [(1, 3, 1, None)]
        connection.execute(text("SELECT advantage, spread FROM retrained")).all()


def test_infinity_survives(store: Writer, address: Address) -> None:
    measured = Measurement("finite", "", math.inf, 3.4e38, 0, False, 0.0)
    endless = Evaluation(
        Rejection("finite", "", math.inf, math.inf, 0), (measured,), (Point("resnet", 1, 0.1, math.inf),)
    )
    propose_and_record(store, 1, endless, 1, None)
    back = Database(address).reader().evaluation_of(1)
    assert back is not None
    assert (back.outcome, back.measurements, back.points) == (endless.outcome, endless.measurements, endless.points)


def test_the_config_and_the_versions_come_back(store: Writer, address: Address, config: Config) -> None:
    reader = Database(address).reader()
    assert reader.config == config
    assert reader.versions == {"evonas": "test"}
    assert not reader.finished
    store.finish()
    assert Database(address).reader().finished


def test_the_ops_of_live_nodes_are_recorded_for_queries(store: Writer) -> None:
    store.propose(candidate(1))
    store.record(1, Graph.parse("n0 = exp(x)\nx * sigmoid(v1 * x)"), FIT, 1, 0, 0.1)
    store.flush()
    with store.engine.connect() as connection:
        assert set(connection.execute(select(tables.candidate_op.c.op)).scalars()) == {"mul", "sigmoid"}


def test_one_seq_is_given_once(store: Writer, address: Address) -> None:
    propose_and_record(store, 1, FIT, 1, 0.1)
    with pytest.raises(Exception, match=r"(?i)unique"):
        propose_and_record(store, 2, FIT, 1, 0.1)
    assert [each.birth for each in Database(address).reader().candidates()] == [1]


# --------------------------------------------------------------------------- transactions


@pytest.mark.parametrize("table", ["candidate", "candidate_op", "evaluation", "score", "point", "measurement"])
def test_a_failure_in_the_middle_of_a_write_leaves_nothing_half(store: Writer, address: Address, table: str) -> None:
    propose(store, 1)
    before = told(address)

    def fail(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(f"INSERT INTO {table} ") or (table, statement[:17]) == (
            "candidate",
            "UPDATE candidate ",
        ):
            raise RuntimeError("injected")

    event.listen(store.engine, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError, match="injected"):
        propose_and_record(store, 2, FIT, 1, 0.1)
    if table != "candidate_op":
        with pytest.raises(RuntimeError, match="injected"):
            record(store, 1, FIT, 1, 0.1)
    event.remove(store.engine, "before_cursor_execute", fail)
    assert told(address) == before
    record(store, 1, FIT, 1, 0.1)
    assert Database(address).reader().candidate(1).seq == 1


@IN_A_FILE
def test_a_full_disk_is_a_store_error_and_keeps_what_was_recorded(store: Writer, address: Address) -> None:
    propose(store, 1)
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    recorded = 1
    with pytest.raises(StoreError, match="full"):
        while recorded < 1000:
            store.set_front([recorded + 1])
            propose_and_record(store, recorded + 1, FIT, recorded, 0.1)
            recorded += 1
    with store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {2 * pages}")  # there is room again
    store.close()
    assert [each.birth for each in Database(address).reader().front()] == [recorded]
    records = Database(address).reader().candidates()
    assert [each.birth for each in records] == list(range(1, recorded + 1))
    assert all(each.outcome == FIT.outcome for each in records[1:])


def test_a_reader_is_not_blocked_by_a_writers_transaction(
    store: Writer, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_SECONDS", 0.1)  # a blocked reader raises instead of waiting
    propose(store, 1)
    with store.engine.begin() as connection:
        connection.execute(update(tables.candidate).values(state="crashed"))
        assert [each.state for each in Database(address).reader().candidates()] == ["pending"]
    assert [each.state for each in Database(address).reader().candidates()] == ["crashed"]


def test_a_writer_is_not_blocked_by_a_reader_in_the_middle_of_its_query(
    address: Address, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_SECONDS", 0.1)
    store = Database(address).create(config, {})
    for birth in (1, 2, 3):
        propose(store, birth)
    with Database(address).reader().engine.connect() as connection:
        rows = connection.execute(select(tables.candidate.c.birth).order_by(tables.candidate.c.birth))
        assert rows.fetchone() == (1,)
        propose(store, 4)
        assert [row.birth for row in rows][:2] == [2, 3]
    store.close()
    assert [each.birth for each in Database(address).reader().candidates()] == [1, 2, 3, 4]


# --------------------------------------------------------------------------- ownership

WRITES: dict[str, Callable[[Writer], None]] = {
    "propose": lambda store: propose(store, 2),
    "record": lambda store: record(store, 1, FIT, 1, 0.1),
    "propose_and_record": lambda store: propose_and_record(store, 2, FIT, 1, 0.1),
    "record_beside": lambda store: store.record_beside("rerank", S0, 1, FIT, birth=1, name=None),
    "finish": lambda store: store.finish(),
    "event": lambda store: store.event("crash", "late"),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_owner_writes_nothing(store: Writer, address: Address, write: str) -> None:
    propose(store, 1)
    assert store._lock is not None
    store._lock.release()  # as on a file system that lost the lock
    owner = Database(address).own()
    before = told(address)
    with pytest.raises(TakenOver):
        WRITES[write](store)
    assert told(address) == before
    assert not Database(address).reader().finished
    late = [each.evaluation.outcome for each in Database(address).reader().evaluations("superseded")]
    assert late == ([FIT.outcome] if "record" in write else [])  # what it found out is kept beside the run
    WRITES[write](owner)  # the owner may
    owner.close()


@IN_A_FILE
def test_a_link_to_the_database_leads_to_the_same_lock(address: Address, store: Writer, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(address.path)
    with pytest.raises(InputError, match="the run is driven by process"):
        Database.open(tmp_path / "link.db").own()


def test_each_take_over_is_a_new_epoch(address: Address, config: Config) -> None:
    store = Database(address).create(config, {})
    assert store.epoch == 1
    for epoch in (2, 3):
        store.close()
        store = Database(address).own()
        assert store.epoch == epoch
    store.close()


@pytest.mark.parametrize(("event", "purpose"), [(Event.RESUMED, Purpose.RERANK), (Event.VALIDATING, Purpose.VALIDATE)])
def test_a_finished_run_stays_finished(address: Address, config: Config, event: Event, purpose: Purpose) -> None:
    database = Database(address)
    store = database.create(config, {})
    store.finish()
    store.close()
    reader, before = database.reader(), list(dump(database.reader(), logical_only=False))
    ended = [run.finished for run in database.runs()]
    store = database.own(event)
    assert reader.finished  # a driver that dies here, or later, leaves it so
    store.record_beside(purpose, S0, 5, FIT, name="BN-ReLU")
    assert reader.finished
    store.finish()
    store.close()
    assert [run.finished for run in database.runs()] == ended
    assert len(list(dump(reader, logical_only=False))) == len(before) + 2  # the take-over, the evaluation


def taken_over_soon(address: Address) -> Writer:
    """A server notices within moments that a driver is dead."""
    for _ in range(100):
        with suppress(InputError):
            return Database.open(reference(address)).own()
        time.sleep(0.05)
    raise AssertionError("the run is still owned")


_OWNER = """
import sys
from pathlib import Path
from evonas.store.database import Database
store = Database.open(sys.argv[1]).own()
print("mine", flush=True)
sys.stdin.read()
"""


def test_a_second_driver_is_refused_with_host_and_process_until_the_first_is_dead(
    address: Address, config: Config
) -> None:
    Database(address).create(config, {}).close()
    command = [sys.executable, "-c", _OWNER, reference(address)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mine\n"
        before = told(address)
        for _ in range(2):  # a refusal leaves the owner's name in place
            with pytest.raises(InputError) as refusal:
                Database.open(reference(address)).own()
            assert f"{owner.pid}" in str(refusal.value)
            assert platform.node() in str(refusal.value)
            assert "\n" not in str(refusal.value)
        assert told(address) == before
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        store = taken_over_soon(address)
        assert store.epoch == 3
        store.close()


@IN_A_FILE
def test_a_lock_whose_file_its_last_owner_removed_is_none(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, opened = fcntl.flock, []

    def late(file: Any, operation: int) -> None:
        opened.append(file.name)
        if len(opened) == 1:  # between opening and locking
            Path(file.name).unlink()
        flock(file, operation)

    monkeypatch.setattr("evonas.store.ownership.fcntl.flock", late)
    lock = own(address, "run", open_writer(address))
    assert len(opened) == 2
    with pytest.raises(InputError, match="the run is driven by process"):
        own(address, "run", open_writer(address))
    lock.release()


@IN_A_FILE
def test_a_look_at_the_lock_refuses_no_driver(address: Address) -> None:
    lock = own(address, "run", open_writer(address))
    lock.release()
    (path,) = address.path.parent.glob(".*.lock")
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        own(address, "run", open_writer(address)).release()


def test_a_run_is_created_once(store: Writer, address: Address, config: Config) -> None:
    propose(store, 1)
    store.close()
    before = told(address)
    with pytest.raises(InputError, match="this run exists") as refusal:
        Database(address).create(config, {})
    assert told(address) == before
    again = Database(address).own()  # while `refusal` still holds the failed attempt's frames
    again.close()
    assert refusal


def test_foreign_keys_are_enforced(store: Writer) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        record(store, 7, FIT, 1, 0.1)


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


# --------------------------------------------------------------------------- a server that goes away


def test_a_server_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(InputError, match=r"postgresql://nobody:\*\*\*@127.0.0.1:1/none: not readable"):
        Database.open("postgresql://nobody:secret@127.0.0.1:1/none#run").reader()


SERVER = pytest.mark.parametrize("address", ["postgresql"], indirect=True)


def disconnect(address: Address) -> None:
    """End every session of the database, as a restart of the server does."""
    engine = create_engine(address.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        connection.execute(text(others + "AND pid <> pg_backend_pid()"))
    engine.dispose()


@SERVER
def test_a_lost_connection_loses_nothing_and_keeps_the_run(store: Writer, address: Address) -> None:
    propose(store, 1)
    for seq, birth in enumerate((2, 3, 4), start=1):
        disconnect(address)
        propose_and_record(store, birth, FIT, seq, 0.1)
    assert [each.birth for each in Database(address).reader().candidates()] == [1, 2, 3, 4]
    with pytest.raises(InputError, match="the run is driven by process"):
        Database(address).own()


@SERVER
def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    store: Writer, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = store.engine.dialect.do_commit
    lost: list[int] = []

    def commit_and_lose(connection: Any) -> None:
        commit(connection)
        if not lost:
            lost.append(1)
            raise store.engine.dialect.dbapi.OperationalError("the answer was lost")

    monkeypatch.setattr(store.engine.dialect, "do_commit", commit_and_lose)
    propose_and_record(store, 1, FIT, 1, 0.1)
    monkeypatch.undo()
    propose_and_record(store, 2, FIT, 2, 0.1)
    assert lost
    assert [each.birth for each in Database(address).reader().candidates()] == [1, 2]


@SERVER
def test_who_lost_the_run_with_its_connection_writes_nothing_more(store: Writer, address: Address) -> None:
    propose(store, 1)
    assert store._lock is not None
    store._lock.release()
    owner = Database(address).own()
    disconnect(address)
    with pytest.raises(TakenOver):
        propose(store, 2)
    propose(owner, 2)
    owner.close()
