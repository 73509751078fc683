"""The store's contract: schema, transactions, ownership, references, and readers that disturb nobody."""

import json
import math
import os
import platform
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, event, select, text, update

import evonas
from evonas.config import Config
from evonas.config_file import parse_config
from evonas.run import open_run
from evonas.selection import Survivor, pareto_front
from evonas.store import database, tables
from evonas.store.database import Address, locate
from evonas.store.ownership import own
from evonas.store.queries import Reader
from evonas.store.records import Candidate
from evonas.store.store import Store, StoreError, TakenOver
from evonas.studies.replay import replay
from search_space.errors import InputError
from search_space.fingerprint import Probed
from search_space.graph import Graph
from workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Point, Rejection

S0 = "x * sigmoid(v1 * x) / std_ghw(x)"
GATE = Measurement("quality", "resnet", 0.25, 0.1, 3, True, 0.5)
POINTS = (Point("resnet", 3, 0.25, 2.1), Point("mobilenet", 3, 0.125, 2.2), Point("resnet", 6, 0.5, 1.5))
COSTS = {"resnet": 0.01, "mobilenet": 0.02}, {"resnet": 10.0, "mobilenet": 20.5}
FITNESS = Fitness({"resnet": 0.5, "mobilenet": 0.25}, *COSTS)
SECOND = Point("resnet", 6, 0.75, 1.25, 1)  # with the second of the recipe's seeds
FIT = Evaluation(FITNESS, (GATE,), (*POINTS, SECOND), 1.5, 300.0, "somewhere", "cpu, 1 thread", 2)
REJECTED = Evaluation(Rejection("stability", "resnet", math.inf, 1e8, 4), (GATE,), POINTS[:2], 0.5, 200.0, "elsewhere")
CRASHED = Evaluation(Crash("time_limit", "no answer within 60 s"), (), (), 60.0, 0.0, "elsewhere")


def candidate(birth: int, text: str = S0, *, seen: int = 0, parent: int | None = None) -> Candidate:
    operator = "mutation" if parent else "random"
    probed = Probed(f"fingerprint {birth}", f"family {birth}", 1.0)
    return Candidate.of(Graph.parse(text), probed, birth, seen=seen, operator=operator, parent=parent)


def propose(store: Store, *births: int, text: str = S0) -> None:
    for birth in births:
        store.propose(candidate(birth, text))
    store.flush()


def record(store: Store, birth: int, evaluation: Evaluation, seq: int, advantage: float | None = None) -> None:
    store.record(birth, Graph.parse(S0), evaluation, seq, 0, advantage)
    store.flush()


def propose_and_record(
    store: Store, birth: int, evaluation: Evaluation, seq: int, advantage: float | None = None
) -> None:
    store.propose(candidate(birth))
    record(store, birth, evaluation, seq, advantage)


@pytest.fixture
def config(tiny: dict[str, Any]) -> Config:
    return parse_config(json.dumps(tiny))


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """A run that is not there yet, in a file or at a server: one contract."""
    folder = tmp_path / "run-000"
    if request.param == "postgresql":
        return Address.of_url(request.getfixturevalue("server_database"), folder.name, folder)
    return Address.of_file(folder / "run.db", folder.name, folder)


def reference(address: Address) -> str:
    """As a person writes it."""
    return str(address.folder) if address.is_file else f"{address.absolute_url}#{address.run}"


IN_A_FILE = pytest.mark.parametrize("address", ["sqlite"], indirect=True)


@pytest.fixture
def store(address: Address, config: Config) -> Iterator[Store]:
    with_store = Store.create(address, config, {"evonas": "test"})
    yield with_store
    with_store.close()


def told(address: Address) -> list[dict[str, Any]]:
    return list(Reader(address).dump())


