"""Candidates chosen by their properties, survivors or not: how many, a page of them, a sample, and where they ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, literal, not_, or_, select

from evonas.config import Config
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.mutation import OPERATORS
from evonas.store import tables
from evonas.store.criteria import operations, reaches, uses_any
from evonas.store.reader import Reader
from evonas.store.records import Operator, Purpose, State
from evonas.workers.outcome import DIVERGED, CrashKind, Verdict

ORDERS = ("advantage", "birth", "seq", "seconds", "nodes")  # and the name of a proxy: by the accuracy on it
FIRST = 200  # births of every sample: where the best so far rises quickly
RANKED = 20_000  # best survivors among which the leaders and the best so far are looked for
REDRAW = "redraw"  # stored as Operator.MUTATION where a child has no other edit


class BadChoice(InputError):
    """A property that no candidate can have."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Properties of candidates. Without any, every candidate is chosen."""

    state: str | None = None
    gate: str | None = None  # label of the gate that stopped it, `diverged`, or the kind of its crash
    operator: str | None = None  # one of its edits, or its origin
    ops: tuple[str, ...] = ()  # each is the operation of a live node
    batch_dependent: bool | None = None
    proxy: str | None = None
    at_least: float = 0.0  # accuracy on the proxy, or most bits per byte; 0: any

    def checked(self, config: Config) -> "Choice":
        """The same. Raises BadChoice where a run of this config knows no such value."""
        names = {
            "state": list(State),
            "gate": [gate.label for gate in config.gates] + [DIVERGED, *CrashKind],
            "operator": operators(),
            "proxy": list(config.proxies),
        }
        for name, valid in names.items():
            value = getattr(self, name)
            if value is not None and value not in valid:
                raise BadChoice(f"{name}: unknown value '{value:.100}'{did_you_mean(value, valid)}")
        try:
            for op in self.ops:
                operations(op) if op not in {each.name for each in config.space.own} else None
            self.least_fitness(config)
        except InputError as error:
            raise BadChoice(str(error)) from None
        return self

    def least_fitness(self, config: Config) -> float:
        """The least fitness on the proxy. Raises InputError where `at_least` is none."""
        return config.units.of(self.proxy or "").fitness("at_least", self.at_least) if self.at_least else 0.0


def operators() -> list[str]:
    """The names of edits and origins."""
    return [*OPERATORS, *(str(each) for each in Operator if each is not Operator.MUTATION)]


@dataclass(frozen=True, slots=True)
class Ended:
    """Candidates of one operator with one end."""

    end: str  # label of a gate, `diverged`, kind of a crash, `trained`, `inherited`, or `pending`
    operator: str  # as it is stored: insert+op
    count: int
    seconds: float  # of workers


EVERY = Choice()


