"""Tables of layers: candidates and known layers with their accuracies."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evonas.cli.tables import Column, TextTable, one_line
from evonas.search_space.wording import counted, counted_pairs, pairs
from evonas.units import Unit, Units

if TYPE_CHECKING:
    from evonas.report.card_page import Section
    from evonas.studies.operators import OperatorRow
    from evonas.views import LayerRow
    from evonas.workers.outcome import Measurement


def headline(what: str, seeds: int, units: Units, *, judged_on: str = "validation") -> str:
    """The sentence above a `layer_table` of figures with fresh seeds."""
    spread = ", mean ± standard deviation over seeds" if seeds > 1 else ""
    figures = f"{what} with {counted(seeds, 'fresh seed')}: {judged_on} {units.text}{spread}"
    return f"{figures}; difference in {units.mean.explained}, mean over proxies"


def by_proxy(units: Units) -> str:
    """The units of differences on single proxies, where the unit of their mean does not say them."""
    if units.mean is not Unit.FITNESS:
        return ""
    bits, points = f"on {', '.join(units.in_bits)} in {Unit.BITS}", f"on others in {Unit.ACCURACY.explained}"
    return f" for the mean, {bits}, {points},"


def units_text(rows: "Sequence[LayerRow]") -> str:
    """A sentence on the units of a table without a headline; empty where all figures are accuracies."""
    trained = [row for row in rows if row.accuracy]
    units = Units.union(row.units for row in trained)
    if units.mean is Unit.ACCURACY:
        return ""
    if units.mean is Unit.BITS:
        return f"Figures and differences are in {Unit.BITS.explained}."
    text = f"Figures are accuracies, on {', '.join(units.in_bits)} {Unit.BITS.explained}"
    kinds = {row.unit for row in trained}
    return f"{text}; differences are {kinds.pop().explained}." if len(kinds) == 1 else f"{text}."


def layer_table(rows: "Sequence[LayerRow]", proxies: Sequence[str]) -> TextTable:
    """One layer a line: its run if there are several, birth and parent (or the rank, if no row is a candidate),
    figure on each proxy, difference to BN-ReLU with the number of seeds, a user's own objectives, and the known layer
    that it repeats, if any row does. Rows of one kind, such as those with fresh seeds, follow their BN-ReLU; a blank
    line is between two kinds."""
    from evonas.config import BASELINE

    own = list(dict.fromkeys(name for row in rows for name in row.own))
    candidates = any(row.birth is not None for row in rows) or not rows
    some_known, several_runs = any(row.known_as for row in rows), any(row.run for row in rows)
    table = TextTable(
        *([Column("run", is_key=True)] if several_runs else []),
        Column("birth" if candidates else "rank", is_number=True, is_key=True),
        *(Column(proxy, is_number=True) for proxy in proxies),
        Column(f"to {rows[0].baseline if rows else BASELINE} (seeds)", is_number=True),
        *(Column(name, is_number=True) for name in own),
        *([Column("parent", is_number=True)] if candidates else []),
        *([Column("known as")] if some_known else []),
        Column("formula", folds=True),
    )
    several_kinds = len({row.kind for row in rows}) > 1
    for number, row in enumerate(rows):
        cells = [*map(row.figure, proxies), points_and_seeds(row)]
        cells += [f"{row.own[name]:.4g}" if name in row.own else "" for name in own]
        cells = [str(row.birth or ""), *cells, row.origin] if candidates else [str(number + 1), *cells]
        cells = [row.run] * several_runs + cells + [row.known_as] * some_known
        layer = one_line(row.what)
        if row.birth is None and (several_kinds or several_runs or not row.is_fresh):
            if number and (rows[number - 1].birth is not None or row.kind != rows[number - 1].kind):
                table.gap()
            layer += f", {row.kind_text}"
        table.add(*cells, layer, style="dim" if candidates and row.birth is None else "")
    return table


def seeds_text(rows: "Sequence[LayerRow]", noise: tuple[float, int] | None) -> str:
    """A sentence on the worth of rows without fresh seeds; empty where there are none."""
    layers_of_search = [row for row in rows if row.birth is not None and not row.is_fresh]
    if not any(row.seeds == 1 for row in layers_of_search):
        return "Seeds of the search include the one that a layer was chosen by." if layers_of_search else ""
    text = "A row with (1) was measured with one seed, and leads partly by luck"
    if noise is None:
        return f"{text}."
    deviation, layers = noise
    unit = layers_of_search[0].unit
    amount = f"{unit.amount(deviation, sign='')} {unit.of_differences}"
    spread = f"over seeds the difference of one layer spreads by ±{amount}"
    return f"{text}: {spread} ({counted(layers, 'layer')})."


def gate_table(measurements: "Sequence[Measurement]", units: Units) -> TextTable:
    """The measurements of the gates on a layer, one a line."""
    from evonas.listing import measured_texts

    numbers = ("measured", "threshold", "step")
    table = TextTable(
        *(Column(title, is_key=True) for title in ("gate", "proxy")),
        *(Column(title, is_number=True) for title in numbers),
        Column("passed"),
        Column("seconds", is_number=True),
    )
    for m in measurements:
        values = measured_texts(m.gate, m.proxy, m.value, m.threshold, units)
        table.add(m.gate, m.proxy or "-", *values, str(m.step), "yes" if m.passed else "no", f"{m.seconds:.3f}")
    return table


def section_table(section: "Section") -> TextTable:
    """The table of a card's section."""
    table = TextTable(
        *(
            Column(
                title,
                is_key=place < section.keys,
                is_number=not section.is_text(place),
                folds=section.last_is_text and place == len(section.columns) - 1,
            )
            for place, title in enumerate(section.columns)
        )
    )
    for row in section.rows:
        table.add(*row)
    return table


def operator_table(rows: "Sequence[OperatorRow]", baseline: str, unit: Unit) -> TextTable:
    """The proposals of each operator and their outcomes, an operator a line."""
    numbers = ("births", "inherited", "stopped", "trained", "above its parent", f"mean to {baseline}", "best")
    table = TextTable(
        Column("operator", is_key=True), *(Column(each, is_number=True) for each in (*numbers, "seconds"))
    )
    for row in rows:
        counts = map(str, (row.births, row.inherited, row.stopped + row.crashed, row.trained))
        above = f"{row.improved} of {row.compared}" if row.compared else "-"
        mean, best = ("-" if of is None else unit.amount(of) for of in (row.mean_advantage, row.best_advantage))
        table.add(row.operator, *counts, above, mean, best, f"{row.seconds:.0f}")
    return table


def spread_text(spread: Mapping[str, tuple[float, int]], baseline: str) -> str:
    """The spread of BN-ReLU's figure over seeds, on each proxy."""
    (_, seeds), *_ = spread.values()
    shown = ", ".join(f"{proxy} ±{deviation:.3f}" for proxy, (deviation, _) in spread.items())
    return f"{baseline} alone spreads over {counted(seeds, 'seed')} by {shown}"


def points_and_seeds(row: "LayerRow") -> str:
    """The difference to BN-ReLU with the number of seeds that it rests on."""
    is_whole = row.seeds is not None and not row.failed
    return f"{row.points} ({pairs(row.paired, row.seeds or 0)})" if is_whole else row.points


def seeds_of(row: "LayerRow") -> str:
    """The seeds of the difference, counted."""
    return counted_pairs(row.paired, row.seeds or 0, "fresh seed" if row.is_fresh else "seed")
