"""The store owns the state of a run: the transitions that its one driver makes."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, Table, bindparam, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from evonas.search_space.graph import Graph
from evonas.store import tables
from evonas.store.ownership import Lock, this_driver
from evonas.store.records import RETRAINING, Candidate, Event, Purpose, State, columns, state_after
from evonas.store.rows import event_row, rows_of
from evonas.store.trainings import StoredTraining
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


class Writer:
    """Writes a run as its one driver, under a lock that the system releases when the process dies. Every write checks
    that the run's epoch is still this driver's, and raises TakenOver otherwise.

    Proposals and outcomes are gathered, and written by `flush` in one transaction, in which each is whole or absent.
    """

    def __init__(self, engine: Engine, run: int, epoch: int, lock: Lock, baseline: str) -> None:
        self.engine = engine
        self.run = run
        self.baseline = baseline  # its name
        self.should_stop: Callable[[], bool] = lambda: False  # once true, a lost server is not waited for
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
            last = select(func.max(tables.training.c.id)).where(tables.training.c.run == run)
            self._trainings: int = connection.execute(last).scalar() or 0
            front = connection.execute(select(f.birth).where(f.run == run)).scalars()
            self._front = self._written_front = frozenset(front)
            state = select(tables.run.c.writes, tables.run.c.finished).where(tables.run.c.id == run)
            self._writes, finished = connection.execute(state).one()
            self._finished = finished is not None

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
            self._decided.append({"decided_birth": birth, "new_state": state})
        listed = None if inherits else advantage  # queries list each function once
        self._rows[tables.candidate_op] += [
            {"run": self.run, "op": op, "birth": birth, "advantage": listed}
            for op in sorted({node.op for node in graph.canonical().nodes})
        ]
        self._add(
            evaluation,
            layer=graph.formula,
            purpose=Purpose.SEARCH,
            seed=seed,
            birth=birth,
            seq=seq,
            advantage=advantage,
        )

    def record_beside(
        self,
        purpose: Purpose,
        formula: str,
        seed: int,
        evaluation: Evaluation,
        *,
        birth: int | None = None,
        name: str | None = None,
        advantage: float | None = None,
    ) -> None:
        """An evaluation beside the search. The advantage of a retraining is that over BN-ReLU's of the same purpose and
        seed, whichever is recorded first."""
        self._add(evaluation, layer=formula, purpose=purpose, seed=seed, birth=birth, name=name, advantage=advantage)
        self.flush()

    def record_training(self, training: StoredTraining) -> None:
        """A training under settings of its own."""
        self._trainings += 1
        about = {"run": self.run, "id": self._trainings, "epoch": self.epoch, "at": time.time()}
        self._rows[tables.training].append(
            columns(training) | {"protocol": json.dumps(training.protocol, sort_keys=True)} | about
        )
        self.flush()

    def set_front(self, births: Iterable[int]) -> None:
        """The survivors that no other one dominates."""
        self._front = frozenset(births)

    def finish(self) -> None:
        """Every record is made. A finished run stays finished, whoever opens it again."""
        self.flush()
        if self._finished:
            return
        mine = tables.run.c.id == self.run
        self._write(lambda connection: connection.execute(update(tables.run).where(mine).values(finished=time.time())))
        self._finished = True
        self.event(Event.FINISHED, this_driver())

    def event(self, kind: Event, message: str) -> None:
        self._rows[tables.event].append(event_row(self.run, self.epoch, time.time(), kind, message))
        self.flush()

    @property
    def seconds_to_flush(self) -> float:
        """Seconds until what was gathered is due."""
        if len(self._unwritten) + len(self._decided) >= FLUSH_CANDIDATES:
            return 0.0
        return max(0.0, self._flushed + FLUSH_SECONDS - time.monotonic())

    def flush(self) -> None:
        """Write what was gathered, in one transaction. Raises TakenOver; then the outcomes are kept as superseded."""
        self._flushed = time.monotonic()
        if not any(self._rows.values()) and not self._decided and self._front == self._written_front:
            return
        rows, decided, front = self._rows, self._decided, self._front
        # A record that cannot be written is forgotten whole, so that nothing written later refers to it.
        self._rows, self._decided, self._front = defaultdict(list), [], self._written_front
        self._unwritten.clear()
        try:
            self._write(lambda connection: self._write_all(connection, rows, decided, front))
        except TakenOver:
            if self._lock is not None:
                self._lock.release()  # after a lost connection, a server may have granted it again
            self._keep_as_superseded(rows)
            raise
        self._front = self._written_front = front

    def _write_all(
        self, connection: Connection, rows: Rows, decided: list[dict[str, Any]], front: frozenset[int]
    ) -> None:
        for table in tables.metadata.sorted_tables:  # candidates before what refers to them
            if rows[table]:
                connection.execute(insert(table), rows[table])
        for purpose, seed in {(row["purpose"], row["seed"]) for row in rows[tables.evaluation]}:
            if purpose in RETRAINING:
                these = {"run": self.run, "purpose": purpose, "seed": seed, "baseline": self.baseline}
                connection.execute(text(tables.SET_ADVANTAGE), these)
        if decided:
            c = tables.candidate.c
            this = (c.run == self.run) & (c.birth == bindparam("decided_birth"))
            connection.execute(update(tables.candidate).where(this).values(state=bindparam("new_state")), decided)
        if front != self._written_front:
            f = tables.front.c
            for birth in sorted(self._written_front - front):
                connection.execute(delete(tables.front).where(f.run == self.run, f.birth == birth))
            for birth in sorted(front - self._written_front):
                connection.execute(insert(tables.front).values(run=self.run, birth=birth))

    def _write(self, work: Callable[[Connection], Any]) -> None:
        """One transaction of the owner. It waits for a server that is gone."""
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
                return False  # its holder has yet to notice that the run is not its own
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
        stored = connection.execute(select(c.epoch, c.writes).where(c.id == self.run)).first()
        if again and stored == (self.epoch, self._writes + 1):
            return False
        raise TakenOver(f"another driver has taken the run over since epoch {self.epoch}")

    def _keep_as_superseded(self, rows: Rows) -> None:
        """Records, beside the run that another driver owns, what this driver's workers still found out."""
        evaluations, e = rows[tables.evaluation], tables.evaluation.c
        if not evaluations:
            return
        with self.engine.begin() as connection:
            lowest = connection.execute(select(func.min(e.id)).where(e.run == self.run)).scalar() or 0
            new = {row["id"]: min(lowest, 0) - n for n, row in enumerate(evaluations, start=1)}
            late = {"purpose": Purpose.SUPERSEDED, "seq": None, "birth": None}
            connection.execute(insert(tables.evaluation), [{**r, **late, "id": new[r["id"]]} for r in evaluations])
            for table in (tables.score, tables.point, tables.measurement):
                if rows[table]:
                    renumbered = [{**r, "evaluation": new[r["evaluation"]]} for r in rows[table]]
                    connection.execute(insert(table), renumbered)

    def discard(self) -> None:
        """Forget a run without a baseline or candidate. The database stays: another driver may be about to use it."""
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
            with suppress(StoreError):  # already reported by the failed write
                self.flush()
            if self.engine.dialect.name == "sqlite":
                with suppress(OperationalError), self.engine.connect() as connection:  # a reader keeps the log
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
