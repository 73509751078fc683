"""What the loop remembers of a run: all of it stands in the store, and is rebuilt from there by the same two steps,
`propose` and `record`, in the same order. Its size hardly grows with the births: by 50 to 100 bytes each."""

import math
from array import array
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from statistics import fmean
from typing import Protocol

from evonas.config import Config
from evonas.selection import Survivor, front_with
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Rejection
from evonas.workers.protocol import BaselinePoint, Quality, Rung, RungThreshold

RUNG = str(Rung.model_fields["gate"].default)
REMEASURE_AFTER = 10  # uses of an inherited fitness
REMEASURE_SEEDS = 1_000_000  # beyond the run's seed: none that the final table or the validation uses


class Proposed(Protocol):
    """What the loop keeps of a candidate."""

    @property
    def birth(self) -> int: ...
    @property
    def graph(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def equal_to(self) -> int | None: ...
    @property
    def live_nodes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Pending:
    """A candidate without an outcome."""

    graph: str
    fingerprint: str
    equal_to: int | None
    live_nodes: int
    seed: int
    rungs: tuple[RungThreshold, ...]  # by the outcomes before it


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


class Functions:
    """Fingerprint -> the first birth whose outcome may be inherited, 0 while there is none; and the digests that are
    known. Open addressing in two arrays, 24 to 48 bytes a key, where a dict takes 110; a key is kept as 64 bits: of two
    million, two are mistaken with probability 1e-7."""

    def __init__(self) -> None:
        self._keys, self._births = array("Q", bytes(8 << 10)), array("i", bytes(4 << 10))
        self._count = 0

    def __contains__(self, fingerprint: str) -> bool:
        return self._keys[self._place(_key(fingerprint))] != 0

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Functions) and self._items() == other._items()

    def inheritable(self, fingerprint: str) -> int | None:
        return self._births[self._place(_key(fingerprint))] or None

    def add(self, fingerprint: str, inheritable: int = 0) -> None:
        """Know it; of several births that may be inherited the first counts."""
        key = _key(fingerprint)
        place = self._place(key)
        if not self._keys[place]:
            self._keys[place] = key
            self._count += 1
        if inheritable:
            self._births[place] = min(self._births[place] or inheritable, inheritable)
        if 2 * self._count > len(self._keys):
            self._grow()

    def _place(self, key: int) -> int:
        keys = self._keys
        mask = len(keys) - 1
        place = key & mask
        while keys[place] not in (0, key):
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        keys, births, size = self._keys, self._births, 2 * len(self._keys)
        self._keys, self._births = array("Q", bytes(8 * size)), array("i", bytes(4 * size))
        for key, birth in zip(keys, births, strict=True):
            if key:
                place = self._place(key)
                self._keys[place], self._births[place] = key, birth

    def _items(self) -> set[tuple[int, int]]:
        return {(key, birth) for key, birth in zip(self._keys, self._births, strict=True) if key}


def _key(fingerprint: str) -> int:
    return int.from_bytes(blake2b(fingerprint.encode(), digest_size=8).digest()) or 1


