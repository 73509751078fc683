"""How far the proxies of a config rank layers as a long training of larger networks does, and at what cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_input import load_config
from evonas.layers.resolve import Layers, trainable
from evonas.retraining import SEEDS_MAX, Progress, quiet, train
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError, whole
from evonas.search_space.wording import counted
from evonas.session import Session, Ticket, stop_signals
from evonas.studies.rankings import Fidelity, compare, looks
from evonas.studies.results import ResultFile, Row
from evonas.workers.data import count_classes
from evonas.workers.gates.quality import Quality
from evonas.workers.outcome import Crash, Evaluation, Fitness
from evonas.workers.protocol import Job

LAYERS_MIN = 5  # of a rank correlation


@dataclass(frozen=True, slots=True)
class _Training:
    """One training, as it is asked for and as the file of results knows it."""

    layer: str
    reference: bool
    proxy: str
    seed: int


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
        layers: by default every layer of the catalog that takes one input.
        seeds: trainings of a layer on each proxy.
        settings: overrides of the config, such as "recipe.steps=100".
        reference_settings: overrides of the reference.
        out: a file that keeps each training; a later call with the same configs goes on.
        on_progress: called with the trainings done and their total.

    Raises InputError for bad input, and Stopped on Ctrl-C or SIGTERM.

    >>> evonas.fidelity("cifar10.yaml", "cifar10-reference.yaml", out="fidelity.jsonl")
    """
    loaded, long = load_config(config, settings), load_config(reference, reference_settings)
    seeds = whole("seeds", seeds, 1, SEEDS_MAX)
    chosen = trainable(layers or [name for name in LAYERS.graphs if LAYERS[name].inputs == 1])
    named = {each.name: each for each in chosen}
    if len(named) < LAYERS_MIN:
        raise InputError(f"layers: a ranking takes at least {LAYERS_MIN}, got {len(named)}")
    guesses = 1 / count_classes(loaded.data), 1 / count_classes(long.data)
    file = ResultFile(Path(out), loaded, long) if out is not None else None
    wanted = [
        _Training(name, is_reference, proxy, of.seed + n)
        for n in range(seeds)
        for is_reference, of in ((False, loaded), (True, long))
        for name in named
        for proxy in of.proxies
    ]
    rows = {_training(row): row for row in (file.rows if file else ())}
    missing = [each for each in wanted if each not in rows]
    tickets = {Ticket(_job(long if each.reference else loaded, each, named[each.layer])): each for each in missing}
    crashed: dict[_Training, Crash] = {}
    on_progress(len(wanted) - len(missing), len(wanted))
    if missing:
        with open_pool(long) as pool, stop_signals() as should_stop:
            for ticket, evaluation in train(Session(pool, should_stop=should_stop), tickets):
                training = tickets[ticket]
                if isinstance(evaluation.outcome, Crash):
                    crashed[training] = evaluation.outcome
                    continue
                crashed.pop(training, None)
                rows[training] = _row(training, evaluation, _threads(long))
                if file:
                    file.keep(rows[training])
                on_progress(sum(each in rows for each in wanted), len(wanted))
    lost = {training.layer: f"{crash.kind}: {crash.message}" for training, crash in crashed.items()}
    if len(named) - len(lost) < LAYERS_MIN:
        name, why = next(iter(lost.items()))
        raise InputError(f"{len(lost)} of {counted(len(named), 'layer')} could not be trained, such as {name}: {why}")
    return compare([rows[each] for each in wanted if each.layer not in lost], loaded, *guesses, lost)


def _job(config: Config, training: _Training, layer: NamedGraph) -> Job:
    """A training on one proxy; the config's own with looks at its accuracy on the way."""
    steps = () if training.reference else looks(config.recipe.steps)[:-1]
    protocol = config.protocol.ungated(seeds=1).model_copy(
        update={
            "proxies": {training.proxy: config.proxies[training.proxy]},
            "gates": tuple(Quality(steps=each, min_accuracy=0.0) for each in steps),
        }
    )
    return Job(graph=str(layer.graph), protocol=protocol, seed=training.seed)


def _threads(config: Config) -> int:
    return 1 if config.cluster.address == "in_process" else config.workers.cpus


def _row(training: _Training, evaluation: Evaluation, threads: int) -> Row:
    outcome = evaluation.outcome
    return {
        "layer": training.layer,
        "reference": training.reference,
        "proxy": training.proxy,
        "seed": training.seed,
        "accuracy": outcome.accuracy[training.proxy] if isinstance(outcome, Fitness) else None,
        "points": [[each.step, each.accuracy, each.loss] for each in evaluation.points],
        "seconds": evaluation.seconds * threads,
    }


def _training(row: Row) -> _Training:
    return _Training(row["layer"], row["reference"], row["proxy"], row["seed"])
