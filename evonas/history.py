"""The memory of the loop. The store holds all of it: the same steps, `propose` and `record`, in the same order build
it again. A birth adds 50 to 100 bytes, with a surrogate some KiB."""

from array import array
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from evonas.audits import Audits
from evonas.config import Config
from evonas.functions import Functions
from evonas.leaders import Best, Leaders
from evonas.pending import Pending
from evonas.search_space.errors import InputError
from evonas.selection import Population, Survivor, front_with, objectives, pareto_front
from evonas.shared import REMEASURE_AFTER, Shared, further_seed, measured_again
from evonas.store.records import FULL_RECENT, RECENT, Candidate, Cost, Operator
from evonas.surrogate import Surrogate
from evonas.workers.gates import ranked_gate
from evonas.workers.gates.base import RankedGate, TrainingGate
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Rejection
from evonas.workers.protocol import BaselinePoint, Threshold


@dataclass
class History:
    """The state of the loop."""

    config: Config
    births: int = 0
    outcomes: int = 0  # the next outcome's seq is one more
    pending: dict[int, Pending] = field(default_factory=dict)  # in the order of their births
    population: Population = field(init=False)
    founders: Population = field(init=False)  # survivors of the warm start, where they breed for good
    leaders: Leaders | None = None  # where they are measured again
    surrogate: Surrogate | None = None  # where it chooses children
    children: dict[int, int] = field(default_factory=dict)  # of a function, where entrants are weighted by them
    audits: Audits = field(init=False)
    alike: dict[tuple[float, ...], tuple[int, str]] = field(default_factory=dict)  # trace -> first birth, its family
    survivors: int = 0  # ever
    inherited: int = 0  # survivors with the outcome of an equal candidate
    front: list[Survivor] = field(default_factory=list)  # that no survivor dominates, without those that inherit
    functions: Functions = field(default_factory=Functions)
    shared: dict[int, Shared] = field(default_factory=dict)  # of the birth that was inherited
    stopped_by: dict[str, int] = field(default_factory=dict)  # gate, or kind of crash -> candidates
    baseline: Fitness | None = None  # BN-ReLU's, with the search's seed
    baselines: dict[int, Fitness] = field(default_factory=dict)  # further seed of the leaders -> BN-ReLU's
    baseline_points: tuple[BaselinePoint, ...] = ()
    best: Best | None = None
    earlier: dict[tuple[str, int], "array[float]"] = field(default_factory=dict)  # of ranked gates, by step; ascending
    # For the estimate of the time left: seconds of the newest outcomes, by whether their candidate has a parent; of
    # all outcomes; of the last full evaluations.
    newest: deque[tuple[bool, float]] = field(default_factory=lambda: deque(maxlen=RECENT), compare=False)
    spent: float = field(default=0.0, compare=False)
    full_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=FULL_RECENT), compare=False)

    def __post_init__(self) -> None:
        evolution = self.config.evolution
        self.population = Population(evolution.population, evolution.family_max)
        self.founders = Population(len(evolution.warm_start))
        self.audits = Audits(evolution.audit_share, self.config.seed)
        if evolution.remeasure:
            self.leaders = Leaders(evolution.remeasure.leaders, evolution.remeasure.seeds)
        if options := evolution.surrogate:
            gates = tuple(gate.gate for gate in self.config.gates)
            self.surrogate = Surrogate(options.after, options.refit, self.config.judged_by, gates)

    def propose(self, candidate: Candidate) -> Pending:
        """Count a birth, and settle the seed and the thresholds that its outcome will depend on."""
        again = candidate.operator == Operator.AGAIN
        parent = self._member(candidate.parent) if self.surrogate else None
        pending = Pending(
            graph=candidate.graph,
            fingerprint=candidate.fingerprint,
            equal_to=candidate.equal_to,
            live_nodes=candidate.live_nodes,
            seed=self._seed(candidate.equal_to, again=again),
            thresholds=() if again else self.thresholds(),
            has_parent=candidate.parent is not None,
            family=candidate.family,
            again=again,
            parent_fitness=parent.fitness if parent else None,
            predicted=candidate.predicted if candidate.pool is None else None,
        )
        if self.surrogate and candidate.equal_to is None:
            self.surrogate.starts.add(candidate.graph)
        if self.config.evolution.entrants == "fewer_children" and not again:
            self._count_child(candidate)
        self.births += 1
        self.functions.add(candidate.fingerprint)
        self.functions.add(candidate.digest)
        self.pending[candidate.birth] = pending
        return pending

    def _member(self, birth: int | None) -> Survivor | None:
        return next((each for each in (*self.population.members, *self.founders.members) if each.birth == birth), None)

    def _count_child(self, candidate: Candidate) -> None:
        """One more child of each parent's function, which equal candidates and a leader's new mean share."""
        members = ((birth, self._member(birth)) for birth in (candidate.parent, candidate.second_parent) if birth)
        for function in {member.function if member else birth for birth, member in members}:
            self.children[function] = self.children.get(function, 0) + 1

    @property
    def trained(self) -> int:
        """Candidates that were trained to the full budget, and leaders with a further seed."""
        return self.survivors - self.inherited

    def entrant_weights(self) -> list[float] | None:
        """Weight of each member of the population in the draw of a tournament's entrants; None: all alike."""
        if self.config.evolution.entrants == "uniform":
            return None
        return [1 / (1 + self.children.get(each.function, 0)) for each in self.population.members]

    def _seed(self, function: int | None, *, again: bool) -> int:
        """The run's seed; a fresh one for a leader that is measured again, and rarely, if as long, for an equal one."""
        seed = self.config.seed
        if function is None:
            return seed
        shared = self.shared.get(function)
        if again and self.leaders:
            leader = next((each for each in (*self.leaders.members, *self.front) if each.function == function), None)
            if leader is None or leader.outcome is None:
                raise InputError(f"birth {function} was measured again, and was no leader")
            shared = shared or Shared(0, leader.measured, leader.outcome)
            self.leaders.measured_again(function, self.config.seed, leader.outcome)
        elif shared is not None:
            shared = replace(shared, uses=shared.uses + 1)
        if shared is None:
            return seed
        if again or (shared.uses % REMEASURE_AFTER == 0 and not self.config.trains_leaders_longer):
            shared = replace(shared, fresh=shared.fresh + 1)
            seed = further_seed(self.config, shared.fresh)
        self.shared[function] = shared
        return seed

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
                    self.audits.reject(birth, pending.graph, outcome.gate)
            case Crash():
                self.stopped_by[outcome.kind] = self.stopped_by.get(outcome.kind, 0) + 1
        if not self.inherits(pending):
            if isinstance(outcome, Fitness) and not pending.again:
                self.full_seconds.append(seconds)
            for each in measurements:
                if ranked_gate(each.gate) and not pending.again:
                    insort(self.earlier.setdefault((each.gate, each.step), array("d")), each.value)
        if pending.equal_to is None and self.surrogate:
            self.surrogate.learn(pending.graph, pending.parent_fitness, outcome, pending.predicted)
        if pending.equal_to is not None and pending.again and isinstance(outcome, Rejection):
            self._fall(pending.equal_to)
        return pending

    def _fall(self, function: int) -> None:
        """A leader that a further seed stops is none, and breeds no more."""
        self.population.drop(function)
        self.founders.drop(function)
        if self.leaders:
            self.leaders.drop(function)
        self.front = [each for each in self.front if each.function != function]
        self._lead()

    def _lead(self) -> None:
        """The front and the best after a function's mean changed."""
        by_function = {each.function: replace(each, birth=each.function) for each in self.population.members}
        by_function |= {each.function: each for each in self.front}
        by_function |= {each.function: each for each in (self.leaders.members if self.leaders else ())}
        self.front = pareto_front([by_function[function] for function in sorted(by_function)])
        self._choose_best()

    def _choose_best(self) -> None:
        """The first of the leaders; one that stays the first is no better survivor."""
        first = self.leaders.members[0] if self.leaders and self.leaders.members else None
        best = self._best(first.birth, first.graph, first.outcome, first.measured) if first and first.outcome else None
        if best and self.best and best.birth == self.best.birth:
            best = replace(best, seq=self.best.seq)
        self.best = best

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
                shared = measured_again(shared, self._as_of_the_search(outcome, pending.seed))
            self.shared[pending.equal_to], fitness = shared, shared.fitness
        measured = self.shared[pending.equal_to].measured if pending.again and pending.equal_to else 1
        survivor = Survivor(
            birth=birth,
            graph=pending.graph,
            fingerprint=pending.fingerprint,
            objectives=objectives(self.config.objectives, fitness, pending.graph, pending.live_nodes),
            family=pending.family,
            function=pending.equal_to or birth,
            measured=measured,
            outcome=fitness,
            fitness=fitness.mean_score(self.config.judged_by),
            live_nodes=pending.live_nodes,
        )
        first = birth
        if pending.equal_to is None and (self.leaders or self.config.evolution.family_max):
            first, family = self.alike.setdefault(outcome.trace, (birth, pending.family))
            survivor = replace(survivor, family=family)
        self.population.add(survivor)
        if self.config.evolution.founders_share and birth <= len(self.config.evolution.warm_start):
            self.founders.add(survivor)
        self.survivors += 1
        self.inherited += self.inherits(pending)
        if pending.again and self.leaders:
            self.leaders.outcomes[survivor.function][pending.seed] = outcome
            self.leaders.update([survivor])
            self._compare()
        elif pending.equal_to is None:
            self.front = front_with(self.front, survivor)
            if self.leaders:
                if first == birth:
                    self.leaders.add(survivor)
                self._choose_best()
                return
            best = self._best(birth, pending.graph, outcome)
            if best is not None and (self.best is None or best.advantage > self.best.advantage):
                self.best = best

    def _compare(self) -> None:
        """The fitnesses of what has several seeds, after one of them got another seed; the front and the best, too."""
        assert self.leaders and self.baseline
        known = {e.function: e for e in (*self.front, *self.population.members, *self.leaders.members)}
        changed = self.leaders.compared(known, {self.config.seed: self.baseline, **self.baselines}, self.config)
        self.population.update(changed)
        self.founders.update(changed)
        self.front = [changed.get(each.function, each) for each in self.front]
        self._lead()

    def _best(self, birth: int, graph: str, outcome: Fitness, measured: int = 1) -> Best | None:
        advantage = self.advantage(outcome)  # of a mean that is as of the search's seed
        if advantage is None:
            return None
        return Best(birth, self.outcomes, advantage, graph, outcome.accuracy, measured * self.config.recipe.seeds)

    def thresholds(self) -> tuple[Threshold, ...]:
        """Thresholds of ranked gates for the next candidate."""
        gates = (gate for gate in self.config.gates if isinstance(gate, RankedGate))
        values = ((gate, gate.threshold(self.earlier.get((gate.gate, gate.steps), ()))) for gate in gates)
        return tuple(
            Threshold(gate=gate.gate, steps=gate.steps, value=value) for gate, value in values if value is not None
        )

    def _as_of_the_search(self, outcome: Fitness, seed: int) -> Fitness:
        """An outcome with a further seed as it would be with the search's: moved by what BN-ReLU differs."""
        theirs = self.baselines.get(seed)
        return outcome.moved(theirs, self.baseline) if theirs and self.baseline else outcome

    def advantage(self, outcome: Outcome, seed: int | None = None) -> float | None:
        """Mean over proxies of the score minus BN-ReLU's on the same proxy and, where BN-ReLU was trained with it, the
        same seed; by default the search's."""
        if not isinstance(outcome, Fitness) or not self.baseline:
            return None
        by, baseline = self.config.judged_by, self.baseline if seed is None else self.baselines.get(seed, self.baseline)
        scores = outcome.scores(by)
        return fmean(scores[proxy] - score for proxy, score in baseline.scores(by).items())

    def set_baseline(self, evaluation: Evaluation) -> None:
        """BN-ReLU's fitness, and its accuracies at the steps where gates compare with it."""
        assert isinstance(evaluation.outcome, Fitness)
        training = (gate for gate in self.config.gates if isinstance(gate, TrainingGate))
        steps = {gate.steps for gate in training if gate.against_baseline}
        self.baseline = evaluation.outcome
        self.full_seconds.append(evaluation.seconds)
        self.baseline_points = tuple(
            BaselinePoint(proxy=p.proxy, step=p.step, accuracy=p.accuracy)
            for p in evaluation.points
            if p.step in steps and p.repeat == 0
        )
