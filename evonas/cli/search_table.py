"""A search in a terminal: one small table, or one short line.

The table is as wide as the terminal, and its number of lines never changes. In a narrow terminal the bars go first,
then the accuracies; then the counts of the gates move below, and the labels and seeds go. A text that is still too long
ends with an ellipsis; a number is never cut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.text import Text

from evonas.cli.layers import points_and_seeds, seeds_of
from evonas.cli.output import readable
from evonas.cli.tables import PIPED_WIDTH, core_time, duration, one_line
from evonas.overview import Overview
from evonas.report.texts import figure_text
from evonas.run_state import RunState
from evonas.search_space.wording import counted
from evonas.views import LayerRow

GAP = 2  # columns between two cells
APART = 4  # columns between the gates and the leaders
BAR = 12  # of a gate's count
PROGRESS_BAR_MIN, PROGRESS_TEXT = 10, 34
LABEL, COUNT, DIFFERENCE, POINTS = 9, 5, 18, 10  # least widths of columns: they do not move when a text changes
LAYER_MIN, LAYER_MAX = 18, 34


@dataclass(frozen=True, slots=True)
class Block:
    """Rows in columns, below a row of titles. The first `texts` columns are texts, the others numbers."""

    rows: Sequence[Sequence[str]]
    least: Sequence[int]  # widths
    texts: int = 1

    @property
    def sizes(self) -> list[int]:
        return [
            max(least, *map(cell_len, column))
            for least, column in zip(self.least, zip(*self.rows, strict=True), strict=True)
        ]

    @property
    def width(self) -> int:
        return sum(self.sizes) + GAP * (len(self.sizes) - 1)

    def lines(self) -> Iterator[str]:
        for row in self.rows:
            cells = zip(row, self.sizes, strict=True)
            yield (" " * GAP).join(padded(cell, size, left=i < self.texts) for i, (cell, size) in enumerate(cells))


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of what leads."""

    labels: bool = True
    accuracies: bool = True
    seeds: bool = True


LABELLED = Shape(accuracies=False)
SHAPES = (Shape(), LABELLED, Shape(labels=False, accuracies=False), Shape(False, False, False))


@dataclass(frozen=True, slots=True)
class SearchTable:
    """A rich renderable."""

    view: Overview
    later: float = 0.0  # seconds since the overview was read

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in _Lines(self.view, self.later, options.max_width, console.encoding).all():
            yield Text("", no_wrap=True, overflow="crop", end="\n").append_text(line)


@dataclass(frozen=True, slots=True)
class _Lines:
    view: Overview
    later: float
    width: int
    encoding: str

    def all(self) -> Iterator[Text]:
        gates = Block([("stopped by", ""), *((name, str(n)) for name, n in self.view.stopped.items())], (0, COUNT))
        beside = self.width - gates.width - APART
        is_stacked = self._leaders(LABELLED, LAYER_MIN).width > beside
        room = self.width if is_stacked else beside
        shape = next((each for each in SHAPES if self._leaders(each, LAYER_MIN).width <= room), SHAPES[-1])
        least = self._leaders(shape, LAYER_MIN).width
        has_bars = least + BAR + GAP <= beside
        room -= (BAR + GAP) * has_bars
        leaders = self._leaders(shape, max(1, min(LAYER_MAX, LAYER_MIN + room - least)))
        left = list(self._gates(gates, has_bars=has_bars))
        right = [*self._ranked(leaders), *self._facts(room)]
        yield self._head()
        yield self._progress()
        yield Text()
        if is_stacked:
            yield from (*right, Text(), *left)
            return
        blank = Text(" " * cell_len(left[0].plain))
        for one, other in zip_longest(left, right):
            yield Text.assemble(blank if one is None else one, " " * APART, Text() if other is None else other)

    def _head(self) -> Text:
        view = self.view
        activity = "dead: its driver is gone" if view.status.state == RunState.DEAD else view.activity
        name = f"{view.status.run}: {activity}"
        times = _times(view, self.later)
        right = next((each for each in times if len(each) + GAP + cell_len(name) <= self.width), times[-1])
        return Text.assemble((self._padded(name, self.width - len(right) - GAP), "bold"), " " * GAP, right)

    def _progress(self) -> Text:
        text = self._cut(_progress(self.view), self.width)
        size = min(self.width - PROGRESS_TEXT, self.width - len(text) - GAP)
        return (
            Text.assemble(self._bar(size, _share(self.view, self.later)), " " * GAP, text) if size > 9 else Text(text)
        )

    def _bar(self, size: int, share: float, *, rest: bool = True) -> Text:
        full, empty = "█░" if readable("█░", self.encoding) == "█░" else "#."
        filled = round(size * share)
        return Text.assemble((full * filled, "cyan"), ((empty if rest else " ") * (size - filled), "dim"))

    def _gates(self, block: Block, *, has_bars: bool) -> Iterator[Text]:
        counts = [0, *self.view.stopped.values()]
        most = max(1, *counts)
        for place, (line, count) in enumerate(zip(block.lines(), counts, strict=True)):
            text = Text(self._cut(line, self.width), "" if place else "bold")
            yield text.append(" " * GAP).append_text(self._bar(BAR, count / most, rest=False)) if has_bars else text

    def _leaders(self, shape: Shape, layer: int) -> Block:
        leading, proxies = self.view.leading, self.view.proxies if shape.accuracies else ()
        shown = [("leads", leading.leader), ("control", leading.control)]
        if proxies:  # BN-ReLU has no difference to itself
            shown.append(("", leading.baseline))
        rows = [("", f"by {self.view.judged_by_text}", f"to {self.view.baseline}" + " (seeds)" * shape.seeds, *proxies)]
        for label, row in shown:
            difference = "" if row is None or not label else points_and_seeds(row) if shape.seeds else row.points
            accuracies = [_accuracy(row, proxy) for proxy in proxies]
            name = self._cut(_name(row, label, self.view.baseline), layer)
            rows.append((label, name, readable(difference, self.encoding), *accuracies))
        least = (LABEL, layer, DIFFERENCE if shape.seeds else POINTS, *(COUNT for _ in proxies))
        first = 0 if shape.labels else 1
        return Block([row[first:] for row in rows], least[first:], 2 - first)

    def _ranked(self, block: Block) -> Iterator[Text]:
        for place, line in enumerate(block.lines()):
            yield Text(self._cut(line, self.width), "bold" if place < 2 else "")

    def _facts(self, width: int) -> Iterator[Text]:
        for label, text in _facts(self.view):
            rest = self._cut(text, width - LABEL - GAP)
            yield Text.assemble((padded(label, LABEL), "dim"), " " * GAP, rest)

    def _cut(self, text: str, width: int) -> str:
        return cut(readable(text, self.encoding), width, readable("…", self.encoding))

    def _padded(self, text: str, width: int) -> str:
        return padded(self._cut(text, width), width)


