"""The values that the store holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from html import escape
from typing import Any

from evonas.search_space.analysis import batch_dependent
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.search_space.screening import Degenerate
from evonas.search_space.wording import counted, counted_pairs
from evonas.units import Figure, Shown, Units
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Rejection, Verdict

RECENT = 2000  # outcomes by which a birth's cost is estimated
FULL_RECENT = 100  # full evaluations by which the cost of one is estimated


class State(StrEnum):
    """The state of a candidate. It is pending while a worker has it, or will have it again after a resume."""

    PENDING = "pending"
    EVALUATED = "evaluated"
    REJECTED = "rejected"
    CRASHED = "crashed"


class Operator(StrEnum):
    """The origin of a candidate that is no child of edits; of a child, the edits' names stand in its place."""

    CATALOG = "catalog"  # warm start, by a name
    TEXT = "text"  # warm start, by a text
    RANDOM = "random"
    MUTATION = "mutation"  # redraws alone
    AGAIN = "again"  # a leader with a further seed


class Purpose(StrEnum):
    """The reason of an evaluation."""

    SEARCH = "search"
    BASELINE = "baseline"  # BN-ReLU, before the search
    AUDIT = "audit"  # a rejected candidate, trained all the same
    RERANK = "rerank"  # the final table
    VALIDATE = "validate"  # on the test images
    ABLATE = "ablate"  # without one of its parts
    CARD = "card"  # at other batch sizes and learning rates
    SUPERSEDED = "superseded"  # delivered by a driver that had lost the run


RETRAINING = (Purpose.RERANK, Purpose.VALIDATE)  # with fresh seeds


class Event(StrEnum):
    """An occurrence in a run besides its records."""

    STARTED = "started"
    RESUMED = "resumed"
    VALIDATING = "validating"
    STUDYING = "studying"  # ablates, or trains for a card
    STOPPED = "stopped"
    EVOLVED = "evolved"  # all candidates are proposed and judged
    FINISHED = "finished"
    CRASH = "crash"


OPENING = (Event.STARTED, Event.RESUMED, Event.VALIDATING, Event.STUDYING)  # their messages name the driver


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
    """A candidate as it is proposed: a row of the table."""

    birth: int
    graph: str
    formula: str
    digest: str
    fingerprint: str
    family: str
    parent: int | None
    operator: str  # one of Operator, or the names of the edits, as in "insert+op"
    equal_to: int | None
    seen: int
    batch_dependent: bool
    live_nodes: int
    # Amplification of input of one position, of constant input and of one sample; None: not measured.
    amplification: float | None = field(default=None, kw_only=True)
    amplification_constant: float | None = field(default=None, kw_only=True)
    amplification_sample: float | None = field(default=None, kw_only=True)
    second_parent: int | None = field(default=None, kw_only=True)  # birth, of which `cross` took a part
    pool: int | None = field(default=None, kw_only=True)  # children among which the surrogate ranked it first
    predicted: float | None = field(default=None, kw_only=True)  # mean accuracy, by the surrogate

    @classmethod
    def of(
        cls,
        graph: Graph,
        probed: Probed,
        birth: int,
        *,
        seen: int,
        operator: str = Operator.RANDOM,
        parent: int | None = None,
        equal_to: int | None = None,
        amplifications: Mapping[Degenerate, float] | None = None,
        **more: Any,
    ) -> "Candidate":
        factors = amplifications or {}
        return cls(
            birth=birth,
            graph=str(graph),
            formula=graph.formula,
            digest=graph.digest,
            fingerprint=probed.fingerprint,
            family=probed.family,
            parent=parent,
            operator=operator,
            equal_to=equal_to,
            seen=seen,
            batch_dependent=batch_dependent(graph),
            live_nodes=graph.live_nodes,
            amplification=factors.get("position"),
            amplification_constant=factors.get("constant"),
            amplification_sample=factors.get("sample"),
            **more,
        )


# Fields that are None where an older version, which did not measure them, proposed the candidate.
MEASURED_LATER = frozenset(each.name for each in fields(Candidate) if each.default is None)


