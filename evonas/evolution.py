"""The evolution: propose a candidate, and the asynchronous loop around it (arXiv:2004.02967, section 4)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from evonas.config import BASELINE, Config
from evonas.history import History, set_baseline
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
from workers.protocol import DependsOnX, Finite, Job

DIVERGED = "diverged"
DRAWS_MAX = 64  # to find a child that no earlier candidate equals
CRASHES_MAX = 10  # in a row; then it is not the candidates
POLL_SECONDS = 0.5


class Stopped(Exception):
    """The user asked to stop (Ctrl-C, SIGTERM); everything recorded stays, and the run can be resumed."""


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


def is_audited(config: Config, birth: int, history: History) -> bool:
    """Whether a candidate that was just recorded is trained to the full budget all the same, to see whether its gate
    was right: a share of the rejected, drawn by their births; of every gate as many, as far as it stopped so many."""
    known = history.births[birth - 1]
    stopped_by = {gate: count for gate, count in history.rejected_by.items() if gate != DIVERGED}  # it would again
    if not isinstance(known.outcome, Rejection) or known.inherits or known.outcome.gate == DIVERGED:
        return False
    of_each = left = config.evolution.audit_share * sum(stopped_by.values())
    for done, stopped in enumerate(sorted(stopped_by.values())):
        of_each = left / (len(stopped_by) - done)
        if of_each <= stopped:
            break
        left -= stopped
    share = of_each / stopped_by[known.outcome.gate]
    return Random(f"{config.seed} {birth} audit").random() < share


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
    audited: set[int] = field(default_factory=set)  # births whose audit is running
    evolved: bool = False  # nothing more is proposed; so it is when a run is resumed whose evolution had ended
    crashes_in_a_row: int = 0  # of evaluations; what needs no worker says nothing of the workers

    def run(self) -> None:
        """All births, and the audits among them. Raises Stopped when asked to."""
        for birth in list(self.history.pending):  # in flight when the last driver ended
            self._resubmit(birth)
        while True:
            self._fill_slots()
            if not self.history.pending and not self.audited:
                break
            self._record(*self.next())
        if not self.evolved:
            self.store.event("evolved", f"{len(self.history.births)} births")

    def job(self, birth: int) -> Job:
        known = self.history.births[birth - 1]
        return Job(
            graph=str(known.graph),
            protocol=self.config.protocol,
            seed=self.config.seed,
            baseline=self.history.baseline_points,
            rungs=self.history.rung_thresholds(self.config.gates, known.seen),
        )

    def ungated_job(self, graph: Graph, seed: int) -> Job:
        """Of a training to the full budget, whatever the gates would say."""
        protocol = self.config.protocol.model_copy(update={"gates": ()})
        return Job(graph=str(graph), protocol=protocol, seed=seed)

    def next(self) -> tuple[int, Evaluation]:
        """Wait for an outcome."""
        while True:
            if self.should_stop():
                raise Stopped
            answer = self.pool.next(POLL_SECONDS)
            self.on_progress(self.history)
            if answer is not None:
                return answer

    def evaluate_baseline(self) -> None:
        """BN-ReLU under the protocol, unless it is known. Raises InputError where the protocol rejects it."""
        if self.history.baseline:
            return
        graph = catalog[BASELINE].graph
        self.pool.submit(0, Job(graph=str(graph), protocol=self.config.protocol, seed=self.config.seed))
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
        while len(self.history.pending) + len(self.audited) < self.pool.capacity:
            if self.should_stop():
                raise Stopped
            if self.history.audits:
                birth = self.history.audits.pop(0)
                self.audited.add(birth)
                self.pool.submit(-birth, self.ungated_job(self.history.births[birth - 1].graph, self.config.seed))
            elif self._may_propose():
                self._propose()
            else:
                break
            self.on_progress(self.history)

    def _propose(self) -> None:
        candidate, measurements = propose(self.config, len(self.history.births) + 1, self.history)
        known = self._known_outcome(candidate, measurements)
        if known is None:
            self.store.propose(candidate)
            self.history.propose(candidate)
            self.screened[candidate.birth] = measurements
            self.pool.submit(candidate.birth, self.job(candidate.birth))
            return
        evaluation = Evaluation(known, measurements, seconds=sum(each.seconds for each in measurements))
        seq, advantage = self.history.outcomes + 1, self.history.advantage(known)
        self.store.propose_and_record(candidate, evaluation, seq, self.config.seed, advantage)
        self.history.propose(candidate)
        self._remember(candidate.birth, known)

    def _remember(self, birth: int, outcome: Outcome) -> None:
        self.history.record(birth, outcome, self.config.objectives)
        if is_audited(self.config, birth, self.history):
            self.history.audits.append(birth)

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
        self.pool.submit(birth, self.job(birth))

    def _record(self, key: int, evaluation: Evaluation) -> None:
        birth = abs(key)
        known = self.history.births[birth - 1]
        if key < 0:
            self.audited.remove(birth)
            advantage = self.history.advantage(evaluation.outcome)
            self.store.record_beside(
                "audit", known.graph.formula, self.config.seed, evaluation, birth=birth, name=None, advantage=advantage
            )
            self._count_crash(f"audit of birth {birth}", evaluation.outcome)
            return
        evaluation = replace(evaluation, measurements=(*self.screened.pop(birth), *evaluation.measurements))
        advantage = self.history.advantage(evaluation.outcome)
        seq = self.history.outcomes + 1
        self.store.record(birth, known.graph.formula, evaluation, seq, self.config.seed, advantage)
        self._remember(birth, evaluation.outcome)
        self.history.reached(seq, evaluation.measurements)
        if isinstance(evaluation.outcome, Fitness):
            self.history.fit_seconds.append(evaluation.seconds)
        self.on_progress(self.history)
        self._count_crash(f"birth {birth}", evaluation.outcome)

    def _count_crash(self, which: str, outcome: Outcome) -> None:
        """Many in a row are not the candidates' fault."""
        if not isinstance(outcome, Crash):
            self.crashes_in_a_row = 0
            return
        self.crashes_in_a_row += 1
        self.store.event("crash", f"{which}: {outcome.kind}: {outcome.message}")
        if self.crashes_in_a_row >= CRASHES_MAX:
            raise InputError(
                f"{CRASHES_MAX} candidates in a row crashed, the last with {outcome.kind}: {outcome.message}"
            )
