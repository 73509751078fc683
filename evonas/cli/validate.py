"""evonas validate: candidates of a finished search on the test images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.layers import by_proxy, headline, layer_table
from evonas.cli.options import COUNTS, JSON, LAYER, NAMES, RUN, SET
from evonas.cli.progress import progress_of
from evonas.cli.tables import Column, TextTable, figure_text, one_line, say, terminal
from evonas.search_space.wording import counted
from evonas.units import Unit

if TYPE_CHECKING:
    from evonas.config import Config
    from evonas.final import FinalRow
    from evonas.search_space.catalog.named import NamedGraph
    from evonas.studies.validation import Validation


@click.command()
@RUN
@click.argument("births", type=int, nargs=-1)
@click.option("--top", type=int, metavar="N", help="Judge the N best of the final table.")
@click.option("--seeds", type=int, default=3, show_default=True, help="Fresh seeds.")
@click.option(
    "--data", metavar="SOURCE",
    help="Other images: CIFAR10, CIFAR100, SVHN, FashionMNIST, embedded, a folder of images, or MODULE:NAME.",
)  # fmt: skip
@click.option(
    "--architectures", metavar="NAME,...", type=NAMES, default=(),
    help="Other networks: proxies of the config, kinds of networks such as vgg and efficientnet, or MODULE:NAME.",
)  # fmt: skip
@click.option("--steps", type=int, metavar="N", help="Steps of each training.")
@click.option(
    "--batch-sizes",
    metavar="N,...",
    type=COUNTS,
    default=(),
    help="Repeat everything at each batch size; the rate stays.",
)
@click.option(
    "--on", metavar="CONFIG", type=click.Path(path_type=Path),
    help="Train under this config's data, recipe and proxies [those of RUN].",
)  # fmt: skip
@SET
@click.option(
    "--baseline", "baselines", metavar="LAYER", type=LAYER, multiple=True,
    help="Train this layer beside the baselines of RUN, too; repeatable.",
)  # fmt: skip
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path),
    help="Keep the trainings in FILE; RUN is only read.",
)  # fmt: skip
@click.option(
    "--from", "from_files", metavar="FILE", type=click.Path(path_type=Path), multiple=True,
    help="Record trainings of an earlier --out, such as a GPU's; repeatable.",
)  # fmt: skip
@JSON
def validate(
    run: str, births: tuple[int, ...], top: int | None, seeds: int, data: str | None, architectures: tuple[str, ...],
    steps: int | None, batch_sizes: tuple[int, ...], on: Path | None, settings: tuple[str, ...],
    baselines: "tuple[NamedGraph, ...]", out: Path | None, from_files: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Judge the candidates BIRTHS of RUN, a finished search, on its test images or text, beside BN-ReLU and its
    baselines.

    They are trained on the training part with fresh seeds. Nothing else opens the test part. By default only the best
    candidate of the final table is judged: choosing among several by their test figures would spoil the test.

    With --data, --architectures, --steps, --batch-sizes, --set, --baseline or --on they are trained where they were not
    searched, without gates: on other data and networks, for more steps. Differences to each baseline are paired by
    seed. --set changes what the other options leave, such as data.train=45000 or proxies.vgg.width=16.

    RUN records each training. The same command goes on where it was stopped; evonas show and evonas card show what is
    there. For a run that is read-only, --out keeps them in a file.

    \b
    Example: evonas validate results/quickstart-000
             evonas validate results/quickstart-000 --data CIFAR10 --architectures vgg,efficientnet --steps 500
             evonas validate results/cifar10-000 --top 10 --on fashion-validation.yaml --seeds 5 --batch-sizes 128,8
    """
    if not any((on, data, architectures, steps is not None, batch_sizes, settings, baselines)):
        for option, given in (("--out", out), ("--from", from_files)):
            if given:
                raise evonas.InputError(
                    f"{option}: trainings under the search's own protocol are recorded in RUN alone"
                )
        with progress_of("trainings") as progress:
            rows = evonas.validate(run, births, top=top, seeds=seeds, on_progress=progress)
        _print_rows(run, rows, as_json)
        return
    from evonas.run import open_run
    from evonas.studies.validation_config import validation_config

    searched = open_run(run).config
    config = validation_config(searched, on, data=data, architectures=architectures, steps=steps, settings=settings)
    names = [each.name for each in baselines]
    with progress_of("trainings") as progress:
        measured = evonas.validate(
            run, births, on=config, top=top, baselines=names, batch_sizes=batch_sizes, seeds=seeds, out=out,
            from_files=from_files, on_progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(measured.as_json())
    else:
        _print_validation(measured, config, seeds, searched.baseline)


def _print_rows(run: str, rows: "list[FinalRow]", as_json: bool) -> None:
    from evonas.listing import figures_json
    from evonas.run import open_run
    from evonas.views import final_row

    if as_json:
        print_json([figures_json(row) for row in rows])
        return
    console = terminal()
    trained = max(row.seeds for row in rows)
    judged = open_run(run)
    units = judged.config.units
    say(console, f"{headline('Trained', trained, units, judged_on='test')}\n")
    console.print(layer_table([final_row(row, judged.config) for row in rows], list(judged.config.proxies)))
    opened = judged.validated()
    if len(opened) > 1:
        say(
            console,
            f"\nThe test {units.mean.data} {'has' if units.mean is Unit.BITS else 'have'} now judged "
            f"{counted(len(opened), 'candidate')} of this run (births {', '.join(map(str, sorted(opened)))}): the best "
            f"of them was chosen by its test {units.text}.",
        )


def _print_validation(measured: "Validation", config: "Config", seeds: int, baseline: str) -> None:
    from evonas.known_layers import known_as

    console, proxies, units = terminal(), list(config.proxies), config.units
    several = len({row.batch_size for row in measured.layers}) > 1
    spread = ", mean ± standard deviation over seeds" if seeds > 1 else ""
    of_both = ", of accuracy and 2^-(bits per byte)" if units.mean is Unit.FITNESS else ""
    say(
        console,
        f"{config.name}: test {units.text} on {_images(config)} after {counted(config.recipe.steps, 'step')} with "
        f"{counted(seeds, 'fresh seed')}{spread}; mean: over the proxies{of_both}\n",
    )
    layers = TextTable(
        *([Column("batch", is_number=True, is_key=True)] if several else []),
        Column("birth", is_number=True, is_key=True),
        Column("mean", is_number=True),
        *(Column(proxy, is_number=True) for proxy in proxies),
        Column("diverged", is_number=True),
        Column("known as"),
        Column("formula", folds=True),
    )
    for row in measured.layers:
        layers.add(
            *([str(row.batch_size)] if several else []),
            str(row.birth or ""),
            figure_text(row.mean),
            *(figure_text(row.accuracy[proxy]) for proxy in proxies),
            str(row.failed or ""),
            known_as(row.same_as, row.affine_of),
            one_line(row.name or row.formula),
            style="" if row.birth else "dim",
        )
    console.print(layers)
    interval = ", and the 95 % t-interval of their mean" if seeds > 1 else ""
    say(
        console,
        f"\nDifferences in {units.mean.explained}{by_proxy(units)} with the same seeds{interval}: of each layer to "
        f"{baseline}, and of each candidate to each other baseline\n",
    )
    differences = TextTable(
        *([Column("batch", is_number=True, is_key=True)] if several else []),
        Column("layer", is_key=True),
        Column("to", is_key=True),
        *(Column(title, is_number=True) for title in ("mean", *proxies)),
    )
    for each in measured.differences:
        differences.add(
            *([str(each.batch_size)] if several else []),
            one_line(each.label),
            one_line(each.baseline),
            units.mean.with_interval(each.mean),
            *(units.of(proxy).with_interval(each.by_proxy[proxy]) for proxy in proxies),
            style="" if each.birth else "dim",
        )
    console.print(differences)
    say(console, "\nA training that diverged counts as guessing.")
    judged = {row.birth for row in measured.layers if row.birth}
    if len(judged) > 1:
        say(
            console,
            f"{counted(len(judged), 'candidate')} were judged: the best of them is chosen by its test {units.text}, "
            "and of twenty intervals one misses its true value by chance.",
        )
    if len(measured.conditions) > 1:
        say(console, "Trainings were computed under several conditions:")
        for conditions, count in measured.conditions.items():
            say(console, f"  {counted(count, 'training')}: {conditions}", hang=4)
    for name, why in measured.crashed.items():
        say(console, f"Not compared, since a training crashed: {one_line(name)}: {why}", hang=2)


def _images(config: "Config") -> str:
    """Each data set, the size of its images, and how many of them, or of its bytes, train."""
    from evonas.workers.protocol import Corpus

    texts = []
    for data in config.protocol.used_data:
        is_text = isinstance(data, Corpus)
        side = f" at {data.image_size}x{data.image_size}" if not isinstance(data, Corpus) and data.image_size else ""
        texts.append(f"{data.source}{side} ({counted(data.train, 'training byte' if is_text else 'training image')})")
    return " and ".join(texts)
