"""Draw a graph as SVG or PNG. The only file that imports matplotlib, and only while it draws."""

import io
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.files import write
from evonas.report.layout import BOX_HEIGHT, Box, Layout, Point, layout
from evonas.search_space.errors import InputError, short
from evonas.search_space.graph import Graph
from evonas.search_space.primitives import PRIMITIVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png")
SYMBOLS = {  # signs that say more than the primitive's name
    "add": "+",
    "mul": "×",  # noqa: RUF001
    "div": "÷",
    "neg": "−",  # noqa: RUF001
    "sigmoid": "σ",  # noqa: RUF001
    "abs": "|·|",
    "square": "(·)²",
    "sqrt": "√",
}
INDEX_SETS = {  # colour (Okabe and Ito: safe for the colour-blind, black text is readable on all) and meaning
    "bhw": ("#56b4e9", "batch"),
    "chw": ("#e69f00", "layer"),
    "hw": ("#2ab58a", "instance"),
    "ghw": ("#d68fb6", "group"),
    "c": ("#f0e442", "position"),
}
OTHER_COLOUR = "#bbbbbb"
INK, PALE, WIRE = "#222222", "#f3f3f0", "#6b6b6b"
FADED = 0.35  # opacity of dead nodes
MARGIN = 18.0  # all lengths are in points
TITLE_LINES, TITLE_LINE_HEIGHT, TITLE_CHARACTER = 10, 14.0, 5.6
WIDTH_MIN, TITLE_WIDTH_MAX = 220.0, 440.0
DOTS_PER_INCH = 160
FONTS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.monospace": ["DejaVu Sans Mono", "Menlo", "Consolas", "monospace"],
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "evonas",  # equal graphs give equal bytes
}


