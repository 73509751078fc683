"""The evolution: propose a candidate, and the asynchronous loop around it (arXiv:2004.02967, section 4)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from statistics import fmean

from evonas.config import BASELINE, Config
from evonas.selection import Survivor, tournament
from evonas.store.store import Candidate, Store
from search_space.analysis import batch_dependent
from search_space.catalog import catalog
from search_space.errors import InputError
from search_space.fingerprint import Probed, probe
from search_space.graph import Graph
from search_space.mutation import mutate
from search_space.screening import Check, check_depends_on_x, check_finite
from workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Rejection
from workers.pool import Pool
from workers.protocol import BaselinePoint, DependsOnX, Finite, Job, Quality

DRAWS_MAX = 64  # to find a child that no earlier candidate equals
CRASHES_MAX = 10  # in a row; then it is not the candidates
POLL_SECONDS = 0.5


class Stopped(Exception):
    """The user asked to stop (Ctrl-C, SIGTERM); everything recorded stays, and the run can be resumed."""


@dataclass(frozen=True, slots=True)
class Known:
    """A candidate as the loop remembers it."""

    graph: Graph
    fingerprint: str
    outcome: Outcome | None  # None while pending


@dataclass
class History:
    """What the store holds, as the loop needs it; rebuilt from the store at a resume."""

    births: list[Known] = field(default_factory=list)
    survivors: list[Survivor] = field(default_factory=list)  # in the order of their outcomes
    pending: dict[int, None] = field(default_factory=dict)  # births without an outcome, in their order
    outcomes: int = 0  # the next outcome's seq is one more
    first_of: dict[str, int] = field(default_factory=dict)  # fingerprint -> birth
    inheritable: dict[str, int] = field(default_factory=dict)  # fingerprint -> first birth with an outcome, no crash
    stopped_by: dict[str, int] = field(default_factory=dict)  # gate, or kind of crash -> candidates
    baseline: dict[str, float] = field(default_factory=dict)  # proxy -> BN-ReLU's accuracy, same seed
    baseline_points: tuple[BaselinePoint, ...] = ()
    best: tuple[int, float] | None = None  # birth, advantage
    inherited: int = 0  # survivors with the outcome of an equal candidate
    fit_seconds: list[float] = field(default_factory=list)  # of full evaluations, for estimates only

    def propose(self, candidate: Candidate) -> None:
        self.births.append(Known(candidate.graph, candidate.fingerprint, None))
        self.first_of.setdefault(candidate.fingerprint, candidate.birth)
        self.pending[candidate.birth] = None

    def record(self, birth: int, outcome: Outcome, objectives: tuple[str, ...], inherited: bool = False) -> None:
        known = self.births[birth - 1]
        self.births[birth - 1] = replace(known, outcome=outcome)
        self.outcomes += 1
        del self.pending[birth]
        if not isinstance(outcome, Crash):
            first = self.inheritable.get(known.fingerprint, birth)
            self.inheritable[known.fingerprint] = min(first, birth)
        match outcome:
            case Fitness():
                self.survivors.append(Survivor(birth, known.graph, self.objectives(known.graph, outcome, objectives)))
                self.inherited += inherited
                advantage = self.advantage(outcome)
                if advantage is not None and (self.best is None or advantage > self.best[1]):
                    self.best = (birth, advantage)
            case Rejection():
                self.stopped_by[outcome.gate] = self.stopped_by.get(outcome.gate, 0) + 1
            case Crash():
                self.stopped_by[outcome.kind] = self.stopped_by.get(outcome.kind, 0) + 1

    def objectives(self, graph: Graph, fitness: Fitness, names: tuple[str, ...]) -> tuple[float, ...]:
        """The accuracy on each proxy and, if asked, the number of live nodes, negated."""
        nodes = (-float(graph.live_nodes),) if "nodes" in names else ()
        return (*fitness.accuracy.values(), *nodes)

    def advantage(self, outcome: Outcome) -> float | None:
        """Mean over proxies of accuracy minus BN-ReLU's on the same proxy and seed."""
        if not isinstance(outcome, Fitness) or not self.baseline:
            return None
        return fmean(outcome.accuracy[proxy] - accuracy for proxy, accuracy in self.baseline.items())


