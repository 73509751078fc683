"""evonas fidelity: how well the proxies of a config predict long trainings."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.options import CONFIG, JSON, SET, layers_option
from evonas.cli.progress import progress_of
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
    "--out", metavar="FILE", type=click.Path(path_type=Path),
    help="Keep each training, of any configs; a later call trains what is missing.",
)  # fmt: skip
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
    Each signal ranks the layers: the nearer to their ranking by the final accuracy of REFERENCE, and the cheaper, the
    better. Signals, after each quarter of the steps, are the validation accuracy, the mean training loss so far (TSE of
    arXiv:2006.04492), and the late loss, its mean over the last quarter until then (TSE-E).

    This takes hours. With --out it can be stopped, and the same command goes on. What other configs trained is used
    where data, recipe, network and seed are the same; the images' path, names and execution may differ.

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
        f"\nRank correlation (Spearman) over {counted(len(measured.layers), 'layer')} with the {long.units.text} of "
        f"{long.name} after {counted(long.recipe.steps, 'step')}, mean over its proxies; 95 % interval by bootstrap "
        "over layers. Better half: the same over the better half of the layers there. Seconds: core-seconds of one "
        "layer until this step; per second: correlation per core-second. Worth it: no cheaper signal has as high a "
        "correlation. Loss: training's mean so far; late loss: its mean over the last quarter until this step. In the "
        "mean of proxies losses are not scaled.\n",
    )
    console.print(_layers(measured, list(loaded.proxies), long.name))
    say(
        console,
        f"\nValidation {loaded.units.text} after {counted(loaded.recipe.steps, 'step')}, and in {long.name} after "
        f"{long.recipe.steps}. A training that failed counts as guessing.",
    )
    if len(measured.conditions) > 1:
        say(console, "Trainings were computed under several conditions, whose seconds do not compare:")
        for conditions, count in measured.conditions.items():
            say(console, f"  {counted(count, 'training')}: {conditions}", hang=4)
    for name, why in measured.crashed.items():
        say(console, f"Not compared, since a training crashed: {one_line(name)}: {why}", hang=2)


def _signals(measured: "Fidelity") -> TextTable:
    numbers = ("correlation", "95 % interval", "better half", "95 % interval", "seconds", "per second")
    table = TextTable(
        *(Column(title, is_key=True) for title in ("proxy", "signal")),
        Column("step", is_number=True, is_key=True),
        *(Column(title, is_number=True) for title in numbers),
        Column("worth it"),
    )
    for row in measured.rows:
        rate = "-" if row.per_second is None else f"{row.per_second:.3g}"
        table.add(
            row.proxy,
            row.measure,
            str(row.step),
            *_with_interval(row.correlation, row.interval),
            *_with_interval(row.better_half, row.better_half_interval),
            f"{row.seconds:.1f}",
            rate,
            "yes" if row.is_best else "",
        )
    return table


def _with_interval(correlation: float | None, interval: tuple[float, float] | None) -> tuple[str, str]:
    if correlation is None or interval is None:
        return "-", "-"
    return f"{correlation:.2f}", f"{interval[0]:.2f} to {interval[1]:.2f}"


def _layers(measured: "Fidelity", proxies: list[str], reference: str) -> TextTable:
    networks = list(measured.layers[0].by_network)
    alone = len(networks) == 1
    titles = (reference, *(() if alone else (f"{reference}: {each}" for each in networks)), *proxies, "failed")
    table = TextTable(
        Column("rank", is_number=True, is_key=True),
        *(Column(title, is_number=True) for title in titles),
        Column("layer", folds=True),
    )
    for rank, each in enumerate(measured.layers, start=1):
        values = (each.reference, *(() if alone else each.by_network.values()), *(each.accuracy[p] for p in proxies))
        table.add(str(rank), *(f"{value:.3f}" for value in values), str(each.failed or ""), one_line(each.layer))
    return table
