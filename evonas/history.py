"""The memory of the loop. The store holds all of it: the same steps, `propose` and `record`, in the same order build
it again. A birth adds 50 to 100 bytes."""

from array import array
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from statistics import fmean

from evonas.config import Config
from evonas.functions import Functions
from evonas.selection import Survivor, front_with
from evonas.store.reader import Reader
from evonas.store.records import FULL_RECENT, RECENT, Candidate, Cost, Purpose, Recorded
from evonas.workers.gates import ranked_gate
from evonas.workers.gates.base import RankedGate, TrainingGate
from evonas.workers.outcome import DIVERGED, Crash, Evaluation, Fitness, Measurement, Outcome, Rejection
from evonas.workers.protocol import BaselinePoint, Threshold

REMEASURE_AFTER = 10  # uses of an inherited fitness
REMEASURE_SEEDS = 1_000_000  # beyond the run's seed: none that the final table or the validation uses


@dataclass(frozen=True, slots=True)
class Pending:
    """A candidate without an outcome."""

    graph: str
    fingerprint: str
    equal_to: int | None
    live_nodes: int
    seed: int
    thresholds: tuple[Threshold, ...]  # of ranked gates, by the outcomes before it
    has_parent: bool


@dataclass(frozen=True, slots=True)
class Best:
    """The first survivor of the largest advantage."""

    birth: int
    seq: int
    advantage: float
    graph: str
    accuracy: dict[str, float]


@dataclass(frozen=True, slots=True)
class Shared:
    """A fitness that equal candidates inherit: the mean over the seeds with which it was measured."""

    uses: int
    measured: int
    fitness: Fitness


