"""What readers ask of a run. They open the database read-only and never block its writer."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, Table, func, select

from evonas.config import BASELINE, Config
from evonas.store import tables
from evonas.store.database import Address, check_schema, find_run, locate, open_engine
from search_space.errors import InputError, did_you_mean
from workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Point, Rejection
from workers.protocol import Rung


@dataclass(frozen=True, slots=True)
class Record:
    """A candidate with its outcome in the search, if it has one."""

    birth: int
    formula: str
    graph: str
    digest: str
    fingerprint: str
    family: str
    parent: int | None
    operator: str
    equal_to: int | None
    seen: int
    batch_dependent: bool
    live_nodes: int
    state: str
    seq: int | None
    advantage: float | None  # mean over proxies of accuracy minus BN-ReLU's
    outcome: Outcome | None
    accuracy: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    host: str = ""


@dataclass(frozen=True, slots=True)
class Trained:
    """One evaluation, of a candidate or of a layer of the catalog."""

    purpose: str
    birth: int | None
    name: str | None
    formula: str
    seed: int
    evaluation: Evaluation
    advantage: float | None
    epoch: int
    at: float  # Unix seconds


class Reader:
    """Read-only queries on one run."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.engine: Engine = open_engine(address, writable=False)
        check_schema(self.engine, address.where)
        with self.engine.connect() as connection:
            self._row = find_run(connection, address.run, address.where)
        self.run: int = self._row.id
        self.name: str = self._row.name
        made_in = Path(self.versions.get("folder", address.folder))
        if address.folder == address.path.parent and self._is_shared() and made_in.is_dir():
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
        return self._row.finished is not None

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

    def top(self, n: int = 10, by: str | None = None) -> list[Record]:
        """The best survivors: by advantage, or by the accuracy on one proxy. Of equal ones the first."""
        proxies = list(self.config.proxies)
        if by is not None and by not in proxies:
            raise InputError(f"{self.name}: no proxy '{by}'{did_you_mean(by, proxies)}")
        evaluation, score = tables.evaluation.c, tables.score.c
        mine = (tables.candidate.c.run == evaluation.run) & (tables.candidate.c.birth == evaluation.birth)
        query = select(evaluation.birth).join(tables.candidate, mine).where(tables.candidate.c.equal_to.is_(None))
        query = query.where(evaluation.run == self.run, evaluation.purpose == "search")
        if by is None:
            query = query.where(evaluation.advantage.is_not(None)).order_by(evaluation.advantage.desc())
        else:
            query = query.join(tables.score, score.evaluation == evaluation.id).where(score.proxy == by)
            query = query.where(score.objective == "accuracy").order_by(score.value.desc())
        with self.engine.connect() as connection:
            births = list(connection.execute(query.order_by(evaluation.birth).limit(n)).scalars())
            found = {each.birth: each for each in self._records(connection, tables.candidate.c.birth.in_(births))}
        return [found[birth] for birth in births]

    def evaluations(self, purpose: str) -> list[Trained]:
        """All evaluations of a purpose, in the order of their recording."""
        c = tables.evaluation.c
        query = select(tables.evaluation).where(c.run == self.run, c.purpose == purpose).order_by(c.id)
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
            details = self._details(connection, [row.id for row in rows])
        return [
            Trained(
                purpose, r.birth, r.name, r.layer, r.seed, _evaluation(r, details[r.id]), r.advantage, r.epoch, r.at
            )
            for r in rows
        ]

    def evaluation_of(self, birth: int) -> Evaluation | None:
        """Everything that the search measured of a candidate."""
        c = tables.evaluation.c
        query = select(tables.evaluation).where(c.run == self.run, c.birth == birth, c.purpose == "search")
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
            return _evaluation(row, self._details(connection, [row.id])[row.id]) if row else None

    def rungs(self) -> list[tuple[int, int, float]]:
        """(step, seq, accuracy) of every outcome that reached a rung."""
        e, m = tables.evaluation.c, tables.measurement.c
        query = select(m.step, e.seq, m.value).join(tables.evaluation, e.id == m.evaluation).order_by(e.seq)
        with self.engine.connect() as connection:
            found = connection.execute(
                query.where(e.run == self.run, e.purpose == "search", m.gate == Rung.model_fields["gate"].default)
            )
            return [(row[0], row[1], row[2]) for row in found]

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

    def pace(self) -> tuple[float, float, float, float]:
        """Seconds from the last start to the last outcome, the outcomes since, the mean seconds of a full one, and the
        seconds from the last start to now."""
        e, v = tables.evaluation.c, tables.event.c
        with self.engine.connect() as connection:
            start = connection.execute(
                select(func.max(v.at)).where(v.run == self.run, v.kind.in_(("started", "resumed")))
            ).scalar_one()
            recent = (e.run == self.run) & (e.at >= start) & (e.purpose == "search")
            last, count = connection.execute(select(func.max(e.at), func.count()).where(recent)).one()
            fit = select(func.avg(e.seconds)).where(e.run == self.run, e.purpose == "search", e.verdict == "fitness")
            mean = connection.execute(fit).scalar() or 0.0
        return max(0.0, (last or start) - start), float(count), float(mean), max(0.0, time.time() - start)

    def dump(self, logical_only: bool = True) -> Iterator[dict[str, Any]]:
        """All records. The logical ones are without times, hosts, memory, epochs and events: two equal dumps are the
        same run."""
        versions = {} if logical_only else {"versions": self.versions}
        yield {"run": self.config.name, "config": self.config.model_dump(mode="json")} | versions
        evaluations = {trained.birth: trained for trained in self.evaluations("search")}
        for record in self.candidates():
            trained = evaluations.get(record.birth)
            row = {name: getattr(record, name) for name in _LOGICAL}
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
        scores = self._scores(connection, [row[len(names)] for row in rows if row[len(names)] is not None])
        for row in rows:
            left = dict(zip(names, row[: len(names)], strict=True))
            right = dict(zip((column.name for column in e.columns), row[len(names) :], strict=True))
            found = scores.get(right["id"], {})
            known = {name: left[name] for name in names if name != "run"}
            outcome = _outcome(right, found) if right["id"] is not None else None
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
        for row in sorted(_rows_of(connection, tables.score, numbers), key=lambda row: order.index(row.proxy)):
            found[row.evaluation][row.objective][row.proxy] = row.value
        return found

    def _details(self, connection: Connection, numbers: Sequence[int]) -> dict[int, dict[str, list[Any]]]:
        details: dict[int, dict[str, list[Any]]] = {number: defaultdict(list) for number in numbers}
        order = list(self.config.proxies)
        for name, table in (("score", tables.score), ("point", tables.point), ("measurement", tables.measurement)):
            for row in _rows_of(connection, table, numbers):
                details[row.evaluation][name].append(row)
        for each in details.values():
            each["score"].sort(key=lambda row: order.index(row.proxy))
            each["point"].sort(key=lambda row: (row.repeat, row.step, order.index(row.proxy)))
            each["measurement"].sort(key=lambda row: row.position)
        return details


