"""evonas evaluate: train layers of one's own on the proxies of a config."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.layers import gate_table, headline, layer_table
from evonas.cli.options import CONFIG, JSON, LAYER, SET
from evonas.cli.progress import progress_of
from evonas.cli.query import outcome_text
from evonas.cli.tables import one_line, say, terminal
from evonas.search_space.errors import InputError
from evonas.search_space.wording import counted
from evonas.workers.outcome import Crash, Rejection

if TYPE_CHECKING:
    from evonas.search_space.catalog.named import NamedGraph
    from evonas.studies.evaluate import Judgement


@click.command()
@click.argument("layers", metavar="LAYER...", type=LAYER, nargs=-1)
@CONFIG
@click.option("--seeds", type=int, default=3, show_default=True, help="Fresh seeds.")
@SET
@JSON
def evaluate(
    layers: "tuple[NamedGraph, ...]", config: Path, seeds: int, settings: tuple[str, ...], as_json: bool
) -> None:
    """Train layers on the proxies of CONFIG and compare them with BN-ReLU. No run is written.

    LAYER is a text, a name of evonas catalog, or RUN#BIRTH. First the gates of CONFIG judge each layer. Whatever they
    say, it is then trained to the full budget on every proxy with fresh seeds. BN-ReLU and the baselines of CONFIG are
    trained with the same seeds.

    \b
    Example: evonas evaluate "x / rms_hw(x)" quickstart.yaml
    """
    if not layers:
        raise InputError(f"expected a layer and a config, got '{config}' alone")
    from evonas.views import layer_row

    loaded = evonas.load_config(config, settings)
    with progress_of("trainings") as progress:
        judgements = evonas.evaluate([each.name for each in layers], loaded, seeds=seeds, on_progress=progress)
    if as_json:
        print_json([_as_json(each) for each in judgements])
        return
    console = terminal()
    for each in judgements:
        if each.outcome is not None:
            say(console, f"{one_line(each.name)}: {outcome_text(each.outcome, loaded.units)}", style="bold")
            say(console, _properties(each))
            console.print(gate_table(each.measurements, loaded.units))
            console.print()
    say(console, f"{headline('Trained without gates,', seeds, loaded.units)}\n")
    rows = [layer_row(each.name, each.figures, config=loaded) for each in judgements]
    console.print(layer_table(rows, list(loaded.proxies)))


def _properties(judgement: "Judgement") -> str:
    from evonas.search_space.analysis import depends_on_x

    batch = "depends on the batch" if judgement.batch_dependent else "does not depend on the batch"
    amplified = f"{judgement.amplification:.3g} at one position a channel" if depends_on_x(judgement.graph) else "none"
    return f"{counted(judgement.live_nodes, 'live node')}, {batch}; amplification: {amplified}"


def _as_json(judgement: "Judgement") -> dict[str, Any]:
    from evonas.listing import figures_json, measured_json, stopped_json
    from evonas.store.records import verdict_of

    outcome, units = judgement.outcome, judgement.figures.shown.units
    return {
        "layer": judgement.name,
        "formula": judgement.graph.formula,
        **figures_json(judgement.figures),
        "amplification": judgement.amplification,
        "batch_dependent": judgement.batch_dependent,
        "live_nodes": judgement.live_nodes,
        "verdict": None if outcome is None else verdict_of(outcome),
        "stopped_by": stopped_json(outcome, units) if isinstance(outcome, Rejection | Crash) else None,
        "measurements": [measured_json(each, units) for each in judgement.measurements],
    }
