"""evonas catalog, catalog show: the known layers of the literature."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.options import JSON, PICTURE
from evonas.cli.query import indent
from evonas.cli.tables import Column, TextTable, one_line, say, terminal

if TYPE_CHECKING:
    from evonas.search_space.catalog import KnownLayer

AFFINE = ("weight", "bias")  # every layer has these; the table does not count them
_DEPENDS = {True: "yes", False: "no", None: "-"}


@click.group(invoke_without_command=True)
@JSON
@click.pass_context
def catalog(context: click.Context, as_json: bool) -> None:
    """List the known layers of the literature: graphs, reference modules, and layers that are no drop-in replacement,
    with the reason.

    "batch": whether the layer depends on its batch. "learned": how many learned scalars and vectors it has beside
    weight and bias.

    \b
    Example: evonas catalog
    Example: evonas catalog show EvoNorm-S0
    """
    context.obj = as_json  # `catalog --json show NAME` works like `catalog show NAME --json`
    if context.invoked_subcommand is not None:
        return
    from evonas.search_space.catalog import ListedLayer

    if as_json:
        print_json([_as_json(row) for row in evonas.catalog.values()])
        return
    table = TextTable(
        Column("name", is_key=True),
        *(Column(title) for title in ("year", "kind", "batch")),
        Column("learned", is_number=True),
        Column("formula, or why it is no drop-in layer", folds=True, is_prose=True),
    )
    for row in evonas.catalog.values():
        learned = str(sum(each.name not in AFFINE for each in row.parameters) or "-")
        last = row.reason if isinstance(row, ListedLayer) else one_line(row.text)
        cells = (row.kind, _DEPENDS[row.batch_dependent], learned, last)
        table.add(row.name, str(row.year), *cells, style="dim" if isinstance(row, ListedLayer) else "")
    terminal().print(table)


@catalog.command(short_help="Show one known layer.")
@click.argument("name")
@PICTURE
@JSON
@click.pass_obj
def show(json_before: bool, name: str, picture: Path | None, as_json: bool) -> None:
    """Show the known layer NAME: paper, formula, LaTeX, batch dependence, learned parameters, source.

    --picture draws its graph.

    \b
    Example: evonas catalog show EvoNorm-S0 --picture s0.svg
    """
    from evonas.report.picture import draw
    from evonas.search_space.catalog import ListedLayer

    row = evonas.catalog[name]
    if picture:
        draw(row.graph, picture)
    if as_json or json_before:
        print_json(_as_json(row))
        return
    console = terminal()
    console.print(f"{name}: {row.paper}, {row.year}", style="bold")
    if isinstance(row, ListedLayer):
        say(console, f"listed, no drop-in layer: {row.reason}")
    else:
        say(console, f"{row.kind}, {'depends' if row.batch_dependent else 'does not depend'} on the batch")
    console.print("\nformula", style="bold")
    if isinstance(row, ListedLayer):  # words as much as symbols
        say(console, indent(row.text), hang=2)
    else:
        console.print(indent(row.text), soft_wrap=True)
    for title, text in _parts(row).items():
        console.print(f"\n{title}", style="bold")
        console.print(indent(text), soft_wrap=True)
    if row.parameters:
        table = TextTable(*(Column(title) for title in ("parameter", "kind", "starts at")))
        for each in row.parameters:
            table.add(each.name, each.kind, f"{each.value:g}")
        console.print()
        console.print(table)
    say(console, f"\nsource ({row.label}): {row.source}")
    if row.note:
        say(console, f"note: {row.note}")
    if picture:
        console.print(f"\nWrote {picture}.", soft_wrap=True)


def _parts(row: "KnownLayer") -> dict[str, str]:
    """Texts that only one kind of row has, by title."""
    from evonas.search_space.catalog import GraphLayer, ModuleLayer
    from evonas.search_space.latex import latex

    match row:
        case GraphLayer():
            norm = {"without the activation": row.norm} if row.norm not in ("", row.text) else {}
            return norm | {"latex": latex(row.graph)}
        case ModuleLayer():
            return {"latex": row.latex, "module": row.path}
        case _:
            return {}


def _as_json(row: "KnownLayer") -> dict[str, Any]:
    from evonas.search_space.catalog import GraphLayer, ListedLayer

    parts = _parts(row)
    return {
        "name": row.name,
        "kind": row.kind,
        "survey_number": row.survey_number,
        "paper": row.paper,
        "year": row.year,
        "formula": row.text,
        "norm": (row.norm or None) if isinstance(row, GraphLayer) else None,
        "latex": parts.get("latex"),
        "module": parts.get("module"),
        "reason": row.reason if isinstance(row, ListedLayer) else None,
        "batch_dependent": row.batch_dependent,
        "parameters": [{"name": each.name, "kind": each.kind, "start": each.value} for each in row.parameters],
        "source": row.source,
        "label": row.label,
        "note": row.note or None,
    }