def files(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder, with its bytes."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


# --------------------------------------------------------------------------- schema


def test_migrations_build_exactly_the_tables(store: Store) -> None:
    options = {"compare_type": True, "compare_server_default": True, "version_table": tables.VERSION_TABLE}
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
        assert len(compare_metadata(context, MetaData())) >= len(tables.metadata.tables)


DATABASES = Path(__file__).parent / "databases"  # as earlier versions of evonas left them, of one config


@pytest.fixture(params=["0001", "0002"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(DATABASES / f"{request.param}.db", tmp_path / "run.db"))


def test_an_older_database_is_upgraded_after_saying_so_and_keeps_its_records(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(old)) as connection:
        before = connection.execute("SELECT birth, graph, state FROM candidate ORDER BY birth").fetchall()
        scores = connection.execute("SELECT count(*), sum(value) FROM score").fetchone()
        looks = connection.execute("SELECT count(*), sum(accuracy), sum(loss) FROM point").fetchone()
        gates = connection.execute("SELECT count(*), sum(threshold) FROM measurement WHERE value < 1e9").fetchone()
        (schema,) = connection.execute(f"SELECT version_num FROM {tables.VERSION_TABLE}").fetchone()
    reader = Reader.open(old)
    assert f"upgrading schema {schema} to {database.schemas()[0]}" in caplog.text
    records = reader.candidates()
    assert [(r.birth, r.graph, r.state) for r in records] == before
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT count(*), sum(value) FROM score").fetchone() == pytest.approx(scores)
        assert connection.execute("SELECT count(*), sum(accuracy), sum(loss) FROM point").fetchone() == pytest.approx(
            looks
        )
        found = connection.execute("SELECT count(*), sum(threshold) FROM measurement WHERE value < 1e9").fetchone()
        assert found == pytest.approx(gates)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    survivors = [r for r in records if r.advantage is not None and r.equal_to is None]
    top = reader.top(3)
    assert [r.advantage for r in top] == sorted((r.advantage for r in survivors), reverse=True)[:3]
    front = {each.birth for each in reader.front()}
    kept = [Survivor(r.birth, "", "", tuple(r.accuracy.values())) for r in survivors]
    best = {each.objectives for each in pareto_front(kept)}
    assert {each.objectives for each in kept if each.birth in front} == best
    assert reader.find(("std_hw",)) == [r for r in reader.top(30) if "std_hw" in r.formula]
    assert [path.name for path in old.parent.iterdir()] == ["run.db"]
    caplog.clear()
    Reader.open(old)
    assert caplog.text == ""  # once


def test_an_upgraded_run_is_resumed_and_follows_from_its_records(old: Path) -> None:
    evonas.resume(old)
    assert replay(old) == []


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = old.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(database, "build_schema", fail)
    with pytest.raises(InputError, match=r"cannot be upgraded here \(disk I/O error\)"):
        Reader.open(old)
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir()] == ["run.db"]


def test_a_database_whose_run_is_driven_is_upgraded_later(old: Path) -> None:
    lock = own(Address.of_file(old, None, old.parent), f"schema-{_schema(old)}")
    with pytest.raises(InputError, match=r"is driven by .*; its schema 000. is upgraded when that ends"):
        Reader.open(old)
    lock.release(remove=True)
    assert Reader.open(old).top(1)


def _schema(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute(f"SELECT version_num FROM {tables.VERSION_TABLE}").fetchone()[0])


def test_the_spread_is_that_of_the_baselines_seeds(store: Store, address: Address) -> None:
    assert Reader(address).spread() == {}
    last = Reader(address).config.recipe.steps

    def record(purpose: str, seed: int, accuracies: tuple[float, ...], name: str = "BN-ReLU") -> None:
        """One evaluation with so many seeds."""
        looks = [Point("resnet", step, a, 1.0, n) for n, a in enumerate(accuracies) for step in (1, last)]
        looks += [Point("mobilenet", last, 0.5, 1.0, n) for n in range(len(accuracies))]
        fitness = Fitness({"resnet": fmean(accuracies), "mobilenet": 0.5})
        store.record_beside(purpose, "x", seed, Evaluation(fitness, points=tuple(looks)), name=name)

    record("baseline", 0, (0.4, 0.6))
    assert Reader(address).spread() == {"resnet": (pytest.approx(0.02**0.5), 2), "mobilenet": (0.0, 2)}
    record("rerank", 2, (0.5,))
    record("rerank", 2, (0.0,), name="GN-ReLU")
    assert Reader(address).spread() == {"resnet": (pytest.approx(0.1), 3), "mobilenet": (0.0, 3)}


def test_outcomes_are_told_in_their_order_with_what_their_gates_measured(store: Store, address: Address) -> None:
    propose(store, 1, 2, 3)
    reached = {birth: Measurement("rung", "", birth / 8, 0.0, 3, True, 0.1) for birth in (1, 2)}
    for seq, birth in enumerate((2, 1), start=1):
        record(store, birth, Evaluation(FIT.outcome, (reached[birth],)), seq, 0.0)
    found = [(each.birth, each.seed, each.outcome, each.measurements) for each in Reader(address).outcomes()]
    assert found == [(2, 0, FIT.outcome, (reached[2],)), (1, 0, FIT.outcome, (reached[1],))]
    assert [each.birth for each in Reader(address).proposals()] == [1, 2, 3]


def test_foreign_keys_are_enforced(store: Store) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        record(store, 7, FIT, 1, 0.1)


# --------------------------------------------------------------------------- round trips


def test_a_proposed_candidate_is_pending_and_comes_back_whole(store: Store, address: Address) -> None:
    given = candidate(1, "n0 = exp(v0)\nn1 = n0 * x\nsigmoid(x)")  # with dead nodes
    store.propose(given)
    store.flush()
    found = Reader(address).candidate(1)
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
    store: Store, address: Address, evaluation: Evaluation, state: str, at_once: bool
) -> None:
    advantage = 0.125 if evaluation is FIT else None
    if at_once:
        propose_and_record(store, 1, evaluation, 1, advantage)
    else:
        propose(store, 1)
        record(store, 1, evaluation, 1, advantage)
    reader = Reader(address)
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


