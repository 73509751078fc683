"""What the loop remembers of a run: all of it stands in the store, and is rebuilt from there at a resume."""

import math
from dataclasses import dataclass, field, replace
from statistics import fmean

from evonas.config import Config
from evonas.selection import Survivor
from evonas.store.store import Candidate
from search_space.graph import Graph
from workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Rejection
from workers.protocol import BaselinePoint, Gate, Quality, Rung, RungThreshold

RUNG = str(Rung.model_fields["gate"].default)


@dataclass(frozen=True, slots=True)
class Known:
    """A candidate as the loop remembers it."""

    graph: Graph
    fingerprint: str
    seen: int
    inherits: bool  # the outcome of an equal candidate
    outcome: Outcome | None  # None while pending


@dataclass
class History:
    """What the store holds, as the loop needs it; rebuilt from the store at a resume."""

    births: list[Known] = field(default_factory=list)
    survivors: list[Survivor] = field(default_factory=list)  # in the order of their outcomes
    pending: dict[int, None] = field(default_factory=dict)  # births without an outcome, in their order
    outcomes: int = 0  # the next outcome's seq is one more
    first_of: dict[str, int] = field(default_factory=dict)  # fingerprint -> birth
    inheritable: dict[str, int] = field(
        default_factory=dict
    )  # fingerprint -> first birth whose outcome may be inherited
    stopped_by: dict[str, int] = field(default_factory=dict)  # gate, or kind of crash -> candidates
    rejected_by: dict[str, int] = field(default_factory=dict)  # gate -> candidates, without those that inherit
    baseline: dict[str, float] = field(default_factory=dict)  # proxy -> BN-ReLU's accuracy, same seed
    baseline_points: tuple[BaselinePoint, ...] = ()
    best: tuple[int, float] | None = None  # birth, advantage
    inherited: int = 0  # survivors with the outcome of an equal candidate
    fit_seconds: list[float] = field(default_factory=list)  # of full evaluations, for estimates only
    rungs: dict[int, list[tuple[int, float]]] = field(
        default_factory=dict
    )  # step -> seq and accuracy of who reached it
    audits: list[int] = field(default_factory=list)  # rejected births that wait to be trained all the same

    def propose(self, candidate: Candidate) -> None:
        inherits = candidate.equal_to is not None
        self.births.append(Known(candidate.graph, candidate.fingerprint, candidate.seen, inherits, None))
        self.first_of.setdefault(candidate.fingerprint, candidate.birth)
        self.pending[candidate.birth] = None

    def record(self, birth: int, outcome: Outcome, objectives: tuple[str, ...]) -> None:
        known = self.births[birth - 1]
        self.births[birth - 1] = replace(known, outcome=outcome)
        self.outcomes += 1
        del self.pending[birth]
        at_rung = (
            isinstance(outcome, Rejection) and outcome.gate == RUNG
        )  # by a threshold that was this candidate's own
        if not isinstance(outcome, Crash) and not at_rung:
            first = self.inheritable.get(known.fingerprint, birth)
            self.inheritable[known.fingerprint] = min(first, birth)
        match outcome:
            case Fitness():
                self.survivors.append(Survivor(birth, known.graph, self.objectives(known.graph, outcome, objectives)))
                self.inherited += known.inherits
                advantage = self.advantage(outcome)
                if advantage is not None and (self.best is None or advantage > self.best[1]):
                    self.best = (birth, advantage)
            case Rejection():
                self.stopped_by[outcome.gate] = self.stopped_by.get(outcome.gate, 0) + 1
                if not known.inherits:
                    self.rejected_by[outcome.gate] = self.rejected_by.get(outcome.gate, 0) + 1
            case Crash():
                self.stopped_by[outcome.kind] = self.stopped_by.get(outcome.kind, 0) + 1

    def reached(self, seq: int, measurements: tuple[Measurement, ...]) -> None:
        """The accuracies with which the outcome number `seq` stood at its rungs."""
        for each in measurements:
            if each.gate == RUNG:
                self.rungs.setdefault(each.step, []).append((seq, each.value))

    def rung_thresholds(self, gates: tuple[Gate, ...], seen: int) -> tuple[RungThreshold, ...]:
        """For a candidate proposed after `seen` outcomes: of the accuracies that they had at a rung, the least one of
        the best `keep`; none before `after` of them."""
        thresholds = []
        for gate in gates:
            if isinstance(gate, Rung):
                earlier = sorted((value for seq, value in self.rungs.get(gate.steps, []) if seq <= seen), reverse=True)
                if len(earlier) >= gate.after:
                    least = earlier[math.ceil(gate.keep * len(earlier)) - 1]
                    thresholds.append(RungThreshold(steps=gate.steps, accuracy=least))
        return tuple(thresholds)

    def objectives(self, graph: Graph, fitness: Fitness, names: tuple[str, ...]) -> tuple[float, ...]:
        """The accuracy on each proxy and what else is asked, negated: mean seconds of a training step, MiB kept for the
        backward, live nodes."""
        found: list[float] = []
        for name in names:
            match name:
                case "accuracy":
                    found += fitness.accuracy.values()
                case "step_time":
                    found.append(-fmean(fitness.step_seconds.values()))
                case "memory":
                    found.append(-fmean(fitness.saved_mb.values()))
                case "nodes":
                    found.append(-float(graph.live_nodes))
        return tuple(found)

    def advantage(self, outcome: Outcome) -> float | None:
        """Mean over proxies of accuracy minus BN-ReLU's on the same proxy and seed."""
        if not isinstance(outcome, Fitness) or not self.baseline:
            return None
        return fmean(outcome.accuracy[proxy] - accuracy for proxy, accuracy in self.baseline.items())


def set_baseline(history: History, config: Config, evaluation: Evaluation) -> None:
    """BN-ReLU's final accuracies, and those at the quality gates' steps."""
    assert isinstance(evaluation.outcome, Fitness)
    steps = {gate.steps for gate in config.gates if isinstance(gate, Quality)}
    history.baseline = dict(evaluation.outcome.accuracy)
    history.baseline_points = tuple(
        BaselinePoint(proxy=p.proxy, step=p.step, accuracy=p.accuracy)
        for p in evaluation.points
        if p.step in steps and p.repeat == 0
    )