def _rows_of(connection: Connection, table: Table, numbers: Sequence[int]) -> Iterator[Any]:
    """The rows of some evaluations, asked for in portions that every database takes."""
    for start in range(0, len(numbers), 500):
        yield from connection.execute(select(table).where(table.c.evaluation.in_(numbers[start : start + 500])))


_LOGICAL = (
    *("birth", "graph", "formula", "digest", "fingerprint", "family", "parent", "operator", "equal_to", "seen"),
    *("batch_dependent", "live_nodes", "state", "seq", "advantage"),
)


def _outcome(row: dict[str, Any], scores: dict[str, dict[str, float]]) -> Outcome:
    match row["verdict"]:
        case "fitness":
            return Fitness(**scores)
        case "rejection":
            return Rejection(row["gate"], row["proxy"], row["value"], row["threshold"], row["step"])
        case _:
            return Crash(row["gate"], row["message"])


def _evaluation(row: Any, details: dict[str, list[Any]]) -> Evaluation:
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for each in details["score"]:
        scores[each.objective][each.proxy] = each.value
    return Evaluation(
        _outcome(row._asdict(), scores),
        tuple(
            Measurement(m.gate, m.proxy, m.value, m.threshold, m.step, m.passed, m.seconds)
            for m in details["measurement"]
        ),
        tuple(Point(p.proxy, p.step, p.accuracy, p.loss, p.repeat) for p in details["point"]),
        row.seconds,
        row.memory_mb,
        row.host,
        row.conditions or "",
        row.attempts,
    )


def told(trained: Trained, logical_only: bool) -> dict[str, Any]:
    """An evaluation's outcome, curves and measurements; beside them, unless only the logical part is asked for, what
    depends on the machine and its speed."""
    evaluation, outcome = trained.evaluation, trained.evaluation.outcome
    row: dict[str, Any] = {"verdict": type(outcome).__name__.lower()}
    match outcome:
        case Fitness(accuracy, step_seconds, saved_mb):
            row |= {"accuracy": accuracy, "saved_mb": saved_mb}
            row |= {} if logical_only else {"step_seconds": step_seconds}
        case Rejection(gate, proxy, value, threshold, step):
            row |= {"gate": gate, "proxy": proxy, "value": value, "threshold": threshold, "step": step}
        case Crash(kind, message):
            row |= {"gate": kind} | ({} if logical_only else {"message": message})
    points = sorted(evaluation.points, key=lambda p: (p.repeat, p.proxy, p.step))
    row["points"] = [[p.proxy, p.step, p.accuracy, p.loss, p.repeat] for p in points]
    columns = [name for name in Measurement.__slots__ if not (logical_only and name == "seconds")]
    row["measurements"] = [{name: getattr(m, name) for name in columns} for m in evaluation.measurements]
    if not logical_only:
        row |= {"seconds": evaluation.seconds, "memory_mb": evaluation.memory_mb, "host": evaluation.host}
        row |= {"conditions": evaluation.conditions, "attempts": evaluation.attempts}
        row |= {"epoch": trained.epoch, "at": trained.at}
    return row


def jsonable(value: Any) -> Any:
    """JSON has no infinity: it is written as the text "inf"."""
    if isinstance(value, dict):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