def test_an_evaluation_beside_the_search_is_no_outcome_of_it(store: Store, address: Address) -> None:
    propose(store, 1)
    store.record_beside("rerank", S0, 5, FIT, birth=1, name=None)
    store.record_beside("baseline", "max(x, zero)", 0, FIT, birth=None, name="ReLU")
    reader = Reader(address)
    assert reader.candidate(1).outcome is None
    assert [(each.birth, each.seed) for each in reader.evaluations("rerank")] == [(1, 5)]
    assert [(each.name, each.formula) for each in reader.evaluations("baseline")] == [("ReLU", "max(x, zero)")]


def test_infinity_survives(store: Store, address: Address) -> None:
    measured = Measurement("finite", "", math.inf, 3.4e38, 0, False, 0.0)
    endless = Evaluation(
        Rejection("finite", "", math.inf, math.inf, 0), (measured,), (Point("resnet", 1, 0.1, math.inf),)
    )
    propose_and_record(store, 1, endless, 1, None)
    back = Reader(address).evaluation_of(1)
    assert back is not None
    assert (back.outcome, back.measurements, back.points) == (endless.outcome, endless.measurements, endless.points)


def test_the_config_and_the_versions_come_back(store: Store, address: Address, config: Config) -> None:
    reader = Reader(address)
    assert reader.config == config
    assert reader.versions == {"evonas": "test"}
    assert not reader.finished
    store.finish()
    assert Reader(address).finished


def test_the_ops_of_live_nodes_are_recorded_for_queries(store: Store) -> None:
    store.propose(candidate(1))
    store.record(1, Graph.parse("n0 = exp(x)\nx * sigmoid(v1 * x)"), FIT, 1, 0, 0.1)
    store.flush()
    with store.engine.connect() as connection:
        assert set(connection.execute(select(tables.candidate_op.c.op)).scalars()) == {"mul", "sigmoid"}


def test_one_seq_is_given_once(store: Store, address: Address) -> None:
    propose_and_record(store, 1, FIT, 1, 0.1)
    with pytest.raises(Exception, match=r"(?i)unique"):
        propose_and_record(store, 2, FIT, 1, 0.1)
    assert [each.birth for each in Reader(address).candidates()] == [1]


# --------------------------------------------------------------------------- transactions


