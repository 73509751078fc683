"""Train these and record them: a pool of workers, the store that keeps what they answer, and the signal to stop.

The search, its audits and its final table, `validate`, `noise` and `doctor` ask for evaluations here and nowhere else.
"""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from evonas.search_space.graph import Graph
from evonas.store.records import Purpose
from evonas.store.writer import Writer
from evonas.workers.outcome import Crash, Evaluation
from evonas.workers.pool import Pool
from evonas.workers.protocol import Job

POLL_SECONDS = 0.5  # between two looks at the stop signal
TRIES = 2  # of an evaluation that crashes


class Stopped(Exception):
    """The user asked to stop (Ctrl-C, SIGTERM); everything recorded stays, and the run can be resumed."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One evaluation that is asked for: the job decides its outcome, the rest says what it is recorded as. Two tickets
    are never equal."""

    purpose: Purpose
    job: Job
    birth: int | None = None  # of a candidate of the run
    name: str | None = None  # of a layer that is no candidate: the catalog's, or its formula


def never() -> bool:
    return False


@dataclass
class Session:
    """Hands jobs to the pool and answers with their tickets; flushes the store whenever it waits."""

    pool: Pool
    store: Writer | None = None
    should_stop: Callable[[], bool] = never
    on_wait: Callable[[], None] = lambda: None
    _running: dict[int, Ticket] = field(default_factory=dict)
    _submitted: int = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def has_room(self) -> bool:
        """Whether the pool takes one more job."""
        return self.running < self.pool.capacity

    def submit(self, ticket: Ticket) -> None:
        """Start an evaluation. Raises RuntimeError where the pool has no room."""
        self.pool.submit(self._submitted, ticket.job)
        self._running[self._submitted] = ticket
        self._submitted += 1

    def check_stop(self) -> None:
        """Raises Stopped once the user asked to stop."""
        if self.should_stop():
            raise Stopped

    def flush_if_due(self) -> float:
        """Write what the store has gathered if that is due; the seconds until it is."""
        if self.store is None:
            return POLL_SECONDS
        due = self.store.seconds_to_flush
        if not due:
            self.store.flush()
        return due

    def next(self) -> tuple[Ticket, Evaluation]:
        """Wait for the next evaluation. Raises Stopped."""
        while True:
            self.check_stop()
            answer = self.pool.next(self.flush_if_due() or POLL_SECONDS)
            self.on_wait()
            if answer is not None:
                return self._running.pop(answer[0]), answer[1]

    def train(self, tickets: Iterable[Ticket]) -> Iterator[tuple[Ticket, Evaluation]]:
        """Evaluate all, as many at once as the pool takes, and record each beside the search; in the order of their
        ends. What crashes is tried once more, and comes again. Raises Stopped."""
        waiting, tries = list(tickets), dict[Ticket, int]()
        while waiting or self._running:
            while waiting and self.has_room:
                self.check_stop()
                self.submit(waiting.pop(0))
            ticket, evaluation = self.next()
            self.record(ticket, evaluation)
            tries[ticket] = tries.get(ticket, 0) + 1
            if isinstance(evaluation.outcome, Crash) and tries[ticket] < TRIES:
                waiting.append(ticket)
            yield ticket, evaluation

    def record(self, ticket: Ticket, evaluation: Evaluation, advantage: float | None = None) -> None:
        """Record an evaluation beside the search, where there is a store."""
        if self.store is not None:
            self.store.record_beside(
                ticket.purpose,
                Graph.parse(ticket.job.graph).formula,
                ticket.job.seed,
                evaluation,
                birth=ticket.birth,
                name=ticket.name,
                advantage=advantage,
            )


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM asked to stop; a second Ctrl-C interrupts at once. (Ray sets its own before.)"""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop.is_set
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
