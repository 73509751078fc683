"""The asynchronous evolution of arXiv:2004.02967, section 4: propose, train, record."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from evonas.config import Config
from evonas.history import History
from evonas.pending import Pending
from evonas.proposal import Proposal, propose
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.screening import Screening
from evonas.search_space.wording import counted
from evonas.selection import with_own
from evonas.session import Session, Ticket
from evonas.store.records import Event, Purpose
from evonas.store.writer import Writer
from evonas.workers.gates import screen
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Rejection
from evonas.workers.protocol import Job

CRASHES_MAX = 10  # in a row: then the machine or the config is at fault


@dataclass
class Search:
    """The loop. It decides nothing that the store does not hold: slots are filled on recording an outcome, in order."""

    config: Config
    session: Session
    history: History
    outcome_of: Callable[[int], Outcome]  # of a birth that is recorded
    on_progress: Callable[[History], None] = lambda history: None
    evolved: bool = False  # True where a resumed run had already proposed and judged all candidates
    ending: bool = False  # nothing more is proposed
    began: float = field(default_factory=time.monotonic)
    _screened: dict[int, tuple[Graph, tuple[Measurement, ...]]] = field(default_factory=dict)  # of the pending
    _crashes_in_a_row: int = 0  # of evaluations; what needs no worker says nothing of the workers

    @property
    def store(self) -> Writer:
        return self.session.recorder

    def run(self) -> None:
        """All births, and the audits among them. Raises Stopped when asked to."""
        for birth in list(self.history.pending):  # in flight when the last driver ended
            self._resubmit(birth)
        while True:
            self._fill_slots()
            if not self.session.running:
                break
            self._record(*self._next())
        if not self.evolved:
            self.store.event(Event.EVOLVED, counted(self.history.births, "birth"))

    def _next(self) -> tuple[Ticket, Evaluation]:
        return self.session.next(lambda: self.on_progress(self.history))

    def _fill_slots(self) -> None:
        while self.session.has_room:
            self.session.check_stop()
            self.session.flush_if_due()  # thousands in a row may need no worker
            if self.history.audits.waiting:
                self._audit(*self.history.audits.next())
            elif self._may_propose():
                self._propose()
            else:
                break
            self.on_progress(self.history)

    def _may_propose(self) -> bool:
        history, evolution = self.history, self.config.evolution
        if self.evolved or self.ending or history.births >= evolution.births:
            return False
        best = history.best.seq if history.best else 0
        if evolution.patience is not None and history.outcomes - best >= evolution.patience:
            return False
        return evolution.minutes is None or time.monotonic() - self.began < 60 * evolution.minutes

    def _propose(self) -> None:
        proposal = propose(self.config, self.history.births + 1, self.history)
        pending = self.history.propose(proposal.candidate)
        # `_outcome_without_a_worker` may flush; propose after it, so that both rows land in one transaction.
        outcome = self._outcome_without_a_worker(pending, proposal)
        self.store.propose(proposal.candidate)
        self._screened[proposal.candidate.birth] = proposal.graph, proposal.measurements
        if outcome is None:
            self._submit(proposal.candidate.birth)
        else:
            seconds = sum(each.seconds for each in proposal.measurements)
            self._record_outcome(proposal.candidate.birth, Evaluation(outcome, seconds=seconds))

    def _outcome_without_a_worker(self, pending: Pending, proposal: Proposal) -> Outcome | None:
        """A screening gate's rejection, or the outcome of an equal candidate."""
        if proposal.measurements and not proposal.measurements[-1].passed:
            return Rejection.by(proposal.measurements[-1])
        if pending.equal_to is None or not self.history.inherits(pending):
            return None
        shared = self.history.shared.get(pending.equal_to)
        if shared is not None:
            return shared.fitness
        self.store.flush()
        return self.outcome_of(pending.equal_to)

    def _submit(self, birth: int) -> None:
        pending = self.history.pending[birth]
        job = Job(
            graph=pending.graph,
            protocol=self.config.leaders_protocol if pending.again else self.config.protocol,
            seed=pending.seed,
            baseline=self.history.baseline_points,
            thresholds=pending.thresholds,
        )
        self.session.submit(Ticket(job, Purpose.SEARCH, birth))

    def _resubmit(self, birth: int) -> None:
        while not self.session.has_room:  # more were in flight than this machine has workers
            self._record(*self._next())
        graph = Graph.parse(self.history.pending[birth].graph)
        self._screened[birth] = graph, screen(self.config.gates, Screening(graph))
        self._submit(birth)

    def _audit(self, birth: int, graph: str) -> None:
        """Train a rejected candidate to the full budget, whatever the gates say."""
        job = Job(graph=graph, protocol=self.config.protocol.ungated(), seed=self.config.seed)
        self.session.submit(Ticket(job, Purpose.AUDIT, birth))

    def _record(self, ticket: Ticket, evaluation: Evaluation) -> None:
        assert ticket.birth is not None
        if ticket.purpose is Purpose.AUDIT:
            self.session.record(ticket, evaluation, self.history.advantage(evaluation.outcome))
        else:
            self._record_outcome(ticket.birth, evaluation)
        self._count_crash(ticket, evaluation.outcome)

    def _record_outcome(self, birth: int, evaluation: Evaluation) -> None:
        """The outcome of a candidate that was screened: into the history and the store."""
        graph, screened = self._screened.pop(birth)
        outcome = with_own(self.config.objectives, evaluation.outcome, self.history.pending[birth].graph)
        evaluation = replace(evaluation, outcome=outcome, measurements=(*screened, *evaluation.measurements))
        pending = self.history.record(birth, evaluation.outcome, evaluation.measurements, evaluation.seconds)
        self.store.record(
            birth,
            graph,
            evaluation,
            self.history.outcomes,
            pending.seed,
            self.history.advantage(evaluation.outcome, pending.seed),
            inherits=pending.equal_to is not None,
        )
        if isinstance(evaluation.outcome, Fitness) or pending.again:
            self.store.set_front(each.birth for each in self.history.front)
        self.on_progress(self.history)

    def _count_crash(self, ticket: Ticket, outcome: Outcome) -> None:
        """Many in a row are not the candidates' fault."""
        if not isinstance(outcome, Crash):
            self._crashes_in_a_row = 0
            return
        self._crashes_in_a_row += 1
        which = f"{'audit of ' if ticket.purpose is Purpose.AUDIT else ''}birth {ticket.birth}"
        self.store.event(Event.CRASH, f"{which}: {outcome.kind}: {outcome.message}")
        if self._crashes_in_a_row >= CRASHES_MAX:
            raise InputError(
                f"{CRASHES_MAX} candidates in a row crashed, the last with {outcome.kind}: {outcome.message}"
            )
