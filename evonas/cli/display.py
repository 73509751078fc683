"""The display of a search: what is shown while it runs, and the final table at its end."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console

from evonas.cli.layers import headline, layer_table
from evonas.cli.monitor import Monitor
from evonas.cli.tables import one_line, say, terminal
from evonas.conclusion import conclusion, next_steps
from evonas.config import Config
from evonas.enumeration import enumerated
from evonas.history import History
from evonas.progress import Watcher
from evonas.run import Run
from evonas.search_space.errors import InputError
from evonas.search_space.wording import counted
from evonas.session import Session
from evonas.store.records import State
from evonas.views import final_row, lengths


class Display(Watcher):
    """Shows a search that this process drives. The looks into its database never end it."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.console = console or terminal()
        self.reference = ""
        self._monitor = Monitor(self.console, clock)

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Show the last state, and leave the terminal as it was."""
        with suppress(InputError):
            self._monitor.stop()

    def starting(self) -> None:
        self._monitor.start()

    def started(self, run: Run, history: History, session: Session) -> None:
        super().started(run, history, session)
        config, self.reference = run.config, run.reference
        self.console.print(
            f"{config.name}: {counted(config.evolution.births, 'birth')} on "
            f"{counted(len(config.proxies), 'proxy', 'proxies')}, {counted(session.pool.capacity, 'worker')}, "
            f"in {self.reference}",
            soft_wrap=True,
        )
        for line in first_births(config):
            say(self.console, line, hang=2)
        with suppress(InputError):
            self._monitor.follow(run, lambda: (session.running, session.pool.capacity))

    def progress(self, history: History) -> None:
        with suppress(InputError):
            self._monitor.look()

    def reranked(self, done: int, total: int) -> None:
        super().reranked(done, total)
        with suppress(InputError):
            self._monitor.look()


def first_births(config: Config) -> Iterator[str]:
    """Sentences on the births before evolution begins."""
    first, edited = config.evolution.warm_start, config.evolution.neighbours_of
    allowed, left_out = config.space.of_catalog() if first else ((), ())
    if allowed and set(allowed) <= set(first):
        without = f"; the space does not allow {len(left_out)}: {', '.join(left_out)}" if left_out else ""
        yield f"Warm start: {counted(len(first), 'layer')}, {len(allowed)} of the catalog{without}."
    if edited:
        births, layers = len(first) + len(enumerated(config)), ", ".join(map(one_line, edited))
        yield f"Births {len(first) + 1} to {births} are the single edits of {layers}."


def print_end(run: Run, best_layer: Path) -> None:
    """Print the final table, its conclusion, and the paths of the run and its best layer."""
    console = terminal()
    rows, reference = run.final_table(), shlex.quote(run.reference)
    if rows:
        seeds = max(row.seeds for row in rows)
        say(console, f"\n{headline('Retrained', seeds, run.config.units)}\n")
        console.print(layer_table([final_row(row, run.config) for row in rows], list(run.config.proxies)))
        console.print()
        if longer := lengths(run.config):
            say(console, longer)
        for line in conclusion(rows, reference, run.config.baseline):
            say(console, line, hang=2)
    if not run.status().by_state.get(State.EVALUATED):
        say(console, "No candidate was trained to the full budget.")
        for line in next_steps(reference, run.config.units):
            say(console, line, hang=2)
    if best_layer.exists():
        console.print(f"Best layer: {best_layer}", soft_wrap=True)
    console.print(f"Run: {run.reference}   (evonas top {reference})", soft_wrap=True)
