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
from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from evonas.config import Config
from evonas.store import tables
from evonas.store.database import Address, alembic_config, check_schema, find_run, has_run, open_engine
from search_space.errors import InputError
from search_space.graph import Graph
from workers.outcome import Crash, Evaluation, Fitness, Outcome, Rejection


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


class StoreError(Exception):
    """The run cannot be written any more: the disk is full, the file is gone. What was recorded stays."""


class TakenOver(StoreError):
    """Another driver owns the run now; nothing more may be written."""


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
        if has_run(address, name):
            raise InputError(f"{address.where}#{name}: this run exists; resume it, or choose another name")
        lock = _take_lock(address, name)
        row = {
            "name": name,
            "config": config.model_dump_json(),
            "seed": config.seed,
            "epoch": 1,
            "versions": json.dumps(versions),
            "created": time.time(),
        }
        try:
            is_new = not address.path.exists()
            engine = open_engine(address, writable=True)
            if is_new:
                with engine.connect() as connection:
                    command.upgrade(alembic_config(connection), "head")
                    connection.commit()
            with engine.begin() as connection:
                run = connection.execute(insert(tables.run).values(row)).inserted_primary_key
                assert run is not None
        except DatabaseError as error:
            _let_go(lock, remove=True)
            raise InputError(f"{address.where}: cannot be written ({error.orig})") from None
        store = cls(engine, int(run[0]), 1, lock)
        store.event("started", _driver())
        return store

    @classmethod
    def take_over(cls, address: Address, *, to: str = "resumed") -> "Store":
        """Own an existing run: to go on with it or, "validating", beside it. Raises InputError with host and process of
        the driver that owns it now."""
        check_schema(open_engine(address, writable=False), address.where)
        with open_engine(address, writable=False).connect() as connection:
            row = find_run(connection, address.run, address.where)
        lock = _take_lock(address, row.name)
        engine = open_engine(address, writable=True)
        mine = tables.run.c.id == row.id
        try:
            with engine.begin() as connection:
                now = {"epoch": tables.run.c.epoch + 1} | ({"finished": None} if to == "resumed" else {})
                connection.execute(update(tables.run).where(mine).values(now))
                epoch = connection.execute(select(tables.run.c.epoch).where(mine)).scalar_one()
        except DatabaseError as error:
            _let_go(lock)
            raise InputError(f"{address.where}: cannot be written ({error.orig})") from None
        store = cls(engine, row.id, epoch, lock)
        store.event(to, _driver())
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
        self,
        purpose: str,
        formula: str,
        seed: int,
        evaluation: Evaluation,
        *,
        birth: int | None = None,
        name: str | None = None,
        advantage: float | None = None,
    ) -> None:
        """An evaluation beside the search: a baseline, an audit, of the rerank, or on the test images."""
        with self._writing() as connection:
            self._insert_evaluation(connection, evaluation, formula, purpose, seed, birth, name, None, advantage)

    def finish(self) -> None:
        """Every record is made."""
        with self._writing() as connection:
            connection.execute(update(tables.run).where(tables.run.c.id == self.run).values(finished=time.time()))
        self.event("finished", _driver())

    def event(self, kind: str, message: str) -> None:
        with self._writing() as connection:
            row = {"run": self.run, "epoch": self.epoch, "at": time.time(), "kind": kind, "message": message}
            connection.execute(insert(tables.event).values(row))

    def discard(self) -> None:
        """Forget a run that has neither a baseline nor a candidate, and let it go."""
        with self._writing() as connection:
            connection.execute(delete(tables.event).where(tables.event.c.run == self.run))
            connection.execute(delete(tables.run).where(tables.run.c.id == self.run))
            runs = connection.execute(select(func.count()).select_from(tables.run)).scalar_one()
        self.close(remove_lock=True)
        if not runs:
            Path(str(self.engine.url.database)).unlink()

    def close(self, remove_lock: bool = False) -> None:
        """Fold the write-ahead log into the file, so that it opens from anywhere, and let the run go."""
        if self._lock.closed:
            return
        with suppress(OperationalError), self.engine.connect() as connection:  # a reader is there: its turn to fold
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        self.engine.dispose()
        _let_go(self._lock, remove_lock)

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
            "attempts": evaluation.attempts,
            "epoch": self.epoch,
            "seq": seq,
            "verdict": type(outcome).__name__.lower(),
            "advantage": advantage,
            "host": evaluation.host or platform.node(),
            "conditions": evaluation.conditions,
            "seconds": evaluation.seconds,
            "memory_mb": evaluation.memory_mb,
            "at": time.time(),
        }
        scores: dict[str, dict[str, float]] = {}
        match outcome:
            case Fitness():
                scores = _columns(outcome)
            case Rejection():
                row |= {"gate": outcome.gate, "proxy": outcome.proxy, "step": outcome.step}
                row |= {"value": outcome.value, "threshold": outcome.threshold}
            case Crash():
                row |= {"gate": outcome.kind, "message": outcome.message}
        key = connection.execute(insert(tables.evaluation).values(row)).inserted_primary_key
        assert key is not None
        number = int(key[0])
        for table, rows in (
            (
                tables.score,
                [{"proxy": p, "objective": name, "value": v} for name, each in scores.items() for p, v in each.items()],
            ),
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
    database = address.path.resolve()  # not the link by which it was found
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock = (database.parent / f".{database.name}.{run}.lock").open("a+")
    except OSError as error:
        raise InputError(f"{address.where}: the run cannot be locked ({error.strerror}: {error.filename})") from None
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


def _let_go(lock: IO[str], remove: bool = False) -> None:
    if remove:
        Path(lock.name).unlink(missing_ok=True)
    lock.close()
