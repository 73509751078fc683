"""evonas find, lineage, replay, neighbours: search candidates, trace their parents, check them, and list edits."""

import sys
from pathlib import Path

import click

import evonas
from evonas.cli.formats import formats, print_form, print_json
from evonas.cli.layers import layer_table, units_text
from evonas.cli.options import BIRTH, COUNT, JSON, MINIMUM, RUN
from evonas.cli.query import print_layers
from evonas.cli.tables import Column, TextTable, one_line, say, terminal
from evonas.search_space.wording import counted

SHOWN = 20  # children, or differences, that are printed


@click.command()
@RUN
@click.option(
    "--uses",
    metavar="OP",
    multiple=True,
    help="An operation of some live node, such as std_ghw, or a pattern: '*_bhw'; repeatable.",
)
@click.option("--lacks", metavar="OP", multiple=True, help="An operation, or pattern, of no live node; repeatable.")
@click.option(
    "--batch/--no-batch", "batch_dependent", default=None, help="Only layers that depend on their batch, or do not."
)
@click.option("--max-nodes", metavar="N", type=int, help="At most so many live nodes.")
@click.option(
    "--min",
    "minimum",
    metavar="PROXY=FIGURE",
    multiple=True,
    type=MINIMUM,
    help="At least this accuracy, such as resnet=0.55, or at most these bits per byte, such as gpt=3.5; repeatable.",
)
@click.option("--front", is_flag=True, help="Only the Pareto front.")
@click.option(
    "--distinct", is_flag=True, help="Only the best of each family, and of layers that trained alike, bit for bit."
)
@click.option("--by", metavar="PROXY", help="Rank by the figure on one proxy.")
@COUNT
@formats
def find(
    run: str,
    uses: tuple[str, ...],
    lacks: tuple[str, ...],
    batch_dependent: bool | None,
    max_nodes: int | None,
    minimum: tuple[tuple[str, float], ...],
    front: bool,
    distinct: bool,
    by: str | None,
    n: int,
    form: str | None,
) -> None:
    """List the best layers of RUN that use, or lack, some operations, are small, accurate or undominated.

    They are ranked as by `evonas top`. All options must hold; of a pattern of --uses one operation is enough.

    \b
    Example: evonas find results/quickstart-000 --uses std_ghw --lacks '*_bhw' --max-nodes 8 --min resnet=0.55
    """  # fmt: skip
    from evonas.listing import candidate_json
    from evonas.run import open_run

    opened = open_run(run)
    records = opened.find(
        uses, lacks, batch_dependent=batch_dependent, max_nodes=max_nodes, minimum=dict(minimum), front=front,
        distinct=distinct, by=by, n=n,
    )  # fmt: skip
    if form:
        answer = [candidate_json(record, opened.config.units) for record in records]
        print_form(form, answer, records, opened.rows(records), opened.config.units)
        return
    print_layers(opened, records, "No survivor matches.")


@click.command()
@RUN
@BIRTH
@formats
def lineage(run: str, birth: int, form: str | None) -> None:
    """List the ancestors of the candidate BIRTH of RUN, the oldest first, then itself and the births of its children.

    \b
    Example: evonas lineage results/quickstart-000 17
    """
    from evonas.listing import candidate_json
    from evonas.run import open_run

    opened = open_run(run)
    line, children, proxies = opened.lineage(birth), opened.children(birth), list(opened.config.proxies)
    rows = opened.candidate_rows(line)
    if form:
        answer = {"line": [candidate_json(record, opened.config.units) for record in line], "children": children}
        print_form(form, answer, line, rows, opened.config.units)
        return
    console = terminal()
    console.print(layer_table(rows, proxies))
    if units := units_text(rows):
        say(console, f"\n{units}")
    shown = ", ".join(map(str, children[:SHOWN])) + f" and {len(children) - SHOWN} more" * (len(children) > SHOWN)
    say(console, f"\nchildren: {shown or 'none'}")


@click.command()
@RUN
@JSON
def replay(run: str, as_json: bool) -> None:
    """Derive every proposal of RUN again from its config and the records before it, and print the differences.

    A run of this version of evonas has none, however often it was killed and resumed. Exit code 1 if there are any.

    \b
    Example: evonas replay results/quickstart-000
    """
    from evonas.run import open_run
    from evonas.store.records import columns

    opened = open_run(run)
    births = opened.status().births
    differences = opened.replay()
    console, head = terminal(), f"{opened.name}: {counted(births, 'birth')};"
    if as_json:
        print_json([columns(each) for each in differences])
    elif not differences:
        say(console, f"{head} every one follows from the records before it.")
    else:
        say(console, f"{head} {counted(len(differences), 'value')} cannot be derived from the records before.")
        for each in differences[:SHOWN]:
            values = f"stored {_short(each.stored)}, derived {_short(each.derived)}"
            say(console, f"  birth {each.birth}: {each.field}: {values}", hang=4)
        if len(differences) > SHOWN:
            say(console, f"  and {len(differences) - SHOWN} more")
    sys.exit(1 if differences else 0)


@click.command()
@click.argument("layer")
@click.argument("config", type=click.Path(path_type=Path), required=False)
@JSON
def neighbours(layer: str, config: Path | None, as_json: bool) -> None:
    """List the single edits of LAYER, a name of evonas catalog, a text, or RUN#BIRTH, each with the operator that makes
    it: those that are distinct, finite functions of x.

    The edits are those of the space of CONFIG; without it of the run of RUN#BIRTH, or of the paper's space. A search
    goes through them all with evolution.neighbours_of.

    \b
    Example: evonas neighbours BN-ReLU
    """
    found = evonas.neighbours(layer, config)
    if as_json:
        print_json(found.figures())
        return
    console = terminal()
    table = TextTable(Column("operator", is_key=True), Column("formula", folds=True))
    for each in found.edits:
        table.add(each.operator, one_line(each.graph.formula))
    console.print(table)
    counts = ", ".join(f"{name} {count}" for name, count in found.by_operator.items())
    say(
        console,
        f"\n{len(found.edits)} functions one edit away ({counts or 'none'}), of {found.forms} graphs; a search goes "
        "through these with evolution.neighbours_of.",
    )


def _short(value: object) -> str:
    text = one_line(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
