"""The test images: opened by `validate` alone, after the search."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import evonas
from evonas.retraining import fresh_seeds
from evonas.run import Run
from evonas.search_space.errors import InputError
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.workers import data
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import Job
from tests.workers.data.cases import COLOURS, paint


@pytest.fixture(scope="module")
def folder(calm: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(calm.folder, tmp_path_factory.mktemp("validate") / "run"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Indices of the images that are read."""
    read: list[int] = []
    original = data.open_source

    def open_source(asked: Any, **options: bool) -> data.Source:
        source = original(asked, **options)

        def spy(indices: np.ndarray) -> np.ndarray:
            read.extend(indices.tolist())
            return np.asarray(source.read(indices))

        return data.Source(source.labels, source.classes, source.channels, source.has_test_part, spy)

    monkeypatch.setattr(data, "open_source", open_source)
    data._load.cache_clear()
    yield read  # type: ignore[misc]
    data._load.cache_clear()


def sealed(folder: Path) -> set[int]:
    asked = evonas.open_run(folder).config.data
    order = np.random.RandomState(asked.split_seed).permutation(10_000)
    return set(order[-asked.test :].tolist())


def test_a_search_reads_no_test_image_and_validate_reads_them_all(
    folder: Path, tmp_path: Path, tiny: dict[str, Any], opened: list[int]
) -> None:
    tiny["evolution"]["births"] = 8
    evonas.search(tiny, tmp_path / "run")
    assert opened
    assert not sealed(folder) & set(opened)
    evonas.validate(tmp_path / "run", [1], seeds=1)
    assert sealed(folder) <= set(opened)


def test_the_best_of_the_final_table_is_judged_beside_the_baseline(folder: Path) -> None:
    run, before = evonas.open_run(folder), list(dump(Database.open(folder).reader()))
    best = next(row.birth for row in run.final_table() if row.birth)
    rows = evonas.validate(folder, seeds=2)
    assert {(row.birth, row.name) for row in rows} == {(best, None), (None, "BN-ReLU")}
    assert {row.seeds for row in rows} == {2}
    told = Database.open(folder).reader().evaluations("validate")
    used = {run.config.seed, *fresh_seeds(run.config)}
    assert not {each.seed for each in told} & used
    for each in told:  # what a worker answers to the test images, not to others
        text, protocol = each.formula, run.config.protocol.model_copy(update={"gates": ()})
        answers = [
            evaluate(Job(graph=text, protocol=protocol, seed=each.seed, judged_on=on)).outcome
            for on in ("test", "validation")
        ]
        assert each.evaluation.outcome == answers[0] != answers[1]
    assert evonas.open_run(folder).finished
    assert evonas.open_run(folder).final_table() == run.final_table()
    after = list(dump(Database.open(folder).reader()))
    assert [row for row in after if row.get("purpose") != "validate"] == before


def test_what_was_judged_is_not_trained_again(folder: Path) -> None:
    once = evonas.validate(folder, seeds=1)
    counts = len(Database.open(folder).reader().evaluations("validate"))
    assert evonas.validate(folder, seeds=1) == once
    assert len(Database.open(folder).reader().evaluations("validate")) == counts
    other = evonas.open_run(folder).top(3)[-1].birth
    assert {row.birth for row in evonas.validate(folder, [other], seeds=1)} == {other, None}  # what was asked alone
    assert evonas.validate(folder, seeds=1) == once


