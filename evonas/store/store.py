"""The store owns the state of a run: opening, ownership, and the transitions that a driver makes."""

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from evonas.config import Config, load_config
from evonas.store import tables
from search_space.errors import InputError, did_you_mean
from search_space.graph import Graph
from workers.outcome import Crash, Evaluation, Fitness, Outcome, Rejection

BUSY_TIMEOUT_SECONDS = 60
CONFIG_FILE = "config.yaml"  # the resolved config in a run's folder


class State(StrEnum):
    """Of a candidate; pending while a worker has it, or will have it again after a resume."""

    PENDING = "pending"
    EVALUATED = "evaluated"
    REJECTED = "rejected"
    CRASHED = "crashed"


def state_after(outcome: Outcome) -> State:
    match outcome:
        case Fitness():
            return State.EVALUATED
        case Rejection():
            return State.REJECTED
        case Crash():
            return State.CRASHED


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a candidate when it is proposed."""

    birth: int
    graph: Graph
    fingerprint: str
    family: str
    parent: int | None
    operator: str
    equal_to: int | None
    seen: int
    batch_dependent: bool


@dataclass(frozen=True, slots=True)
class Address:
    """Where a run is: a database, its name there (None: the only one), and the folder that its files are in."""

    url: URL
    run: str | None
    folder: Path

    @classmethod
    def of_file(cls, database: Path, run: str | None, folder: Path) -> "Address":
        return cls(URL.create("sqlite", database=str(database)), run, folder)

    @classmethod
    def of_url(cls, url: str, run: str | None, folder: Path | None = None) -> "Address":
        """Raises InputError for what is no URL of a database that can hold runs."""
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise InputError(f"'{url}': not a database URL; expected sqlite:///path.db") from None
        if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
            raise InputError(f"'{url}': this version of evonas keeps runs in SQLite files; expected sqlite:///path.db")
        parent = Path(parsed.database).parent
        if not parent.is_dir():
            raise InputError(f"'{url}': there is no folder '{parent}'")
        beside = parent / run if run and (parent / run).is_dir() else parent
        return cls(parsed, run, folder or beside)

    @property
    def path(self) -> Path:
        return Path(str(self.url.database))

    @property
    def where(self) -> str:
        """For messages."""
        return str(self.path)


class StoreError(Exception):
    """The run cannot be written any more: the disk is full, the file is gone. What was recorded stays."""


class TakenOver(StoreError):
    """Another driver owns the run now; nothing more may be written."""


def locate(reference: str | Path) -> Address:
    """RUN as a person writes it: a run's folder, a .db file, or URL#run. Raises InputError where nothing is there."""
    reference = str(reference)
    if "://" in reference:
        database, _, name = reference.partition("#")
        return Address.of_url(database, name or None)
    path = Path(reference)
    if path.is_file():
        return Address.of_file(path, None, path.parent)
    if (path / "run.db").is_file():
        return Address.of_file(path / "run.db", None, path)
    if (path / CONFIG_FILE).is_file() and (url := load_config(path / CONFIG_FILE).store.url):
        return Address.of_url(url, path.name, path)
    if path.is_dir():
        raise InputError(f"{reference}: no run.db in it; expected a run's folder, a .db file or URL#run")
    beside = [str(each.parent) for each in path.parent.glob("*/run.db")] if path.parent.is_dir() else []
    raise InputError(f"{reference}: no such run{did_you_mean(str(path), beside)}")


