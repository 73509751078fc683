"""The card of a layer as sections of prose and tables: Markdown and HTML here, the terminal in evonas.cli.card."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from evonas.files import expect_writable, write
from evonas.known_layers import remark
from evonas.report.picture import draw, svg
from evonas.report.texts import duration, figure_text, one_line
from evonas.search_space.errors import InputError, short
from evonas.search_space.screening import Degenerate
from evonas.search_space.wording import counted, counted_pairs
from evonas.studies.layer_speed import TORCHS

if TYPE_CHECKING:
    from evonas.store.records import Figures
    from evonas.studies.card import Card
    from evonas.studies.recorded import RecordedValidation
    from evonas.studies.sweep import SweepRow
    from evonas.units import Unit

THIS = "this layer"
Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the card: sentences, with commands in backticks, then a table. Its first `keys` columns tell the rows
    apart. The first `texts` are text, and so may the last one be; the others are numbers."""

    title: str
    lines: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    keys: int = 0
    texts: int = 0
    last_is_text: bool = False

    def is_text(self, column: int) -> bool:
        return column < self.texts or (self.last_is_text and column == len(self.columns) - 1)


def sections(card: "Card") -> list[Section]:
    """All of the card after its title and formula. One that was not measured says how to measure it."""
    return [
        Section("", tuple(_about(card))),
        _speed(card),
        _half_precision(card),
        *_sweep(card),
        _validation(card),
        _ablation(card),
    ]


def markdown(card: "Card", picture: str | None) -> str:
    """A page; `picture` is the path of one, relative to the page."""
    parts = [f"# {card.title}\n", f"```\n{card.graph.formula}\n```\n"]
    if picture:
        parts.append(f"![The graph of the layer]({quote(picture)})\n")
    for section in sections(card):
        parts += [f"## {section.title}\n"] if section.title else []
        parts += [f"{_escaped(line)}\n" for line in section.lines]
        if section.rows:
            parts.append("\n".join(_markdown_table(section)) + "\n")
    return "\n".join(parts)


