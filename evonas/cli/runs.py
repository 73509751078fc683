"""evonas runs: the runs of a folder or a database."""

import time

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.options import JSON
from evonas.cli.tables import Column, TextTable, terminal
from evonas.units import Unit


@click.command()
@click.argument("place", metavar="[FOLDER|URL]", default="results")
@JSON
def runs(place: str, as_json: bool) -> None:
    """List the runs of a FOLDER (results, by default), a .db file, or a database's URL, the oldest first.

    A run is finished, running, stopped (by Ctrl-C or SIGTERM), or dead (its driver was killed). `evonas resume RUN`
    goes on with a stopped or dead one. "best" is the difference of the best candidate to BN-ReLU in the final table, in
    points of accuracy, or in bits per byte; "birth" is that candidate.

    \b
    Example: evonas runs results
    """
    lines = evonas.runs(place)
    if as_json:
        print_json([line.as_json() for line in lines])
        return
    table = TextTable(
        Column("run", is_key=True),
        Column("state"),
        *(Column(title, is_number=True) for title in ("births", "trained", "best", "birth")),
        Column("started", folds=True, is_prose=True),
    )
    for line in lines:
        best = "" if line.best is None else line.unit.amount(line.best) + " bits" * (line.unit is Unit.BITS)
        started = "" if line.started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(line.started))
        counts = ("", "") if line.error else (str(line.births), str(line.trained))
        table.add(line.run, line.state, *counts, best, str(line.best_birth or ""), line.error or started)
    terminal().print(table)
    if not lines:
        terminal().print(f"No run in {place}.")
