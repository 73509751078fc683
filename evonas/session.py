"""Sessions: a pool of workers, the store that records their evaluations, and the signal to stop.

The search with its audits, the final table, `validate`, `evaluate` and `noise` get their evaluations here.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from evonas.search_space.graph import Graph
from evonas.store.records import Event, Purpose
from evonas.store.writer import Writer
from evonas.workers.outcome import Evaluation
from evonas.workers.pool import Pool
from evonas.workers.protocol import Job

POLL_SECONDS = 0.5  # between two looks at the stop signal


class Stopped(Exception):
    """The user asked to stop (Ctrl-C, SIGTERM). Everything recorded is kept, and the run can be resumed."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One evaluation to make. The job decides its outcome; the other fields say how it is recorded. Two tickets are
    never equal."""

    job: Job
    purpose: Purpose | None = None  # None: it is not recorded
    birth: int | None = None  # of a candidate
    name: str | None = None  # of another layer: the catalog's, or its formula


def never() -> bool:
    return False


@dataclass
class Session:
    """Submits jobs to the pool and returns tickets with their evaluations; flushes the store while it waits."""

    pool: Pool
    store: Writer | None = None
    should_stop: Callable[[], bool] = never
    on_wait: Callable[[], None] = lambda: None  # called twice a second while it waits, unless `next` is given another
    _running: dict[int, Ticket] = field(default_factory=dict)
    _submitted: int = 0

    def __post_init__(self) -> None:
        if self.store is not None:
            self.store.should_stop = self.should_stop

    @property
    def recorder(self) -> Writer:
        """The store of a session that records."""
        assert self.store is not None
        return self.store

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def has_room(self) -> bool:
        """Whether the pool accepts another job."""
        return self.running < self.pool.capacity

    def submit(self, ticket: Ticket) -> None:
        """Start an evaluation. Raises RuntimeError if the pool has no room."""
        self.pool.submit(self._submitted, ticket.job)
        self._running[self._submitted] = ticket
        self._submitted += 1

    def check_stop(self) -> None:
        """Raise Stopped if the user asked to stop."""
        if self.should_stop():
            raise Stopped

    def flush_if_due(self) -> float:
        """Flush the store if that is due; return the seconds until the next flush."""
        if self.store is None:
            return POLL_SECONDS
        due = self.store.seconds_to_flush
        if not due:
            self.store.flush()
        return due

    def next(self, on_wait: Callable[[], None] | None = None) -> tuple[Ticket, Evaluation]:
        """Wait for the next evaluation. Raises Stopped."""
        while True:
            self.check_stop()
            answer = self.pool.next(self.flush_if_due() or POLL_SECONDS)
            (on_wait or self.on_wait)()
            if answer is not None:
                return self._running.pop(answer[0]), answer[1]

    def record(self, ticket: Ticket, evaluation: Evaluation, advantage: float | None = None) -> None:
        """Record an evaluation beside the search, if its ticket has a purpose."""
        if ticket.purpose is not None:
            self.recorder.record_beside(
                ticket.purpose,
                Graph.parse(ticket.job.graph).formula,
                ticket.job.seed,
                evaluation,
                birth=ticket.birth,
                name=ticket.name,
                advantage=advantage,
            )


@contextmanager
def recording(store: Writer) -> Iterator[Writer]:
    """Close the store in the end; if the user asked to stop, say so in it first."""
    try:
        yield store
    except (Stopped, KeyboardInterrupt):
        store.event(Event.STOPPED, "asked to stop")
        raise
    finally:
        store.close()


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C or SIGTERM asked to stop. A second Ctrl-C interrupts at once.

    Enter it after the pool is open: Ray sets handlers of its own.
    """
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
