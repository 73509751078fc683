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

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from evonas.config import Config
from evonas.store import tables
from search_space.errors import InputError, did_you_mean
from search_space.graph import Graph
from workers.outcome import Crash, Evaluation, Fitness, Outcome, Rejection

BUSY_TIMEOUT_SECONDS = 60


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
    """Where a run is: a database, its name there, and the folder that its files are in."""

    url: str
    run: str | None
    folder: Path


class StoreError(Exception):
    """The run cannot be written any more: the disk is full, the file is gone. What was recorded stays."""


class TakenOver(StoreError):
    """Another driver owns the run now; nothing more may be written."""


def locate(reference: str | Path) -> Address:
    """RUN as a person writes it: a run's folder, a .db file, or URL#run. Raises InputError where nothing is there."""
    reference = str(reference)
    if "://" in reference:
        url, _, name = reference.partition("#")
        return Address(url, name or None, _sqlite_path(url).parent)
    path = Path(reference)
    file = path / "run.db" if path.is_dir() else path
    if not file.is_file():
        beside = [str(each) for each in path.parent.glob("*") if each.is_dir()] if path.parent.is_dir() else []
        what = "no run.db in it" if path.is_dir() else "no such run"
        hint = did_you_mean(reference.rstrip("/"), beside) if beside and not path.is_dir() else ""
        raise InputError(
            f"{reference}: {what}; expected a run's folder, a .db file or URL#run" * (not hint)
            or f"{reference}: {what}{hint}"
        )
    return Address(f"sqlite:///{file}", None, file.parent)


def _sqlite_path(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError(f"'{url}': not a database URL; expected sqlite:///path.db") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise InputError(f"'{url}': this version of evonas keeps runs in SQLite files; expected sqlite:///path.db")
    return Path(parsed.database)


def open_engine(url: str, *, writable: bool) -> Engine:
    """SQLite with write-ahead logging, so that readers never block the writer; readers open the file read-only."""
    path = _sqlite_path(url)
    if writable:
        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
        event.listen(engine, "connect", _prepare_writer)
    else:
        if not path.is_file():
            raise InputError(f"{path}: no such database")
        wal = Path(f"{path}-wal")
        mode = "mode=ro" if os.access(path.parent, os.W_OK) or wal.exists() else "immutable=1"
        engine = create_engine(
            f"sqlite:///file:{path.resolve()}?{mode}&uri=true",
            connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
            poolclass=NullPool,  # a reader that waits holds no connection
        )
    return engine


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
        address.folder.mkdir(parents=True, exist_ok=True)
        name = address.run or address.folder.name
        lock = _take_lock(_lock_path(address.url, name))
        path = _sqlite_path(address.url)
        if path.exists():
            check_schema(open_engine(address.url, writable=False), str(path))
        engine = open_engine(address.url, writable=True)
        with engine.connect() as connection:
            if not path.exists() or not inspect(connection).has_table(tables.VERSION_TABLE):
                command.upgrade(_alembic(connection), "head")
                connection.commit()
        with engine.begin() as connection:
            if connection.execute(select(tables.run.c.id).where(tables.run.c.name == name)).first():
                raise InputError(f"{address.url}#{name}: this run exists; resume it, or choose another name")
            row = {
                "name": name,
                "config": config.model_dump_json(),
                "seed": config.seed,
                "epoch": 1,
                "versions": json.dumps(versions),
                "created": time.time(),
            }
            run = connection.execute(insert(tables.run).values(row)).inserted_primary_key
            assert run is not None
        store = cls(engine, int(run[0]), 1, lock)
        store.event("started", _driver())
        return store

    @classmethod
    def take_over(cls, address: Address) -> "Store":
        """Own an existing run. Raises InputError with host and process of the driver that owns it now."""
        check_schema(open_engine(address.url, writable=False), address.url)
        with open_engine(address.url, writable=False).connect() as connection:
            row = find_run(connection, address.run, address.url)
        lock = _take_lock(_lock_path(address.url, row.name))
        engine = open_engine(address.url, writable=True)
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


def _lock_path(url: str, run: str) -> Path:
    return _sqlite_path(url).parent / f".{run}.lock"


def _take_lock(path: Path) -> IO[str]:
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        owner = lock.read().strip() or "another driver"
        lock.close()
        raise InputError(f"{path.parent}: the run is driven by {owner}") from None
    lock.truncate(0)
    lock.write(_driver())
    lock.flush()
    return lock
