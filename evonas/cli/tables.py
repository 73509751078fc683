"""Tables and prose that fit the terminal; in a pipe a row is one line."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.text import Text

from evonas.cli.output import readable
from evonas.report.texts import core_time as core_time
from evonas.report.texts import duration as duration
from evonas.report.texts import figure_text as figure_text
from evonas.report.texts import one_line as one_line

PIPED_WIDTH = 120  # width of prose without a terminal
GAP = 2  # columns between two cells
FOLDED_MIN = 20  # least width of a folded cell
PIPED_MAX = 100_000  # width of a line without a terminal: no formula is cut


def terminal() -> Console:
    """A console that prints plain text unchanged. Without a terminal its lines have any length."""
    console = Console(markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, emoji=False, width=PIPED_MAX)


def say(console: Console, text: str, *, style: str = "", hang: int = 0) -> None:
    """Print prose, folded between words at the terminal's width, or at PIPED_WIDTH in a pipe; lines after the first
    are indented by `hang`. Formulas, paths and commands, which are copied, are printed with `soft_wrap` instead."""
    width = console.width if console.is_terminal else PIPED_WIDTH
    for paragraph in readable(text, console.encoding).split("\n"):
        for line in wrapped(paragraph, width, hang):
            console.print(Text(line, style), soft_wrap=True)


def wrapped(text: str, width: int, hang: int = 0) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=" " * hang, break_on_hyphens=False) or [""]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `is_key` columns are repeated in every part of a table that is cut. Only the last column
    `folds`: its cells take several lines in a terminal. One that `is_prose` folds in a pipe, too."""

    title: str
    is_number: bool = False
    is_key: bool = False
    folds: bool = False
    is_prose: bool = False


class TextTable:
    """Rows under titles; `console.print` shows it.

    rich's own table cuts or folds any cell where its columns do not fit, and pads every line: a name, a number or a
    formula of a pipe would not be found again. The live panel, which nobody copies, is rich's.

    In a terminal, titles take several lines where that saves width. A table that still does not fit is cut into parts,
    one below the other, each with the key columns. No cell is ever shortened. In a pipe a row is one line, however long
    its formula; prose is folded at 120 columns.
    """

    def __init__(self, *columns: Column) -> None:
        assert not any(column.folds for column in columns[:-1]), "a folded column is the last one"
        self.columns = columns
        self.rows: list[tuple[tuple[str, ...], str]] = []
        self.gaps: set[int] = set()  # rows that a blank line precedes

    def add(self, *cells: str, style: str = "") -> None:
        assert len(cells) == len(self.columns)
        self.rows.append((cells, style))

    def gap(self) -> None:
        """A blank line before the next row."""
        self.gaps.add(len(self.rows))

    def lines(self, width: int | None) -> Iterator[tuple[str, str]]:
        """Lines with their styles. Without a width a row is one line."""
        for number, part in enumerate(self._parts(width)):
            if number:
                yield "", ""
            titles = [wrapped(self.columns[i].title, size) for i, size in part]
            for line in self._aligned(part, [[""] * (_tallest(titles) - len(each)) + each for each in titles]):
                yield line, "bold"
            for row, (cells, style) in enumerate(self.rows):
                if row in self.gaps:
                    yield "", ""
                for line in self._aligned(part, [self._folded(i, cells[i], size) for i, size in part]):
                    yield line, style

    def _parts(self, width: int | None) -> list[list[tuple[int, int]]]:
        """Column numbers and widths of each part."""
        cells = [max((len(row[i]) for row, _ in self.rows), default=0) for i in range(len(self.columns))]
        wide = [max(size, len(column.title)) for size, column in zip(cells, self.columns, strict=True)]
        if width is None:
            return [list(enumerate(wide))]
        words = [max(map(len, column.title.split()), default=0) for column in self.columns]
        narrow = list(map(max, cells, words))
        if self.columns[-1].folds:
            narrow[-1] = min(wide[-1], max(FOLDED_MIN, words[-1]))
        keys = [i for i, column in enumerate(self.columns) if column.is_key]
        parts = [list(keys)]
        for i in (i for i in range(len(self.columns)) if i not in keys):
            if _total([narrow[j] for j in (*parts[-1], i)]) > width and len(parts[-1]) > len(keys):
                parts.append(list(keys))
            parts[-1].append(i)
        return [self._widened([(i, narrow[i]) for i in sorted(part)], wide, width) for part in parts]

    def _widened(self, part: list[tuple[int, int]], wide: Sequence[int], width: int) -> list[tuple[int, int]]:
        """Spend the room that is left: titles on one line from the left on, then the folded column."""
        room = width - _total([size for _, size in part])
        sizes = []
        for i, size in part:
            more = wide[i] - size
            taken = min(more, max(room, 0)) if self.columns[i].folds else more * (more <= room)
            room -= taken
            sizes.append((i, size + taken))
        return sizes

    def _folded(self, i: int, cell: str, size: int) -> list[str]:
        return wrapped(cell, size) if self.columns[i].folds and len(cell) > size else [cell]

    def _aligned(self, part: Sequence[tuple[int, int]], cells: Sequence[Sequence[str]]) -> Iterator[str]:
        for k in range(_tallest(cells)):
            texts = (each[k] if k < len(each) else "" for each in cells)
            padded = [
                text.rjust(size) if self.columns[i].is_number else text.ljust(size)
                for (i, size), text in zip(part, texts, strict=True)
            ]
            yield (" " * GAP).join(padded).rstrip()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        shown = TextTable(*self.columns)
        shown.gaps = self.gaps
        for cells, style in self.rows:
            shown.add(*(readable(" ".join(cell.split()), console.encoding) for cell in cells), style=style)
        piped = PIPED_WIDTH if self.columns[-1].is_prose else None
        width = options.max_width if console.is_terminal else piped
        for line, style in shown.lines(width):
            for part in _chopped(line, width):  # as a terminal does; rich would cut the line
                yield Text(part, style, no_wrap=True)


def _chopped(line: str, width: int | None) -> list[str]:
    return [line[i : i + width] for i in range(0, max(len(line), 1), width)] if width else [line]


def _tallest(cells: Iterable[Sequence[str]]) -> int:
    return max(map(len, cells))


def _total(sizes: Sequence[int]) -> int:
    return sum(sizes) + GAP * (len(sizes) - 1)