@dataclass
class History:
    """The state of the loop."""

    config: Config
    births: int = 0
    outcomes: int = 0  # the next outcome's seq is one more
    pending: dict[int, Pending] = field(default_factory=dict)  # in the order of their births
    population: deque[Survivor] = field(init=False)  # the newest survivors, in the order of their outcomes
    survivors: int = 0  # ever
    inherited: int = 0  # survivors with the outcome of an equal candidate
    front: list[Survivor] = field(default_factory=list)  # that no survivor dominates, without those that inherit
    functions: Functions = field(default_factory=Functions)
    shared: dict[int, Shared] = field(default_factory=dict)  # of the birth that was inherited
    stopped_by: dict[str, int] = field(default_factory=dict)  # gate, or kind of crash -> candidates
    rejected_by: dict[str, int] = field(default_factory=dict)  # gate -> candidates, without those that inherit
    baseline: dict[str, float] = field(default_factory=dict)  # proxy -> BN-ReLU's accuracy, same seed
    baseline_points: tuple[BaselinePoint, ...] = ()
    best: Best | None = None
    earlier: dict[tuple[str, int], "array[float]"] = field(default_factory=dict)  # of ranked gates, by step; ascending
    # For the estimate of the time left: seconds of the newest outcomes, by whether their candidate has a parent; of
    # all outcomes; of the last full evaluations.
    newest: deque[tuple[bool, float]] = field(default_factory=lambda: deque(maxlen=RECENT), compare=False)
    spent: float = field(default=0.0, compare=False)
    full_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=FULL_RECENT), compare=False)
    audits: dict[int, str] = field(default_factory=dict)  # rejected births to be trained all the same -> graph

    def __post_init__(self) -> None:
        self.population = deque(maxlen=self.config.evolution.population)

    def propose(self, candidate: Candidate) -> Pending:
        """Count a birth, and settle the seed and the thresholds that its outcome will depend on."""
        seed = self.config.seed
        shared = self.shared.get(candidate.equal_to or 0)
        if candidate.equal_to is not None and shared is not None:
            if (shared.uses + 1) % REMEASURE_AFTER == 0:
                seed += REMEASURE_SEEDS + (shared.uses + 1) // REMEASURE_AFTER * self.config.recipe.seeds
            self.shared[candidate.equal_to] = replace(shared, uses=shared.uses + 1)
        pending = Pending(
            *(candidate.graph, candidate.fingerprint, candidate.equal_to, candidate.live_nodes),
            seed,
            self.thresholds(),
            candidate.parent is not None,
        )
        self.births += 1
        self.functions.add(candidate.fingerprint)
        self.functions.add(candidate.digest)
        self.pending[candidate.birth] = pending
        return pending

    def record(
        self, birth: int, outcome: Outcome, measurements: Sequence[Measurement], seconds: float = 0.0
    ) -> Pending:
        """Count an outcome and the seconds of its evaluation; returns what was pending."""
        pending = self.pending.pop(birth)
        self.outcomes += 1
        self.newest.append((pending.has_parent, seconds))
        self.spent += seconds
        own = isinstance(outcome, Rejection) and ranked_gate(outcome.gate)  # by a threshold of this candidate's own
        if not isinstance(outcome, Crash) and not own:
            self.functions.add(pending.fingerprint, inheritable=birth)
        match outcome:
            case Fitness():
                self._survive(birth, pending, outcome)
            case Rejection():
                self.stopped_by[outcome.gate] = self.stopped_by.get(outcome.gate, 0) + 1
                if pending.equal_to is None:
                    self.rejected_by[outcome.gate] = self.rejected_by.get(outcome.gate, 0) + 1
            case Crash():
                self.stopped_by[outcome.kind] = self.stopped_by.get(outcome.kind, 0) + 1
        if not self.inherits(pending):
            if isinstance(outcome, Fitness):
                self.full_seconds.append(seconds)
            for each in measurements:
                if ranked_gate(each.gate):
                    insort(self.earlier.setdefault((each.gate, each.step), array("d")), each.value)
        if pending.equal_to is None and self.is_audited(birth, outcome):
            self.audits[birth] = pending.graph
        return pending

    def is_audited(self, birth: int, outcome: Outcome) -> bool:
        """Whether to train a rejected candidate to the full budget all the same, to see whether its gate was right.

        A share of the rejected is audited, drawn by birth. Audits are spread evenly over gates; a gate with fewer
        rejections than its share is audited completely.
        """
        evolution = self.config.evolution
        if not isinstance(outcome, Rejection) or outcome.gate == DIVERGED or not evolution.audit_share:
            return False
        stopped_by = {gate: count for gate, count in self.rejected_by.items() if gate != DIVERGED}  # it would again
        of_each = left = evolution.audit_share * sum(stopped_by.values())
        for done, stopped in enumerate(sorted(stopped_by.values())):
            of_each = left / (len(stopped_by) - done)
            if of_each <= stopped:
                break
            left -= stopped
        return Random(f"{self.config.seed} {birth} audit").random() < of_each / stopped_by[outcome.gate]

    def next_audit(self) -> tuple[int, str]:
        """Take the birth and the graph that wait longest for their audit."""
        birth = next(iter(self.audits))
        return birth, self.audits.pop(birth)

    def costs(self) -> dict[bool, Cost]:
        """Seconds of the newest outcomes, by whether their candidate has a parent."""
        costs = {True: Cost(), False: Cost()}
        for has_parent, seconds in self.newest:
            costs[has_parent] += seconds
        return costs

    def inherits(self, pending: Pending) -> bool:
        """Whether a candidate gets the outcome of an equal one; else it is measured, perhaps with a seed of its own."""
        return pending.equal_to is not None and pending.seed == self.config.seed

    def _survive(self, birth: int, pending: Pending, outcome: Fitness) -> None:
        fitness = outcome
        if pending.equal_to is not None:
            shared = self.shared.get(pending.equal_to) or Shared(1, 1, outcome)
            if not self.inherits(pending):
                shared = _measured_again(shared, outcome)
            self.shared[pending.equal_to] = shared
            fitness = shared.fitness
        survivor = Survivor(birth, pending.graph, pending.fingerprint, self.objectives(fitness, pending.live_nodes))
        self.population.append(survivor)
        self.survivors += 1
        self.inherited += self.inherits(pending)
        if pending.equal_to is not None:
            return
        self.front = front_with(self.front, survivor)
        advantage = self.advantage(outcome)
        if advantage is not None and (self.best is None or advantage > self.best.advantage):
            self.best = Best(birth, self.outcomes, advantage, pending.graph, outcome.accuracy)

    def thresholds(self) -> tuple[Threshold, ...]:
        """Thresholds of ranked gates for the next candidate."""
        gates = [gate for gate in self.config.gates if isinstance(gate, RankedGate)]
        values = [(gate, gate.threshold(self.earlier.get((gate.gate, gate.steps), ()))) for gate in gates]
        return tuple(
            Threshold(gate=gate.gate, steps=gate.steps, value=value) for gate, value in values if value is not None
        )

    def objectives(self, fitness: Fitness, live_nodes: int) -> tuple[float, ...]:
        """The accuracy on each proxy and what else is asked, negated: mean seconds of a training step, MiB kept for the
        backward, live nodes."""
        objectives: list[float] = []
        for name in self.config.objectives:
            match name:
                case "accuracy":
                    objectives += fitness.accuracy.values()
                case "step_time":
                    objectives.append(-fmean(fitness.step_seconds.values()))
                case "memory":
                    objectives.append(-fmean(fitness.saved_mb.values()))
                case "nodes":
                    objectives.append(-float(live_nodes))
        return tuple(objectives)

    def advantage(self, outcome: Outcome) -> float | None:
        """Mean over proxies of accuracy minus BN-ReLU's on the same proxy and seed."""
        if not isinstance(outcome, Fitness) or not self.baseline:
            return None
        return fmean(outcome.accuracy[proxy] - accuracy for proxy, accuracy in self.baseline.items())

    def set_baseline(self, evaluation: Evaluation) -> None:
        """BN-ReLU's final accuracies, and those at the steps where gates compare with it."""
        assert isinstance(evaluation.outcome, Fitness)
        gates = [gate for gate in self.config.gates if isinstance(gate, TrainingGate)]
        steps = {gate.steps for gate in gates if gate.against_baseline}
        self.baseline = dict(evaluation.outcome.accuracy)
        self.full_seconds.append(evaluation.seconds)
        self.baseline_points = tuple(
            BaselinePoint(proxy=p.proxy, step=p.step, accuracy=p.accuracy)
            for p in evaluation.points
            if p.step in steps and p.repeat == 0
        )


