"""The tables of results/fidelity-cifar10/tables.md, of a file that `evonas fidelity` made with several configs.

    python -m tests.benchmarks.fidelity_page configs/cifar10-reference.yaml --set data.source=folder \\
        --set data.path=DIR --out results/fidelity-cifar10/fidelity.jsonl > results/fidelity-cifar10/tables.md

The configs of the short trainings lie beside the file. A config is compared over the layers of which the file has all
its trainings with its own seed; what the reference lacks of them is trained.
"""

import argparse
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median

import evonas
from evonas.config import Config
from evonas.search_space.catalog import LAYERS
from evonas.studies.fidelity import LAYERS_MIN
from evonas.studies.rankings import Fidelity, looks, mean_loss, rank_correlation
from evonas.studies.results import ResultFile, Row
from tests.benchmarks.command import in_one_line

NORMALIZED, WITHOUT, LINEAR = "BN-ReLU", "tanh", "BatchNorm"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"| {' | '.join(titles)} |")
    print(f"| {' | '.join(['---', *['--:'] * (len(titles) - 1)])} |")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def shown(value: float | None, interval: tuple[float, float] | None) -> str:
    return "-" if value is None or interval is None else f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def trained(config: Config, rows: Sequence[Row]) -> list[str]:
    """The layers that every proxy of a config trained with its seed."""
    has = {(row["proxy"], row["layer"]) for row in rows if (row["config"], row["seed"]) == (config.name, config.seed)}
    return [layer for layer in LAYERS.graphs if all((proxy, layer) in has for proxy in config.proxies)]


def reference_table(measured: Fidelity) -> None:
    networks = list(measured.layers[0].by_network)
    table(
        ["layer", "mean", *networks],
        [
            [each.layer, f"{each.reference:.3f}", *(f"{each.by_network[n]:.3f}" for n in networks)]
            for each in measured.layers
        ],
    )


def overview(several: Sequence[tuple[Config, Fidelity]]) -> None:
    """The signals at the end, and the late loss at half the steps."""
    lines = []
    for config, measured in several:
        half, end = looks(config.recipe.steps)[1], config.recipe.steps
        for proxy in config.proxies:
            at = {(row.measure, row.step): row for row in measured.rows if row.proxy == proxy}
            accuracy, late = at["accuracy", end], at["late loss", end]
            chosen = (accuracy, at["loss", end], late, at["late loss", half])
            over_all = (shown(row.correlation, row.interval) for row in chosen)
            over_half = (shown(row.better_half, row.better_half_interval) for row in (accuracy, late))
            seconds = (f"{late.seconds:.1f}", f"{late.per_second or 0:.2f}")
            lines.append([f"{config.name} {proxy}", *over_all, *over_half, *seconds])
    titles = ("accuracy", "loss", "late loss", "late loss at half", "better half: accuracy", "better half: late loss")
    table(["setting", *titles, "core-s", "late loss per core-s"], lines)


def signals(several: Sequence[tuple[Config, Fidelity]]) -> None:
    titles = ("setting", "signal", "step", "all layers", "better half", "core-s", "per core-s")
    lines = [
        [
            f"{config.name} {row.proxy}", row.measure, str(row.step), shown(row.correlation, row.interval),
            shown(row.better_half, row.better_half_interval), f"{row.seconds:.1f}", f"{row.per_second or 0:.3f}",
        ]
        for config, measured in several
        for row in measured.rows
    ]  # fmt: skip
    table(titles, lines)


