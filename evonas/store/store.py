"""The store owns the state of a run: opening, ownership, and the transitions that a driver makes."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, Table, bindparam, delete, func, insert, inspect, select, update
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError

from evonas.config import Config
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store import tables
from evonas.store.database import Address, build_file, build_schema, find_run, has_run, open_engine
from evonas.store.ownership import Lock, check_schema, own, this_driver
from evonas.store.records import Candidate, State, columns, rows_of, state_after
from evonas.workers.outcome import Evaluation

FLUSH_SECONDS = 0.05  # what a driver's death may cost; it is done again, and comes out the same
FLUSH_CANDIDATES = 512
RECONNECT_SECONDS = 300.0  # to a database server that is gone

Rows = defaultdict[Table, list[dict[str, Any]]]

_log = logging.getLogger("evonas")


class StoreError(Exception):
    """The run cannot be written any more: the disk is full, the file is gone. What was recorded stays."""


class TakenOver(StoreError):
    """Another driver owns the run now; nothing more may be written."""


class Store:
    """The one writer of a run. Holds a lock that the system releases when the process dies; every write checks that the
    run's epoch is still this driver's, and raises TakenOver otherwise.

    Proposals and outcomes are gathered, and written by `flush` in one transaction, in which each is whole or absent.
    """

    def __init__(self, engine: Engine, run: int, epoch: int, lock: Lock) -> None:
        self.engine = engine
        self.run = run
        self.should_stop: Callable[[], bool] = lambda: False  # then no server is waited for
        self.epoch = epoch
        self._lock: Lock | None = lock
        self._rows: Rows = defaultdict(list)
        self._unwritten: dict[int, dict[str, Any]] = {}  # birth -> its row
        self._decided: list[dict[str, Any]] = []  # births that are written, with their states
        self._flushed = time.monotonic()
        with engine.connect() as connection:
            e, f = tables.evaluation.c, tables.front.c
            last = select(func.max(e.id)).where(e.run == run)
            self._evaluations: int = connection.execute(last).scalar() or 0
            front = connection.execute(select(f.birth).where(f.run == run)).scalars()
            self._front = self._written_front = frozenset(front)
            writes = select(tables.run.c.writes).where(tables.run.c.id == run)
            self._writes: int = connection.execute(writes).scalar_one()

    @classmethod
    def create(cls, address: Address, config: Config, versions: dict[str, str]) -> "Store":
        """A new run in a database that is new or evonas' own."""
        name = address.run or address.folder.name
        if has_run(address, name):
            raise InputError(f"{address.where}#{name}: this run exists; resume it, or choose another name")
        lock = own(address, name)
        row = {
            "name": name,
            "config": config.model_dump_json(),
            "seed": config.seed,
            "epoch": 1,
            "versions": json.dumps(versions),
            "created": time.time(),
        }
        try:
            if address.is_file and not address.path.exists():
                build_file(address.path)
            engine = open_engine(address, writable=True)
            if address.is_file or inspect(engine).has_table(tables.VERSION_TABLE):
                check_schema(address)
            else:
                build_schema(engine)
            with engine.begin() as connection:
                run = connection.execute(insert(tables.run).values(row)).inserted_primary_key
                assert run is not None
        except DatabaseError as error:
            lock.release(remove=True)
            raise InputError(f"{address.where}: cannot be written ({error.orig})") from None
        except BaseException:
            lock.release(remove=True)
            raise
        store = cls(engine, int(run[0]), 1, lock)
        store.event("started", this_driver())
        return store

    @classmethod
    def take_over(cls, address: Address, *, to: str = "resumed") -> "Store":
        """Own an existing run: to go on with it or, "validating", beside it. Raises InputError with host and process of
        the driver that owns it now."""
        check_schema(address)
        with open_engine(address, writable=False).connect() as connection:
            row = find_run(connection, address.run, address.where)
        lock = own(address, row.name)
        engine = open_engine(address, writable=True)
        mine = tables.run.c.id == row.id
        try:
            with engine.begin() as connection:
                now = {"epoch": tables.run.c.epoch + 1} | ({"finished": None} if to == "resumed" else {})
                connection.execute(update(tables.run).where(mine).values(now))
                epoch = connection.execute(select(tables.run.c.epoch).where(mine)).scalar_one()
        except DatabaseError as error:
            lock.release()
            raise InputError(f"{address.where}: cannot be written ({error.orig})") from None
        store = cls(engine, row.id, epoch, lock)
        store.event(to, this_driver())
        return store

    def propose(self, candidate: Candidate) -> None:
        """A candidate that a worker will evaluate, or that has its outcome already: then `record` follows."""
        row = {"run": self.run, **columns(candidate), "state": State.PENDING}
        self._rows[tables.candidate].append(row)
        self._unwritten[candidate.birth] = row

    def record(
        self,
        birth: int,
        graph: Graph,
        evaluation: Evaluation,
        seq: int,
        seed: int,
        advantage: float | None,
        *,
        inherits: bool = False,
    ) -> None:
        """The outcome of a proposed candidate: state, scores, curves, measurements, and what structural queries ask."""
        state = state_after(evaluation.outcome)
        if birth in self._unwritten:
            self._unwritten[birth]["state"] = state
        else:
            self._decided.append({"of": birth, "now": state})
        found_by = None if inherits else advantage
        self._rows[tables.candidate_op] += [
            {"run": self.run, "op": op, "birth": birth, "advantage": found_by}
            for op in sorted({node.op for node in graph.canonical().nodes})
        ]
        self._add(
            evaluation, layer=graph.formula, purpose="search", seed=seed, birth=birth, seq=seq, advantage=advantage
        )

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
        self._add(evaluation, layer=formula, purpose=purpose, seed=seed, birth=birth, name=name, advantage=advantage)
        self.flush()

    def set_front(self, births: Iterable[int]) -> None:
        """The survivors that no other one dominates."""
        self._front = frozenset(births)

    def finish(self) -> None:
        """Every record is made."""
        self.flush()
        mine = tables.run.c.id == self.run
        self._write(lambda connection: connection.execute(update(tables.run).where(mine).values(finished=time.time())))
        self.event("finished", this_driver())

    def event(self, kind: str, message: str) -> None:
        row = {"run": self.run, "epoch": self.epoch, "at": time.time(), "kind": kind, "message": message}
        self._rows[tables.event].append(row)
        self.flush()

    @property
    def seconds_to_flush(self) -> float:
        """Until what was gathered is due."""
        if len(self._unwritten) + len(self._decided) >= FLUSH_CANDIDATES:
            return 0.0
        return max(0.0, self._flushed + FLUSH_SECONDS - time.monotonic())

    def flush(self) -> None:
        """Write what was gathered, in one transaction. Raises TakenOver; then the outcomes are kept as superseded."""
        self._flushed = time.monotonic()
        if not any(self._rows.values()) and not self._decided and self._front == self._written_front:
            return
        rows, decided, front = self._rows, self._decided, self._front
        # what cannot be written is forgotten whole: nothing that is written later may refer to it
        self._rows, self._decided, self._front = defaultdict(list), [], self._written_front
        self._unwritten.clear()
        try:
            self._write(lambda connection: self._write_all(connection, rows, decided, front))
        except TakenOver:
            if self._lock is not None:
                self._lock.release()  # a server may have given it again
            self._keep_as_superseded(rows)
            raise
        self._front = self._written_front = front

    def _write_all(
        self, connection: Connection, rows: Rows, decided: list[dict[str, Any]], front: frozenset[int]
    ) -> None:
        for table in tables.metadata.sorted_tables:  # candidates before what refers to them
            if rows[table]:
                connection.execute(insert(table), rows[table])
        if decided:
            c = tables.candidate.c
            this = (c.run == self.run) & (c.birth == bindparam("of"))
            connection.execute(update(tables.candidate).where(this).values(state=bindparam("now")), decided)
        if front != self._written_front:
            f = tables.front.c
            for birth in sorted(self._written_front - front):
                connection.execute(delete(tables.front).where(f.run == self.run, f.birth == birth))
            for birth in sorted(front - self._written_front):
                connection.execute(insert(tables.front).values(run=self.run, birth=birth))

    def _write(self, work: Callable[[Connection], Any]) -> None:
        """One transaction of the owner. A server that is gone is waited for."""
        deadline, tries = time.monotonic() + RECONNECT_SECONDS, 0
        while not self._written(
            work, again=tries > 0, last=time.monotonic() > deadline or (tries > 0 and self.should_stop())
        ):
            tries += 1
            time.sleep(1.0)

    def _written(self, work: Callable[[Connection], Any], *, again: bool, last: bool) -> bool:
        """False where it is worth another try."""
        try:
            if again and self._lock is not None and not self._lock.renew() and self._is_mine():
                if last:
                    raise TakenOver("another driver holds the run since the database was gone")
                return False  # by one that has yet to notice that the run is not its own
            with self.engine.begin() as connection:
                if self._claim(connection, again=again):
                    work(connection)
        except DBAPIError as error:
            if not isinstance(error, OperationalError) and not error.connection_invalidated:
                raise
            if last or self.engine.dialect.name == "sqlite":
                raise StoreError(f"the database cannot be written: {error.orig}") from error
            if not again:
                _log.warning("the database does not answer; trying for %g s: %s", RECONNECT_SECONDS, error.orig)
            return False
        self._writes += 1
        return True

    def _is_mine(self) -> bool:
        with self.engine.connect() as connection:
            epoch = connection.execute(select(tables.run.c.epoch).where(tables.run.c.id == self.run)).scalar_one()
        return bool(epoch == self.epoch)

    def _claim(self, connection: Connection, *, again: bool) -> bool:
        """Count the transaction, as the owner. False where an earlier try of it arrived, though its answer did not."""
        c = tables.run.c
        mine = (c.id == self.run) & (c.epoch == self.epoch) & (c.writes == self._writes)
        if connection.execute(update(tables.run).where(mine).values(writes=self._writes + 1)).rowcount == 1:
            return True
        found = connection.execute(select(c.epoch, c.writes).where(c.id == self.run)).first()
        if again and found == (self.epoch, self._writes + 1):
            return False
        raise TakenOver(f"another driver has taken the run over since epoch {self.epoch}")

    def _keep_as_superseded(self, rows: Rows) -> None:
        """What this driver's workers still found out: beside the run, which another driver owns."""
        evaluations, e = rows[tables.evaluation], tables.evaluation.c
        if not evaluations:
            return
        with self.engine.begin() as connection:
            lowest = connection.execute(select(func.min(e.id)).where(e.run == self.run)).scalar() or 0
            new = {row["id"]: min(lowest, 0) - n for n, row in enumerate(evaluations, start=1)}
            late = {"purpose": "superseded", "seq": None, "birth": None}
            connection.execute(insert(tables.evaluation), [{**r, **late, "id": new[r["id"]]} for r in evaluations])
            for table in (tables.score, tables.point, tables.measurement):
                if rows[table]:
                    found = [{**r, "evaluation": new[r["evaluation"]]} for r in rows[table]]
                    connection.execute(insert(table), found)

    def discard(self) -> None:
        """Forget a run that has neither a baseline nor a candidate, and let it go. The database stays: another driver
        may be about to use it."""
        with self.engine.begin() as connection:
            connection.execute(delete(tables.event).where(tables.event.c.run == self.run))
            connection.execute(delete(tables.run).where(tables.run.c.id == self.run))
        self.close(remove_lock=True)

    def close(self, remove_lock: bool = False) -> None:
        """Write what was gathered, fold SQLite's write-ahead log into the file, so that it opens from anywhere, and let
        the run go."""
        if self._lock is None:
            return
        try:
            with suppress(StoreError):  # it was raised where it could be told
                self.flush()
            if self.engine.dialect.name == "sqlite":
                with suppress(OperationalError), self.engine.connect() as connection:  # a reader is there: its turn
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                    connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        finally:
            self.engine.dispose()
            self._lock.release(remove=remove_lock)
            self._lock = None

    def _add(self, evaluation: Evaluation, **about: Any) -> None:
        self._evaluations += 1
        for table, rows in rows_of(self.run, self._evaluations, self.epoch, evaluation, **about):
            self._rows[table] += rows
