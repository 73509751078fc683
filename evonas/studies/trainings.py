"""Trainings of layers on single networks, kept in a file or a run: each is found again by what decides it.

Data, recipe, network, seed, graph and the images that judge decide a training. Where the images are, what a config
calls its network, and `execution` do not: what a GPU computed serves a config that computes on CPUs.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evonas.config import Config
from evonas.retraining import Progress, train, try_own_networks
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.graph import Graph
from evonas.session import Session, Ticket, stop_signals
from evonas.studies.results import ResultFile, Row
from evonas.workers.data import count_classes, split_digest
from evonas.workers.gates.quality import Quality
from evonas.workers.outcome import Crash, Evaluation, Fitness
from evonas.workers.pool import Pool
from evonas.workers.protocol import Corpus, Data, Job, JudgedOn

NAME = "p"  # of a proxy while it trains: a name fixes initial weights and batches, and a config's must not decide them


@dataclass(frozen=True, slots=True)
class Asked:
    """One training of a layer on one network. Two are equal where one training serves both."""

    digest: str  # of what decides it
    looks: tuple[int, ...]  # steps at which it is looked at before the end
    layer: str = field(compare=False)
    proxy: str = field(compare=False)  # the config's name of the network
    config: Config = field(compare=False)
    job: Job = field(compare=False)

    def is_served_by(self, row: Row) -> bool:
        return row["training"] == self.digest and set(self.looks) <= set(row["looks"])


def asked(
    config: Config,
    layer: NamedGraph,
    seed: int,
    *,
    looks: Sequence[int] = (),
    judged_on: JudgedOn = "validation",
) -> Iterator[Asked]:
    """A training on each proxy of a config, without gates."""
    gates = tuple(Quality(steps=each, min_accuracy=0.0) for each in looks)
    for name, proxy in config.proxies.items():
        update = {"proxies": {NAME: proxy}, "gates": gates}
        protocol = config.protocol.ungated(seeds=1).model_copy(update=update)
        job = Job(graph=str(layer.graph), protocol=protocol, seed=seed, judged_on=judged_on)
        yield Asked(digest(job), tuple(looks), layer.name, name, config, job)


def on_test_images(config: Config, layer: NamedGraph, seed: int) -> Iterator[Asked]:
    """The trainings of `validate`: judged on the test images."""
    return asked(config, layer, seed, judged_on="test")


class Kept(Protocol):
    """A place that keeps trainings: a file of results, or a run."""

    rows: list[Row]

    def writing(self) -> AbstractContextManager[Callable[[Asked, Row], None]]:
        """The function that keeps one. Raises InputError where nothing can be written."""


def validation_file(path: str | Path) -> ResultFile:
    """The file that keeps them."""
    return ResultFile(Path(path), study="validate")


def digest(job: Job) -> str:
    """Identifies what decides a training: 16 hexadecimal digits."""
    graph = Graph.parse(job.graph)
    decisive = {**decided_by(job), "seed": job.seed, "graph": graph.formula}
    used = {node.op for node in graph.canonical().nodes}
    modules = {each.primitive.partition(":")[0] for each in job.protocol.primitives if each.name in used}
    if modules:
        decisive["primitives"] = {name: each.digest for name, each in job.protocol.plugins.items() if name in modules}
    return _digest(job, decisive)


def setting(job: Job) -> str:
    """Identifies what decides a training beside its layer and seed: 16 hexadecimal digits."""
    return _digest(job, decided_by(job))


def decided_by(job: Job) -> dict[str, Any]:
    """Data, recipe and network of a training, with the sources of a user's own modules that they name."""
    protocol = job.protocol
    decisive = {
        "data": protocol.data_of(NAME).model_dump(mode="json", exclude={"path"}),
        "recipe": protocol.recipe.model_dump(mode="json"),
        "network": protocol.proxies[NAME].model_dump(mode="json"),
    }
    modules = {each.partition(":")[0] for each in (protocol.data_of(NAME).source, protocol.proxies[NAME].architecture)}
    if own := {name: each.digest for name, each in protocol.plugins.items() if name in modules}:
        decisive["plugins"] = own
    return decisive


def _digest(job: Job, decisive: dict[str, Any]) -> str:
    if job.judged_on != "validation":  # files from before it stay as they were
        decisive["judged_on"] = job.judged_on
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def served(rows: Iterable[Row], wanted: Iterable[Asked]) -> dict[Asked, Row]:
    """The trainings that are in a file already, each with its first row."""
    by_digest: dict[str, list[Row]] = {}
    for row in rows:
        by_digest.setdefault(row["training"], []).append(row)
    found: dict[Asked, Row] = {}
    for each in wanted:
        for row in by_digest.get(each.digest, ()):
            if each not in found and each.is_served_by(row):
                found[each] = row
    return found