def propose(config: Config, birth: int, history: History) -> tuple[Candidate, tuple[Measurement, ...]]:
    """The next candidate and what the screening gates measured: a function of the config, the birth and the history."""
    rng = Random(f"{config.seed} {birth}")
    evolution, space = config.evolution, config.space
    winner: Survivor | None = None
    if len(history.survivors) >= evolution.initial and rng.random() >= evolution.random_share:
        population = history.survivors[-evolution.population :]
        winner = tournament(population, evolution.tournament_share, evolution.selection, rng)
    base = winner.graph if winner else None
    for _ in range(DRAWS_MAX):
        graph = mutate(base, space.space, rng, evolution.mutations) if base else space.draw(rng)
        probed = probe(graph)
        if evolution.duplicates != "mutate_again" or probed.fingerprint not in history.first_of:
            break
        if winner and probed.fingerprint == history.births[winner.birth - 1].fingerprint:
            base = graph  # only dead nodes changed: the drift stays; any other known function is drawn anew
    candidate = Candidate(
        birth=birth,
        graph=graph,
        fingerprint=probed.fingerprint,
        family=probed.family,
        parent=winner.birth if winner else None,
        operator="mutation" if winner else "random",
        equal_to=None if evolution.duplicates == "evaluate" else history.inheritable.get(probed.fingerprint),
        seen=history.outcomes,
        batch_dependent=batch_dependent(graph),
    )
    return candidate, screen(config, graph, probed)


def screen(config: Config, graph: Graph, probed: Probed) -> tuple[Measurement, ...]:
    """What the gates that need no training measure, up to the first that stops the candidate."""
    measurements: list[Measurement] = []
    for gate in config.gates:
        if isinstance(gate, DependsOnX):
            measurements.append(_timed(lambda: check_depends_on_x(graph, probed)))
        elif isinstance(gate, Finite):
            measurements.append(_timed(lambda: check_finite(graph)))
        if measurements and not measurements[-1].passed:
            break
    return tuple(measurements)


def _timed(check: Callable[[], Check]) -> Measurement:
    started = time.perf_counter()
    result = check()
    seconds = time.perf_counter() - started
    return Measurement(result.gate, "", result.value, result.threshold, 0, result.passed, seconds)


