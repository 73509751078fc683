"""The records of one run, row by row, in the order in which they were made."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import Engine, Row, func, select

from evonas.config import Config
from evonas.search_space.errors import NotThere, integer_of
from evonas.search_space.graph import Graph
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.wording import counted
from evonas.store import loading, tables
from evonas.store.address import Address
from evonas.store.loading import Loader
from evonas.store.ownership import driver
from evonas.store.records import Candidate, Event, Purpose, Record, Recorded, Trained
from evonas.store.stored import Door, StoredRun
from evonas.store.trainings import StoredTraining, read_trainings
from evonas.workers.outcome import Evaluation, Outcome


class Contents:
    """The contents of a run. Everything is read read-only, and never blocks its writer."""

    def __init__(self, engine: Engine, address: Address, run: StoredRun) -> None:
        self.engine = engine
        self.address = address
        self._stored = run
        self._door = Door(address.where, address.is_file)
        self.run: int = run.id
        self.name: str = run.name
        names_folder = address.is_file and address.folder != address.path.parent  # of the run, beside its database
        if not names_folder and self._door.is_shared(run) and (folder := _folder(run.versions.get("folder"))):
            self.address = replace(address, folder=folder)

    @cached_property
    def config(self) -> Config:
        """Raises InputError where another version of evonas wrote what this one cannot read."""
        return self._door.parse_config(self._stored)

    def load_plugins(self) -> None:
        """Run the modules that the config names, for what judges or proposes. Raises InputError where one is absent, or
        its source is another than the run's."""
        self.config = self.config.loaded()

    @cached_property
    def _load(self) -> Loader:
        return Loader(self.run, replace(self._door, config=self.config))

    @property
    def versions(self) -> dict[str, str]:
        return self._stored.versions

    @property
    def created(self) -> float:
        """Unix seconds of the run's begin."""
        return self._stored.created

    @property
    def finished(self) -> bool:
        """Whether the run has ended; it is asked anew."""
        query = select(tables.run.c.finished).where(tables.run.c.id == self.run)
        with self.engine.connect() as connection:
            return connection.execute(query).scalar() is not None

    @property
    def evolved(self) -> bool:
        """Whether all candidates are proposed and judged, so that only the retraining may be missing."""
        e = tables.event.c
        with self.engine.connect() as connection:
            query = select(e.id).where(e.run == self.run, e.kind == Event.EVOLVED)
            return connection.execute(query).first() is not None

    @property
    def version(self) -> tuple[int, int]:
        """Two numbers that change with every transaction that writes to the run."""
        r = tables.run.c
        with self.engine.connect() as connection:
            row = connection.execute(select(r.epoch, r.writes).where(r.id == self.run)).first()
        if row is None:
            raise NotThere(f"{self.address.where}: no run '{self.name}'")
        return row.epoch, row.writes

    def last_event(self, kinds: Sequence[Event]) -> Event | None:
        """The newest event of some kinds."""
        e = tables.event.c
        query = select(e.kind).where(e.run == self.run, e.kind.in_(kinds)).order_by(e.id.desc())
        with self.engine.connect() as connection:
            kind = connection.execute(query).scalars().first()
        return Event(kind) if kind is not None else None

    def driver(self) -> str | None:
        """The host and process that own the run now; None where nobody does."""
        return driver(self.address, self.engine, self.name)

    def candidate(self, birth: int) -> Record:
        """Raises InputError when there is no such birth."""
        number = integer_of(f"{self.name}: birth", birth)
        with self.engine.connect() as connection:
            c = tables.candidate.c
            last = connection.execute(select(func.max(c.birth)).where(c.run == self.run)).scalar() or 0
            if not isinstance(last, int) or 0 < number <= last:
                return self._load.in_order(connection, [number])[0]
        raise NotThere(f"{self.name}: no birth {birth}; expected 1 to {last}")

    def named(self, births: Sequence[int]) -> list[Record]:
        """The candidates that other rows name, in this order."""
        with self.engine.connect() as connection:
            return self._load.in_order(connection, births)

    def graph(self, birth: int) -> Graph:
        """The graph of a candidate. Raises InputError when there is no such birth."""
        return self.parsed(birth, self.candidate(birth).graph)

    def parsed(self, birth: int, text: str) -> Graph:
        """The graph of a candidate from its stored text."""
        return self._door.graph(birth, text)

    def candidates(self) -> list[Record]:
        """All of them, by birth."""
        with self.engine.connect() as connection:
            return list(self._load.records(connection))

    def searched(self) -> Iterator[tuple[Record, Trained | None]]:
        """All candidates by birth, each with everything that the search measured of it; read in portions. Births have
        no gap."""
        c, e, last = tables.candidate.c, tables.evaluation.c, 0
        while True:
            births = last + 1, last + loading.PORTION
            with self.engine.connect() as connection:
                records = list(self._load.records(connection, c.birth.between(*births)))
                of_search = e.purpose == Purpose.SEARCH, e.birth.between(*births)
                trained = {each.birth: each for each in self._load.trained(connection, *of_search)}
                after = connection.execute(select(func.min(c.birth)).where(c.run == self.run, c.birth > last)).scalar()
            if after is None:
                return
            for record in records:
                self._check_follows(record.birth, last)
                yield record, trained.get(record.birth)
                last = record.birth
            if not records:
                self._check_follows(after, last)  # else it has just been written

    def judged(self, births: Sequence[int]) -> Iterator[tuple[Record, Trained | None]]:
        """`searched` of some candidates, in this order and without learning curves; read in portions."""
        c, e = tables.candidate.c, tables.evaluation.c
        for start in range(0, len(births), loading.PORTION):
            some = births[start : start + loading.PORTION]
            with self.engine.connect() as connection:
                of_search, kinds = (e.purpose == Purpose.SEARCH, e.birth.in_(some)), (tables.score, tables.measurement)
                records = {each.birth: each for each in self._load.records(connection, c.birth.in_(some))}
                trained = {each.birth: each for each in self._load.trained(connection, *of_search, kinds=kinds)}
            yield from ((records[birth], trained.get(birth)) for birth in some)

    def live_ops(self, births: Sequence[int] | None = None) -> Iterator[tuple[int, str]]:
        """Births and the operations of their live nodes, of all candidates that have an outcome, or of some."""
        o = tables.candidate_op.c
        query = select(o.birth, o.op).where(o.run == self.run)
        several = [query]
        if births is not None:
            names = [*PRIMITIVES, *(each.name for each in self.config.space.own)]  # the key begins with the operation
            starts = range(0, len(births), loading.PORTION)
            portions = [births[start : start + loading.PORTION] for start in starts]
            several = [query.where(o.op.in_(names), o.birth.in_(some)) for some in portions]
        for each in several:
            asked = each.execution_options(yield_per=loading.PORTION)
            with self.engine.connect() as connection, connection.execute(asked) as rows:
                yield from ((row.birth, row.op) for row in rows)

    def proposals(self) -> Iterator[Candidate]:
        """All candidates by birth, without their outcomes; read in portions. Births have no gap, and `seen` never falls
        nor exceeds the outcomes that are there."""
        c, e, door = tables.candidate.c, tables.evaluation.c, self._load.door
        recorded = select(func.max(e.seq)).where(e.run == self.run)
        birth, seen = 0, 0
        while True:
            query = select(tables.candidate).where(c.run == self.run, c.birth > birth)
            with self.engine.connect() as connection:
                rows = connection.execute(query.order_by(c.birth).limit(loading.PORTION)).all()
                last = connection.execute(recorded).scalar()
            outcomes = last if isinstance(last, int) else 0
            if not rows:
                return
            for row in rows:
                candidate = door.proposal(row)
                self._check_follows(candidate.birth, birth)
                if not seen <= candidate.seen <= outcomes:
                    after = counted(candidate.seen, "outcome")
                    door.refuse(f"birth {candidate.birth}", f"it was proposed after {after}")
                yield candidate
                birth, seen = candidate.birth, candidate.seen

    def outcomes(self) -> Iterator[Recorded]:
        """All outcomes of the search in their order; read in portions. Each is that of another candidate, which was
        proposed before."""
        c, e, door = tables.candidate.c, tables.evaluation.c, self._load.door
        seq = 0
        judged: dict[int, bytearray] = defaultdict(lambda: bytearray(1024))  # a byte a birth, wherever births are
        while True:
            query = select(tables.evaluation).where(e.run == self.run, e.seq > seq).order_by(e.seq)
            with self.engine.connect() as connection:
                rows = connection.execute(query.limit(loading.PORTION)).all()
                parts = self._load.parts(connection, rows, (tables.score, tables.measurement))
                births = [row.birth for row in rows]
                seen_by = select(c.birth, c.seen).where(c.run == self.run, c.birth.in_(births))
                seen = {row.birth: row.seen for row in connection.execute(seen_by)}
            if not rows:
                return
            for row in rows:
                birth, number = row.birth, row.id
                if row.seq != seq + 1 or row.purpose != Purpose.SEARCH:
                    door.refuse(f"evaluation {number}", f"it is outcome {row.seq}, and follows outcome {seq}")
                seq += 1
                if seen.get(birth, seq) >= seq:
                    door.refuse(f"evaluation {number}", f"birth {birth} was not proposed before outcome {seq}")
                block, place = judged[birth >> 10], birth & 1023
                if block[place]:
                    door.refuse(f"evaluation {number}", f"birth {birth} has two outcomes")
                block[place] = 1
                evaluation = self._load.evaluation(row, parts[number])
                yield Recorded(birth, row.seed, evaluation.outcome, evaluation.measurements, evaluation.seconds)

    def outcome(self, birth: int) -> Outcome:
        """The outcome of a birth that has one."""
        evaluation = self.evaluation_of(birth)
        if evaluation is None:
            self._door.refuse(f"birth {birth}", "its outcome is inherited, and it is not there")
        return evaluation.outcome

    def evaluations(self, purpose: Purpose) -> list[Trained]:
        """All evaluations of a purpose, in the order of their recording."""
        with self.engine.connect() as connection:
            return self._load.trained(connection, tables.evaluation.c.purpose == purpose)

    def trainings(self) -> list[StoredTraining]:
        """All trainings under settings of their own, in the order of their recording."""
        with self.engine.connect() as connection:
            return read_trainings(connection, self.run, self._door)

    def evaluation_of(self, birth: int) -> Evaluation | None:
        """Everything that the search measured of a candidate."""
        e = tables.evaluation.c
        query = select(tables.evaluation).where(e.run == self.run, e.birth == birth, e.purpose == Purpose.SEARCH)
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
            return self._load.evaluation(row, self._load.parts(connection, [row])[row.id]) if row else None

    def events(self) -> list[Row[Any]]:
        """Rows of the table of events, in order."""
        e = tables.event
        with self.engine.connect() as connection:
            rows = connection.execute(select(e).where(e.c.run == self.run).order_by(e.c.id)).all()
        for row in rows:
            self._door.check(e, row)
            self._door.one_of(Event, row.kind, "event", row.id)
        return list(rows)

    def check_evaluations(self) -> None:
        """Refuse evaluations that no other query would find: of an unknown purpose, or of a candidate that is not
        there."""
        c, e = tables.candidate.c, tables.evaluation.c
        unknown = select(e.id, e.purpose).where(e.run == self.run, e.purpose.not_in(list(Purpose))).limit(1)
        mine = (c.run == e.run) & (c.birth == e.birth)
        orphans = select(e.id, e.birth).outerjoin(tables.candidate, mine).where(e.run == self.run)
        orphans = orphans.where(e.birth.is_not(None), c.birth.is_(None)).limit(1)
        with self.engine.connect() as connection:
            for number, purpose in connection.execute(unknown):
                self._door.one_of(Purpose, str(purpose), "evaluation", str(number))
            for number, birth in connection.execute(orphans):
                self.refuse(f"evaluation {number}", f"birth {birth!s:.40} is not there")

    def _check_follows(self, birth: int, last: int) -> None:
        if birth != last + 1:
            self.refuse(f"birth {birth!s:.40}", f"it follows birth {last}")

    def refuse(self, row: str, reason: str) -> NoReturn:
        """Raises InputError: what a row of this run says cannot be."""
        self._door.refuse(row, reason)

    def _number(self, value: object) -> float:
        """A time that the database has computed."""
        if not isinstance(value, int | float) or not 0.0 <= value < 1e18:
            self._door.refuse(f"run {self.run}", f"a time of its records is {value!s:.40}")
        return float(value)


def _folder(path: str | None) -> Path | None:
    """The folder that a run says it was made in, if it is there."""
    try:
        return Path(path) if path and Path(path).is_dir() else None
    except (OSError, ValueError):  # no path at all
        return None