def complete(
    wanted: Iterable[Asked],
    kept: Kept | None,
    workers: Config,
    opened: Callable[[Config], AbstractContextManager[Pool]],
    on_progress: Progress,
    elsewhere: Sequence[Row] = (),
) -> tuple[dict[Asked, Row], dict[Asked, Crash]]:
    """The rows of all trainings: those that are kept, and the others, trained in order and kept, too. Second come the
    trainings that crashed, which say nothing of their layers and are not kept. Raises InputError where data are absent,
    and Stopped.

    Args:
        workers: the config whose workers train.
        opened: opens their pool, if anything is missing.
        elsewhere: rows of another place; those that are wanted are kept in this one, too.
    """
    trainings = dict.fromkeys(wanted)
    mine = served(kept.rows if kept else (), trainings)
    others = served(elsewhere, [each for each in trainings if each not in mine])
    rows, crashed = {**mine, **others}, dict[Asked, Crash]()
    missing = [each for each in trainings if each not in rows]
    on_progress(len(rows), len(trainings))
    if not missing and not (kept and others):
        return rows, crashed
    with kept.writing() if kept else nullcontext(_forget) as keep:
        for training, row in others.items():
            keep(training, row)
        if missing:
            _train(missing, rows, crashed, keep, workers, opened, lambda: on_progress(len(rows), len(trainings)))
    return rows, crashed


def _forget(training: Asked, row: Row) -> None:
    pass


def _train(
    missing: Sequence[Asked],
    rows: dict[Asked, Row],
    crashed: dict[Asked, Crash],
    keep: Callable[[Asked, Row], None],
    workers: Config,
    opened: Callable[[Config], AbstractContextManager[Pool]],
    on_row: Callable[[], None],
) -> None:
    """Train what is missing into `rows` or `crashed`."""
    classes, threads = count_of_classes(missing), core_threads(workers)
    for config in {id(each.config): each.config for each in missing}.values():
        try_own_networks(config)
    splits = {data: split_digest(data) for data in dict.fromkeys(map(data_of, missing))}
    tickets = {Ticket(each.job): each for each in missing}
    with opened(workers) as pool, stop_signals() as should_stop:
        for ticket, evaluation in train(Session(pool, should_stop=should_stop), tickets):
            training = tickets[ticket]
            if isinstance(evaluation.outcome, Crash):
                crashed[training] = evaluation.outcome
                continue
            crashed.pop(training, None)
            row = row_of(training, evaluation, classes[training], threads)
            rows[training] = row | {"split": splits[data_of(training)]}
            keep(training, rows[training])
            on_row()


def count_of_classes(wanted: Iterable[Asked]) -> dict[Asked, int]:
    """The number of classes of each training's data. Raises InputError where data are absent."""
    several = list(wanted)
    counts = {data: count_classes(data) for data in dict.fromkeys(map(data_of, several))}
    return {each: counts[data_of(each)] for each in several}


def data_of(training: Asked) -> Data | Corpus:
    return training.job.protocol.data_of(NAME)


def core_threads(config: Config) -> int:
    """Threads of a worker, by which seconds become core-seconds."""
    return 1 if config.cluster.address == "in_process" else config.workers.cpus


def row_of(training: Asked, evaluation: Evaluation, classes: int, threads: int) -> Row:
    """A line of the file. `training` and `looks` decide whom it serves; the names and conditions are for people."""
    outcome, execution = evaluation.outcome, training.config.execution
    more = "" if execution.dtype == "float32" else f", {execution.dtype}"
    return {
        "training": training.digest,
        "config": training.config.name,
        "proxy": training.proxy,
        "layer": training.layer,
        "seed": training.job.seed,
        "looks": list(training.looks),
        "accuracy": outcome.accuracy[NAME] if isinstance(outcome, Fitness) else None,
        "classes": classes,
        "points": [[each.step, each.accuracy, each.loss] for each in evaluation.points],
        "seconds": evaluation.seconds * threads,
        "conditions": f"{evaluation.conditions}{more}",
    }


def accuracy(row: Row) -> float:
    """The final accuracy; a training that diverged counts as guessing."""
    return 1 / int(row["classes"]) if row["accuracy"] is None else float(row["accuracy"])


def lost(wanted: Iterable[Asked], crashed: Mapping[Asked, Crash]) -> dict[str, str]:
    """The layers of which a training crashed, each with the reason."""
    return {each.layer: f"{crashed[each].kind}: {crashed[each].message}" for each in wanted if each in crashed}
