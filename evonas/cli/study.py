"""evonas funnel, noise, bench: the quality and the cost of evaluations."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.layers import operator_table, spread_text
from evonas.cli.options import CONFIG, JSON, RUN, SET, layers_option
from evonas.cli.progress import progress_of
from evonas.cli.tables import Column, TextTable, duration, one_line, say, terminal
from evonas.search_space.wording import counted
from evonas.units import Unit

if TYPE_CHECKING:
    from evonas.search_space.catalog.named import NamedGraph
    from evonas.studies.funnel import FunnelRow
    from evonas.workers.protocol import Device


@click.command()
@RUN
@click.option(
    "--within", type=click.FloatRange(0, 100), metavar="POINTS",
    help="A rejection was wrong if the layer ends at most POINTS of accuracy [2] below BN-ReLU; of networks that read "
    "text alone, if it takes at most so many more bits per byte [0.05].",
)  # fmt: skip
@JSON
def funnel(run: str, within: float | None, as_json: bool) -> None:
    """Show what each gate of RUN stopped, at what cost, and how often wrongly; then what each operator proposed.

    Audits count the false rejects: a share of the rejected candidates (evolution.audit_share in the config) is trained
    to the full budget all the same. "0 of 5 [0.0 to 52.2 %]" means no false reject in 5 audits, and the exact 95 %
    interval of the rate. "saved at most" is what training the stopped candidates to the end would have cost.

    A child of several edits counts with each operator. "above its parent": trained children whose mean over proxies
    exceeds the parent's with the same seed, of those whose parent had one.

    \b
    Example: evonas funnel results/quickstart-000
    """
    from evonas.run import open_run
    from evonas.store.records import State

    opened = open_run(run)
    units = opened.config.units
    scale = 1 if units.mean is Unit.BITS else 100
    result = opened.funnel(None if within is None else within / scale)
    rows, full, inherited = result.rows, result.full_seconds, result.inherited
    status, spread, operators = opened.status(), opened.spread(), opened.operators()
    states, surrogate = status.by_state, status.surrogate
    if as_json:
        fields = {"run": opened.name, "gates": [row.figures() for row in rows], "inherited": inherited}
        fields |= {"by_state": states, "full_seconds": full, "operators": [row.figures() for row in operators]}
        print_json(fields | {"surrogate": surrogate.figures() if surrogate else None} | units.as_json())
        return
    console = terminal()
    numbers = ("asked", "stopped", "spent", "saved at most")
    table = TextTable(
        Column("gate", is_key=True),
        *(Column(title, is_number=True) for title in numbers),
        Column("false rejects [95 % interval]"),
    )
    for row in rows:
        counts = (str(row.asked), str(row.stopped), duration(row.spent), duration(row.saved))
        table.add(row.gate, *counts, _false_rejects(row))
    console.print(table)
    trained = states.get(State.EVALUATED, 0)
    say(
        console,
        f"\n{counted(sum(states.values()), 'candidate')}: {inherited} inherited an outcome, {trained} with a fitness; "
        f"a full evaluation took {full:.1f} s.",
    )
    if not opened.config.evolution.audit_share:
        say(console, "No rejected candidate was audited: evolution.audit_share is 0.")
    elif spread:
        seeds = counted(opened.config.recipe.seeds, "seed")
        say(console, f"An audit has {seeds}; {spread_text(spread, opened.config.baseline)}.")
    if operators:
        console.print()
        console.print(operator_table(operators, opened.config.baseline, units.mean))
        by_loss = opened.config.judged_by == "loss"
        if by_loss and units.mean is Unit.BITS:
            what = f"{units.mean} of the late training loss, which this search minimises"
        elif by_loss:
            what = "100 times exp(-late training loss), which this search maximises"
        else:
            what = units.mean.explained
        if by_loss or units.in_bits:
            say(console, f"\nDifferences to {opened.config.baseline}: {what}.")
    if surrogate:
        say(console, f"\n{surrogate.text}")


def _false_rejects(row: "FunnelRow") -> str:
    if row.interval is None:
        return "not audited" if row.stopped else ""
    low, high = row.interval
    return f"{sum(row.audits)} of {len(row.audits)} [{100 * low:.1f} to {100 * high:.1f} %]"


@click.command()
@CONFIG
@click.option("--seeds", type=int, default=5, show_default=True, help="Seeds for each layer.")
@layers_option()
@SET
@JSON
def noise(config: Path, seeds: int, layers: "tuple[NamedGraph, ...]", settings: tuple[str, ...], as_json: bool) -> None:
    """Measure how far the accuracy, or the bits per byte, of one layer spread over seeds, on each proxy of CONFIG at
    the full budget.

    BN-ReLU and each --layer are trained with the same seeds, so that their differences are paired.

    \b
    Example: evonas noise quickstart.yaml --seeds 5 --layer EvoNorm-S0
    """
    loaded, console = evonas.load_config(config, settings), terminal()
    with progress_of("trainings") as progress:
        rows = evonas.noise(loaded, [each.name for each in layers], seeds=seeds, on_progress=progress)
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    numbers = ("seeds", "mean", "spread", "95 % interval", f"spread of the difference to {loaded.baseline}")
    table = TextTable(
        Column("proxy", is_key=True), *(Column(each, is_number=True) for each in numbers), Column("layer", folds=True)
    )
    for row in rows:
        interval = "" if row.interval is None else f"{row.interval[0]:.4f} to {row.interval[1]:.4f}"
        values = ("-" if value is None else f"{value:.4f}" for value in (row.mean, row.spread))
        difference = "" if row.difference_spread is None else f"{row.difference_spread:.4f}"
        seeds_text = str(len(row.accuracies)) + (f" ({row.failed} failed)" if row.failed else "")
        table.add(row.proxy, seeds_text, *values, interval, difference, one_line(row.layer))
    console.print(table)
    unit = loaded.units.mean
    of_means = f"; mean and differences in {unit}, accuracy or 2^-(bits per byte)" if unit is Unit.FITNESS else ""
    say(
        console,
        f"\nvalidation {loaded.units.text} after {counted(loaded.recipe.steps, 'step')}; "
        f"spread: sample standard deviation over seeds{of_means}",
    )


@click.command()
@CONFIG
@click.option("--steps", type=int, default=20, show_default=True, help="Steps to time.")
@layers_option("BN-ReLU", "EvoNorm-S0", "EvoNorm-B0")
@click.option("--compile/--no-compile", "compiled", default=True, help="Time torch.compile, too.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to run [the device of the config's workers]."
)
@SET
@JSON
def bench(
    config: Path, steps: int, layers: "tuple[NamedGraph, ...]", compiled: bool, device: "Device | None",
    settings: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Find the fastest way to run CONFIG on this machine, and from how many steps on compiling pays.

    Training steps of every proxy are timed with channels first and last, in float32 and bfloat16, eager and compiled,
    on as many threads as workers.cpus gives a worker; on a GPU also captured as CUDA graphs. With compiling it takes
    several minutes.

    \b
    Example: evonas bench quickstart.yaml --layer EvoNorm-B0 --no-compile
    """
    from evonas.store.records import columns
    from evonas.studies.bench import IDENTITY

    loaded, console, names = evonas.load_config(config, settings), terminal(), [each.name for each in layers]
    with progress_of("timings") as progress:
        measured = evonas.bench(loaded, names, steps=steps, device=device, compiled=compiled, on_progress=progress)
    rows, execution, from_steps = measured.rows, measured.execution, measured.compiling_pays_from
    totals = measured.seconds
    if as_json:
        timings = [columns(row) for row in rows]
        best = execution.model_dump(mode="json")
        print_json({"timings": timings, "best": best, "compiling_pays_from": from_steps, "seconds": totals})
        return
    timed = [name for name in dict.fromkeys(names) if name != IDENTITY]
    titles = []
    captured = any(row.captured for row in rows)
    for layer in (IDENTITY, *timed):
        titles.append(f"{'identity' if layer == IDENTITY else layer}, ms a step")
        if captured:
            titles.append(f"{'identity' if layer == IDENTITY else layer} captured")
        if compiled and layer != IDENTITY:
            titles += [f"{layer} compiled", f"{layer} to compile"]
            if captured:
                titles.append(f"{layer} compiled and captured")
    table = TextTable(
        *(Column(title, is_key=True) for title in ("proxy", "dtype", "memory")),
        *(Column(title, is_number=True) for title in titles),
    )
    ways = dict.fromkeys((row.dtype, row.channels_last) for row in rows)
    keys = [(proxy, *way) for proxy in loaded.proxies for way in ways]
    by_key = {(row.proxy, row.dtype, row.channels_last, row.layer, row.compiled, row.captured): row for row in rows}
    for proxy, dtype, last in keys:
        cells = []
        for layer in (IDENTITY, *timed):
            eager = [by_key[proxy, dtype, last, layer, False, graphs] for graphs in (False, True)[: 1 + captured]]
            cells += [f"{1000 * row.step_seconds:.1f}" for row in eager]
            if compiled and layer != IDENTITY:
                row = by_key[proxy, dtype, last, layer, True, False]
                cells += [f"{1000 * row.step_seconds:.1f}", f"{row.compile_seconds:.1f} s"]
                if captured:
                    cells.append(f"{1000 * by_key[proxy, dtype, last, layer, True, True].step_seconds:.1f}")
        table.add(proxy, dtype, "channels last" if last else "channels first", *cells)
    console.print(table)
    say(
        console,
        f"\nOne evaluation at the full budget, {counted(loaded.recipe.steps, 'step')} on every proxy, "
        "mean over the layers:",
    )
    for name, total in sorted(totals.items(), key=lambda item: item[1]):
        console.print(f"  {total / len(timed):8.1f} s  {name}")
    if compiled:
        pays = (
            f"from {counted(math.ceil(from_steps), 'step')} on"
            if math.isfinite(from_steps)
            else "at no number of steps"
        )
        say(console, f"\nCompiling pays {pays}, in the best format.")
    if not compiled:  # compiling was not timed: keep the config's choice
        execution = execution.model_copy(update={"compile_from_steps": loaded.execution.compile_from_steps})
    console.print("\nFor the config:\n\nexecution:")
    for name, value in execution.model_dump().items():
        console.print(f"  {name}: {_yaml(value)}")


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
