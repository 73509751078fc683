"""The display of a search: progress while it runs, the final table at its end."""

import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evonas.cli.layers import headline, layer_table
from evonas.cli.tables import duration, one_line, say, terminal
from evonas.conclusion import conclusion, next_steps
from evonas.config import BASELINE, Config
from evonas.enumeration import enumerated
from evonas.history import History
from evonas.progress import Watcher
from evonas.run import Run
from evonas.search_space.graph import Graph
from evonas.search_space.wording import counted
from evonas.store.records import State
from evonas.views import difference, final_row

LINE_EVERY_SECONDS = 20.0  # without a terminal


class Display(Watcher):
    """A live panel in a terminal, else a line every LINE_EVERY_SECONDS."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or terminal()
        self.reference = ""
        self._config: Config | None = None
        self._last_line = 0.0
        self._live = Live(self._panel(), console=self.console, refresh_per_second=4, get_renderable=self._panel)

    def __enter__(self) -> "Display":
        return self

    def starting(self) -> None:
        if self.console.is_terminal:
            self._live.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._live.stop()

    def started(self, config: Config, reference: str, history: History, workers: int) -> None:
        super().started(config, reference, history, workers)
        self._config, self.reference = config, reference
        self.console.print(
            f"{config.name}: {counted(config.evolution.births, 'birth')} on "
            f"{counted(len(config.proxies), 'proxy', 'proxies')}, {counted(workers, 'worker')}, in {self.reference}",
            soft_wrap=True,
        )
        for line in first_births(config):
            say(self.console, line, hang=2)

    def progress(self, history: History) -> None:
        if not self.console.is_terminal and time.monotonic() - self._last_line > LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            print(self._line(), flush=True)

    def reranked(self, done: int, total: int) -> None:
        super().reranked(done, total)
        if self.history:
            self.progress(self.history)

    def _line(self) -> str:
        counts = "".join(f"{name} {count}, " for name, count in self._counts() if count).rstrip(", ") or "none decided"
        done, total = self.retrained
        after = f"; retraining the best {done}/{total}" if total else ""
        parts = (f"{counts}; {self._best_text()}{after}", *self._surrogate_text(), self._left_text())
        return f"{self._done()} of {counted(self._births(), 'birth')}, {'; '.join(parts)}"

    def _births(self) -> int:
        return self._config.evolution.births if self._config else 0

    def _done(self) -> int:
        return self.history.outcomes if self.history else 0

    def _counts(self) -> list[tuple[str, int]]:
        """How many candidates each gate stopped, in the protocol's order, then the counts of other states."""
        history = self.history
        if history is None:
            return []
        gates: list[str] = [gate.gate for gate in history.config.gates]
        stopped = history.stopped_by
        others = [name for name in stopped if name not in gates]
        counts = [(f"stopped by {name}", stopped.get(name, 0)) for name in dict.fromkeys(gates)]
        counts += [(name, stopped[name]) for name in others]
        trained = history.survivors - history.inherited
        counts += [("trained to the end", trained), ("inherited an outcome", history.inherited)]
        return [*counts, ("in flight", len(history.pending))]

    def _surrogate_text(self) -> list[str]:
        surrogate = self.history.surrogate if self.history else None
        return [surrogate.honesty.short] if surrogate and surrogate.honesty else []

    def _left_text(self) -> str:
        left = self.seconds_left()
        return "time left not yet known" if left is None else f"about {duration(left)} left"

    def _best_text(self) -> str:
        if self.history is None:
            return "starting the workers"
        if not self.history.baseline:
            return f"training {BASELINE}"
        accuracies = self.history.baseline.accuracy
        shown = _accuracies(accuracies)
        best = self.history.best
        if best is None:
            return f"{BASELINE} {shown}; no survivor yet"
        lead = f"{100 * (difference(best.accuracy, accuracies) or 0):+.1f} points; {BASELINE} {shown}"
        return f"best (birth {best.birth}, {counted(best.seeds, 'seed')}) {_accuracies(best.accuracy)}, {lead}"

    def _panel(self) -> Group:
        if self._config is None:
            return Group(Text("starting the workers ...", style="dim"))
        done, total = (self._done(), self._births()) if not self.retrained[1] else self.retrained
        name = "births" if not self.retrained[1] else "retraining the best"
        head = Table.grid(padding=(0, 1))
        elapsed = duration(time.monotonic() - self.began)
        bar = ProgressBar(total=max(total, 1), completed=done, width=30)
        head.add_row(name, bar, f"{done}/{total}", f"{elapsed} passed,", self._left_text())
        counts = Table.grid(padding=(0, 2))
        for label, count in self._counts():
            counts.add_row(f"  {label}", Text(str(count), justify="right"))
        surrogate = [Text(f"  {each}") for each in self._surrogate_text()]
        return Group(head, counts, *surrogate, *self._best_rows())

    def _best_rows(self) -> list[Table | Text]:
        if self.history is None or self.history.baseline is None:
            return [Text(f"training {BASELINE} ...", style="dim")]
        baseline = self.history.baseline.accuracy
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
        table.add_column("accuracy", no_wrap=True)  # only the formula gives way to a narrow terminal
        for proxy in baseline:
            table.add_column(proxy, justify="right", no_wrap=True)
        table.add_column("difference", justify="right", no_wrap=True)
        table.add_column("formula")
        table.add_row(BASELINE, *(f"{each:.3f}" for each in baseline.values()), "", "", style="dim")
        best = self.history.best
        if best is not None:
            scores = [f"{best.accuracy[proxy]:.3f}" for proxy in baseline]
            lead = f"{100 * (difference(best.accuracy, baseline) or 0):+.1f}"
            formula = Text(one_line(Graph.parse(best.graph).formula), no_wrap=True, overflow="ellipsis")
            table.add_row(f"birth {best.birth}, {counted(best.seeds, 'seed')}", *scores, lead, formula, style="bold")
        return [table]


def _accuracies(by_proxy: dict[str, float]) -> str:
    return " ".join(f"{proxy} {accuracy:.3f}" for proxy, accuracy in by_proxy.items())


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
        say(console, f"\n{headline('Retrained', seeds)}\n")
        console.print(layer_table([final_row(row) for row in rows], list(run.config.proxies)))
        console.print()
        for line in conclusion(rows, reference):
            say(console, line, hang=2)
    if not run.status().by_state.get(State.EVALUATED):
        say(console, "No candidate was trained to the full budget.")
        for line in next_steps(reference):
            say(console, line, hang=2)
    if best_layer.exists():
        console.print(f"Best layer: {best_layer}", soft_wrap=True)
    console.print(f"Run: {run.reference}   (evonas top {reference})", soft_wrap=True)