def cut(text: str, width: int, dots: str = "…") -> str:
    """At most so wide; a longer text ends with an ellipsis."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - len(dots))) + dots[: max(0, width)]


def padded(text: str, width: int, *, left: bool = True) -> str:
    blank = " " * (width - cell_len(text))
    return text + blank if left else blank + text


def _name(row: LayerRow | None, label: str, baseline: str) -> str:
    if row is None:
        return "-" if label else baseline
    if not label:
        return baseline
    if label == "control":
        return row.known_as or one_line(row.what)
    return f"birth {row.birth}" + (f", {row.known_as}" if row.known_as else "")


def _accuracy(row: LayerRow | None, proxy: str) -> str:
    mean = row.accuracy.get(proxy) if row else None
    return figure_text(None if mean is None else (mean[0], None))


def _facts(view: Overview) -> Iterator[tuple[str, str]]:
    yield "formula", one_line(view.leading.leader.what) if view.leading.leader else "-"
    noise = view.leading.noise
    unit = view.units.mean
    amount = f"±{unit.amount(noise[0], sign='')} {unit.of_differences}" if noise else ""
    yield "noise", f"{amount} between seeds ({counted(noise[1], 'layer')})" if noise else "-"
    busy = "" if view.busy is None or not view.is_running else f"{view.busy} of {view.workers} busy, "
    yield "workers", f"{busy}{core_time(view.core_seconds)} so far"
    if view.has_surrogate:
        found = view.status.surrogate
        on = f" on {counted(found.pairs, 'candidate')}" if found else ""
        yield "surrogate", f"rank correlation {found.value:.2f}{on}" if found else "-"


def _progress(view: Overview) -> str:
    status = view.status
    if view.is_retraining:
        return f"{status.retrained} of {counted(status.retrainings, 'training')}"
    return f"{view.outcomes} of {counted(status.births_wanted, 'birth')}, {view.trained} trained"


def _share(view: Overview, later: float) -> float:
    """How much of the births, of the minutes, or of the final table, is done."""
    status = view.status
    if view.is_retraining:
        return min(1.0, status.retrained / max(1, status.retrainings))
    passed = (status.seconds_passed + later) / (60 * view.minutes) if view.minutes and view.is_running else 0.0
    return 1.0 if status.finished else min(1.0, max(passed, view.outcomes / max(1, status.births_wanted)))


def _times(view: Overview, later: float) -> list[str]:
    """The times that a title has room for, the longest text first."""
    status = view.status
    if not view.is_running:
        return [f"after {duration(status.seconds_passed)}"]
    left = "time left not known yet" if status.seconds_left is None else _left(status.seconds_left - later)
    return [f"{duration(status.seconds_passed + later)} passed, {left}", left]


def _left(seconds: float) -> str:
    return f"about {duration(max(0.0, seconds))} left"


def status_line(view: Overview) -> str:
    """How far a search is, in a few words."""
    status = view.status
    if view.is_retraining:
        done = f"{view.activity}: {_progress(view)}"
    else:
        done = ", ".join(filter(None, (_progress(view), _best(view))))
    if not view.is_running:
        return f"{done}, {status.state} after {duration(status.seconds_passed)}"
    return done if status.seconds_left is None else f"{done}, {_left(status.seconds_left)}"


def _best(view: Overview) -> str:
    row = view.leading.leader
    if row is None:
        return view.activity if view.leading.baseline is None and view.is_running else ""
    return f"best {row.points} {row.unit.of_differences} (birth {row.birth}, {seeds_of(row)})"


def leader_line(row: LayerRow) -> str:
    known = f", {row.known_as}" if row.known_as else ""
    figures = f"{row.against} with {seeds_of(row)}"
    return cut(f"new leader: birth {row.birth}{known}, {figures}: {one_line(row.what)}", PIPED_WIDTH)