def test_a_search_that_chose_nothing_opens_no_test_image(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"] |= {"births": 1, "rerank": {"top": 0, "seeds": 1}}
    tiny["space"] = {"nodes": 1, "primitives": ["neg"], "aggregations": [], "index_sets": [], "leaves": ["x"]}
    tiny["gates"] = [{"signal": {"logits_std_min": 1.0e-6}}, {"quality": {"steps": 3, "of_baseline": 1.0}}]
    tiny["recipe"] |= {"seeds": 1}
    run = evonas.search(tiny, tmp_path / "run")
    assert run.top() == []
    with pytest.raises(InputError, match="the search chose no candidate; name one by its birth"):
        evonas.validate(tmp_path / "run")
    assert Database.open(tmp_path / "run").reader().evaluations("validate") == []


def test_until_a_search_has_ended_its_test_images_stay_sealed(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.db"
    copy.write_bytes((folder / "run.db").read_bytes())
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE run SET finished = NULL")
    with pytest.raises(InputError, match="the search has not ended; its test images stay closed until then"):
        evonas.validate(copy)


def test_an_unknown_birth_is_bad_input(folder: Path) -> None:
    with pytest.raises(InputError, match="no birth 999; expected 1 to 40"):
        evonas.validate(folder, [999])


def test_without_test_images_there_is_nothing_to_open() -> None:
    asked = data.Data(train=20, validation=10, test=0)
    with pytest.raises(InputError, match=r"^data\.test: 0; no test images were set aside$"):
        data.load(asked, judged_on="test")


def test_a_source_with_a_test_part_of_its_own_is_judged_there(tmp_path: Path) -> None:
    paint(tmp_path / "train")
    paint(tmp_path / "test", per_class=2)
    asked = data.Data(source="folder", path=str(tmp_path), train=8, validation=3, test=1)
    images = data.load(asked, judged_on="test")
    assert torch.equal(images.train.images, data.load(asked).train.images)
    assert images.validation.labels.tolist() == [0, 0, 1, 1, 2, 2]
    (tmp_path / "test" / next(iter(COLOURS))).rename(tmp_path / "test" / "zebra")
    data._load.cache_clear()
    with pytest.raises(InputError, match="the classes of the test images are not those of the training images"):
        data.load(asked, judged_on="test")


FOLDER = {"source": "folder", "path": "{here}"}


@pytest.mark.parametrize(
    ("judged", "searched", "expected"),
    [
        ({}, {}, False),
        ({"test": 1000, "train": 9000}, {"train": 8000, "validation": 1000}, False),  # as many as were set aside
        ({"test": 1001}, {"train": 8000, "validation": 1000}, True),
        ({"test": 1001}, {"train": 256, "validation": 100}, False),
        ({"split_seed": 1}, {}, True),
        ({"image_size": 8}, {"image_size": 14}, False),
        ({"source": "FashionMNIST"}, {}, True),  # whose test part the shipped images are
        ({}, {"source": "FashionMNIST"}, False),
        ({"source": "CIFAR10"}, {}, False),
        ({"source": "CIFAR10"}, {"source": "CIFAR10", "split_seed": 1}, False),  # a test part of its own
        (FOLDER | {"test": 2}, FOLDER | {"train": 5, "validation": 2}, False),
        (FOLDER | {"test": 3}, FOLDER | {"train": 5, "validation": 2}, True),
        (FOLDER | {"test": 3, "path": "{here}/nowhere"}, FOLDER | {"train": 5, "validation": 2}, False),
    ],
    ids=str,
)
def test_images_of_a_search_are_no_test_images_of_another_config(
    tmp_path: Path, judged: dict[str, Any], searched: dict[str, Any], expected: bool
) -> None:
    paint(tmp_path, per_class=3)  # nine images
    asked = [
        data.Data(**{key: str(tmp_path) if value == "{here}" else value for key, value in each.items()})
        for each in (judged, searched)
    ]
    assert data.has_test_part_of(*asked) is expected


def test_fitness_of_a_search_is_of_the_validation_images(folder: Path) -> None:
    run = evonas.open_run(folder)
    best = run.top(1)[0]
    job = Job(graph=best.graph, protocol=run.config.protocol.model_copy(update={"gates": ()}), seed=run.config.seed)
    assert job.judged_on == "validation"
    outcome = evaluate(job).outcome
    assert isinstance(outcome, Fitness)
    assert outcome.accuracy == best.accuracy