def open_engine(address: Address, *, writable: bool) -> Engine:
    """SQLite with write-ahead logging, so that readers never block the writer; readers open the file read-only."""
    path = address.path
    if writable:
        engine = create_engine(address.url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
        event.listen(engine, "connect", _prepare_writer)
        return engine
    if not path.is_file():
        raise InputError(f"{path}: no such database")
    may_write = os.access(path.parent, os.W_OK) or Path(f"{path}-wal").exists()
    query = {"mode": "ro", "uri": "true"} if may_write else {"immutable": "1", "uri": "true"}
    return create_engine(
        URL.create("sqlite", database=f"file:{quote(str(path.resolve()))}", query=query),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        poolclass=NullPool,  # a reader that waits holds no connection
    )


def _prepare_writer(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # safe in WAL against any death of the process
    connection.execute("PRAGMA foreign_keys=ON")


def check_schema(engine: Engine, where: str) -> None:
    """Raises InputError when the database is not one of evonas, or of another version."""
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(tables.VERSION_TABLE):
                raise InputError(f"{where}: not a database of evonas (no table {tables.VERSION_TABLE})")
            found = connection.execute(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")).scalar()
    except DatabaseError as error:
        raise InputError(f"{where}: not a database of evonas ({error.orig})") from None
    known = ScriptDirectory.from_config(_alembic()).get_current_head()
    if found != known:
        raise InputError(f"{where}: schema {found}, this evonas reads {known}; use the version that wrote it")


def _alembic(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def find_run(connection: Connection, name: str | None, where: str) -> Any:
    """The row of the run with this name, or of the only one."""
    rows = connection.execute(select(tables.run)).all()
    names = [row.name for row in rows]
    if name is None and len(rows) == 1:
        return rows[0]
    if name is None:
        raise InputError(f"{where}: {len(rows)} runs; name one as URL#run: {', '.join(names) or 'there is none'}")
    for row in rows:
        if row.name == name:
            return row
    raise InputError(f"{where}: no run '{name}'{did_you_mean(name, names)}")


class Store:
    """The one writer of a run. Holds a lock that the system releases when the process dies; every write checks that the
    run's epoch is still this driver's, and raises TakenOver otherwise."""

    def __init__(self, engine: Engine, run: int, epoch: int, lock: IO[str]) -> None:
        self.engine = engine
        self.run = run
        self.epoch = epoch
        self._lock = lock

    @classmethod
    def create(cls, address: Address, config: Config, versions: dict[str, str]) -> "Store":
        """A new run in a database that is new or evonas' own."""
        name = address.run or address.folder.name
        is_new = not address.path.exists()
        if not is_new:
            check_schema(open_engine(address, writable=False), address.where)
            with open_engine(address, writable=False).connect() as connection:
                if connection.execute(select(tables.run.c.id).where(tables.run.c.name == name)).first():
                    raise InputError(f"{address.where}#{name}: this run exists; resume it, or choose another name")
        lock = _take_lock(address, name)
        engine = open_engine(address, writable=True)
        if is_new:
            with engine.connect() as connection:
                command.upgrade(_alembic(connection), "head")
                connection.commit()
        row = {
            "name": name,
            "config": config.model_dump_json(),
            "seed": config.seed,
            "epoch": 1,
            "versions": json.dumps(versions),
            "created": time.time(),
        }
        with engine.begin() as connection:
            run = connection.execute(insert(tables.run).values(row)).inserted_primary_key
            assert run is not None
        store = cls(engine, int(run[0]), 1, lock)
        store.event("started", _driver())
        return store

    @classmethod
    def take_over(cls, address: Address) -> "Store":
        """Own an existing run. Raises InputError with host and process of the driver that owns it now."""
        check_schema(open_engine(address, writable=False), address.where)
        with open_engine(address, writable=False).connect() as connection:
            row = find_run(connection, address.run, address.where)
        lock = _take_lock(address, row.name)
        engine = open_engine(address, writable=True)
        with engine.begin() as connection:
            mine = tables.run.c.id == row.id
            connection.execute(update(tables.run).where(mine).values(epoch=tables.run.c.epoch + 1, finished=None))
            epoch = connection.execute(select(tables.run.c.epoch).where(mine)).scalar_one()
        store = cls(engine, row.id, epoch, lock)
        store.event("resumed", _driver())
        return store

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction of the owner."""
        try:
            with self.engine.begin() as connection:
                mine = (tables.run.c.id == self.run) & (tables.run.c.epoch == self.epoch)
                if connection.execute(update(tables.run).where(mine).values(epoch=self.epoch)).rowcount != 1:
                    raise TakenOver(f"another driver has taken the run over since epoch {self.epoch}")
                yield connection
        except OperationalError as error:
            raise StoreError(f"the database cannot be written: {error.orig}") from error

    def propose(self, candidate: Candidate) -> None:
        """A candidate that a worker will evaluate."""
        with self._writing() as connection:
            self._insert_candidate(connection, candidate, State.PENDING)

    def propose_and_record(
        self, candidate: Candidate, evaluation: Evaluation, seq: int, seed: int, advantage: float | None
    ) -> None:
        """A candidate whose outcome is known at once: screened, or inherited."""
        with self._writing() as connection:
            self._insert_candidate(connection, candidate, state_after(evaluation.outcome))
            self._insert_evaluation(
                connection, evaluation, candidate.graph.formula, "search", seed, candidate.birth, None, seq, advantage
            )

    def record(
        self, birth: int, formula: str, evaluation: Evaluation, seq: int, seed: int, advantage: float | None
    ) -> None:
        """The outcome of a pending candidate: state, scores, curves and measurements in one transaction."""
        with self._writing() as connection:
            this = (tables.candidate.c.run == self.run) & (tables.candidate.c.birth == birth)
            connection.execute(update(tables.candidate).where(this).values(state=state_after(evaluation.outcome)))
            self._insert_evaluation(connection, evaluation, formula, "search", seed, birth, None, seq, advantage)

    def record_beside(
        self, purpose: str, formula: str, seed: int, evaluation: Evaluation, *, birth: int | None, name: str | None
    ) -> None:
        """An evaluation beside the search: a baseline, or the rerank."""
        with self._writing() as connection:
            self._insert_evaluation(connection, evaluation, formula, purpose, seed, birth, name, None, None)

    def finish(self) -> None:
        """Every record is made."""
        with self._writing() as connection:
            connection.execute(update(tables.run).where(tables.run.c.id == self.run).values(finished=time.time()))
        self.event("finished", _driver())

    def event(self, kind: str, message: str) -> None:
        with self._writing() as connection:
            row = {"run": self.run, "epoch": self.epoch, "at": time.time(), "kind": kind, "message": message}
            connection.execute(insert(tables.event).values(row))

    def close(self) -> None:
        """Fold the write-ahead log into the file, so that it opens from anywhere, and let the run go."""
        with suppress(OperationalError), self.engine.connect() as connection:  # a reader is there: its turn to fold
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        self.engine.dispose()
        self._lock.close()

    def _insert_candidate(self, connection: Connection, candidate: Candidate, state: State) -> None:
        graph = candidate.graph
        row = {
            "run": self.run,
            "birth": candidate.birth,
            "graph": str(graph),
            "formula": graph.formula,
            "digest": graph.digest,
            "fingerprint": candidate.fingerprint,
            "family": candidate.family,
            "parent": candidate.parent,
            "operator": candidate.operator,
            "equal_to": candidate.equal_to,
            "seen": candidate.seen,
            "batch_dependent": candidate.batch_dependent,
            "live_nodes": graph.live_nodes,
            "state": state,
        }
        connection.execute(insert(tables.candidate).values(row))
        ops = sorted({node.op for node in graph.canonical().nodes})
        rows = [{"run": self.run, "birth": candidate.birth, "op": op} for op in ops]
        if rows:
            connection.execute(insert(tables.candidate_op), rows)

    def _insert_evaluation(
        self,
        connection: Connection,
        evaluation: Evaluation,
        formula: str,
        purpose: str,
        seed: int,
        birth: int | None,
        name: str | None,
        seq: int | None,
        advantage: float | None,
    ) -> None:
        outcome = evaluation.outcome
        row: dict[str, Any] = {
            "run": self.run,
            "layer": formula,
            "birth": birth,
            "name": name,
            "purpose": purpose,
            "seed": seed,
            "epoch": self.epoch,
            "seq": seq,
            "verdict": type(outcome).__name__.lower(),
            "advantage": advantage,
            "host": evaluation.host or platform.node(),
            "seconds": evaluation.seconds,
            "memory_mb": evaluation.memory_mb,
            "at": time.time(),
        }
        scores: dict[str, float] = {}
        match outcome:
            case Fitness():
                scores = outcome.accuracy
            case Rejection():
                row |= {"gate": outcome.gate, "proxy": outcome.proxy, "step": outcome.step}
                row |= {"value": outcome.value, "threshold": outcome.threshold}
            case Crash():
                row |= {"gate": outcome.kind, "message": outcome.message}
        key = connection.execute(insert(tables.evaluation).values(row)).inserted_primary_key
        assert key is not None
        number = int(key[0])
        for table, rows in (
            (tables.score, [{"proxy": p, "objective": "accuracy", "value": v} for p, v in scores.items()]),
            (tables.point, [_columns(each) for each in evaluation.points]),
            (tables.measurement, [{"position": i, **_columns(m)} for i, m in enumerate(evaluation.measurements)]),
        ):
            if rows:
                connection.execute(insert(table), [{"evaluation": number, **each} for each in rows])


def _columns(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _driver() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _take_lock(address: Address, run: str) -> IO[str]:
    path = address.path.parent / f".{run}.lock"
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        owner = lock.read().strip() or "another driver"
        lock.close()
        raise InputError(f"{address.where}: the run is driven by {owner}") from None
    lock.truncate(0)
    lock.write(_driver())
    lock.flush()
    return lock
