"""evonas tensorboard: a run's scalars for TensorBoard."""

from pathlib import Path

import click

import evonas
from evonas.cli.options import RUN, watch_option


@click.command()
@RUN
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    default=Path("tensorboard"),
    show_default=True,
    help="Where TensorBoard looks; each run gets a folder there.",
)
@watch_option("Go on until the run ends; a look every second, or as many SECONDS.")
def tensorboard(run: str, folder: Path, watch: float | None) -> None:
    """Write the scalars of RUN for TensorBoard (extra tensorboard).

    These are the best fitness, the mean of the population (both as differences to BN-ReLU), births, what each gate has
    stopped, and the surrogate's correlation, over births and over core-seconds. They come from the records, so
    nothing slows the search: --watch follows a run that another process drives.

    \b
    Example: evonas tensorboard results/quickstart-000
             tensorboard --logdir tensorboard
    """
    place = evonas.tensorboard(run, folder, watch=watch)
    print(f"Wrote {place}. Next: tensorboard --logdir {folder}")
