"""evonas dump, export: records and layers for other programs."""

import json
from itertools import chain, islice
from pathlib import Path

import click

from evonas.cli.options import RUN
from evonas.cli.output import STANDARD_OUTPUT
from evonas.files import write

HELD = 20_000  # lines of a dump, of 1 KB, that are read before the first is printed


@click.command()
@RUN
@click.option("--logical", is_flag=True, help="Without versions, times, hosts, memory, epochs and events.")
def dump(run: str, logical: bool) -> None:
    """Print all records as JSON, one a line. Two runs are the same if their logical dumps are equal.

    A damaged run of up to 20,000 records prints nothing but the error. A larger one is printed while it is read, so
    that the error may follow whole lines; the exit code is 2.

    \b
    Example: evonas dump results/a --logical > a; evonas dump results/b --logical | diff a -
    """
    from evonas.run import open_run
    from evonas.store.dump import jsonable

    lines = (json.dumps(jsonable(record)) for record in open_run(run).dump(logical=logical))
    for line in chain(list(islice(lines, HELD)), lines):
        print(line)


@click.command()
@click.argument("layer")
@click.argument("birth", type=int, required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The Python file to write; - prints."
)
def export(layer: str, birth: int | None, output: Path) -> None:
    """Write LAYER as a Python file that imports torch alone and defines EvolvedLayer(num_features).

    LAYER is a run with the BIRTH of a candidate, RUN#BIRTH, a name of evonas catalog, or a text.

    \b
    Example: evonas export results/quickstart-000 17 -o layer.py
    Example: evonas export "x / rms_hw(x)" -o layer.py
    """
    from evonas.layers.export import source_of

    source = source_of(layer if birth is None else f"{layer}#{birth}")
    if output == STANDARD_OUTPUT:
        print(source, end="")
        return
    write(output, source)
    print(f"Wrote {output}: class EvolvedLayer(num_features), torch alone.")