class Chosen:
    """The candidates of a run that a choice takes."""

    def __init__(self, reader: Reader, choice: Choice = EVERY) -> None:
        self._reader = reader
        self._choice = choice.checked(reader.config)
        self._conditions = list(self._of(choice))

    def count(self) -> int:
        every = select(func.count()).select_from(tables.candidate).where(tables.candidate.c.run == self._reader.run)
        return self._scalars(self._every(func.count()) if self._conditions else every)[0]

    def page(self, order: str, *, descending: bool, offset: int, limit: int) -> list[int]:
        """Births in an order of ORDERS, or by the accuracy on a proxy; those without such a value follow by birth."""
        c, e, s = tables.candidate.c, tables.evaluation.c, tables.score.c
        proxies = list(self._reader.config.proxies)
        if order not in (*ORDERS, *proxies):
            raise BadChoice(f"order: unknown value '{order:.100}'{did_you_mean(order, [*ORDERS, *proxies])}")
        columns = {
            "birth": c.birth,
            "nodes": c.live_nodes,
            "advantage": e.advantage,
            "seq": e.seq,
            "seconds": e.seconds,
        }
        value: ColumnElement[Any] = columns.get(order, s.value)
        by = value.desc() if descending else value
        if order in ("birth", "nodes"):
            return self._scalars(self._every(c.birth).order_by(by, c.birth).offset(offset).limit(limit))
        ranked = select(c.birth).join(tables.evaluation, _mine()).where(c.run == self._reader.run)
        ranked = ranked.where(e.run == self._reader.run, e.purpose == Purpose.SEARCH, *self._conditions)
        if order in proxies:
            ranked = ranked.join(tables.score, (s.run == e.run) & (s.evaluation == e.id))
            ranked = ranked.where(s.run == self._reader.run, s.objective == "accuracy", s.proxy == order)
        if order in ("advantage", *proxies):  # a figure is listed once, with the function's first candidate
            ranked = ranked.where(c.equal_to.is_(None))
        ranked = ranked.where(value.is_not(None))
        births = self._scalars(ranked.order_by(by, c.birth).offset(offset).limit(limit))
        if len(births) < limit:
            before = self._scalars(select(func.count()).select_from(ranked.subquery()))[0]
            others = self._every(c.birth).where(c.birth.not_in(ranked)).order_by(c.birth)
            births += self._scalars(others.offset(max(0, offset - before)).limit(limit - len(births)))
        return births

    def sample(self, most: int) -> dict[int, int]:
        """About `most` births in order, each with how many it stands for: all where there are no more; else of all
        every n-th, which stands for n, and besides the leaders, each that was the best so far, and the first."""
        c, e = tables.candidate.c, tables.evaluation.c
        query = self._every(c.birth).order_by(c.birth)
        count = self.count()
        if count <= most:
            return dict.fromkeys(self._scalars(query), 1)
        if self._conditions:
            births: Sequence[int] = self._scalars(query)
        else:
            births = range(1, count + 1)
        ranked = select(e.birth, e.seq).where(e.run == self._reader.run, e.purpose == Purpose.SEARCH)
        ranked = ranked.where(e.advantage.is_not(None)).order_by(e.advantage.desc()).limit(RANKED)
        if self._conditions:
            ranked = ranked.join(tables.candidate, _mine()).where(*self._conditions)
        with self._reader.engine.connect() as connection:
            best = connection.execute(ranked).all()
        kept, earliest = {*births[:FIRST], *(row.birth for row in best[: most // 8])}, None
        for birth, seq in best:
            if earliest is None or seq < earliest:  # all that are better came later
                kept.add(birth)
                earliest = seq
        step = -(-count // most)
        even = set(births[::step])
        return {birth: step if birth in even else 0 for birth in sorted(kept | even)}

    def ends(self) -> list[Ended]:
        """How many candidates ended where, by operator."""
        c, e = tables.candidate.c, tables.evaluation.c
        columns = (c.state, c.operator, _inherits(), e.verdict, e.gate, self._nth())
        query = self._every(*columns, func.count(), func.coalesce(func.sum(e.seconds), 0.0)).group_by(*columns)
        found: dict[tuple[str, str], Ended] = {}
        with self._reader.engine.connect() as connection:
            rows = connection.execute(query).all()
        for state, operator, inherits, verdict, gate, nth, count, seconds in rows:
            end = self._end(state, bool(inherits), verdict, gate, nth)
            before = found.get((end, operator), Ended(end, operator, 0, 0.0))
            found[end, operator] = Ended(end, operator, before.count + count, before.seconds + float(seconds))
        return list(found.values())

    def _end(self, state: str, inherits: bool, verdict: str | None, gate: str | None, nth: int) -> str:
        if inherits and state != State.PENDING:
            return "inherited"
        if verdict == Verdict.REJECTION and gate != DIVERGED:
            labels = [each.label for each in self._reader.config.gates if each.gate == gate]
            if not 0 < nth <= len(labels):
                self._reader.refuse("a rejection", f"gate '{gate!s:.40}' is none of the config's")
            return labels[nth - 1]
        return str(gate or ("trained" if state == State.EVALUATED else state))

    def _every(self, *columns: Any) -> Select[Any]:
        its = _mine() & (tables.evaluation.c.purpose == Purpose.SEARCH)
        query = select(*columns).select_from(tables.candidate).outerjoin(tables.evaluation, its)
        return query.where(tables.candidate.c.run == self._reader.run, *self._conditions)

    def _scalars(self, query: Select[Any]) -> list[int]:
        with self._reader.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def _of(self, choice: Choice) -> Any:
        """Conditions on rows of `candidate`, each with its evaluation in the search."""
        c, e, run = tables.candidate.c, tables.evaluation.c, self._reader.run
        if choice.state is not None:
            yield c.state == choice.state
        if choice.gate is not None:
            yield self._stopped_by(choice.gate)
        if choice.operator is not None:
            edits = literal("+").concat(c.operator).concat("+")
            is_one = edits.contains(f"+{choice.operator}+", autoescape=True)
            yield or_(is_one, c.operator == Operator.MUTATION) if choice.operator == REDRAW else is_one
        for op in choice.ops:
            yield uses_any(run, (op,))
        if choice.batch_dependent is not None:
            yield c.batch_dependent.is_(choice.batch_dependent)
        if choice.proxy is not None:
            least = choice.least_fitness(self._reader.config)
            yield and_(reaches(run, choice.proxy, least), e.verdict == Verdict.FITNESS)

    def _stopped_by(self, name: str) -> ColumnElement[bool]:
        e = tables.evaluation.c
        if name in list(CrashKind):
            return (e.verdict == Verdict.CRASH) & (e.gate == name)
        rejected = (e.verdict == Verdict.REJECTION) & not_(_inherits())
        if name == DIVERGED:
            return rejected & (e.gate == name)
        gates = self._reader.config.gates
        (gate,) = [each for each in gates if each.label == name]
        of_kind = [each.label for each in gates if each.gate == gate.gate]
        return rejected & (e.gate == gate.gate) & (self._nth() == of_kind.index(name) + 1)

    def _nth(self) -> ColumnElement[Any]:
        """Which gate of its kind stopped a candidate: it has measured so often on the proxy."""
        kinds = [gate.gate for gate in self._reader.config.gates]
        if len(set(kinds)) == len(kinds):
            return literal(1)
        e, m = tables.evaluation.c, tables.measurement.c
        of = (m.run == e.run) & (m.evaluation == e.id) & (m.gate == e.gate) & (m.proxy == func.coalesce(e.proxy, ""))
        return select(func.count()).where(of).correlate(tables.evaluation).scalar_subquery()


def _mine() -> ColumnElement[bool]:
    c, e = tables.candidate.c, tables.evaluation.c
    return (e.run == c.run) & (e.birth == c.birth)


def _inherits() -> ColumnElement[bool]:
    """Whether a candidate has the outcome of an equal one."""
    c = tables.candidate.c
    return and_(c.equal_to.is_not(None), c.operator != Operator.AGAIN)
