"""evonas ablate: which parts of a layer matter."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.layers import by_proxy
from evonas.cli.options import JSON, SET
from evonas.cli.progress import progress_of
from evonas.cli.tables import Column, TextTable, figure_text, one_line, say, terminal
from evonas.search_space.wording import counted

if TYPE_CHECKING:
    from evonas.studies.ablate import Ablation


@click.command()
@click.argument("layer")
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option("--seeds", type=int, default=3, show_default=True, help="Fresh seeds.")
@SET
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path),
    help="Keep the trainings in FILE; the run is only read.",
)  # fmt: skip
@JSON
def ablate(
    layer: str, config: Path | None, seeds: int, settings: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    """Remove or replace each part of LAYER, a name of evonas catalog, a text, RUN#BIRTH, or RUN BIRTH, train what is
    left, and compare it with the whole.

    A node gives way to each of its inputs. A statistic gives way to a constant, and to itself over each other index
    set over which the networks take layers. A learned parameter stays as it starts. CONFIG says what is trained on
    which images or text; without it the config of the run of RUN#BIRTH does. Gates are not asked; the validation part
    judges. The run of RUN#BIRTH records each training, and the same command goes on where it was stopped; for any other
    layer, and a run that is read-only, --out does.

    \b
    Example: evonas ablate results/quickstart-000 138
             evonas ablate EvoNorm-B0 cifar10.yaml --seeds 5 --out ablation.jsonl
    """
    if config is not None and config.name.isdecimal() and not config.exists():  # RUN BIRTH, as evonas card takes it
        layer, config = f"{layer}#{config}", None
    with progress_of("trainings") as progress:
        measured = evonas.ablate(layer, config, seeds=seeds, settings=settings, out=out, on_progress=progress)
    if as_json:
        print_json(measured.as_json())
        return
    console, (first, *others) = terminal(), measured.layers
    with_spread = ", mean ± standard deviation over seeds" if seeds > 1 else ""
    say(console, f"{one_line(first.formula)}\n", hang=4)
    units = measured.units
    say(console, f"Validation {units.text} with {counted(seeds, 'fresh seed')}{with_spread}:", hang=2)
    for proxy, value in {"mean of the proxies": first.mean, **first.accuracy}.items():
        say(console, f"  {proxy}  {figure_text(value)}")
    if others:
        interval = ", and the 95 % t-interval of their mean" if seeds > 1 else ""
        say(console, f"\nDifferences to it in {units.mean.explained}{by_proxy(units)} with the same seeds{interval}:\n")
        console.print(_table(measured))
    else:
        say(console, "\nNone of its parts can be left out.")
    say(console, "\nA training that diverged counts as guessing.")
    for formula, why in measured.crashed.items():
        say(console, f"Not compared, since a training crashed: {one_line(formula)}: {why}", hang=2)


def _table(measured: "Ablation") -> TextTable:
    proxies, units = list(measured.layers[0].accuracy), measured.units
    several = len(proxies) > 1
    table = TextTable(
        Column("mean" if several else proxies[0], is_number=True),
        *(Column(proxy, is_number=True) for proxy in proxies if several),
        Column("diverged", is_number=True),
        Column("part -> what it becomes", folds=True),
    )
    for row in measured.layers[1:]:
        table.add(
            units.mean.with_interval(row.difference),
            *(units.of(proxy).amount(row.by_proxy[proxy][0]) for proxy in proxies if several),
            str(row.failed or ""),
            f"{one_line(row.part or '')} -> {one_line(row.becomes or '')}",
        )
    return table
