"""Tables of layers: candidates and known layers with their accuracies."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from evonas.cli.tables import Column, TextTable, accuracy_text, one_line

if TYPE_CHECKING:
    from evonas.views import LayerRow
    from evonas.workers.outcome import Measurement


def layer_table(
    rows: "Sequence[LayerRow]", proxies: Sequence[str], more: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> TextTable:
    """One layer a line: birth and parent where some row is a candidate, else its rank, accuracy on each proxy,
    difference to BN-ReLU in points, seeds, and columns of one's own (title -> a cell a row)."""
    from evonas.config import BASELINE

    candidates = any(row.birth is not None for row in rows) or not rows
    table = TextTable(
        Column("birth" if candidates else "rank", is_number=True, is_key=True),
        *(Column(proxy, is_number=True) for proxy in proxies),
        Column(f"to {BASELINE}", is_number=True),
        Column("seeds", is_number=True),
        *(Column(title, is_number=True) for title in more),
        *([Column("parent", is_number=True)] if candidates else []),
        Column("formula", folds=True),
    )
    for number, row in enumerate(rows):
        cells = [accuracy_text(row.accuracy.get(proxy)) for proxy in proxies]
        seeds = "" if row.seeds is None else f"{row.seeds} fresh" if row.is_fresh else str(row.seeds)
        cells += [points(row), seeds, *(column[number] for column in more.values())]
        cells = [str(row.birth or ""), *cells, row.origin] if candidates else [str(number + 1), *cells]
        table.add(*cells, one_line(row.what), style="dim" if candidates and row.birth is None else "")
    return table


def gate_table(measurements: "Sequence[Measurement]") -> TextTable:
    """What gates measured of a layer, one answer a line."""
    numbers = ("measured", "threshold", "step")
    table = TextTable(
        *(Column(title, is_key=True) for title in ("gate", "proxy")),
        *(Column(title, is_number=True) for title in numbers),
        Column("passed"),
        Column("seconds", is_number=True),
    )
    for m in measurements:
        values = (f"{m.value:.4g}", f"{m.threshold:.4g}", str(m.step))
        table.add(m.gate, m.proxy or "-", *values, "yes" if m.passed else "no", f"{m.seconds:.3f}")
    return table


def points(row: "LayerRow") -> str:
    """The difference to BN-ReLU in points of accuracy, with its spread over seeds."""
    if row.difference is None:
        return f"failed {row.failed}/{row.seeds}" if row.failed else ""
    spread = "" if row.difference_spread is None else f" ±{row.difference_spread * 100:.1f}"
    return f"{row.difference * 100:+.1f}{spread}"