def normalization(several: Sequence[tuple[Config, Fidelity]], rows: Sequence[Row]) -> None:
    """BN-ReLU against a layer without normalization and one without an activation."""
    lines = []
    for config, measured in several:
        by_layer = {each.layer: each for each in measured.layers}
        if not lines:
            best = by_layer[NORMALIZED]
            for network, value in best.by_network.items():
                points = (100 * (value - by_layer[each].by_network[network]) for each in (WITHOUT, LINEAR))
                lines.append([f"reference {network}", *(f"{each:+.1f}" for each in points), "", ""])
        for proxy in config.proxies:
            accuracy = {each: by_layer[each].accuracy[proxy] for each in (NORMALIZED, WITHOUT, LINEAR)}
            late = {
                row["layer"]: late_loss(row, config.recipe.steps)
                for row in rows
                if (row["config"], row["proxy"], row["seed"]) == (config.name, proxy, config.seed)
            }
            points = (100 * (accuracy[NORMALIZED] - accuracy[each]) for each in (WITHOUT, LINEAR))
            losses = (late[each] - late[NORMALIZED] for each in (WITHOUT, LINEAR))
            cells = (*(f"{each:+.1f}" for each in points), *(f"{each:+.3f}" for each in losses))
            lines.append([f"{config.name} {proxy}", *cells])
    accuracy_titles = (f"{NORMALIZED} over {each}, points" for each in (WITHOUT, LINEAR))
    loss_titles = (f"{each}'s late loss over {NORMALIZED}'s" for each in (WITHOUT, LINEAR))
    table(["setting", *accuracy_titles, *loss_titles], lines)


def late_loss(row: Row, steps: int) -> float:
    return mean_loss(row["points"], steps, looks(steps)[-2])


def seeds(configs: Sequence[Config], rows: Sequence[Row]) -> None:
    """Median distances of two trainings of one layer with different seeds, and of two layers with one seed. The
    reference was looked at only once on its way, so that its late loss is that of the last half."""
    lines = []
    for config in configs:
        for proxy in config.proxies:
            of = [row for row in rows if (row["config"], row["proxy"]) == (config.name, proxy)]
            first, second = ({row["layer"]: row for row in of if row["seed"] == config.seed + n} for n in (0, 1))
            layers = [each for each in first if each in second and first[each]["accuracy"] and second[each]["accuracy"]]
            if len(layers) < LAYERS_MIN:
                continue
            cells = [str(len(layers))]
            for measure in (lambda row: float(row["accuracy"]), lambda row, to=config.recipe.steps: late_loss(row, to)):
                a, b = ([measure(of_seed[each]) for each in layers] for of_seed in (first, second))
                of_seeds = median(abs(x - y) for x, y in zip(a, b, strict=True))
                of_layers = median(abs(x - y) for x, y in combinations(a, 2))
                cells += [f"{of_seeds:.3f}", f"{of_layers:.3f}", shown(*rank_correlation(a, b))]
            lines.append([f"{config.name} {proxy}", *cells])
    titles = ("between seeds", "between layers", "rank correlation of two seeds")
    table(["setting", "layers", *(f"{m}: {t}" for m in ("accuracy", "late loss") for t in titles)], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the file of `evonas fidelity`")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the reference")
    arguments = parser.parse_args()
    file = arguments.out
    reference = evonas.load_config(arguments.reference, arguments.set)
    rows = ResultFile(file, study="fidelity").rows
    configs = [evonas.load_config(path) for path in sorted(file.parent.glob("*.yaml"))]
    layers = {config.name: trained(config, rows) for config in configs}
    most, fewest = (pick(layers.values(), key=len) for pick in (max, min))
    measured = [(each, evonas.fidelity(each, reference, layers[each.name], out=file)) for each in configs]
    whole = [(config, fidelity) for config, fidelity in measured if layers[config.name] == most]
    print("# Fidelity of short trainings: all tables\n")
    print("Made by `tests/benchmarks/fidelity_page.py`; README.md says what it is.\n")
    print("## The reference: accuracy on the validation images\n")
    reference_table(whole[0][1])
    print(f"## Rank correlation over {len(most)} layers, one seed, with 95 % intervals by bootstrap\n")
    overview(whole)
    if len(fewest) < len(most):
        print(f"## The same over {len(fewest)} layers, which every setting trained\n")
        overview([(each, evonas.fidelity(each, reference, fewest, out=file)) for each in configs])
    print("## Is normalization seen, and the activation?\n")
    normalization(measured, rows)
    print("## Median differences of two seeds of a layer, and of two layers\n")
    seeds([reference, *configs], rows)
    print("## Every signal, with 95 % intervals by bootstrap over layers\n")
    signals(measured)


if __name__ == "__main__":
    in_one_line(main)
