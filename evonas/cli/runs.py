"""evonas runs: what runs there are."""

import time

import click

import evonas
from evonas.cli.options import JSON
from evonas.cli.query import print_json
from evonas.cli.tables import Column, TextTable, terminal


@click.command()
@click.argument("place", metavar="[FOLDER|URL]", default="results")
@JSON
def runs(place: str, as_json: bool) -> None:
    """The runs of a FOLDER (results, by default), a .db file, or a database's URL, in the order in which they began.

    A run is finished, running, stopped (Ctrl-C), or dead: its driver was killed. `evonas resume RUN` goes on with the
    last two. The best candidate's difference to BN-ReLU is that of the final table, in points of accuracy.

    \b
    Example: evonas runs results
    """
    from evonas.store.records import columns

    lines = evonas.runs(place)
    if as_json:
        print_json([columns(line) for line in lines])
        return
    table = TextTable(
        Column("run", is_key=True),
        Column("state"),
        *(Column(title, is_number=True) for title in ("births", "trained", "best", "birth")),
        Column("started", folds=True),
    )
    for line in lines:
        best = "" if line.best is None else f"{line.best * 100:+.1f}"
        started = "" if line.started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(line.started))
        counts = ("", "") if line.error else (str(line.births), str(line.trained))
        table.add(line.run, line.state, *counts, best, str(line.best_birth or ""), line.error or started)
    terminal().print(table)
    if not lines:
        terminal().print(f"No run in {place}.")
