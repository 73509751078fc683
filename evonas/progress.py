"""Watchers of a running search, and the bar that `evonas.search` shows in Python."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING

from evonas.history import History
from evonas.run import Run
from evonas.session import Session
from evonas.store.reader import Reader
from evonas.store.records import Pace
from evonas.views import retrainings, seconds_left

if TYPE_CHECKING:
    from tqdm import tqdm


def began(reader: Reader) -> float:
    """When a search would have begun that one driver had driven without a pause, by the monotonic clock."""
    return time.monotonic() - reader.seconds_driven(is_running=True)


class Watcher:
    """Gets the progress of a running search. The bar and the command line's display are watchers."""

    def __init__(self) -> None:
        self.history: History | None = None
        self.began = time.monotonic()
        self.retrained = (0, 0)  # trainings of the final table: done, total
        self._session: Session | None = None
        self._had_outcomes, self._had_spent = 0, 0.0  # outcomes and their seconds before a resume
        self._first_outcome: float | None = (
            None  # when it came: what is before it starts the workers and trains BN-ReLU
        )

    def starting(self) -> None:
        """The config is read; next the workers start."""

    @contextmanager
    def watching(self, run: Run, history: History, session: Session) -> Iterator[None]:
        try:
            self.started(run, history, session)
            yield
        finally:
            self.ended()

    def started(self, run: Run, history: History, session: Session) -> None:
        self.history, self._session = history, session
        self.began = began(run.reader)
        self._had_outcomes, self._had_spent = history.outcomes, history.spent

    def progress(self, history: History) -> None:
        pass

    def reranked(self, done: int, total: int) -> None:
        self.retrained = (done, total)

    def ended(self) -> None:
        pass

    def seconds_left(self) -> float | None:
        """Estimated seconds until the search ends; None until BN-ReLU is trained."""
        history, (done, total) = self.history, self.retrained
        if history is None or self._session is None or not history.full_seconds:
            return None
        now = time.monotonic()
        if self._first_outcome is None and history.outcomes > self._had_outcomes:
            self._first_outcome = now
        pace = Pace(
            seconds=now - (self._first_outcome or now),
            outcomes=history.outcomes - self._had_outcomes,
            spent=history.spent - self._had_spent,
            full_seconds=fmean(history.full_seconds),
            driven=now - self.began,
        )
        return seconds_left(
            history.config,
            history.costs(),
            pace,
            outcomes=history.outcomes,
            births=history.outcomes if total else history.config.evolution.births,
            # The final table of a search with few candidates is shorter.
            retrained=retrainings(history.config) - total + done if total else 0,
            workers=self._session.pool.capacity,
        )


# tqdm's own estimate is left out: late births cost more than early ones.
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class ProgressBar(Watcher):
    """A bar of births, then one of retrainings. Without a terminal or a notebook there is none."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._retrains = False

    def started(self, run: Run, history: History, session: Session) -> None:
        super().started(run, history, session)
        self._open(run.config.name, run.config.evolution.births, "birth")
        self.progress(history)

    def progress(self, history: History) -> None:
        if self._bar is not None and not self._retrains:
            best = ""
            if history.best and history.baseline:
                unit = history.config.units.mean
                mine, its = (fmean(of.accuracy.values()) for of in (history.best, history.baseline))
                best = f", best {unit.amount(unit.difference(mine, its))} {unit.of_differences}"
            self._show(f"{history.survivors - history.inherited} trained{best}", history.outcomes)

    def reranked(self, done: int, total: int) -> None:
        super().reranked(done, total)
        if not self._retrains:
            self._retrains = True
            self._open("final table", total, "training")
        self._show("", done)

    def _show(self, text: str, done: int) -> None:
        if self._bar is None:
            return
        left = self.seconds_left()
        estimate = "" if left is None else f"about {self._bar.format_interval(left)} left"
        self._bar.set_postfix_str(", ".join(filter(None, (estimate, text))), refresh=False)
        self._bar.update(done - self._bar.n)

    def ended(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _open(self, name: str, total: int, unit: str) -> None:
        self.ended()
        if sys.stderr.isatty() or "ipykernel" in sys.modules:
            from tqdm.auto import tqdm

            self._bar = tqdm(desc=name, total=total, unit=unit, bar_format=BAR)
