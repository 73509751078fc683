"""A search whose pool answers from a table instead of training."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evonas.config import BASELINE, Config
from evonas.config_file import parse_config
from evonas.evolution import Search
from evonas.history import History
from evonas.retelling import rebuild
from evonas.retraining import evaluate_baseline, train_for_leaders
from evonas.search_space.catalog import LAYERS
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.search_space.sampling import random_graph
from evonas.search_space.space import Space
from evonas.session import Session, Ticket, never
from evonas.shared import REMEASURE_SEEDS
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Candidate, Purpose, Record
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Point, Rejection
from evonas.workers.protocol import Job

ONLY_NEG = {"nodes": 1, "primitives": ["neg"], "aggregations": [], "index_sets": [], "leaves": ["x"]}  # only -x
ONLY_BATCH = {"nodes": 3, "primitives": [], "aggregations": ["rms"], "index_sets": ["bhw"], "leaves": ["x"]}
SMALL = {"nodes": 2, "primitives": ["neg", "add", "max", "sigmoid"], "aggregations": ["std"], "index_sets": ["hw"]}
EDITS = {"op": 1, "input": 1, "insert": 2, "delete": 1, "swap": 0.5, "cross": 1, "redraw": 0.5}
EVERYTHING = {
    "mutations": 1,
    "random_share": 0.2,
    "founders_share": 0.2,
    "operators": EDITS,
    "entrants": "fewer_children",
    "family_max": 2,
    "remeasure": {"share": 0.3, "leaders": 3, "seeds": 3},
    "surrogate": {"pool": 4, "after": 10, "refit": 8},
    "warm_start": ["BN-ReLU", "tanh"],
    "population": 12,
}
PASSED = Evaluation(Fitness({"resnet": 0.5, "mobilenet": 0.5}))
CRASHED = Evaluation(Crash("worker_died", "gone"))


def answer(job: Job) -> Evaluation:
    """A made-up outcome that is a function of the layer: mostly fitness, some rejections, a few crashes."""
    digest = Graph.parse(job.graph).digest
    number = int.from_bytes(sha256(digest.encode()).digest()[:4], "big")
    if digest == LAYERS[BASELINE].graph.digest:
        return Evaluation(Fitness({"resnet": 0.4, "mobilenet": 0.3}), (), (Point("resnet", 3, 0.2, 2.0),))
    if number % 20 == 0:
        return CRASHED
    if number % 20 < 5:
        measured = Measurement("quality", "resnet", 0.05, 0.1, 3, False, 0.0)
        return Evaluation(Rejection("quality", "resnet", 0.05, 0.1, 3), (measured,))
    return Evaluation(Fitness({"resnet": number % 101 / 100, "mobilenet": number // 101 % 101 / 100}))


def seeded(job: Job) -> Evaluation:
    """An outcome that depends on the seed, too: a little, and rarely a rejection."""
    found = answer(job)
    if isinstance(found.outcome, Fitness) and job.seed > REMEASURE_SEEDS:
        number = int.from_bytes(sha256(f"{Graph.parse(job.graph).digest} {job.seed}".encode()).digest()[:4], "big")
        if number % 7 == 0:
            return Evaluation(Rejection("diverged", "resnet", float("inf"), float("inf"), 3))
        lower = number % 50 / 1000
        return Evaluation(Fitness({proxy: max(0.0, a - lower) for proxy, a in found.outcome.accuracy.items()}))
    return found


class Killed(BaseException):
    """As kill -9: nothing is caught, nothing is written after it."""


class FakePool:
    """Answers each job once, in a random order; refuses more than `capacity` at once, as a pool does."""

    def __init__(self, capacity: int = 1, respond: Callable[[Job], Evaluation] = answer, seed: int = 0) -> None:
        self.capacity = capacity
        self.respond = respond
        self.rng = Random(seed)
        self.running: dict[int, Job] = {}
        self.submitted: list[int] = []  # births; of audits their negatives; 0 for BN-ReLU
        self.most = 0

    def submit(self, key: int, job: Job) -> None:
        assert key not in self.running
        assert len(self.running) < self.capacity, "more in flight than the pool holds"
        self.running[key] = job
        self.most = max(self.most, len(self.running))

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        if not self.running:
            return None
        key = self.rng.choice(sorted(self.running))
        return key, self.respond(self.running.pop(key))

    def close(self) -> None:
        self.running.clear()


@dataclass
class Traced(Session):
    """Tells its pool which births it submits."""

    def submit(self, ticket: Ticket) -> None:
        super().submit(ticket)
        assert isinstance(self.pool, FakePool)
        birth = ticket.birth or 0
        self.pool.submitted.append(-birth if ticket.purpose == "audit" else birth)


def answering(*evaluations: Evaluation) -> Callable[[Job], Evaluation]:
    """BN-ReLU passes; the candidates get these outcomes in turn, the last for all that follow."""
    left = list(evaluations)

    def respond(job: Job) -> Evaluation:
        if Graph.parse(job.graph).digest == LAYERS[BASELINE].graph.digest:
            return PASSED
        return left.pop(0) if len(left) > 1 else left[0]

    return respond


def configured(tiny: dict[str, Any], **evolution: Any) -> Config:
    space = evolution.pop("space", {})
    raw = {**tiny, "space": space, "evolution": {**tiny["evolution"], **evolution}}
    return parse_config(json.dumps(raw))


def searched(
    folder: Path,
    config: Config,
    pool: FakePool,
    should_stop: Callable[[], bool] = never,
    on_progress: Callable[[History], None] = lambda history: None,
) -> tuple[Search, Reader]:
    """A search to its end, in a new store."""
    address = Address.of_file(folder / "run.db", "run", folder)
    store = Database(address).create(config, {})
    outcome = Database(address).reader().outcome
    search = Search(config, Traced(pool, store, should_stop), History(config), outcome, on_progress)
    return _run(search, address)


def known(birth: int, graph: Graph, fingerprint: str = "") -> Candidate:
    return Candidate.of(graph, Probed(fingerprint or f"fingerprint of {birth}", "", 1.0), birth, seen=0)


def history_of(config: Config, *objectives: tuple[float, ...]) -> History:
    """A memory in which births 1, 2 ... survived, in this order."""
    history = History(config, baseline=Fitness({"resnet": 0.1, "mobilenet": 0.1}))
    for birth, each in enumerate(objectives, start=1):
        history.propose(known(birth, random_graph(Space(), Random(birth))))
        history.record(birth, Fitness(dict(zip(("resnet", "mobilenet"), each, strict=True))), ())
    return history


def five_incomparable(config: Config) -> History:
    return history_of(config, *((n / 10, -n / 10) for n in range(5)))


def timeless(measurements: tuple[Measurement, ...]) -> list[Measurement]:
    return [replace(each, seconds=0.0) for each in measurements]


def equals_before(records: list[Record], candidate: Record) -> list[Record]:
    """Earlier births that are the same function and had an outcome other than a crash when it was proposed."""
    return [
        each
        for each in records[: candidate.birth - 1]
        if each.fingerprint == candidate.fingerprint
        and each.seq is not None
        and each.seq <= candidate.seen
        and not isinstance(each.outcome, Crash)
    ]


def rung_answer(job: Job) -> Evaluation:
    """As a worker: stopped below the job's threshold."""
    found = answer(job)
    if not isinstance(found.outcome, Fitness):
        return Evaluation(Rejection("diverged", "resnet", 0.0, 0.0, 3))
    value = sum(found.outcome.accuracy.values()) / 2
    threshold = job.thresholds[0].value if job.thresholds else 0.0
    measured = Measurement("rung", "", value, threshold, 3, value >= threshold, 0.0)
    outcome = found.outcome if measured.passed else Rejection("rung", "", value, threshold, 3)
    return Evaluation(outcome, (measured,))


def resumed(folder: Path, pool: FakePool) -> tuple[Search, Reader]:
    """A search whose driver died, to its end."""
    address = Address.of_file(folder / "run.db", "run", folder)
    store = Database(address).own()
    reader = Database(address).reader()
    search = Search(reader.config, Traced(pool, store), rebuild(reader), reader.outcome)
    return _run(search, address)


def _run(search: Search, address: Address) -> tuple[Search, Reader]:
    """BN-ReLU and all births, as the driver does."""
    try:
        evaluate_baseline(search.session, search.history, Purpose.BASELINE)
        train_for_leaders(search.session, Database(address).reader(), search.history)
        search.run()
    finally:
        search.store.close()
    return search, Database(address).reader()


def killed_and_resumed(folder: Path, config: Config, respond: Callable[[Job], Evaluation], after: int) -> Reader:
    """A search of one worker that dies once it had progress `after` times with an outcome, and goes on to its end."""
    left = [after]

    def kill(history: History) -> None:
        left[0] -= history.outcomes > 0
        if left[0] < 0:
            raise Killed

    with pytest.raises(Killed):
        searched(folder, config, FakePool(1, respond), on_progress=kill)
    return resumed(folder, FakePool(1, respond))[1]