def _measured_again(shared: Shared, new: Fitness) -> Shared:
    n = shared.measured

    def mean(old: dict[str, float], added: dict[str, float]) -> dict[str, float]:
        return {key: (n * old[key] + value) / (n + 1) for key, value in added.items()}

    old = shared.fitness
    fitness = Fitness(
        mean(old.accuracy, new.accuracy), mean(old.step_seconds, new.step_seconds), mean(old.saved_mb, new.saved_mb)
    )
    return Shared(shared.uses, n + 1, fitness)


def rebuild(reader: Reader) -> History:
    """The history of a run, from its records alone. Raises InputError where one cannot be."""
    reader.check_evaluations()
    history = History(reader.config)
    restore_baseline(reader, history)
    for _ in replayed(reader, history):
        pass
    for each in reader.evaluations(Purpose.AUDIT):
        if not isinstance(each.evaluation.outcome, Crash):
            history.audits.pop(each.birth or 0, None)
    alive = {s.birth: s.graph for s in history.population} | {b: p.graph for b, p in history.pending.items()}
    for birth, text in (alive | history.audits).items():
        reader.parsed(birth, text)
    return history


def restore_baseline(reader: Reader, history: History) -> None:
    """The recorded training of BN-ReLU, into `history`."""
    for each in reader.evaluations(Purpose.BASELINE):
        evaluation = each.evaluation
        if not isinstance(evaluation.outcome, Fitness):
            reader.refuse(f"the {Purpose.BASELINE}", f"{each.name} ended without accuracies")
        history.set_baseline(evaluation)


def replayed(
    reader: Reader,
    history: History,
    on_outcome: Callable[[Pending, Recorded], None] = lambda pending, recorded: None,
) -> Iterator[Candidate]:
    """Take `history` through a run as it happened. Yields each candidate before `history` counts it, when `history` is
    as it was when the candidate was proposed; `on_outcome` is called after each outcome."""
    outcomes = reader.outcomes()

    def record() -> None:
        recorded = next(outcomes)
        on_outcome(history.record(recorded.birth, recorded.outcome, recorded.measurements, recorded.seconds), recorded)

    for candidate in reader.proposals():
        while history.outcomes < candidate.seen:
            record()
        yield candidate
        history.propose(candidate)
    with suppress(StopIteration):
        while True:
            record()
