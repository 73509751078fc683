"""A run on the screen while it goes on: a live table in a terminal, else a short line now and then."""

import time
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console
from rich.live import Live
from rich.text import Text

from evonas.cli.progress import LINE_SECONDS
from evonas.cli.search_table import SearchTable, cut, leader_line, status_line
from evonas.cli.tables import PIPED_WIDTH, terminal
from evonas.overview import Overview, overview
from evonas.run import Run

LOOK_SECONDS = 1.0  # between two looks into the database
CPU_SHARE = 0.03  # of this thread's time, at most, for looks at the counts; as much for those at what leads
WALL_SHARE = 0.2  # of the time that they take, waiting for a database or for a busy machine
REDRAWN = 4  # times a second, so that the clock goes on


class Monitor:
    """Shows what the database holds of a run, whoever drives it.

    A pipe, and a terminal that cannot move its cursor (TERM=dumb), get lines: the first and the last state of the run,
    one every LINE_SECONDS, each new leader and each crash.
    """

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        every: float = LOOK_SECONDS,
    ) -> None:
        self.console = console or terminal()
        self.is_live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._shown: tuple[Overview, float] | None = None  # what was read last, and when
        self._clock, self._every = clock, every
        self._run: Run | None = None
        self._workers: Callable[[], tuple[int, int] | None] = lambda: None
        self._due = self._line_due = self._leading_due = float("-inf")
        self._rest = 0.0  # seconds after a look at the counts alone
        self._live = Live(console=self.console, refresh_per_second=REDRAWN, get_renderable=self._table)

    @property
    def view(self) -> Overview | None:
        return self._shown[0] if self._shown else None

    def start(self) -> None:
        """Show the table, empty yet."""
        if self.is_live:
            self._live.start()

    def follow(self, run: Run, workers: Callable[[], tuple[int, int] | None] = lambda: None) -> None:
        """Show a run from now on. `workers` returns how many are busy, and of how many."""
        self._run, self._workers = run, workers
        self.look()

    def look(self, *, last: bool = False) -> None:
        """Read the run if that is due, and show it. Raises InputError where it cannot be read."""
        begun, computed = self._clock(), time.thread_time()
        if self._run is None or (begun < self._due and not last):
            return
        self._due = begun + self._every  # also where it cannot be read now
        before = self.view
        found = overview(self._run, before, is_brief=begun < self._leading_due and not last)
        busy, workers = self._workers() or (None, None)
        now, looked = replace(found, busy=busy, workers=workers), self._clock()
        self._shown = now, looked
        rest = max((looked - begun) / WALL_SHARE, (time.thread_time() - computed) / CPU_SHARE)
        if before and found.leading is before.leading:
            self._rest = rest
        else:
            self._leading_due = looked + rest
        self._due = max(self._due, looked + self._rest)
        self._tell(before, now, is_due=last or not (before and now.is_running) or looked >= self._line_due)

    def stop(self) -> None:
        """Show the last state, and leave the terminal as it was. Raises as `look` does."""
        try:
            if self.view is None or self.view.is_running:  # else its end is shown already
                self.look(last=True)
        finally:
            self._run = None
            self._live.stop()

    def _table(self) -> SearchTable | Text:
        if self._shown is None:
            return Text("starting the workers ...", style="dim")
        view, looked = self._shown
        return SearchTable(view, self._clock() - looked)

    def _tell(self, before: Overview | None, now: Overview, *, is_due: bool) -> None:
        """Print what has happened, and how far the run is where that is due."""
        crash, leader = now.status.last_crash, now.leading.leader
        if before and crash and crash != before.status.last_crash:
            self._print(cut(f"crashed: {' '.join(crash.split())}", self.console.width if self.is_live else PIPED_WIDTH))
        if self.is_live:
            return
        if before and leader and now.is_running and leader.birth != _leading_birth(before):
            self._print(leader_line(leader))
        if is_due:
            self._line_due = self._clock() + LINE_SECONDS
            self._print(status_line(now))

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)
        self.console.file.flush()


def _leading_birth(view: Overview) -> int | None:
    return view.leading.leader.birth if view.leading.leader else None
