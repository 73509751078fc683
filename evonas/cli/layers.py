"""Tables of layers: candidates and known layers with their accuracies."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evonas.cli.tables import Column, TextTable, accuracy_text, one_line

if TYPE_CHECKING:
    from evonas.views import LayerRow


def layer_table(rows: "Sequence[LayerRow]", proxies: Sequence[str]) -> TextTable:
    """One layer a line: birth, accuracy on each proxy, difference to BN-ReLU in points, seeds, parent, formula."""
    from evonas.config import BASELINE

    table = TextTable(
        Column("birth", is_number=True, is_key=True),
        *(Column(proxy, is_number=True) for proxy in proxies),
        Column(f"to {BASELINE}", is_number=True),
        Column("seeds", is_number=True),
        Column("parent", is_number=True),
        Column("formula", folds=True),
    )
    for row in rows:
        accuracies = [accuracy_text(row.accuracy.get(proxy)) for proxy in proxies]
        seeds = "" if row.seeds is None else f"{row.seeds} fresh" if row.is_fresh else str(row.seeds)
        cells = (str(row.birth or ""), *accuracies, points(row), seeds, row.origin, one_line(row.what))
        table.add(*cells, style="dim" if row.birth is None else "")
    return table


def points(row: "LayerRow") -> str:
    """The difference to BN-ReLU in points of accuracy, with its spread over seeds."""
    if row.difference is None:
        return f"failed {row.failed}/{row.seeds}" if row.failed else ""
    spread = "" if row.difference_spread is None else f" ±{row.difference_spread * 100:.1f}"
    return f"{row.difference * 100:+.1f}{spread}"
