"""evonas fidelity: how well the proxies of a config predict long trainings."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import evonas
from evonas.cli.options import CONFIG, JSON, SET, layers_option
from evonas.cli.progress import progress_of
from evonas.cli.query import print_json
from evonas.cli.tables import Column, TextTable, one_line, say, terminal
from evonas.search_space.wording import counted

if TYPE_CHECKING:
    from evonas.search_space.catalog.named import NamedGraph
    from evonas.studies.rankings import Fidelity


@click.command()
@CONFIG
@click.argument("reference", type=click.Path(path_type=Path))
@layers_option()
@click.option("--seeds", type=int, default=1, show_default=True, help="Trainings of each layer on each proxy.")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="Keep each training; a later call goes on."
)
@SET
@click.option(
    "--reference-set", "reference_settings", metavar="KEY=VALUE", multiple=True,
    help="Override a value of the reference; repeatable.",
)  # fmt: skip
@JSON
def fidelity(
    config: Path, reference: Path, layers: "tuple[NamedGraph, ...]", seeds: int, out: Path | None,
    settings: tuple[str, ...], reference_settings: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Measure how far the proxies of CONFIG rank layers as the longer trainings of REFERENCE do, and at what cost.

    Every layer of the catalog that takes one input, or each --layer, is trained without gates on the proxies of both.
    Each signal, an accuracy or the mean training loss after a part of the steps, ranks the layers: the nearer to their
    ranking by the final accuracy of REFERENCE, and the cheaper, the better. This takes hours. With --out it can be
    stopped, and the same command goes on.

    \b
    Example: evonas fidelity cifar10.yaml cifar10-reference.yaml --out fidelity.jsonl
    """
    loaded, long = evonas.load_config(config, settings), evonas.load_config(reference, reference_settings)
    names = [each.name for each in layers]
    with progress_of("trainings") as progress:
        measured = evonas.fidelity(loaded, long, names, seeds=seeds, out=out, on_progress=progress)
    if as_json:
        print_json(measured.as_json())
        return
    console = terminal()
    console.print(_signals(measured))
    say(
        console,
        f"\nRank correlation (Spearman) over {counted(len(measured.layers), 'layer')} with the accuracy of {long.name} "
        f"after {counted(long.recipe.steps, 'step')}, mean over its proxies; 95 % interval by bootstrap over layers. "
        "Core-seconds: of one layer until this step. Worth its cost: no cheaper signal has as high a correlation.\n",
    )
    console.print(_layers(measured, list(loaded.proxies), long.name))
    say(
        console,
        f"\nValidation accuracy after {counted(loaded.recipe.steps, 'step')}, and in {long.name} after "
        f"{long.recipe.steps}. A training that failed counts as guessing.",
    )
    for name, why in measured.crashed.items():
        say(console, f"Not compared, since a training crashed: {one_line(name)}: {why}", hang=2)


def _signals(measured: "Fidelity") -> TextTable:
    numbers = ("correlation", "95 % interval", "core-seconds", "correlation per core-second")
    table = TextTable(
        *(Column(title, is_key=True) for title in ("proxy", "signal")),
        Column("step", is_number=True, is_key=True),
        *(Column(title, is_number=True) for title in numbers),
        Column("worth its cost"),
    )
    for row in measured.rows:
        interval = "-" if row.interval is None else f"{row.interval[0]:.2f} to {row.interval[1]:.2f}"
        correlation = "-" if row.correlation is None else f"{row.correlation:.2f}"
        rate = "-" if row.per_second is None else f"{row.per_second:.3g}"
        cost = f"{row.seconds:.1f}"
        table.add(
            row.proxy, row.measure, str(row.step), correlation, interval, cost, rate, "yes" if row.is_best else ""
        )
    return table


def _layers(measured: "Fidelity", proxies: list[str], reference: str) -> TextTable:
    table = TextTable(
        Column("rank", is_number=True, is_key=True),
        *(Column(title, is_number=True) for title in (reference, *proxies, "failed")),
        Column("layer", folds=True),
    )
    for rank, each in enumerate(measured.layers, start=1):
        accuracies = (f"{value:.3f}" for value in (each.reference, *(each.accuracy[proxy] for proxy in proxies)))
        table.add(str(rank), *accuracies, str(each.failed or ""), one_line(each.layer))
    return table
