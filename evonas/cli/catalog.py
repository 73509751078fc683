"""evonas catalog, catalog show: the known layers."""

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from evonas.cli.display import one_line, terminal
from evonas.cli.query import JSON, PICTURE, indent, print_json
from evonas.report.picture import draw
from evonas.search_space.catalog import KnownLayer
from evonas.search_space.catalog import catalog as known_layers
from evonas.search_space.latex import latex

_DEPENDS = {True: "yes", False: "no", None: "-"}


@click.group(short_help="The known layers of the literature.", invoke_without_command=True)
@JSON
@click.pass_context
def catalog(context: click.Context, as_json: bool) -> None:
    """The known layers of the literature: graphs, reference modules, and what is no drop-in layer, with the reason.

    \b
    Example: evonas catalog
    Example: evonas catalog show EvoNorm-S0
    """
    context.obj = as_json  # `catalog --json show NAME` is meant as `catalog show NAME --json`
    if context.invoked_subcommand is not None:
        return
    if as_json:
        print_json([_told(row) for row in known_layers.values()])
        return
    console = terminal()
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for column, width in (("name", 16), ("year", 4), ("kind", 6), ("batch dependent", 9), ("parameters", 15)):
        table.add_column(column, max_width=width if console.is_terminal else None)
    table.add_column("formula, or why it is no layer here", overflow="fold")
    for row in known_layers.values():
        parameters = ", ".join(each.name for each in row.parameters) or "-"
        cells = (row.kind, _DEPENDS[row.batch_dependent], parameters, one_line(row.reason or row.text))
        table.add_row(row.name, str(row.year), *cells, style="dim" if row.reason else "")
    console.print(table)


@catalog.command(short_help="One known layer, with all that is known.")
@click.argument("name")
@PICTURE
@JSON
@click.pass_obj
def show(json_before: bool, name: str, picture: Path | None, as_json: bool) -> None:
    """The known layer NAME: paper, formula, LaTeX, batch dependence, learned parameters, source; and a picture.

    \b
    Example: evonas catalog show EvoNorm-S0 --picture s0.svg
    """
    row = known_layers[name]
    if picture:
        draw(row.graph, picture)
    told = _told(row)
    if as_json or json_before:
        print_json(told)
        return
    console = terminal()
    console.print(f"{name}: {row.paper}, {row.year}", soft_wrap=True, style="bold")
    if row.kind == "listed":
        console.print(f"listed, no layer here: {row.reason}", soft_wrap=True)
    else:
        console.print(f"{row.kind}, {'depends' if row.batch_dependent else 'does not depend'} on the batch")
    console.print("\nformula", style="bold")
    console.print(indent(row.text), soft_wrap=True)
    parts = {"without the activation": row.norm if row.norm != row.text else None}
    parts |= {title: told[title] for title in ("latex", "module")}
    for title, text in parts.items():
        if text:
            console.print(f"\n{title}", style="bold")
            console.print(indent(text), soft_wrap=True)
    if row.parameters:
        table = Table(box=None, padding=(0, 2, 0, 2), show_edge=False)
        for column in ("parameter", "kind", "starts at"):
            table.add_column(column)
        for each in row.parameters:
            table.add_row(each.name, each.kind, f"{each.value:g}")
        console.print()
        console.print(table)
    console.print(f"\nsource ({row.label}): {row.source}", soft_wrap=True)
    if row.note:
        console.print(f"note: {row.note}", soft_wrap=True)
    if picture:
        console.print(f"\nWrote {picture}.", soft_wrap=True)


def _told(row: KnownLayer) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "row": row.row,
        "paper": row.paper,
        "year": row.year,
        "formula": row.text,
        "norm": row.norm or None,
        "latex": latex(row.graph) if row.kind == "graph" else row.module_latex or None,
        "module": f"evonas.search_space.catalog.modules.{row.module}" if row.module else None,
        "reason": row.reason or None,
        "batch_dependent": row.batch_dependent,
        "parameters": [{"name": each.name, "kind": each.kind, "start": each.value} for each in row.parameters],
        "source": row.source,
        "label": row.label,
        "note": row.note or None,
    }