@dataclass(frozen=True, slots=True)
class Figures:
    """Fitnesses with several fresh seeds: accuracies, or of text 2^-(bits per byte). Spreads are sample standard
    deviations over seeds, None below two seeds."""

    seeds: int
    failed: int  # seeds with which the training diverged or crashed
    accuracy: dict[str, Figure | None]  # proxy -> mean, spread
    difference: float | None  # to BN-ReLU: mean over proxies and its seeds, paired; None where a seed failed
    difference_spread: float | None  # over seeds
    paired: int  # seeds of the difference: those with which BN-ReLU did not fail
    in_bits: Shown | None = None  # where a proxy reads text

    @property
    def shown(self) -> Shown:
        """In the units in which people read them."""
        units = Units(tuple(self.accuracy))
        return self.in_bits or Shown(self.accuracy, self.difference, self.difference_spread, units)

    @property
    def gain(self) -> float | None:
        """The difference as people read it, but more is better."""
        difference = self.shown.difference
        return None if difference is None else self.shown.unit.gain(difference)

    def mean_on(self, proxy: str) -> float:
        """The mean fitness on one proxy; 0.0 where every training failed."""
        accuracy = self.accuracy[proxy]
        return 0.0 if accuracy is None else accuracy[0]


@dataclass(frozen=True, slots=True, repr=False)
class Record(Candidate):
    """A candidate with its outcome in the search, if it has one, and its figures in the final table."""

    state: State
    seq: int | None
    advantage: float | None  # mean over proxies of accuracy, or exp(-loss), minus BN-ReLU's: what the search maximises
    outcome: Outcome | None
    accuracy: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    host: str = ""
    seed: int | None = None  # of the search's evaluation, the first of the recipe's
    in_search: Figures | None = None  # with all seeds that the search trained it with; those of `Run` have it
    retrained: Figures | None = None
    same_as: str | None = field(default=None, compare=False)  # a known layer of the same function
    affine_of: str | None = field(default=None, compare=False)  # a known layer, up to an affine of each channel
    run: str = field(default="", compare=False)  # as it was opened: folder, .db file, or URL#run

    def __repr__(self) -> str:
        formula = "; ".join(self.formula.splitlines())
        return f"<birth {self.birth}: {formula}, {self._figure()}>"

    def _figure(self) -> str:
        figures, seeds = self.figures, "seed" if self.retrained is None else "fresh seed"
        if figures is None:
            return str(self.state)
        shown = figures.shown
        if shown.difference is None:
            return f"failed with {figures.failed} of {counted(figures.seeds, seeds)}"
        difference = shown.unit.with_deviation(shown.difference, shown.difference_spread)
        return f"{difference} {shown.unit.of_differences} with {counted_pairs(figures.paired, figures.seeds, seeds)}"

    @property
    def figures(self) -> Figures | None:
        """Those of the final table if it was retrained, else those of the search."""
        return self.in_search if self.retrained is None else self.retrained

    @property
    def own_objectives(self) -> dict[str, float]:
        """The objectives of a user's own, of the search's evaluation."""
        return self.outcome.own if isinstance(self.outcome, Fitness) else {}

    def _repr_html_(self) -> str:
        return f"<div><p>{escape(repr(self)[1:-1])}</p>{Graph.parse(self.graph)._repr_html_()}</div>"


@dataclass(frozen=True, slots=True)
class Measured:
    """A leader of the search with one of the seeds that it was trained with."""

    birth: int  # that measured it
    seed: int
    advantage: float | None  # None where a gate stopped it; its accuracy is empty then
    accuracy: dict[str, float]


@dataclass(frozen=True, slots=True)
class Trained:
    """One evaluation, of a candidate or of another layer."""

    purpose: Purpose
    birth: int | None
    name: str | None  # of a layer that is no candidate: the catalog's, or its formula
    formula: str
    seed: int
    evaluation: Evaluation
    advantage: float | None
    epoch: int
    at: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """How many births of one kind have an outcome, and the worker seconds that they took."""

    births: int = 0
    seconds: float = 0.0

    def __add__(self, seconds: float) -> "Cost":
        return Cost(self.births + 1, self.seconds + seconds)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a search goes since its driver started."""

    seconds: float  # from the start of the first evaluation to the last outcome
    outcomes: int
    spent: float  # seconds of evaluations
    full_seconds: float  # mean seconds of a full evaluation
    driven: float  # seconds of all drivers until now


@dataclass(frozen=True, slots=True)
class Recorded:
    """An outcome of the search, and what its gates measured."""

    birth: int
    seed: int
    outcome: Outcome
    measurements: tuple[Measurement, ...]
    seconds: float


def verdict_of(outcome: Outcome) -> Verdict:
    return Verdict(type(outcome).__name__.lower())


def columns(record: Any) -> dict[str, Any]:
    """A dataclass' fields by name; nested values are shared, not copied."""
    return {name: getattr(record, name) for name in _names(type(record))}


_names: Callable[[Any], tuple[str, ...]] = cache(lambda kind: tuple(each.name for each in fields(kind)))