@pytest.mark.parametrize("table", ["candidate", "candidate_op", "evaluation", "score", "point", "measurement"])
def test_a_failure_in_the_middle_of_a_write_leaves_nothing_half(store: Store, address: Address, table: str) -> None:
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
    assert Reader(address).candidate(1).seq == 1


@IN_A_FILE
def test_a_full_disk_is_a_store_error_and_keeps_what_was_recorded(store: Store, address: Address) -> None:
    propose(store, 1)
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    recorded = 1
    with pytest.raises(StoreError, match="full"):
        while recorded < 1000:
            propose_and_record(store, recorded + 1, FIT, recorded, 0.1)
            recorded += 1
    records = Reader(address).candidates()
    assert [each.birth for each in records] == list(range(1, recorded + 1))
    assert all(each.outcome == FIT.outcome for each in records[1:])


def test_a_reader_is_not_blocked_by_a_writers_transaction(
    store: Store, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.1)  # a blocked reader raises instead of waiting
    propose(store, 1)
    with store.engine.begin() as connection:
        connection.execute(update(tables.candidate).values(state="crashed"))
        assert [each.state for each in Reader(address).candidates()] == ["pending"]
    assert [each.state for each in Reader(address).candidates()] == ["crashed"]


def test_a_writer_is_not_blocked_by_a_reader_in_the_middle_of_its_query(
    address: Address, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.1)
    store = Store.create(address, config, {})
    for birth in (1, 2, 3):
        propose(store, birth)
    with Reader(address).engine.connect() as connection:
        rows = connection.execute(select(tables.candidate.c.birth).order_by(tables.candidate.c.birth))
        assert rows.fetchone() == (1,)
        propose(store, 4)
        assert [row.birth for row in rows][:2] == [2, 3]
    store.close()
    assert [each.birth for each in Reader(address).candidates()] == [1, 2, 3, 4]


# --------------------------------------------------------------------------- ownership

