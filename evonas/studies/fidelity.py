"""How far the proxies of a config rank layers as a long training of larger networks does, and at what cost."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
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
from evonas.search_space.graph import Graph
from evonas.search_space.wording import counted
from evonas.session import Session, Ticket, stop_signals
from evonas.store.records import columns
from evonas.studies.rankings import Fidelity, compare, looks
from evonas.studies.results import ResultFile, Row
from evonas.workers.data import count_classes
from evonas.workers.gates.quality import Quality
from evonas.workers.outcome import Crash, Evaluation, Fitness
from evonas.workers.protocol import Job

LAYERS_MIN = 5  # of a rank correlation
NAME = "p"  # of a proxy while it trains: a name fixes initial weights and batches, and a config's must not decide them


@dataclass(frozen=True, slots=True)
class _Training:
    """One training, as it is asked for."""

    layer: str
    reference: bool
    proxy: str
    seed: int
    digest: str  # of what decides it
    looks: tuple[int, ...]  # steps at which it is looked at before the end

    def is_served_by(self, row: Row) -> bool:
        return row["training"] == self.digest and set(self.looks) <= set(row["looks"])


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
    chosen = trainable(layers or [name for name in LAYERS.graphs if LAYERS[name].inputs == 1])
    named = {each.name: each for each in chosen}
    if len(named) < LAYERS_MIN:
        raise InputError(f"layers: a ranking takes at least {LAYERS_MIN}, got {len(named)}")
    file = ResultFile(Path(out), study="fidelity") if out is not None else None
    jobs = {
        _training(name, is_reference, proxy, job): job
        for n in range(seeds)
        for is_reference, of in ((False, loaded), (True, long))
        for name in named
        for proxy, job in _jobs(of, named[name], of.seed + n, () if is_reference else looks(of.recipe.steps)[:-1])
    }
    rows: dict[_Training, Row] = {}
    for row in file.rows if file else ():
        rows = {each: row for each in jobs if each.is_served_by(row)} | rows
    missing = [each for each in jobs if each not in rows]
    configs = {each.reference: long if each.reference else loaded for each in missing}
    classes = {is_reference: count_classes(of.data) for is_reference, of in configs.items()}
    tickets = {Ticket(jobs[each]): each for each in missing}
    crashed: dict[_Training, Crash] = {}
    on_progress(len(rows), len(jobs))
    if missing:
        with open_pool(long) as pool, stop_signals() as should_stop:
            for ticket, evaluation in train(Session(pool, should_stop=should_stop), tickets):
                training = tickets[ticket]
                if isinstance(evaluation.outcome, Crash):
                    crashed[training] = evaluation.outcome
                    continue
                crashed.pop(training, None)
                asked, guesses = configs[training.reference], classes[training.reference]
                rows[training] = _row(training, asked, evaluation, guesses, _threads(long))
                if file:
                    file.keep(rows[training])
                on_progress(len(rows), len(jobs))
    lost = {training.layer: f"{crash.kind}: {crash.message}" for training, crash in crashed.items()}
    if len(named) - len(lost) < LAYERS_MIN:
        name, why = next(iter(lost.items()))
        raise InputError(f"{len(lost)} of {counted(len(named), 'layer')} could not be trained, such as {name}: {why}")
    compared = [rows[each] | columns(each) for each in jobs if each.layer not in lost]
    return compare(compared, loaded, lost)


def _jobs(config: Config, layer: NamedGraph, seed: int, looks: Sequence[int]) -> Iterator[tuple[str, Job]]:
    """A training on each proxy, with looks at its accuracy on the way."""
    gates = tuple(Quality(steps=each, min_accuracy=0.0) for each in looks)
    for name, proxy in config.proxies.items():
        update = {"proxies": {NAME: proxy}, "gates": gates}
        protocol = config.protocol.ungated(seeds=1).model_copy(update=update)
        yield name, Job(graph=str(layer.graph), protocol=protocol, seed=seed)


def _training(layer: str, is_reference: bool, proxy: str, job: Job) -> _Training:
    """The training that a job does. Its digest leaves out where the images are, and how the training runs."""
    protocol = job.protocol
    decisive = {
        "data": protocol.data.model_dump(mode="json", exclude={"path"}),
        "recipe": protocol.recipe.model_dump(mode="json"),
        "network": protocol.proxies[NAME].model_dump(mode="json"),
        "seed": job.seed,
        "graph": Graph.parse(job.graph).formula,
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
    looks = tuple(gate.steps for gate in protocol.gates if isinstance(gate, Quality))
    return _Training(layer, is_reference, proxy, job.seed, digest, looks)


def _threads(config: Config) -> int:
    return 1 if config.cluster.address == "in_process" else config.workers.cpus


def _row(training: _Training, config: Config, evaluation: Evaluation, classes: int, threads: int) -> Row:
    """A line of the file. `training` and `looks` decide whom it serves; the names and conditions are for people."""
    outcome = evaluation.outcome
    in_float32 = config.execution.dtype == "float32"
    return {
        "training": training.digest,
        "config": config.name,
        "proxy": training.proxy,
        "layer": training.layer,
        "seed": training.seed,
        "looks": list(training.looks),
        "accuracy": outcome.accuracy[NAME] if isinstance(outcome, Fitness) else None,
        "classes": classes,
        "points": [[each.step, each.accuracy, each.loss] for each in evaluation.points],
        "seconds": evaluation.seconds * threads,
        "conditions": evaluation.conditions if in_float32 else f"{evaluation.conditions}, {config.execution.dtype}",
    }