def html(card: "Card") -> str:
    """For a notebook."""
    parts = [f"<h3>{escape(card.title)}</h3><pre>{escape(card.graph.formula)}</pre>", svg(card.graph).decode()]
    for section in sections(card):
        parts += [f"<h4>{escape(section.title)}</h4>"] if section.title else []
        parts += [f"<p>{_html_of(line)}</p>" for line in section.lines]
        if section.rows:
            titles = "".join(f"<th>{escape(title)}</th>" for title in section.columns)
            rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in section.rows)
            parts.append(f"<table><tr>{titles}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
    return f"<div>{''.join(parts)}</div>"


def save(card: "Card", path: Path) -> Path:
    """Write the page and the picture beside it; return the picture's path."""
    picture = picture_beside(path)
    draw(card.graph, picture)
    write(path, card.markdown(picture.name))
    return picture


def picture_beside(path: Path) -> Path:
    """The path of the picture. Raises InputError where the page cannot be written, before anything is measured."""
    picture = path.with_suffix(".svg") if path.name else path
    if picture == path:
        raise InputError(f"{short(str(path))}: the page of a card is Markdown; expected a name such as card.md")
    expect_writable(path)
    return picture


def _markdown_table(section: Section) -> Iterator[str]:
    yield _line(section.columns)
    yield _line(["---" if section.is_text(place) else "---:" for place in range(len(section.columns))])
    for row in section.rows:
        yield _line([cell.replace("|", r"\|") for cell in row])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(line: str) -> str:
    """Prose in which no sign of a name or formula is one of Markdown's, but for the commands in backticks."""
    prose_and_code = line.split("`")
    prose_and_code[::2] = [re.sub(r"([*_\[\]<\\])", r"\\\1", prose) for prose in prose_and_code[::2]]
    return "`".join(prose_and_code)


def _html_of(line: str) -> str:
    return re.sub("`(.*?)`", r"<code>\1</code>", escape(line))


# --------------------------------------------------------------------------- sections


def _command(card: "Card", *options: str) -> str:
    layer = [str(card.reference), str(card.birth)] if card.birth is not None else [one_line(card.name)]
    return f"`{shlex.join(['evonas', 'card', *layer, *options])}`"


def _about(card: "Card") -> Iterator[str]:
    if repeated := remark(card.same_as, card.affine_of):
        yield f"Not new: {repeated}."
    batch = "depends" if card.batch_dependent else "does not depend"
    yield f"{counted(card.graph.live_nodes, 'live node')}; the output {batch} on the other images of its batch."
    one, each = (
        [name for name, kind in card.parameters.items() if kind == wanted] for wanted in ("one", "one a channel")
    )
    learned = f"{', '.join(each)} (one a channel each)" + (f"; {', '.join(one)} (one number each)" if one else "")
    moments = f" Running moments, one a channel each: {', '.join(card.moments)}." if card.moments else ""
    yield f"Learned: {learned}.{moments}"
    factors: dict[Degenerate, str] = {
        "position": "at one position a channel",
        "constant": "of constant input",
        "sample": "of one sample",
    }
    amplified = ", ".join(f"{card.amplification[name]:.3g} {text}" for name, text in factors.items())
    yield f"Amplification: {amplified}."
    if card.figures is not None:
        yield f"Search: {_figures(card, card.figures, card.is_fresh)}."
    yield f"Digest: {card.graph.digest}."


def _figures(card: "Card", figures: "Figures", is_fresh: bool) -> str:
    count = counted_pairs(figures.paired, figures.seeds, "fresh seed" if is_fresh else "seed")
    seeds = count + ("" if is_fresh else " of the search")
    shown = figures.shown
    if shown.difference is None:
        return f"failed with {figures.failed} of {seeds}"
    values = ", ".join(f"{proxy} {figure_text(value)}" for proxy, value in shown.values.items())
    difference = shown.unit.with_deviation(shown.difference, shown.difference_spread)
    return f"{values}; {difference} {shown.unit.of_differences} against {card.baseline} with {seeds}"


def _speed(card: "Card") -> Section:
    title = "Speed and peak memory"
    if not card.speed:
        return Section(title, (f"Not measured: {_command(card)}",))
    lines = [
        f"Forward and backward in float32, medians over rounds in which all take turns; ratios to {TORCHS} in the same "
        "round, with their quartiles; peak memory beyond input and parameters.",
        f"{card.conditions}.",
    ]
    if not any(row.compiled for row in card.speed):
        lines.append(f"Compiled: not measured: {_command(card, '--compile')}")
    if not any("timm" in row.layer for row in card.speed):
        lines.append("timm's EvoNorms: not measured: `pip install timm`")
    rows = tuple(
        (
            "x".join(map(str, row.shape)),
            THIS if row.layer == card.name else row.layer,
            "compiled" if row.compiled else "eager",
            f"{1000 * row.seconds:.1f}",
            f"{row.ratio:.2f} [{row.ratio_range[0]:.2f}, {row.ratio_range[1]:.2f}]",
            f"{row.peak_mb:.1f}",
        )
        for row in card.speed
    )
    return Section(title, tuple(lines), ("shape", "layer", "code", "ms", "ratio", "peak, MiB"), rows, keys=3, texts=3)


def _half_precision(card: "Card") -> Section:
    lines = (
        f"Fragility, by which rounding is amplified: {card.fragility:.3g}.",
        "Norm of the error relative to float64, in training on a CPU, half precision under autocast.",
    )
    rows = tuple(
        (THIS if row.layer == card.name else row.layer, row.dtype, f"{row.forward:.1e}", f"{row.backward:.1e}")
        for row in card.half_precision
    )
    return Section("Half precision", lines, ("layer", "input", "forward", "backward"), rows, keys=2, texts=2)


def _sweep(card: "Card") -> Iterator[Section]:
    names, both = ("Batch sizes", "Learning rates"), "Batch sizes and learning rates"
    if card.birth is None:
        yield Section(both, ("Only a candidate of a run is trained.",))
        return
    lacking: tuple[str, ...] = ()
    if card.sweep_cost is not None:
        cost, what = card.sweep_cost, "Not measured" if card.sweep is None else "Not complete"
        about = f", about {duration(cost.seconds)} of one worker" if cost.seconds else ""
        count = f"{counted(cost.trainings, 'training')} of {counted(cost.steps, 'step')} on {cost.proxy}{about}"
        lacking = (f"{what}: {_command(card, '--train')}", f"It takes {count}.")
    if card.sweep is None:
        yield Section(both, lacking)
        return
    unit = card.sweep.unit
    judged = f"Validation {unit} on {card.sweep.proxy} after {counted(card.sweep.steps, 'step')}"
    hows = ("rates in proportion to the batch size", "at the batch size of the search")
    for title, rows, how in zip(names, (card.sweep.batch_sizes, card.sweep.rates), hows, strict=True):
        crashed = tuple(f"Crashed: {one_line(name)}: {why}" for name, why in card.crashed.items())
        columns = ("batch", "rate", "seeds", "diverged", THIS, card.baseline, f"{unit.of_differences}, paired [95 %]")
        lines = (f"{judged}, {how}; a training that diverged counts as guessing.", *lacking, *crashed)
        yield Section(title, lines, columns, tuple(_sweep_row(row, unit) for row in rows), keys=2)


def _sweep_row(row: "SweepRow", unit: "Unit") -> tuple[str, ...]:
    figures = (figure_text(row.accuracy), figure_text(row.baseline), unit.with_interval(row.difference))
    return (str(row.batch_size), f"{row.learning_rate:.3g}", str(row.seeds), str(row.failed or ""), *figures)


def _validation(card: "Card") -> Section:
    title = "Validation"
    if card.birth is None:
        return Section(title, ("Only candidates of a run are validated.",))
    lines = []
    if card.own_test is not None:
        data = card.own_test.shown.unit.data
        lines.append(f"Test {data} of the search, under its own protocol: {_figures(card, card.own_test, True)}.")
    if not card.validations:
        asked = shlex.join(["evonas", "validate", str(card.reference), str(card.birth)])
        lines.append(f"Not measured: `{asked} --data DATA --architectures NAMES`")
        return Section(title, tuple(lines))
    units = list(dict.fromkeys(row.unit for row in card.validations))
    data, points = (
        " and ".join(each) for each in ([unit.data for unit in units], [unit.of_differences for unit in units])
    )
    lines.append(f"Test {data}, where it was not searched; differences in {points} with the same seeds.")
    return replace(validations(card.validations), title=title, lines=tuple(lines))


def validations(of: "Sequence[RecordedValidation]") -> Section:
    """A layer under each setting that it was validated under, one a line."""
    names = list(dict.fromkeys(name for row in of for name in row.differences))
    figure = ", or ".join(dict.fromkeys(row.unit for row in of))
    columns = ("data", "network", "steps", "batch", "rate", "seeds", figure, *(f"to {name}" for name in names))
    rows = tuple(
        (
            *(row.data, row.proxy, str(row.steps), str(row.batch_size), f"{row.learning_rate:g}"),
            f"{row.seeds} ({row.failed} diverged)" if row.failed else str(row.seeds),
            figure_text(row.accuracy),
            *(row.unit.with_interval(row.differences[name]) if name in row.differences else "-" for name in names),
        )
        for row in of
    )
    return Section("", (), columns, rows, keys=5, texts=2)


def _ablation(card: "Card") -> Section:
    title = "Ablation"
    if card.birth is None:
        asked = shlex.join(["evonas", "ablate", one_line(card.name)])
        return Section(title, (f"Only a candidate of a run records one; `{asked} CONFIG` shows it.",))
    if card.ablation is None:
        asked = shlex.join(["evonas", "ablate", f"{card.reference}#{card.birth}"])
        return Section(title, (f"Not measured: `{asked}`",))
    first, *others = card.ablation.layers
    seeds = counted(card.ablation.seeds, "seed")
    unit, of = card.ablation.units.mean, f"mean of {', '.join(first.accuracy)}"
    whole = f"Validation {unit} {figure_text(first.mean)}, {of}, {seeds}. Below: {unit.of_differences}"
    lines = (f"{whole} without a part, with the same seeds [95 %].",)
    rows = tuple(
        (
            unit.with_interval(row.difference),
            str(row.failed or ""),
            f"{one_line(row.part or '')} -> {one_line(row.becomes or '')}",
        )
        for row in others
    )
    columns = (unit.of_differences, "diverged", "part -> what it becomes")
    return Section(title, lines, columns, rows, last_is_text=True)