WRITES: dict[str, Callable[[Store], None]] = {
    "propose": lambda store: propose(store, 2),
    "record": lambda store: record(store, 1, FIT, 1, 0.1),
    "propose_and_record": lambda store: propose_and_record(store, 2, FIT, 1, 0.1),
    "record_beside": lambda store: store.record_beside("rerank", S0, 1, FIT, birth=1, name=None),
    "finish": lambda store: store.finish(),
    "event": lambda store: store.event("crash", "late"),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_owner_writes_nothing(store: Store, address: Address, write: str) -> None:
    propose(store, 1)
    assert store._lock is not None
    store._lock.release()  # as on a file system that lost the lock
    owner = Store.take_over(address)
    before = told(address)
    with pytest.raises(TakenOver):
        WRITES[write](store)
    assert told(address) == before
    assert not Reader(address).finished
    late = [each.evaluation.outcome for each in Reader(address).evaluations("superseded")]
    assert late == ([FIT.outcome] if "record" in write else [])  # what it found out is kept beside the run
    WRITES[write](owner)  # the owner may
    owner.close()


@IN_A_FILE
def test_a_link_to_the_database_leads_to_the_same_lock(address: Address, store: Store, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(address.path)
    with pytest.raises(InputError, match="the run is driven by process"):
        Store.take_over(locate(tmp_path / "link.db"))


def test_each_take_over_is_a_new_epoch(address: Address, config: Config) -> None:
    store = Store.create(address, config, {})
    assert store.epoch == 1
    for epoch in (2, 3):
        store.close()
        store = Store.take_over(address)
        assert store.epoch == epoch
    store.close()


def test_a_run_taken_over_is_no_longer_finished(address: Address, config: Config) -> None:
    store = Store.create(address, config, {})
    store.finish()
    store.close()
    store = Store.take_over(address)
    assert not Reader(address).finished
    store.close()


def taken_over_soon(address: Address) -> Store:
    """A server notices within moments that a driver is dead."""
    for _ in range(100):
        with suppress(InputError):
            return Store.take_over(locate(reference(address)))
        time.sleep(0.05)
    raise AssertionError("the run is still owned")


_OWNER = """
import sys
from pathlib import Path
from evonas.store.database import locate
from evonas.store.store import Store
store = Store.take_over(locate(sys.argv[1]))
print("mine", flush=True)
sys.stdin.read()
"""


def test_a_second_driver_is_refused_with_host_and_process_until_the_first_is_dead(
    address: Address, config: Config
) -> None:
    Store.create(address, config, {}).close()
    command = [sys.executable, "-c", _OWNER, reference(address)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mine\n"
        before = told(address)
        for _ in range(2):  # a refusal leaves the owner's name in place
            with pytest.raises(InputError) as refusal:
                Store.take_over(locate(reference(address)))
            assert f"{owner.pid}" in str(refusal.value)
            assert platform.node() in str(refusal.value)
            assert "\n" not in str(refusal.value)
        assert told(address) == before
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        store = taken_over_soon(address)
        assert store.epoch == 3
        store.close()


def test_a_run_is_created_once(store: Store, address: Address, config: Config) -> None:
    propose(store, 1)
    store.close()
    before = told(address)
    with pytest.raises(InputError, match="this run exists") as refusal:
        Store.create(address, config, {})
    assert told(address) == before
    again = Store.take_over(address)  # while `refusal` still holds the failed attempt's frames
    again.close()
    assert refusal


# --------------------------------------------------------------------------- what is not evonas'


def _random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def _text(path: Path) -> None:
    path.write_text("name: quickstart\n")


def _empty(path: Path) -> None:
    path.touch()


def _other_schema(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE run (id INTEGER, name TEXT)")
        connection.execute("INSERT INTO run VALUES (1, 'theirs')")
    connection.close()


def _other_alembic(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    connection.close()


def _newer(path: Path) -> None:
    _with_version(path, "9999")


def _half_migrated(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {tables.VERSION_TABLE} (version_num TEXT)")
    connection.close()


def _with_version(path: Path, version: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {tables.VERSION_TABLE} (version_num TEXT)")
        connection.execute(f"INSERT INTO {tables.VERSION_TABLE} VALUES ('{version}')")
    connection.close()


FOREIGN = (_random_bytes, _text, _empty, _other_schema, _other_alembic, _newer, _half_migrated)
OPENINGS: dict[str, Callable[[Path, Config], Any]] = {
    "file": lambda path, config: Reader.open(path),
    "url": lambda path, config: open_run(f"sqlite:///{path}#a"),
    "resume": lambda path, config: Store.take_over(locate(path)),
    "create": lambda path, config: Store.create(Address.of_file(path, "mine", path.parent), config, {}),
}


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("make", FOREIGN, ids=lambda each: each.__name__.strip("_"))
def test_a_database_that_is_not_evonas_is_refused_in_one_line_and_left_as_it_is(
    tmp_path: Path, config: Config, make: Callable[[Path], None], opening: str
) -> None:
    path = tmp_path / "theirs.db"
    make(path)
    before = files(tmp_path)
    with pytest.raises(InputError) as refusal:
        OPENINGS[opening](path, config)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "reference", ["none", "none.db", "none/run.db", "sqlite:///{}/none.db", "sqlite:///{}/none.db#a"]
)
@pytest.mark.parametrize("opening", ["read", "resume"])
def test_opening_what_is_not_there_creates_nothing(tmp_path: Path, reference: str, opening: str) -> None:
    there = reference.format(tmp_path) if "{" in reference else str(tmp_path / reference)
    with pytest.raises(InputError) as refusal:
        Store.take_over(locate(there)) if opening == "resume" else Reader.open(there)
    assert "none" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["mysql://localhost/evonas", "nonsense://x", "sqlite://", "://"])
def test_a_url_of_another_kind_is_refused_and_says_what_is_expected(url: str) -> None:
    with pytest.raises(InputError, match=r"expected sqlite:///path\.db"):
        Reader.open(url)


# --------------------------------------------------------------------------- references


FORMS = ("{}", "{}/", "{}/run.db", "sqlite:///{}/run.db", "sqlite:///{}/run.db#run-000")


@IN_A_FILE
@pytest.mark.parametrize("form", FORMS)
def test_a_run_is_a_folder_a_file_or_a_url(store: Store, address: Address, form: str) -> None:
    run = open_run(form.format(address.folder))
    assert (run.name, Path(run.folder)) == ("run-000", address.folder)


def test_several_runs_share_a_database_and_nothing_else(tmp_path: Path, config: Config) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    both = [Store.create(Address.of_url(url, name, tmp_path / name), config, {}) for name in ("first", "second")]
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
    assert len(Reader.open(f"{url}#second").candidates()) == 2
    for reference in (url, str(tmp_path / "shared.db")):
        with pytest.raises(InputError, match=r"2 runs; name one as URL#run: first, second"):
            open_run(reference)
    with pytest.raises(InputError, match=r"no run 'secnod'; did you mean 'second'\?"):
        open_run(f"{url}#secnod")


def test_two_runs_of_one_database_may_be_driven_at_once(tmp_path: Path, config: Config) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first, second = (
        Store.create(Address.of_url(url, name, tmp_path / name), config, {}) for name in ("first", "second")
    )
    for birth in range(1, 4):
        first.propose(candidate(birth))
        second.propose(candidate(birth))
    first.close()
    second.propose(candidate(4))
    second.close()
    assert len(Reader.open(f"{url}#first").candidates()) == 3
    assert len(Reader.open(f"{url}#second").candidates()) == 4


@pytest.mark.parametrize("name", ["with space", "größe", "50%", "per%41cent", "a#b", "what?mode=rw", "[red]"])
def test_a_runs_folder_may_have_any_name(tmp_path: Path, config: Config, name: str) -> None:
    folder = tmp_path / name
    store = Store.create(Address.of_file(folder / "run.db", name, folder), config, {})
    propose(store, 1)
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / "run.db").is_file()
    assert open_run(folder).candidate(1).formula == Graph.parse(S0).formula


# --------------------------------------------------------------------------- long after


@pytest.fixture
def finished(address: Address, config: Config) -> Path:
    store = Store.create(address, config, {})
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
        with Reader.open(finished).engine.connect() as connection:
            connection.execute(select(tables.run)).all()
            assert files(finished) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@IN_A_FILE
def test_a_killed_runs_file_opens_from_a_read_only_folder(
    store: Store, address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose(store, 1)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "medium" / "run.db"  # still in write-ahead mode, without its log
    copy.parent.mkdir()
    shutil.copy(address.folder / "run.db", copy)
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: not mode & os.W_OK)
    with Reader.open(copy).engine.connect() as connection:
        assert connection.execute(select(tables.candidate.c.birth)).scalars().all() == [1]
        assert [path.name for path in copy.parent.iterdir()] == ["run.db"]


def test_a_reader_cannot_write(store: Store, address: Address) -> None:
    with (
        Reader(address).engine.connect() as connection,
        pytest.raises(InputError, match=r"read-?only"),
    ):
        connection.execute(update(tables.run).values(seed=1))


# --------------------------------------------------------------------------- queries


def fit(resnet: float, mobilenet: float) -> Evaluation:
    return Evaluation(Fitness({"resnet": resnet, "mobilenet": mobilenet}))


def test_top_is_by_advantage_or_by_one_proxy_and_of_equals_the_first(store: Store, address: Address) -> None:
    for birth, (resnet, mobilenet, advantage) in enumerate(
        [(0.1, 0.9, 0.3), (0.4, 0.2, 0.1), (0.4, 0.4, 0.3), (0.3, 0.3, 0.2)], start=1
    ):
        propose_and_record(store, birth, fit(resnet, mobilenet), birth, advantage)
    propose_and_record(store, 5, REJECTED, 5, None)
    propose(store, 6)
    reader = Reader(address)
    assert [each.birth for each in reader.top()] == [1, 3, 4, 2]
    assert [each.birth for each in reader.top(2)] == [1, 3]
    assert [each.birth for each in reader.top(by="resnet")] == [2, 3, 4, 1]
    with pytest.raises(InputError, match=r"no proxy 'resnit'; did you mean 'resnet'\?"):
        reader.top(by="resnit")


def test_accuracies_are_told_in_the_configs_order_of_proxies(store: Store, address: Address) -> None:
    assert list(Reader(address).config.proxies) == ["resnet", "mobilenet"]
    propose_and_record(store, 1, Evaluation(Fitness({"mobilenet": 0.1, "resnet": 0.2})), 1, 0.1)
    assert list(Reader(address).candidate(1).accuracy.items()) == [("resnet", 0.2), ("mobilenet", 0.1)]


def test_an_unknown_birth_says_which_there_are(store: Store, address: Address) -> None:
    for birth in (1, 2):
        propose(store, birth)
    for birth in (0, -1, 3, 10**30):
        with pytest.raises(InputError, match=rf"no birth {birth}; expected 1 to 2"):
            Reader(address).candidate(birth)


def test_counts_are_of_this_runs_candidates_by_state_and_by_gate(store: Store, address: Address) -> None:
    outcomes: list[Outcome] = [FIT.outcome, REJECTED.outcome, REJECTED.outcome, CRASHED.outcome]
    for birth, outcome in enumerate(outcomes, start=1):
        propose_and_record(store, birth, Evaluation(outcome), birth, None)
    propose(store, 5)
    store.record_beside("rerank", S0, 1, REJECTED, birth=1, name=None)
    states, gates = Reader(address).counts()
    assert states == {"evaluated": 1, "rejected": 2, "crashed": 1, "pending": 1}
    assert gates == {"stability": 2, "time_limit": 1}


def test_the_logical_dump_has_no_times_hosts_or_memory(tmp_path: Path, config: Config) -> None:
    dumps = []
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        address = Address.of_file(tmp_path / name / "run.db", name, tmp_path / name)
        store = Store.create(address, config, {"torch": name})
        gate = Measurement("quality", "resnet", 0.25, 0.1, 3, True, seconds)
        evaluation = Evaluation(FIT.outcome, (gate,), POINTS, seconds, 100 * seconds, f"host {name}")
        store.record_beside("baseline", S0, 0, evaluation, birth=None, name="ReLU")
        propose_and_record(store, 1, evaluation, 1, 0.1)
        propose(store, 2)
        record(store, 2, Evaluation(Crash("error", f"at {seconds}"), (), (), seconds), 2, None)
        if name == "b":
            store.close()
            store = Store.take_over(address)
            store.event("stopped", "and resumed")
        store.close()
        dumps.append((told(address), list(Reader(address).dump(logical_only=False))))
    (logical_a, whole_a), (logical_b, whole_b) = dumps
    assert logical_a == logical_b
    assert whole_a != whole_b
    assert len(logical_a) == 4


# --------------------------------------------------------------------------- queries of a large run


def survivors(store: Store, *rows: tuple[str, float, float, int | None]) -> None:
    """Births 1, 2 ... with formula, advantage, accuracy on resnet, and the birth that they inherit from."""
    for birth, (formula, advantage, resnet, equal_to) in enumerate(rows, start=1):
        graph = Graph.parse(formula)
        probed = Probed(f"f{birth}", f"f{birth}", 1.0)
        store.propose(Candidate.of(graph, probed, birth, seen=birth - 1, parent=birth - 1 or None, equal_to=equal_to))
        store.record(birth, graph, fit(resnet, 0.5), birth, 0, advantage, inherits=equal_to is not None)
    store.flush()


FOUR = (
    ("x / std_ghw(x)", 0.1, 0.4, None),
    ("x / std_bhw(x)", 0.3, 0.6, None),
    ("sigmoid(x) / std_ghw(x)", 0.2, 0.6, None),
    ("x / std_ghw(x)", 0.1, 0.4, 1),
    ("std_ghw(x) / std_bhw(x)", 0.05, 0.2, None),
)


def test_a_page_begins_after_the_last_birth_of_the_one_before(store: Store, address: Address) -> None:
    survivors(store, *FOUR)
    reader = Reader(address)
    for by, order in ((None, [2, 3, 1, 5]), ("resnet", [2, 3, 1, 5])):
        assert [each.birth for each in reader.top(10, by)] == order
        assert [each.birth for each in reader.top(2, by, after=order[1])] == order[2:]
        assert reader.top(2, by, after=order[-1]) == []
    store.propose(candidate(6))
    store.flush()
    with pytest.raises(InputError, match="birth 6 is none of the survivors"):
        reader.top(2, after=6)


def test_layers_are_found_by_what_they_use_and_lack(store: Store, address: Address) -> None:
    survivors(store, *FOUR)
    reader = Reader(address)

    def found(*uses: str, lacks: tuple[str, ...] = (), batch: bool | None = None) -> list[int]:
        return [each.birth for each in reader.find(uses, lacks, batch_dependent=batch)]

    assert found("std_ghw") == [3, 1, 5]  # the best first, each function once
    assert found("std_ghw", batch=False) == [3, 1]
    assert found("std_ghw", "std_bhw") == [5]
    assert found("std_ghw", lacks=("sigmoid", "std_bhw")) == [1]
    assert found(lacks=("std_ghw",)) == [2]
    assert found(batch=True) == [2, 5]
    with pytest.raises(InputError, match=r"no operation 'std_gwh'; did you mean 'std_ghw'\?"):
        found("std_gwh")


def test_a_lineage_is_told_from_its_root_and_children_by_birth(store: Store, address: Address) -> None:
    survivors(store, *FOUR)
    assert [each.birth for each in Reader(address).lineage(3)] == [1, 2, 3]
    assert Reader(address).children(3) == [4]
    with pytest.raises(InputError, match="no birth 9"):
        Reader(address).lineage(9)


def test_the_front_is_what_the_driver_said_last(store: Store, address: Address) -> None:
    survivors(store, *FOUR)
    for births in ((1, 3), (3, 2), (2, 3)):
        store.set_front(births)
        store.flush()
        assert [each.birth for each in Reader(address).front()] == sorted(births, key=lambda b: -FOUR[b - 1][1])
    store.close()
    again = Store.take_over(address)
    again.set_front((5,))
    again.close()
    assert [each.birth for each in Reader(address).front()] == [5]


# --------------------------------------------------------------------------- a server that goes away


def test_a_server_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(InputError, match=r"postgresql://nobody:\*\*\*@127.0.0.1:1/none: not readable"):
        Reader.open("postgresql://nobody:secret@127.0.0.1:1/none#run")


SERVER = pytest.mark.parametrize("address", ["postgresql"], indirect=True)


def disconnect(address: Address) -> None:
    """End every session of the database, as a restart of the server does."""
    engine = create_engine(address.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        connection.execute(text(others + "AND pid <> pg_backend_pid()"))
    engine.dispose()


@SERVER
def test_a_lost_connection_loses_nothing_and_keeps_the_run(store: Store, address: Address) -> None:
    propose(store, 1)
    for seq, birth in enumerate((2, 3, 4), start=1):
        disconnect(address)
        propose_and_record(store, birth, FIT, seq, 0.1)
    assert [each.birth for each in Reader(address).candidates()] == [1, 2, 3, 4]
    with pytest.raises(InputError, match="the run is driven by process"):
        Store.take_over(address)


@SERVER
def test_a_commit_whose_answer_was_lost_is_not_made_twice(store: Store, address: Address) -> None:
    commit = store.engine.dialect.do_commit
    lost: list[int] = []

    def commit_and_lose(connection: Any) -> None:
        commit(connection)
        if not lost:
            lost.append(1)
            raise store.engine.dialect.dbapi.OperationalError("the answer was lost")

    store.engine.dialect.do_commit = commit_and_lose  # type: ignore[method-assign]
    propose_and_record(store, 1, FIT, 1, 0.1)
    store.engine.dialect.do_commit = commit  # type: ignore[method-assign]
    propose_and_record(store, 2, FIT, 2, 0.1)
    assert lost
    assert [each.birth for each in Reader(address).candidates()] == [1, 2]


@SERVER
def test_who_lost_the_run_with_its_connection_writes_nothing_more(store: Store, address: Address) -> None:
    propose(store, 1)
    assert store._lock is not None
    store._lock.release()
    owner = Store.take_over(address)
    disconnect(address)
    with pytest.raises(TakenOver):
        propose(store, 2)
    propose(owner, 2)
    owner.close()