@dataclass
class Search:
    """The loop. It decides nothing that the store does not hold: slots are filled on recording an outcome, in order."""

    config: Config
    store: Store
    pool: Pool
    history: History
    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[History], None] = lambda history: None
    screened: dict[int, tuple[Measurement, ...]] = field(default_factory=dict)  # of the pending, until recorded
    began: float = field(default_factory=time.monotonic)
    evolved: bool = False  # nothing more is proposed; so it is when a run is resumed whose evolution had ended
    crashes_in_a_row: int = 0  # of evaluations; what needs no worker says nothing of the workers

    def run(self) -> None:
        """Baseline, then all births. Raises Stopped when asked to, InputError when the protocol rejects BN-ReLU."""
        if not self.history.baseline:
            self._evaluate_baseline()
        for birth in list(self.history.pending):  # in flight when the last driver ended
            self._resubmit(birth)
        while True:
            self._fill_slots()
            if not self.history.pending:
                break
            birth, evaluation = self.next()
            self._record(birth, evaluation)
        if not self.evolved:
            self.store.event("evolved", f"{len(self.history.births)} births")

    def job(self, graph: Graph) -> Job:
        return Job(
            graph=str(graph),
            protocol=self.config.protocol,
            seed=self.config.seed,
            baseline=self.history.baseline_points,
        )

    def next(self) -> tuple[int, Evaluation]:
        """Wait for an outcome."""
        while True:
            if self.should_stop():
                raise Stopped
            answer = self.pool.next(POLL_SECONDS)
            self.on_progress(self.history)
            if answer is not None:
                return answer

    def _evaluate_baseline(self) -> None:
        graph = catalog[BASELINE].graph
        self.pool.submit(0, self.job(graph))
        _, evaluation = self.next()
        match evaluation.outcome:
            case Fitness():
                self.store.record_beside(
                    "baseline", graph.formula, self.config.seed, evaluation, birth=None, name=BASELINE
                )
                set_baseline(self.history, self.config, evaluation)
            case Rejection(gate, proxy, value, threshold):
                raise InputError(
                    f"the protocol rejects {BASELINE}: {gate} on {proxy} measured {value:g}, threshold {threshold:g}"
                )
            case Crash(kind, message):
                raise InputError(f"{BASELINE} cannot be trained: {kind}: {message}")

    def _fill_slots(self) -> None:
        while len(self.history.pending) < self.pool.capacity and self._may_propose():
            if self.should_stop():
                raise Stopped
            candidate, measurements = propose(self.config, len(self.history.births) + 1, self.history)
            known = self._known_outcome(candidate, measurements)
            if known is None:
                self.store.propose(candidate)
                self.history.propose(candidate)
                self.screened[candidate.birth] = measurements
                self.pool.submit(candidate.birth, self.job(candidate.graph))
            else:
                seconds = sum(each.seconds for each in measurements)
                evaluation = Evaluation(known, measurements, seconds=seconds)
                seq, advantage = self.history.outcomes + 1, self.history.advantage(known)
                self.store.propose_and_record(candidate, evaluation, seq, self.config.seed, advantage)
                self.history.propose(candidate)
                inherited = candidate.equal_to is not None
                self.history.record(candidate.birth, known, self.config.objectives, inherited)
            self.on_progress(self.history)

    def _may_propose(self) -> bool:
        minutes = self.config.evolution.minutes
        in_time = minutes is None or time.monotonic() - self.began < 60 * minutes
        return not self.evolved and in_time and len(self.history.births) < self.config.evolution.births

    def _known_outcome(self, candidate: Candidate, measurements: tuple[Measurement, ...]) -> Outcome | None:
        """The outcome that needs no worker: a screening gate's rejection, or an equal candidate's."""
        if measurements and not measurements[-1].passed:
            last = measurements[-1]
            return Rejection(last.gate, last.proxy, last.value, last.threshold, last.step)
        if candidate.equal_to is not None:
            return self.history.births[candidate.equal_to - 1].outcome
        return None

    def _resubmit(self, birth: int) -> None:
        while len(self.screened) >= self.pool.capacity:  # more were in flight than this machine has workers
            self._record(*self.next())
        graph = self.history.births[birth - 1].graph
        self.screened[birth] = screen(self.config, graph, probe(graph))
        self.pool.submit(birth, self.job(graph))

    def _record(self, birth: int, evaluation: Evaluation) -> None:
        known = self.history.births[birth - 1]
        evaluation = replace(evaluation, measurements=(*self.screened.pop(birth), *evaluation.measurements))
        advantage = self.history.advantage(evaluation.outcome)
        seq = self.history.outcomes + 1
        self.store.record(birth, known.graph.formula, evaluation, seq, self.config.seed, advantage)
        self.history.record(birth, evaluation.outcome, self.config.objectives)
        if isinstance(evaluation.outcome, Fitness):
            self.history.fit_seconds.append(evaluation.seconds)
        self.on_progress(self.history)
        self.crashes_in_a_row = self.crashes_in_a_row + 1 if isinstance(evaluation.outcome, Crash) else 0
        if isinstance(evaluation.outcome, Crash):
            self.store.event("crash", f"birth {birth}: {evaluation.outcome.kind}: {evaluation.outcome.message}")
            if self.crashes_in_a_row >= CRASHES_MAX:
                raise InputError(
                    f"{CRASHES_MAX} candidates in a row crashed, the last with {evaluation.outcome.kind}: "
                    f"{evaluation.outcome.message}"
                )


def set_baseline(history: History, config: Config, evaluation: Evaluation) -> None:
    """BN-ReLU's final accuracies, and those at the quality gates' steps."""
    assert isinstance(evaluation.outcome, Fitness)
    steps = {gate.steps for gate in config.gates if isinstance(gate, Quality)}
    history.baseline = dict(evaluation.outcome.accuracy)
    history.baseline_points = tuple(
        BaselinePoint(proxy=p.proxy, step=p.step, accuracy=p.accuracy) for p in evaluation.points if p.step in steps
    )
