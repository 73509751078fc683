"""The properties that a survivor must have to be listed, as conditions of SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from sqlalchemy import ColumnElement, exists, select

from evonas.search_space.errors import InputError, did_you_mean, texts, whole
from evonas.search_space.graph import NODES_MAX
from evonas.search_space.primitives import PRIMITIVES
from evonas.store import tables
from evonas.store.records import Purpose
from evonas.units import IMAGES, Units


@dataclass(frozen=True, slots=True)
class Criteria:
    """Properties of a survivor. Without any, every survivor has them."""

    uses: tuple[tuple[str, ...], ...] = ()  # groups of operations: some live node is in each group
    lacks: tuple[str, ...] = ()  # operations of no live node
    batch_dependent: bool | None = None
    max_nodes: int | None = None  # live ones
    minimum: Mapping[str, float] = field(default_factory=dict)  # proxy -> least fitness
    front: bool = False  # of the Pareto front

    @classmethod
    def of(
        cls,
        uses: str | Sequence[str] = (),
        lacks: str | Sequence[str] = (),
        batch_dependent: bool | None = None,
        max_nodes: int | None = None,
        minimum: Mapping[str, float] | None = None,
        front: bool = False,
        units: Units = IMAGES,
    ) -> "Criteria":
        """The criteria that a person gave; operations may be patterns such as `*_bhw`. Raises InputError."""
        if batch_dependent is not None and not isinstance(batch_dependent, bool):
            raise InputError(f"batch_dependent: expected true, false or none, got {batch_dependent!r:.100}")
        if minimum is not None and not isinstance(minimum, Mapping):
            raise InputError(f"minimum: expected accuracies by proxy, got {minimum!r:.100}")
        return cls(
            uses=tuple(map(operations, texts("uses", uses))),
            lacks=tuple(op for pattern in texts("lacks", lacks) for op in operations(pattern)),
            batch_dependent=batch_dependent,
            max_nodes=None if max_nodes is None else whole("max_nodes", max_nodes, 0, NODES_MAX),
            minimum={
                proxy: units.of(proxy).fitness(f"minimum of {proxy}", least) for proxy, least in (minimum or {}).items()
            },
            front=bool(front),
        )

    @property
    def without_accuracies(self) -> "Criteria":
        return replace(self, minimum={})

    def conditions(self, run: int) -> list[ColumnElement[bool]]:
        """Conditions on rows of `candidate`; `front` is the reader's."""
        c = tables.candidate.c

        conditions = [uses_any(run, ops) for ops in self.uses]
        if self.lacks:
            conditions.append(~uses_any(run, self.lacks))
        if self.batch_dependent is not None:
            conditions.append(c.batch_dependent.is_(self.batch_dependent))
        if self.max_nodes is not None:
            conditions.append(c.live_nodes <= self.max_nodes)
        return [*conditions, *(reaches(run, proxy, least) for proxy, least in self.minimum.items())]


def uses_any(run: int, ops: Sequence[str]) -> ColumnElement[bool]:
    """Whether a live node of a row of `candidate` is one of these operations."""
    o = tables.candidate_op.alias().c
    return exists().where(o.run == run, o.op.in_(ops), o.birth == tables.candidate.c.birth)


def reaches(run: int, proxy: str, least: float) -> ColumnElement[bool]:
    """Whether a row of `candidate` has at least this accuracy on a proxy."""
    e, s = tables.evaluation.alias().c, tables.score.alias().c
    its = select(e.id).where(e.run == run, e.birth == tables.candidate.c.birth, e.purpose == Purpose.SEARCH)
    evaluation = its.correlate(tables.candidate).scalar_subquery()  # found by its key, whatever is planned
    accuracy = select(s.value).where(s.run == run, s.evaluation == evaluation, s.proxy == proxy)
    return accuracy.where(s.objective == "accuracy").scalar_subquery() >= least


def operations(pattern: str) -> tuple[str, ...]:
    """The primitives that a pattern matches: `std_ghw`, `*_bhw`, `std_*`. Raises InputError where it matches none."""
    matched = tuple(name for name in PRIMITIVES if fnmatchcase(name, pattern))
    if not matched:
        raise InputError(f"no operation '{pattern:.100}'{did_you_mean(pattern, _nearest_to(pattern))}")
    return matched


def _nearest_to(pattern: str) -> list[str]:
    """Names, or for a pattern the patterns that match several of them."""
    if not any(each in pattern for each in "*?["):
        return list(PRIMITIVES)
    halves = [name.split("_") for name, row in PRIMITIVES.items() if row.reduces]
    return sorted({each for moment, index_set in halves for each in (f"{moment}_*", f"*_{index_set}")})
