"""What readers ask of a run. They open the database read-only and never block its writer."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, exists, func, select

from evonas.config import BASELINE, Config
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.primitives import PRIMITIVES
from evonas.store import tables
from evonas.store.database import Address, find_run, locate, open_engine
from evonas.store.ownership import check_schema
from evonas.store.records import (
    LOGICAL,
    RECENT,
    Candidate,
    Cost,
    Pace,
    Record,
    Recorded,
    Trained,
    evaluation_from,
    outcome_from,
    told,
)
from evonas.workers.outcome import Evaluation, Fitness, Outcome

PORTION = 500  # rows that are asked for by their keys: every database takes so many


class Reader:
    """Read-only queries on one run."""

    def __init__(self, address: Address) -> None:
        self.address = address
        check_schema(address)
        self.engine: Engine = open_engine(address, writable=False)
        with self.engine.connect() as connection:
            self._row = find_run(connection, address.run, address.where)
        self.run: int = self._row.id
        self.name: str = self._row.name
        made_in = Path(self.versions.get("folder", address.folder))
        found_by_database = not address.is_file or address.folder == address.path.parent
        if found_by_database and self._is_shared() and made_in.is_dir():
            self.address = replace(address, folder=made_in)  # it was found by the database, not by its folder

    @classmethod
    def open(cls, reference: str | Path) -> "Reader":
        return cls(locate(reference))

    def _is_shared(self) -> bool:
        return json.loads(self._row.config).get("store", {}).get("url") is not None

    def close(self) -> None:
        self.engine.dispose()

    @cached_property
    def config(self) -> Config:
        """Raises InputError where another version of evonas wrote what this one cannot read."""
        try:
            return Config.model_validate_json(self._row.config)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise InputError(
                f"{self.address.where}: written by evonas {self.versions.get('evonas')}, whose config this version "
                f"cannot read: {key}: {first['msg'][:1].lower()}{first['msg'][1:]}"
            ) from None

    @property
    def versions(self) -> dict[str, str]:
        return dict(json.loads(self._row.versions))

    @property
    def finished(self) -> bool:
        """Whether every record is made."""
        r = tables.run.c
        with self.engine.connect() as connection:
            return connection.execute(select(r.finished).where(r.id == self.run)).scalar() is not None

    @property
    def evolved(self) -> bool:
        """Whether all candidates are proposed and judged, so that only the retraining may be missing."""
        e = tables.event.c
        with self.engine.connect() as connection:
            query = select(e.id).where(e.run == self.run, e.kind == "evolved")
            return connection.execute(query).first() is not None

    def candidate(self, birth: int) -> Record:
        """Raises InputError when there is no such birth."""
        with self.engine.connect() as connection:
            known = 0 < birth < 2**63  # what a database can be asked
            records = list(self._records(connection, tables.candidate.c.birth == birth)) if known else []
            if records:
                return records[0]
            last = connection.execute(
                select(func.max(tables.candidate.c.birth)).where(tables.candidate.c.run == self.run)
            ).scalar()
        raise InputError(f"{self.name}: no birth {birth}; expected 1 to {last or 0}")

    def candidates(self) -> list[Record]:
        """All of them, by birth."""
        with self.engine.connect() as connection:
            return list(self._records(connection))

    def searched(self) -> Iterator[tuple[Record, Trained | None]]:
        """All candidates by birth, each with everything that the search measured of it; read in portions."""
        c, e, last = tables.candidate.c, tables.evaluation.c, 0
        while True:
            births = last + 1, last + PORTION
            with self.engine.connect() as connection:
                records = list(self._records(connection, c.birth.between(*births)))
                found = {each.birth: each for each in self._trained(connection, "search", e.birth.between(*births))}
            if not records:
                return
            yield from ((record, found.get(record.birth)) for record in records)
            last += PORTION

    def proposals(self) -> Iterator[Candidate]:
        """All candidates by birth, without their outcomes; read in portions."""
        c = tables.candidate.c
        names = [c[name] for name in Candidate.__slots__]
        last = 0
        while True:
            query = select(*names).where(c.run == self.run, c.birth > last).order_by(c.birth).limit(PORTION)
            with self.engine.connect() as connection:
                rows = connection.execute(query).all()
            if not rows:
                return
            yield from (Candidate(*row) for row in rows)
            last = rows[-1].birth

    def outcomes(self) -> Iterator[Recorded]:
        """All outcomes of the search in their order; read in portions."""
        e = tables.evaluation.c
        last = 0
        while True:
            query = select(tables.evaluation).where(e.run == self.run, e.seq > last).order_by(e.seq).limit(PORTION)
            with self.engine.connect() as connection:
                rows = connection.execute(query).all()
                details = self._details(connection, [row.id for row in rows], (tables.score, tables.measurement))
            if not rows:
                return
            for row in rows:
                found = evaluation_from(row, details[row.id])
                yield Recorded(row.birth, row.seed, found.outcome, found.measurements, found.seconds)
            last = rows[-1].seq

    def outcome(self, birth: int) -> Outcome:
        """Of a birth that has one."""
        found = self.evaluation_of(birth)
        assert found is not None
        return found.outcome

    def top(self, n: int = 10, by: str | None = None, after: int | None = None) -> list[Record]:
        """The best survivors: by advantage, or by the accuracy on one proxy; those after the birth `after` in this
        order. Of equal ones the first."""
        query, value = self._ranked(by)
        birth = tables.evaluation.c.birth
        if after is not None:
            last = self.candidate(after)
            at = last.advantage if by is None else last.accuracy.get(by)
            if at is None:
                raise InputError(f"{self.name}: birth {after} is none of the survivors")
            query = query.where(value <= at)  # where the index is entered
            query = query.where((value < at) | (birth > after))
        with self.engine.connect() as connection:
            births = list(connection.execute(query.limit(n)).scalars())
            return self._in_order(connection, births)

    def families(self, n: int = 10, by: str | None = None, after: int | None = None) -> list[Record]:
        """The best survivor of each of the best families, ranked as `top` ranks; those after the birth `after`."""
        query, _ = self._ranked(by)
        query = query.add_columns(tables.candidate.c.family).execution_options(yield_per=PORTION)
        families: set[str] = set()
        births: list[int] = []
        with self.engine.connect() as connection:
            is_after = after is None
            for birth, family in connection.execute(query):
                if is_after and family not in families:
                    births.append(birth)
                    if len(births) == n:
                        break
                families.add(family)
                is_after = is_after or birth == after
        if not is_after:
            raise InputError(f"{self.name}: birth {after} is none of the survivors")
        with self.engine.connect() as connection:
            return self._in_order(connection, births)

    def _ranked(self, by: str | None) -> tuple[Select[Any], ColumnElement[Any]]:
        """The births of the survivors, best first, and the value that ranks them; of equal ones the first."""
        evaluation, score = tables.evaluation.c, tables.score.c
        mine = (tables.candidate.c.run == evaluation.run) & (tables.candidate.c.birth == evaluation.birth)
        value: ColumnElement[Any]
        if by is None:
            query, value = select(evaluation.birth).where(evaluation.advantage.is_not(None)), evaluation.advantage
        else:
            proxies = list(self.config.proxies)
            if by not in proxies:
                raise InputError(f"{self.name}: no proxy '{by}'{did_you_mean(by, proxies)}")
            of = (score.run == evaluation.run) & (score.evaluation == evaluation.id)
            query, value = select(evaluation.birth).join(tables.score, of), score.value
            query = query.where(score.run == self.run, score.objective == "accuracy", score.proxy == by)
        query = query.join(tables.candidate, mine).where(tables.candidate.c.equal_to.is_(None))
        query = query.where(evaluation.run == self.run, evaluation.purpose == "search")
        return query.order_by(value.desc(), evaluation.birth), value

    def front(self) -> list[Record]:
        """The survivors that no other one dominates in the config's objectives, by advantage."""
        query = select(tables.front.c.birth).where(tables.front.c.run == self.run)
        with self.engine.connect() as connection:
            found = self._in_order(connection, list(connection.execute(query).scalars()))
        return sorted(found, key=lambda each: (-(each.advantage or 0.0), each.birth))

    def find(
        self, uses: Sequence[str] = (), lacks: Sequence[str] = (), *, batch_dependent: bool | None = None, n: int = 10
    ) -> list[Record]:
        """The best survivors whose live nodes use all of some operations and none of others."""
        for op in (*uses, *lacks):
            if op not in PRIMITIVES:
                raise InputError(f"no operation '{op}'{did_you_mean(op, PRIMITIVES)}")
        c, e = tables.candidate.c, tables.evaluation.c

        def using(op: str) -> ColumnElement[bool]:
            o = tables.candidate_op.alias().c
            return exists().where(o.run == self.run, o.op == op, o.birth == c.birth)

        query = select(c.birth).where(c.run == self.run)
        if uses:
            o = tables.candidate_op.c
            query = query.join(tables.candidate_op, (o.run == c.run) & (o.birth == c.birth))
            query = query.where(o.run == self.run, o.op == uses[0], o.advantage.is_not(None))
            query = query.order_by(o.advantage.desc(), c.birth)
        else:
            query = query.join(tables.evaluation, (e.run == c.run) & (e.birth == c.birth))
            query = query.where(e.run == self.run, e.purpose == "search", e.advantage.is_not(None))
            query = query.where(c.equal_to.is_(None)).order_by(e.advantage.desc(), c.birth)
        query = query.where(*(using(op) for op in uses[1:]), *(~using(op) for op in lacks))
        if batch_dependent is not None:
            query = query.where(c.batch_dependent.is_(batch_dependent))
        with self.engine.connect() as connection:
            return self._in_order(connection, list(connection.execute(query.limit(n)).scalars()))

    def lineage(self, birth: int) -> list[Record]:
        """A candidate and its ancestors, the oldest first."""
        self.candidate(birth)
        c = tables.candidate.c
        line = select(c.birth, c.parent).where(c.run == self.run, c.birth == birth).cte("line", recursive=True)
        line = line.union_all(select(c.birth, c.parent).where(c.run == self.run, c.birth == line.c.parent))
        with self.engine.connect() as connection:
            return self._in_order(connection, sorted(connection.execute(select(line.c.birth)).scalars()))

    def children(self, birth: int) -> list[int]:
        """The births that are mutations of this one."""
        c = tables.candidate.c
        query = select(c.birth).where(c.run == self.run, c.parent == birth).order_by(c.birth)
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def _in_order(self, connection: Connection, births: Sequence[int]) -> list[Record]:
        found: dict[int, Record] = {}
        for start in range(0, len(births), PORTION):
            some = tables.candidate.c.birth.in_(births[start : start + PORTION])
            found |= {each.birth: each for each in self._records(connection, some)}
        return [found[birth] for birth in births]

    def evaluations(self, purpose: str) -> list[Trained]:
        """All evaluations of a purpose, in the order of their recording."""
        with self.engine.connect() as connection:
            return self._trained(connection, purpose)

    def _trained(self, connection: Connection, purpose: str, *where: Any) -> list[Trained]:
        c = tables.evaluation.c
        query = select(tables.evaluation).where(c.run == self.run, c.purpose == purpose, *where).order_by(c.id)
        rows = connection.execute(query).all()
        details = self._details(connection, [row.id for row in rows])
        return [
            Trained(
                purpose, r.birth, r.name, r.layer, r.seed, evaluation_from(r, details[r.id]), r.advantage, r.epoch, r.at
            )
            for r in rows
        ]

    def evaluation_of(self, birth: int) -> Evaluation | None:
        """Everything that the search measured of a candidate."""
        c = tables.evaluation.c
        query = select(tables.evaluation).where(c.run == self.run, c.birth == birth, c.purpose == "search")
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
            return evaluation_from(row, self._details(connection, [row.id])[row.id]) if row else None

    def spread(self) -> dict[str, tuple[float, int]]:
        """Proxy -> the standard deviation of BN-ReLU's accuracy over the seeds that it was trained with so far, and how
        many they are; empty below two."""
        found = self.baseline_accuracies()
        return {proxy: (stdev(each), len(each)) for proxy, each in found.items() if len(each) > 1}

    def baseline_accuracies(self) -> dict[str, list[float]]:
        """Proxy -> BN-ReLU's accuracies on the validation images, with each seed that it was trained with so far."""
        found: dict[str, list[float]] = {proxy: [] for proxy in self.config.proxies}
        for purpose in ("baseline", "rerank"):
            for each in self.evaluations(purpose):
                if each.name == BASELINE and isinstance(each.evaluation.outcome, Fitness):
                    for point in each.evaluation.points:  # of each of the recipe's seeds
                        if point.step == self.config.recipe.steps:
                            found[point.proxy].append(point.accuracy)
        return found

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Candidates by state, and those stopped by gate (or lost, by kind of crash)."""
        c, e = tables.candidate.c, tables.evaluation.c
        by_state = select(c.state, func.count()).where(c.run == self.run).group_by(c.state)
        stopped = select(e.gate, func.count()).where(e.run == self.run, e.purpose == "search", e.gate.is_not(None))
        with self.engine.connect() as connection:
            states = {str(row[0]): int(row[1]) for row in connection.execute(by_state)}
            gates = {str(row[0]): int(row[1]) for row in connection.execute(stopped.group_by(e.gate))}
        return states, gates

    def pace(self) -> Pace:
        """How fast the search goes since its driver started."""
        e, v = tables.evaluation.c, tables.event.c
        full = (e.purpose == "baseline") | ((e.purpose == "search") & (e.verdict == "fitness"))
        with self.engine.connect() as connection:
            start = connection.execute(
                select(func.max(v.at)).where(v.run == self.run, v.kind.in_(("started", "resumed")))
            ).scalar_one()
            recent = (e.run == self.run) & (e.at >= start) & (e.purpose == "search")
            last, count, spent = connection.execute(
                select(func.max(e.at), func.count(), func.sum(e.seconds)).where(recent)
            ).one()
            # an inherited outcome takes no time
            mean = select(func.avg(e.seconds)).where(e.run == self.run, full, e.seconds > 0)
            full_seconds = connection.execute(mean).scalar() or 0.0
        since = max(0.0, time.time() - start)
        return Pace(max(0.0, (last or start) - start), count, spent or 0.0, float(full_seconds), since)

    def costs(self) -> dict[bool, Cost]:
        """What the newest outcomes took, by whether their candidate has a parent."""
        c, e = tables.candidate.c, tables.evaluation.c
        newest = select(func.max(e.seq)).where(e.run == self.run).scalar_subquery()
        has_parent = c.parent.is_not(None)
        query = select(has_parent, func.count(), func.sum(e.seconds)).where(e.run == self.run, e.seq > newest - RECENT)
        query = query.join(tables.candidate, (c.run == e.run) & (c.birth == e.birth)).group_by(has_parent)
        with self.engine.connect() as connection:
            return {bool(kind): Cost(count, seconds) for kind, count, seconds in connection.execute(query)}

    def dump(self, logical_only: bool = True) -> Iterator[dict[str, Any]]:
        """All records. The logical ones are without times, hosts, memory, epochs and events: two equal dumps are the
        same run."""
        versions = {} if logical_only else {"versions": self.versions}
        yield {"run": self.config.name, "config": self.config.model_dump(mode="json")} | versions
        for record, trained in self.searched():
            row = {name: getattr(record, name) for name in LOGICAL}
            yield {**row, **({} if trained is None else told(trained, logical_only))}
        for purpose in ("baseline", "audit", "rerank", "validate"):
            rows = [
                {"purpose": purpose, "birth": t.birth, "name": t.name, "formula": t.formula, "seed": t.seed}
                | told(t, logical_only)
                for t in self.evaluations(purpose)
            ]
            yield from sorted(rows, key=lambda row: (row["birth"] or 0, row["name"] or "", row["seed"]))
        if not logical_only:
            e = tables.event.c
            with self.engine.connect() as connection:
                query = select(e.kind, e.message, e.epoch, e.at).where(e.run == self.run).order_by(e.id)
                yield from (
                    {"event": kind, "message": message, "epoch": epoch, "at": at}
                    for kind, message, epoch, at in connection.execute(query)
                )

    def _records(self, connection: Connection, *where: Any) -> Iterator[Record]:
        c, e = tables.candidate, tables.evaluation
        outcome_of = (e.c.run == c.c.run) & (e.c.birth == c.c.birth) & (e.c.purpose == "search")
        query = select(c, e).outerjoin(e, outcome_of).where(c.c.run == self.run, *where).order_by(c.c.birth)
        rows = connection.execute(query).all()
        names = [column.name for column in c.columns]
        identity = len(names) + list(e.columns).index(e.c.id)
        scores = self._scores(connection, [row[identity] for row in rows if row[identity] is not None])
        for row in rows:
            left = dict(zip(names, row[: len(names)], strict=True))
            right = dict(zip((column.name for column in e.columns), row[len(names) :], strict=True))
            found = scores.get(right["id"], {})
            known = {name: left[name] for name in names if name != "run"}
            outcome = outcome_from(right, found) if right["id"] is not None else None
            yield Record(
                **known,
                seq=right["seq"],
                advantage=right["advantage"],
                outcome=outcome,
                accuracy=found.get("accuracy", {}),
                seconds=right["seconds"] or 0.0,
                host=right["host"] or "",
            )

    def _scores(self, connection: Connection, numbers: Sequence[int]) -> dict[int, dict[str, dict[str, float]]]:
        """Evaluation -> objective -> proxy -> value, the proxies in the config's order."""
        order = list(self.config.proxies)
        found: dict[int, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
        for row in sorted(self._rows_of(connection, tables.score, numbers), key=lambda row: order.index(row.proxy)):
            found[row.evaluation][row.objective][row.proxy] = row.value
        return found

    def _details(
        self,
        connection: Connection,
        numbers: Sequence[int],
        parts: Sequence[Table] = (tables.score, tables.point, tables.measurement),
    ) -> dict[int, dict[str, list[Any]]]:
        details: dict[int, dict[str, list[Any]]] = {number: defaultdict(list) for number in numbers}
        order = list(self.config.proxies)
        for table in parts:
            for row in self._rows_of(connection, table, numbers):
                details[row.evaluation][table.name].append(row)
        for each in details.values():
            each["score"].sort(key=lambda row: order.index(row.proxy))
            each["point"].sort(key=lambda row: (row.repeat, row.step, order.index(row.proxy)))
            each["measurement"].sort(key=lambda row: row.position)
        return details

    def _rows_of(self, connection: Connection, table: Table, numbers: Sequence[int]) -> Iterator[Any]:
        """The rows of some evaluations."""
        for start in range(0, len(numbers), PORTION):
            some = table.c.evaluation.in_(numbers[start : start + PORTION])
            yield from connection.execute(select(table).where(table.c.run == self.run, some))
