"""How far the proxies of a config rank layers as a long training of larger networks does, and at what cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_input import load_config
from evonas.layers.resolve import Layers, trainable
from evonas.retraining import SEEDS_MAX, Progress, quiet
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError, whole
from evonas.search_space.wording import counted
from evonas.studies.rankings import Fidelity, compare, looks
from evonas.studies.results import ResultFile
from evonas.studies.trainings import asked, complete, lost

LAYERS_MIN = 5  # of a rank correlation


def trained_by(config: Config) -> list[str]:
    """The layers of the catalog that the networks of a config take."""
    graphs = LAYERS.graphs.items()
    return [name for name, graph in graphs if LAYERS[name].inputs == 1 and not config.foresees(graph)]


def fidelity(
    config: Config | Mapping[str, Any] | str | Path,
    reference: Config | Mapping[str, Any] | str | Path,
    layers: Layers = (),
    *,
    seeds: int = 1,
    settings: Sequence[str] = (),
    reference_settings: Sequence[str] = (),
    out: str | Path | None = None,
    on_progress: Progress = quiet,
) -> Fidelity:
    """Train known layers on the proxies of a config, and on those of a longer one, and compare the rankings.

    Gates are not asked. A training that diverges counts as guessing, and its loss as the worst. A layer whose training
    crashes is not compared; the next call with the same file tries it again.

    Args:
        config: the config whose proxies are asked.
        reference: what they should predict: more steps, larger images, wider networks. Its workers train.
        layers: by default every layer of the catalog that takes one input and that the networks take.
        seeds: trainings of a layer on each proxy.
        settings: overrides of the config, such as "recipe.steps=100".
        reference_settings: overrides of the reference.
        out: a file that keeps each training, of any number of configs; a later call trains what is missing. Data,
            recipe, network, seed and graph decide a training. The images' path, the proxy's name and `execution` do
            not: what a GPU computed serves a config that computes on CPUs. The name would fix initial weights and
            batches, so that here every proxy is trained under one, and other weights than a search's.
        on_progress: called with the trainings done and their total.

    Raises InputError for bad input, and Stopped on Ctrl-C or SIGTERM.

    >>> evonas.fidelity("cifar10.yaml", "cifar10-reference.yaml", out="fidelity.jsonl")
    """
    loaded, long = load_config(config, settings), load_config(reference, reference_settings)
    seeds = whole("seeds", seeds, 1, SEEDS_MAX)
    chosen = trainable(layers or [name for name in trained_by(loaded) if name in trained_by(long)])
    named = {each.name: each for each in chosen}
    if len(named) < LAYERS_MIN:
        raise InputError(f"layers: a ranking takes at least {LAYERS_MIN}, got {len(named)}")
    file = ResultFile(Path(out), study="fidelity") if out is not None else None
    wanted = [
        (is_reference, each)
        for n in range(seeds)
        for is_reference, of in ((False, loaded), (True, long))
        for layer in named.values()
        for each in asked(of, layer, of.seed + n, looks=() if is_reference else looks(of.recipe.steps)[:-1])
    ]
    rows, crashed = complete((each for _, each in wanted), file, long, open_pool, on_progress)
    gone = lost((each for _, each in wanted), crashed)
    if len(named) - len(gone) < LAYERS_MIN:
        name, why = next(iter(gone.items()))
        raise InputError(f"{len(gone)} of {counted(len(named), 'layer')} could not be trained, such as {name}: {why}")
    compared = [
        rows[each] | {"reference": is_reference, "layer": each.layer, "proxy": each.proxy}
        for is_reference, each in wanted
        if each.layer not in gone
    ]
    return compare(compared, loaded, gone, long.units)
