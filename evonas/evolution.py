"""The evolution: propose a candidate, and the asynchronous loop around it (arXiv:2004.02967, section 4)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random

from evonas.config import BASELINE, Config
from evonas.history import History, Pending
from evonas.search_space.catalog import catalog
from evonas.search_space.errors import InputError
from evonas.search_space.fingerprint import Probed, probe
from evonas.search_space.graph import Graph
from evonas.search_space.mutation import mutate
from evonas.search_space.sampling import pad
from evonas.search_space.screening import Check, check_depends_on_x, check_finite
from evonas.selection import Survivor, tournament
from evonas.store.records import Candidate
from evonas.store.store import Store
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Rejection
from evonas.workers.pool import Pool
from evonas.workers.protocol import DependsOnX, Finite, Job

DIVERGED = "diverged"
DRAWS_MAX = 64  # to find a child that no earlier candidate equals
CRASHES_MAX = 10  # in a row; then it is not the candidates
POLL_SECONDS = 0.5


class Stopped(Exception):
    """The user asked to stop (Ctrl-C, SIGTERM); everything recorded stays, and the run can be resumed."""


def propose(config: Config, birth: int, history: History) -> tuple[Graph, Candidate, tuple[Measurement, ...]]:
    """The next candidate, as a graph and as a record, and what the screening gates measured: a function of the config,
    the birth and the history."""
    rng = Random(f"{config.seed} {birth}")
    evolution = config.evolution
    winner: Survivor | None = None
    if birth <= len(evolution.warm_start):
        operator, graph = "catalog", pad(catalog[evolution.warm_start[birth - 1]].graph, config.space.space, rng)
        probed = probe(graph)
    else:
        if history.survivors >= evolution.initial and rng.random() >= evolution.random_share:
            winner = tournament(history.population, evolution.tournament_share, evolution.selection, rng)
        operator = "mutation" if winner else "random"
        graph, probed = _draw_new(config, winner, history, rng)
    shared = None if evolution.duplicates == "evaluate" else history.functions.inheritable(probed.fingerprint)
    parent = winner.birth if winner else None
    candidate = Candidate.of(
        graph, probed, birth, seen=history.outcomes, operator=operator, parent=parent, equal_to=shared
    )
    return graph, candidate, screen(config, graph, probed)


def _draw_new(config: Config, winner: Survivor | None, history: History, rng: Random) -> tuple[Graph, Probed]:
    """A mutation of the winner, or a random graph; with `mutate_again` one whose function is new, if one is found."""
    parent = base = _parsed(winner.graph) if winner else None
    for draws_left in reversed(range(DRAWS_MAX)):
        graph = _draw(config, base, rng)
        if config.evolution.duplicates != "mutate_again" or not draws_left:
            break
        if parent and graph.digest == parent.digest:
            base = graph  # only dead nodes changed: the drift stays; any other known function is drawn anew
        elif graph.digest not in history.functions:  # it costs little to ask
            probed = probe(graph)
            if probed.fingerprint not in history.functions:
                return graph, probed
            if winner and probed.fingerprint == winner.fingerprint:
                base = graph
    return graph, probe(graph)


def _draw(config: Config, base: Graph | None, rng: Random) -> Graph:
    """A mutation of `base`, or without one a random graph, that the constraints allow."""
    space = config.space
    while True:
        graph = mutate(base, space.space, rng, config.evolution.mutations) if base else space.draw(rng)
        if space.allows(graph):
            return graph


@lru_cache(maxsize=4096)
def _parsed(graph: str) -> Graph:
    return Graph.parse(graph)


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


def is_audited(config: Config, birth: int, outcome: Outcome, history: History) -> bool:
    """Whether a candidate that was just recorded, and did not inherit, is trained to the full budget all the same, to
    see whether its gate was right: a share of the rejected, drawn by their births; of every gate as many, as far as it
    stopped so many."""
    if not isinstance(outcome, Rejection) or outcome.gate == DIVERGED or not config.evolution.audit_share:
        return False
    stopped_by = {gate: count for gate, count in history.rejected_by.items() if gate != DIVERGED}  # it would again
    of_each = left = config.evolution.audit_share * sum(stopped_by.values())
    for done, stopped in enumerate(sorted(stopped_by.values())):
        of_each = left / (len(stopped_by) - done)
        if of_each <= stopped:
            break
        left -= stopped
    return Random(f"{config.seed} {birth} audit").random() < of_each / stopped_by[outcome.gate]


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
    outcome_of: Callable[[int], Outcome]  # of a birth that is recorded
    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[History], None] = lambda history: None
    screened: dict[int, tuple[Graph, tuple[Measurement, ...]]] = field(default_factory=dict)  # of the pending
    began: float = field(default_factory=time.monotonic)
    audited: dict[int, Graph] = field(default_factory=dict)  # births whose audit is running
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
            self.store.event("evolved", f"{self.history.births} births")

    def job(self, birth: int) -> Job:
        known = self.history.pending[birth]
        return Job(
            graph=known.graph,
            protocol=self.config.protocol,
            seed=known.seed,
            baseline=self.history.baseline_points,
            rungs=known.rungs,
        )

    def ungated_job(self, graph: Graph, seed: int) -> Job:
        """Of a training to the full budget, whatever the gates would say."""
        protocol = self.config.protocol.model_copy(update={"gates": ()})
        return Job(graph=str(graph), protocol=protocol, seed=seed)

    def next(self) -> tuple[int, Evaluation]:
        """Wait for an outcome; what was decided before is written first."""
        while True:
            if self.should_stop():
                raise Stopped
            answer = self.pool.next(self._flush_if_due() or POLL_SECONDS)
            self.on_progress(self.history)
            if answer is not None:
                return answer

    def _flush_if_due(self) -> float:
        """Seconds until what was gathered has to be written; 0 where it was just now."""
        due = self.store.seconds_to_flush
        if not due:
            self.store.flush()
        return due

    def evaluate_baseline(self) -> None:
        """BN-ReLU under the protocol, unless it is known. Raises InputError where the protocol rejects it."""
        if self.history.baseline:
            return
        graph = catalog[BASELINE].graph
        self.pool.submit(0, Job(graph=str(graph), protocol=self.config.protocol, seed=self.config.seed))
        _, evaluation = self.next()
        match evaluation.outcome:
            case Fitness():
                self.store.record_beside("baseline", graph.formula, self.config.seed, evaluation, name=BASELINE)
                self.history.set_baseline(evaluation)
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
            self._flush_if_due()  # thousands in a row may need no worker
            if self.history.audits:
                birth = next(iter(self.history.audits))
                graph = self.audited[birth] = Graph.parse(self.history.audits.pop(birth))
                self.pool.submit(-birth, self.ungated_job(graph, self.config.seed))
            elif self._may_propose():
                self._propose()
            else:
                break
            self.on_progress(self.history)

    def _propose(self) -> None:
        graph, candidate, measurements = propose(self.config, self.history.births + 1, self.history)
        pending = self.history.propose(candidate)
        known = self._known_outcome(pending, measurements)
        self.store.propose(candidate)  # after what may flush: with its outcome it is written, or not at all
        self.screened[candidate.birth] = graph, measurements
        if known is None:
            self.pool.submit(candidate.birth, self.job(candidate.birth))
        else:
            seconds = sum(each.seconds for each in measurements)
            self._record_outcome(candidate.birth, Evaluation(known, seconds=seconds))

    def _may_propose(self) -> bool:
        history, evolution = self.history, self.config.evolution
        if self.evolved or history.births >= evolution.births:
            return False
        best = history.best.seq if history.best else 0
        if evolution.patience is not None and history.outcomes - best >= evolution.patience:
            return False
        return evolution.minutes is None or time.monotonic() - self.began < 60 * evolution.minutes

    def _known_outcome(self, pending: Pending, measurements: tuple[Measurement, ...]) -> Outcome | None:
        """The outcome that needs no worker: a screening gate's rejection, or an equal candidate's."""
        if measurements and not measurements[-1].passed:
            last = measurements[-1]
            return Rejection(last.gate, last.proxy, last.value, last.threshold, last.step)
        if pending.equal_to is None or not self.history.inherits(pending):
            return None
        shared = self.history.shared.get(pending.equal_to)
        if shared is not None:
            return shared.fitness
        self.store.flush()
        return self.outcome_of(pending.equal_to)

    def _resubmit(self, birth: int) -> None:
        while len(self.screened) >= self.pool.capacity:  # more were in flight than this machine has workers
            self._record(*self.next())
        graph = Graph.parse(self.history.pending[birth].graph)
        self.screened[birth] = graph, screen(self.config, graph, probe(graph))
        self.pool.submit(birth, self.job(birth))

    def _record(self, key: int, evaluation: Evaluation) -> None:
        if key < 0:
            graph = self.audited.pop(-key)
            advantage = self.history.advantage(evaluation.outcome)
            self.store.record_beside(
                "audit", graph.formula, self.config.seed, evaluation, birth=-key, advantage=advantage
            )
            self._count_crash(f"audit of birth {-key}", evaluation.outcome)
            return
        self._record_outcome(key, evaluation)
        if isinstance(evaluation.outcome, Fitness):
            self.history.fit_seconds.append(evaluation.seconds)
        self._count_crash(f"birth {key}", evaluation.outcome)

    def _record_outcome(self, birth: int, evaluation: Evaluation) -> None:
        """Of a candidate that was screened, in the store and in the history."""
        graph, screened = self.screened.pop(birth)
        evaluation = replace(evaluation, measurements=(*screened, *evaluation.measurements))
        known = self.history.record(birth, evaluation.outcome, evaluation.measurements)
        advantage = self.history.advantage(evaluation.outcome)
        self.store.record(
            birth,
            graph,
            evaluation,
            self.history.outcomes,
            known.seed,
            advantage,
            inherits=known.equal_to is not None,
        )
        if isinstance(evaluation.outcome, Fitness):
            self.store.set_front(each.birth for each in self.history.front)
        if known.equal_to is None and is_audited(self.config, birth, evaluation.outcome, self.history):
            self.history.audits[birth] = known.graph
        self.on_progress(self.history)

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
