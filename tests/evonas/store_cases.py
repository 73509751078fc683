"""Candidates, outcomes and moves that the tests of the store share."""

import hashlib
import math
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from evonas.config import Config
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.engines import open_own_file
from evonas.store.records import Candidate, Purpose
from evonas.store.schema import build_schema
from evonas.store.trainings import StoredTraining
from evonas.store.writer import Writer
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Point, Rejection

S0 = "x * sigmoid(v1 * x) / std_ghw(x)"
GATE = Measurement("quality", "resnet", 0.25, 0.1, 3, True, 0.5)
POINTS = (Point("resnet", 3, 0.25, 2.1), Point("mobilenet", 3, 0.125, 2.2), Point("resnet", 6, 0.5, 1.5))
COSTS = {"resnet": 0.01, "mobilenet": 0.02}, {"resnet": 10.0, "mobilenet": 20.5}
FITNESS = Fitness({"resnet": 0.5, "mobilenet": 0.25}, *COSTS)
SECOND = Point("resnet", 6, 0.75, 1.25, 1)  # with the second of the recipe's seeds
FIT = Evaluation(FITNESS, (GATE,), (*POINTS, SECOND), 1.5, 300.0, "somewhere", "cpu, 1 thread", 2)
REJECTED = Evaluation(Rejection("stability", "resnet", math.inf, 1e8, 4), (GATE,), POINTS[:2], 0.5, 200.0, "elsewhere")
CRASHED = Evaluation(Crash("time_limit", "no answer within 60 s"), (), (), 60.0, 0.0, "elsewhere")


def candidate(birth: int, text: str = S0, *, seen: int = 0, parent: int | None = None) -> Candidate:
    operator = "mutation" if parent else "random"
    probed = Probed(f"fingerprint {birth}", f"family {birth}", 1.0)
    return Candidate.of(Graph.parse(text), probed, birth, seen=seen, operator=operator, parent=parent)


def fit(resnet: float, mobilenet: float) -> Evaluation:
    return Evaluation(Fitness({"resnet": resnet, "mobilenet": mobilenet}))


def training(layer: str, seed: int = 1, **others: Any) -> StoredTraining:
    """On the test images of another config."""
    setting = hashlib.sha256(f"{others.get('batch_size')}".encode()).hexdigest()[:16]
    fields: dict[str, Any] = {
        "purpose": Purpose.VALIDATE,
        "birth": None,
        "name": None,
        "config": "other",
        "proxy": "wide",
        "digest": hashlib.sha256(f"{layer} {seed} {setting}".encode()).hexdigest()[:16],
        "setting": setting,
        "data": "embedded",
        "split": "0123456789abcdef",
        "judged_on": "test",
        "architecture": "vgg",
        "steps": 4,
        "batch_size": 16,
        "learning_rate": 0.05,
        "seed": seed,
        "layer": layer,
        "protocol": {"data": {"source": "embedded", "image_size": 10}, "recipe": {}, "network": {}},
        "accuracy": 0.5,
        "loss": 1.25,
        "classes": 10,
        "seconds": 2.5,
        "conditions": "cpu, 1 thread",
    }
    return StoredTraining(**fields | others)


def propose(store: Writer, *births: int, text: str = S0) -> None:
    for birth in births:
        store.propose(candidate(birth, text))
    store.flush()


def record(store: Writer, birth: int, evaluation: Evaluation, seq: int, advantage: float | None = None) -> None:
    store.record(birth, Graph.parse(S0), evaluation, seq, 0, advantage)
    store.flush()


def propose_and_record(
    store: Writer, birth: int, evaluation: Evaluation, seq: int, advantage: float | None = None
) -> None:
    store.propose(candidate(birth))
    record(store, birth, evaluation, seq, advantage)


def reference(address: Address) -> str:
    """As a person writes it."""
    return str(address.folder) if address.is_file else f"{address.absolute_url}#{address.run}"


IN_A_FILE = pytest.mark.parametrize("address", ["sqlite"], indirect=True)


@cache
def empty_database() -> bytes:
    """A database without a run. Building its schema takes a second, a copy none."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        engine = open_own_file(path)
        build_schema(engine)
        engine.dispose()
        return path.read_bytes()


def new_run(folder: Path, config: Config) -> Writer:
    """A run in a folder of its own."""
    folder.mkdir(parents=True)
    (folder / "run.db").write_bytes(empty_database())
    return Database(Address.of_file(folder / "run.db", folder.name, folder)).create(config, {})


def told(address: Address) -> list[dict[str, Any]]:
    return list(dump(Database(address).reader()))


def files(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder, with its bytes."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}