def draw(graph: Graph, path: Path, *, whole: bool = False) -> None:
    """Write a picture of the live canonical graph, or of the whole genotype with its dead nodes faded.

    Leaves are on top, the output is at the bottom. Aggregations are coloured by index set. A division marks its
    numerator. Equal graphs give equal bytes. Raises InputError for a path that is not .svg or .png, or that cannot be
    written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{short(str(path))}: expected a file name that ends in {' or '.join(SUFFIXES)}")
    if not os.path.isdir(path.parent):  # noqa: PTH112 (unlike Path.is_dir it takes any text)
        raise InputError(f"{short(str(path))}: no such folder '{short(str(path.parent))}'")
    write(path, _drawn(graph.formula, graph if whole else graph.canonical(), path.suffix.lower()[1:]))


def svg(graph: Graph) -> bytes:
    """The bytes that `draw` writes into an .svg file."""
    return _drawn(graph.formula, graph.canonical(), "svg")


def _drawn(formula: str, shown: Graph, file_format: str) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context(FONTS):
        warnings.simplefilter("ignore")  # the font may lack a letter of a parameter's name
        picture = _Picture(shown, formula)
        figure = Figure(figsize=(picture.width / 72, picture.height / 72), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, picture.width), ylim=(picture.height, 0))
        axes.set_axis_off()
        picture.draw(axes)
        metadata: dict[str, Any] = {"Date": None} if file_format == "svg" else {"Software": None}
        figure.savefig(written, format=file_format, dpi=DOTS_PER_INCH, metadata=metadata)
    return written.getvalue()


def shown_values(graph: Graph) -> set[int]:
    """The values in a picture: all nodes, the leaves that they use, and the output."""
    nodes = {len(graph.leaves) + i for i in range(len(graph.nodes))}
    return nodes | {i for node in graph.nodes for i in node.inputs} | {graph.output}


def label(graph: Graph, value: int) -> str:
    node = graph.node(value)
    if node is None:
        leaf = graph.leaves[value]
        return "0" if leaf.name == "zero" else leaf.name or f"{leaf.value:.12g}"
    row = PRIMITIVES[node.op]
    if row.reduces:
        return f"{row.name.removesuffix(f'_{row.reduces}')} {row.reduces}"
    return SYMBOLS.get(row.name, row.name)


def picture_layout(graph: Graph) -> Layout:
    return layout(graph, {value: _width(graph, value) for value in shown_values(graph)})


def _width(graph: Graph, value: int) -> float:
    node = graph.node(value)
    if node and node.op == "div":
        return 84.0
    text = 7.4 * len(label(graph, value)) + 14
    return max(text, 40.0 if node else 24.0)


@dataclass(frozen=True)
class _Style:
    face: str
    edge: str = INK
    text: str = INK
    line: str = "-"
    round: float = 6.0


def _style(graph: Graph, value: int) -> _Style:
    node = graph.node(value)
    if node:
        reduces = PRIMITIVES[node.op].reduces
        return _Style(INDEX_SETS.get(reduces, (OTHER_COLOUR,))[0]) if reduces else _Style(PALE)
    leaf = graph.leaves[value]
    if leaf.kind == "input":
        return _Style(INK, text="white", round=BOX_HEIGHT / 2 - 2)
    return _Style("white", round=0, line={"vector": "-", "scalar": "--"}.get(leaf.kind, ":"))


class _Picture:
    def __init__(self, graph: Graph, formula: str) -> None:
        self.graph = graph
        self.layout = picture_layout(graph)
        lines = _title(formula)
        text = TITLE_CHARACTER * max(map(len, lines))
        inner = max(self.layout.width, WIDTH_MIN, min(text + 1, TITLE_WIDTH_MAX))
        self.width = inner + 2 * MARGIN
        self.title = list(_wrapped(lines, int(inner / TITLE_CHARACTER)))
        self.top = MARGIN + TITLE_LINE_HEIGHT * len(self.title) + 14
        self.left = MARGIN + (inner - self.layout.width) / 2
        self.legend = list(self._legend(inner))
        self.legend_top = self.top + self.layout.height + 48
        self.height = self.legend_top + (max(y for _, y, _, _ in self.legend) if self.legend else -22) + MARGIN + 6

    def draw(self, axes: "Axes") -> None:
        for i, line in enumerate(self.title):
            at = (MARGIN, MARGIN + TITLE_LINE_HEIGHT * (i + 0.5))
            self._write(axes, at, line, size=9, family="monospace", ha="left")
        self._wires(axes)
        for value in sorted(self.layout.boxes):
            self._box(axes, value)
        for x, y, style, text in self.legend:
            swatch = Box(x + 7, self.legend_top + y, 14, 12)
            self._outline(axes, swatch, style)
            self._write(axes, (x + 20, swatch.y), text, size=8, ha="left")

    def _wires(self, axes: "Axes") -> None:
        from matplotlib.patches import PathPatch, Polygon
        from matplotlib.path import Path as Outline

        drawn: set[tuple[int, Point, Point]] = set()
        for wire in sorted(self.layout.wires, key=lambda wire: wire.target in self.graph.live, reverse=True):
            alpha = 1.0 if wire.target in self.graph.live else FADED
            colour = self._wire_colour(wire.source)
            parts: list[Point] = []
            codes: list[Any] = []
            for start, end in zip(wire.points, wire.points[1:], strict=False):
                if (wire.source, start, end) in drawn:
                    continue
                drawn.add((wire.source, start, end))
                middle = (start[1] + end[1]) / 2
                parts += [start, (start[0], middle), (end[0], middle), end]
                codes += [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]
            path = Outline([self._at(point) for point in parts], codes)
            axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=1.2, alpha=alpha, capstyle="round"))
            x, y = self._at(wire.points[-1])
            tip = [(x, y), (x - 3, y - 6.5), (x + 3, y - 6.5)]
            axes.add_patch(Polygon(tip, facecolor=colour, edgecolor="none", alpha=alpha, zorder=3))
        if not any(wire.source == self.graph.output for wire in self.layout.wires):
            box = self.layout.boxes[self.graph.output]
            (x, y) = self._at((box.x, box.bottom))
            axes.add_patch(Polygon([(x, y + 12), (x - 3, y + 5.5), (x + 3, y + 5.5)], facecolor=INK, edgecolor="none"))
            axes.add_patch(PathPatch(Outline([(x, y), (x, y + 8)]), fill=False, edgecolor=INK, linewidth=1.2))
            self._write(axes, (x, y + 19), "output", size=8)

    def _wire_colour(self, source: int) -> str:
        node = self.graph.node(source)
        if node and PRIMITIVES[node.op].reduces:
            return _darker(_style(self.graph, source).face)
        return INK if not node and self.graph.leaves[source].kind == "input" else WIRE

    def _box(self, axes: "Axes", value: int) -> None:
        box = self.layout.boxes[value]
        x, y = self._at((box.x, box.y))
        style = _style(self.graph, value)
        alpha = 1.0 if value in self.graph.live else FADED
        width = 2.2 if value == self.graph.output else 1.0
        self._outline(axes, Box(x, y, box.width, box.height), style, gid=f"value-{value}", alpha=alpha, linewidth=width)
        node = self.graph.node(value)
        size = 11 if node else 10
        self._write(axes, (x, y), label(self.graph, value), size=size, color=style.text, alpha=alpha)
        if node and node.op == "div":
            for port, name in ((-1, "num"), (1, "den")):
                self._write(axes, (x + port * box.width / 3.1, y), name, size=7.5, color="#555555", alpha=alpha)

    def _legend(self, inner: float) -> Iterator[tuple[float, float, _Style, str]]:
        """Left, top, style and text of each entry: the index sets and the kinds of leaves that occur."""
        shown = sorted(self.layout.boxes)
        entries: dict[str, _Style] = {}
        reduced = {PRIMITIVES[node.op].reduces or "" for value in shown if (node := self.graph.node(value))} - {""}
        for name in sorted(reduced, key=lambda name: (*INDEX_SETS, name).index(name)):
            colour, meaning = INDEX_SETS.get(name, (OTHER_COLOUR, ""))
            entries[f"{name} {meaning}".strip()] = _Style(colour)
        for value in shown:
            if value < len(self.graph.leaves):
                leaf = self.graph.leaves[value]
                kind = leaf.kind if not leaf.learned else f"learned {leaf.kind}"
                entries.setdefault(kind, _style(self.graph, value))
        if not self.graph.live >= set(shown):
            entries["faded: not used"] = _Style("#e5e5e5", edge="#bbbbbb")
        x, y = MARGIN, 0.0
        for text, style in entries.items():
            wide = 20 + 4.8 * len(text) + 14
            if x > MARGIN and x + wide > MARGIN + inner:
                x, y = MARGIN, y + 18
            yield x, y, style, text
            x += wide

    def _at(self, point: Point) -> Point:
        return point[0] + self.left, point[1] + self.top

    def _outline(self, axes: "Axes", box: Box, style: _Style, **more: Any) -> None:
        from matplotlib.patches import FancyBboxPatch

        shape = f"round,pad=0,rounding_size={min(style.round, box.height / 2)}" if style.round else "square,pad=0"
        colours = {"facecolor": style.face, "edgecolor": style.edge, "linestyle": style.line}
        more = {**colours, "zorder": 2, **more}
        axes.add_patch(FancyBboxPatch((box.x - box.width / 2, box.top), box.width, box.height, boxstyle=shape, **more))

    def _write(self, axes: "Axes", at: Point, text: str, *, size: float, ha: str = "center", **style: Any) -> None:
        axes.text(*at, text, size=size, ha=ha, va="center_baseline", parse_math=False, zorder=4, **style)


def _title(formula: str) -> list[str]:
    """The lines of a formula; definitions of parameters are joined into one."""
    lines = formula.splitlines()
    defined = [line for line in lines if re.search(r"= (scalar|vector)\(", line)]
    return ["; ".join(defined), *lines[len(defined) :]] if defined else lines


def _wrapped(lines: list[str], characters: int) -> Iterator[str]:
    """The lines wrapped; a long text loses its middle, for its last line is the output."""
    parts = [part for line in lines for part in textwrap.wrap(line, characters, subsequent_indent="    ")]
    if len(parts) <= TITLE_LINES:
        yield from parts
    else:
        yield from parts[: TITLE_LINES - 3]
        yield "..."
        yield from parts[-2:]


def _darker(colour: str) -> str:
    return "#" + "".join(f"{int(int(colour[i : i + 2], 16) * 0.72):02x}" for i in (1, 3, 5))