@dataclass
class History:
    """What the store holds, as the loop needs it; rebuilt from the store at a resume."""

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
    rungs: dict[int, "array[float]"] = field(default_factory=dict)  # step -> accuracies there, ascending
    fit_seconds: deque[float] = field(
        default_factory=lambda: deque(maxlen=100), compare=False
    )  # of the last full evaluations, for estimates only
    audits: dict[int, str] = field(default_factory=dict)  # births that wait to be trained all the same -> graph

    def __post_init__(self) -> None:
        self.population = deque(maxlen=self.config.evolution.population)

    def propose(self, candidate: Proposed) -> Pending:
        """One more birth."""
        seed = self.config.seed
        shared = self.shared.get(candidate.equal_to or 0)
        if candidate.equal_to is not None and shared is not None:
            if (shared.uses + 1) % REMEASURE_AFTER == 0:
                seed += REMEASURE_SEEDS + (shared.uses + 1) // REMEASURE_AFTER * self.config.recipe.seeds
            self.shared[candidate.equal_to] = replace(shared, uses=shared.uses + 1)
        pending = Pending(
            *(candidate.graph, candidate.fingerprint, candidate.equal_to, candidate.live_nodes),
            seed,
            self.rung_thresholds(),
        )
        self.births += 1
        self.functions.add(candidate.fingerprint)
        self.functions.add(candidate.digest)
        self.pending[candidate.birth] = pending
        return pending

    def record(self, birth: int, outcome: Outcome, measurements: Sequence[Measurement]) -> Pending:
        """The next outcome; what the pending candidate was."""
        known = self.pending.pop(birth)
        self.outcomes += 1
        at_rung = isinstance(outcome, Rejection) and outcome.gate == RUNG  # by a threshold of this candidate's own
        if not isinstance(outcome, Crash) and not at_rung:
            self.functions.add(known.fingerprint, inheritable=birth)
        match outcome:
            case Fitness():
                self._survive(birth, known, outcome)
            case Rejection():
                self.stopped_by[outcome.gate] = self.stopped_by.get(outcome.gate, 0) + 1
                if known.equal_to is None:
                    self.rejected_by[outcome.gate] = self.rejected_by.get(outcome.gate, 0) + 1
            case Crash():
                self.stopped_by[outcome.kind] = self.stopped_by.get(outcome.kind, 0) + 1
        if not self.inherits(known):
            for each in measurements:
                if each.gate == RUNG:
                    insort(self.rungs.setdefault(each.step, array("d")), each.value)
        return known

    def inherits(self, pending: Pending) -> bool:
        """Whether its outcome is an equal candidate's; else it is measured, perhaps with a seed of its own."""
        return pending.equal_to is not None and pending.seed == self.config.seed

    def _survive(self, birth: int, known: Pending, outcome: Fitness) -> None:
        fitness = outcome
        if known.equal_to is not None:
            shared = self.shared.get(known.equal_to) or Shared(1, 1, outcome)
            if not self.inherits(known):
                shared = _measured_again(shared, outcome)
            self.shared[known.equal_to] = shared
            fitness = shared.fitness
        survivor = Survivor(birth, known.graph, known.fingerprint, self.objectives(fitness, known.live_nodes))
        self.population.append(survivor)
        self.survivors += 1
        self.inherited += self.inherits(known)
        if known.equal_to is not None:
            return
        self.front = front_with(self.front, survivor)
        advantage = self.advantage(outcome)
        if advantage is not None and (self.best is None or advantage > self.best.advantage):
            self.best = Best(birth, self.outcomes, advantage, known.graph, outcome.accuracy)

    def rung_thresholds(self) -> tuple[RungThreshold, ...]:
        """For the next candidate: of the accuracies that earlier ones had at a rung, the least one of the best `keep`;
        none before `after` of them."""
        thresholds = []
        for gate in self.config.gates:
            if isinstance(gate, Rung):
                earlier = self.rungs.get(gate.steps, ())
                if len(earlier) >= gate.after:
                    least = earlier[len(earlier) - math.ceil(gate.keep * len(earlier))]
                    thresholds.append(RungThreshold(steps=gate.steps, accuracy=least))
        return tuple(thresholds)

    def objectives(self, fitness: Fitness, live_nodes: int) -> tuple[float, ...]:
        """The accuracy on each proxy and what else is asked, negated: mean seconds of a training step, MiB kept for the
        backward, live nodes."""
        found: list[float] = []
        for name in self.config.objectives:
            match name:
                case "accuracy":
                    found += fitness.accuracy.values()
                case "step_time":
                    found.append(-fmean(fitness.step_seconds.values()))
                case "memory":
                    found.append(-fmean(fitness.saved_mb.values()))
                case "nodes":
                    found.append(-float(live_nodes))
        return tuple(found)

    def advantage(self, outcome: Outcome) -> float | None:
        """Mean over proxies of accuracy minus BN-ReLU's on the same proxy and seed."""
        if not isinstance(outcome, Fitness) or not self.baseline:
            return None
        return fmean(outcome.accuracy[proxy] - accuracy for proxy, accuracy in self.baseline.items())

    def set_baseline(self, evaluation: Evaluation) -> None:
        """BN-ReLU's final accuracies, and those at the quality gates' steps."""
        assert isinstance(evaluation.outcome, Fitness)
        steps = {gate.steps for gate in self.config.gates if isinstance(gate, Quality)}
        self.baseline = dict(evaluation.outcome.accuracy)
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
