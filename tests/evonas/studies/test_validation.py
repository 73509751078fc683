"""Finds on the test images of other data and networks: means, spreads, paired differences."""

import json
import os
import shutil
import signal
import sqlite3
from math import inf, sqrt
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.intervals import estimate
from evonas.retraining import Contender
from evonas.run import Run
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.known import Known
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.session import Stopped
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.trainings import StoredTraining
from evonas.studies.replay import replay
from evonas.studies.trainings import NAME, row_of, validation_file
from evonas.studies.validation import compare_layers
from evonas.units import Units
from evonas.workers import data
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Crash, CrashKind, Evaluation, Fitness, Rejection
from evonas.workers.protocol import Job
from tests.benchmarks import holds
from tests.conftest import TINY
from tests.evonas.studies.answering import AnsweringPool, answering

# --------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        ([1.0, 2.0, 3.0, 4.0], 2.5, 3.182446 * sqrt(5 / 3) / 2),  # t(0.975, 3) of a printed table
        ([0.1, 0.3], 0.2, 12.706205 * 0.1),  # s / sqrt(2) = 0.1
        ([0.02, 0.02, 0.02], 0.02, 0.0),
        ([-0.5, 0.0, 0.5, 0.0, 0.0], 0.0, 2.776445 * sqrt(0.5 / 4) / sqrt(5)),
    ],
)
def test_the_interval_is_students(values: list[float], mean: float, half: float) -> None:
    value, interval = estimate(values)
    assert value == pytest.approx(mean)
    assert interval == pytest.approx((mean - half, mean + half), rel=1e-6)


def test_one_seed_has_no_interval() -> None:
    assert estimate([0.25]) == (0.25, None)


FIND, BASE, OTHER = (
    Contender(birth, name, Graph.parse(text))
    for birth, name, text in ((7, None, "x / rms_hw(x)"), (None, "BN-ReLU", "x"), (None, "GN-ReLU", "tanh(x)"))
)


def rows(*accuracies: tuple[float | None, float | None]) -> dict[tuple[int, str], dict[str, Any]]:
    """Seeds 1, 2, ... on the proxies a and b."""
    return {
        (seed, proxy): {"accuracy": value, "classes": 4, "conditions": "cpu"}
        for seed, pair in enumerate(accuracies, start=1)
        for proxy, value in zip("ab", pair, strict=True)
    }


def test_the_tables_by_hand() -> None:
    trained = {
        (FIND, 128): rows((0.6, 0.8), (0.8, 0.8)),
        (BASE, 128): rows((0.5, 0.7), (0.6, 0.6)),
        (OTHER, 128): rows((0.7, 0.9), (0.8, 1.0)),
        (FIND, 8): rows((0.6, None), (0.6, 0.25)),  # one of them diverged: 1 / 4, as by guessing
        (BASE, 8): rows((0.25, 0.25), (0.75, 0.25)),
        (OTHER, 8): rows((0.1, 0.1), (0.1, 0.1)),
    }
    told = compare_layers(
        trained, {FIND: Known(affine_of="FRN+TLU")}, {"lost": "time_limit: no answer"}, Units(("a", "b"))
    )
    assert [(each.batch_size, each.label) for each in told.layers] == [
        (128, "GN-ReLU"), (128, "7"), (128, "BN-ReLU"), (8, "7"), (8, "BN-ReLU"), (8, "GN-ReLU"),
    ]  # fmt: skip
    find, few = told.layers[1], told.layers[3]
    assert (find.birth, find.name, find.formula, find.affine_of) == (7, None, "x / rms_hw(x)", "FRN+TLU")
    assert (find.seeds, find.failed, few.failed) == (2, 0, 1)
    assert find.mean == pytest.approx((0.75, 0.05 * sqrt(2)))
    assert find.accuracy == {"a": pytest.approx((0.7, 0.1 * sqrt(2))), "b": pytest.approx((0.8, 0.0))}
    assert few.accuracy["b"] == pytest.approx((0.25, 0.0))
    assert [(each.batch_size, each.label, each.baseline) for each in told.differences] == [
        (128, "GN-ReLU", "BN-ReLU"), (128, "7", "BN-ReLU"), (128, "7", "GN-ReLU"),
        (8, "7", "BN-ReLU"), (8, "7", "GN-ReLU"), (8, "GN-ReLU", "BN-ReLU"),
    ]  # fmt: skip
    to_base = told.differences[1]  # by seed: 0.7 - 0.6 and 0.8 - 0.6
    assert to_base.mean == (pytest.approx(0.15), pytest.approx((0.15 - 12.706205 * 0.05, 0.15 + 12.706205 * 0.05)))
    assert to_base.by_proxy["a"][0] == pytest.approx(0.15)
    assert to_base.by_proxy["b"] == (pytest.approx(0.15), pytest.approx((0.15 - 0.6353102, 0.15 + 0.6353102)))
    assert told.differences[2].mean[0] == pytest.approx(0.75 - 0.85)
    assert told.crashed == {"lost": "time_limit: no answer"}
    assert told.conditions == {"cpu": 24}
    assert json.loads(json.dumps(told.as_json()))["differences"][1]["mean"][0] == pytest.approx(0.15)
    assert repr(told) == "<Validation of 6 rows: GN-ReLU is best, 0.850, 2 seeds>"
    assert told._repr_html_().count("<tr>") == 1 + 6 + 1 + 6


# --------------------------------------------------------------------------- trainings

ON: dict[str, Any] = TINY | {
    "name": "other",
    "data": TINY["data"] | {"image_size": 10},
    "recipe": TINY["recipe"] | {"steps": 4, "learning_rate": 0.05},
    "proxies": {"wide": TINY["proxies"]["resnet"] | {"width": 16}, "resnet": TINY["proxies"]["resnet"]},
}


def answered(job: Job) -> Evaluation:
    """An accuracy by width, seed and layer."""
    width = 0.1 if job.protocol.proxies[NAME].width == 16 else 0.0
    layer = 0.3 if Graph.parse(job.graph).digest == LAYERS["BN-ReLU"].graph.digest else 0.5
    return Evaluation(Fitness({NAME: width + layer + 0.01 * (job.seed % 3)}), seconds=2.0, conditions="a CPU")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> AnsweringPool:
    return answering(monkeypatch, evonas.load_config(ON), answered, "validate")


@pytest.fixture
def folder(calm: Run, tmp_path: Path) -> Path:
    """A finished run, which each test may write."""
    return Path(shutil.copytree(calm.folder, tmp_path / "run"))


def best(folder: Path) -> list[int]:
    return [row.birth for row in evonas.open_run(folder).final_table() if row.birth]


def test_the_best_is_trained_beside_the_baselines_on_the_other_config(pool: AnsweringPool, folder: Path) -> None:
    counted: list[tuple[int, int]] = []
    told = evonas.validate(
        folder, on=ON, settings=["recipe.steps=5"], baselines=["GN-ReLU", "x"], seeds=2,
        on_progress=lambda *count: counted.append(count),
    )  # fmt: skip
    run = evonas.open_run(folder)
    graphs = {run.graph(best(folder)[0]).digest, Graph.parse("x").digest}
    graphs |= {LAYERS[name].graph.digest for name in ("BN-ReLU", "GN-ReLU")}
    assert {Graph.parse(job.graph).digest for job in pool.asked} == graphs
    assert [job.seed for job in pool.asked] == [1] * 8 + [2] * 8  # seed-major; the config's own seed is 0
    for job in pool.asked:
        assert job.judged_on == "test"
        assert job.protocol.gates == ()
        assert (job.protocol.recipe.steps, job.protocol.recipe.learning_rate) == (5, 0.05)
        assert job.protocol.data.image_size == 10
        assert list(job.protocol.proxies) == [NAME]
    assert [job.protocol.proxies[NAME].model_dump()["width"] for job in pool.asked[:2]] == [16, 8]
    assert counted == [(done, 16) for done in range(17)]
    (find,) = (each for each in told.layers if each.birth)
    assert find.birth == best(folder)[0]
    assert find.accuracy == {
        "wide": pytest.approx((0.615, 0.005 * sqrt(2))),
        "resnet": pytest.approx((0.515, 0.005 * sqrt(2))),
    }
    to_base = next(each for each in told.differences if each.birth and each.baseline == "BN-ReLU")
    assert to_base.mean == (pytest.approx(0.2), pytest.approx((0.2, 0.2)))


def test_a_second_call_trains_nothing_and_it_goes_on_where_it_was_stopped(
    pool: AnsweringPool, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "validation.jsonl"
    whole = evonas.validate(folder, on=ON, seeds=2, out=tmp_path / "whole.jsonl")
    pool.asked.clear()

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        evonas.validate(folder, on=ON, seeds=2, out=out, on_progress=interrupt)
    assert len(pool.asked) == 3
    assert evonas.validate(folder, on=ON, seeds=2, out=out) == whole
    assert len(pool.asked) == 8
    other = ["execution.channels_last=true", "name=renamed", "workers.cpus=2"]
    assert evonas.validate(folder, on=ON, settings=other, seeds=2, out=out) == whole
    assert len(pool.asked) == 8
    evonas.validate(folder, on=ON, seeds=3, out=out)
    assert [job.seed for job in pool.asked[8:]] == [3] * 4
    evonas.validate(folder, on=ON, settings=["recipe.learning_rate=0.3"], seeds=1, out=out)
    assert len(pool.asked) == 16


def test_batch_sizes_and_further_candidates(pool: AnsweringPool, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "validation.jsonl"
    told = evonas.validate(folder, on=ON, top=2, batch_sizes=[32, 4], seeds=1, out=out)
    assert [each.batch_size for each in told.layers] == [32] * 3 + [4] * 3
    assert {each.birth for each in told.layers} == {*best(folder)[:2], None}
    assert len(pool.asked) == 12
    alone = evonas.validate(folder, best(folder)[1], on=ON, settings=["recipe.batch_size=4"], seeds=1, out=out)
    assert len(pool.asked) == 12
    assert [each.batch_size for each in alone.layers] == [4, 4]


def test_what_processes_without_ray_trained_serves(pool: AnsweringPool, folder: Path, tmp_path: Path) -> None:
    file, sizes = validation_file(tmp_path / "out"), (16, 4)
    layers = holds.layers_of(str(folder), 2, ["GN-ReLU"])
    settings = ["data.image_size=10", "execution.channels_last=true"]
    configs = [evonas.load_config(ON, [*settings, f"recipe.batch_size={size}"]) for size in sizes]
    wanted = holds.trainings(layers, configs, seeds=2)
    assert [each.job.seed for each in wanted] == [1] * 16 + [2] * 16  # a cut leaves whole seeds
    for each in wanted:
        file.keep(row_of(each, answered(each.job), classes=10, threads=1))
    told = evonas.validate(folder, on=ON, top=2, baselines="GN-ReLU", batch_sizes=sizes, seeds=2, out=tmp_path / "out")
    assert pool.asked == []
    assert {each.label for each in told.layers} == {*map(str, best(folder)[:2]), "BN-ReLU", "GN-ReLU"}


def test_a_training_is_what_a_worker_answers_to_the_test_images(folder: Path) -> None:
    told = evonas.validate(folder, on=ON, settings=["recipe.steps=3"], seeds=1)
    config = evonas.load_config(ON, ["recipe.steps=3"])
    for each in told.layers:
        for name, proxy in config.proxies.items():
            protocol = config.protocol.ungated().model_copy(update={"proxies": {"p": proxy}})
            answer = evaluate(Job(graph=each.formula, protocol=protocol, seed=1, judged_on="test")).outcome
            assert isinstance(answer, Fitness)
            assert each.accuracy[name] == (answer.accuracy["p"], None)


def test_a_divergence_counts_as_guessing_and_a_crash_as_no_answer(pool: AnsweringPool, folder: Path) -> None:
    baseline = LAYERS["BN-ReLU"].graph.digest

    def fails(job: Job) -> Evaluation:
        graph = Graph.parse(job.graph)
        if graph.formula == "tanh(x)":
            return Evaluation(Crash(CrashKind.TIME_LIMIT, "no answer"))
        diverges = graph.digest == baseline and job.seed == 1
        return Evaluation(Rejection("diverged", NAME, inf, inf, 3)) if diverges else answered(job)

    pool.answer = fails
    told = evonas.validate(folder, on=ON, baselines="tanh(x)", seeds=2)
    base = next(each for each in told.layers if each.name == "BN-ReLU")
    assert base.failed == 2
    assert base.mean[0] == pytest.approx((0.1 + 0.37) / 2)
    assert told.crashed == {"tanh(x)": "time_limit: no answer"}
    assert {each.name for each in told.layers} == {None, "BN-ReLU"}
    pool.answer = lambda job: Evaluation(Crash(CrashKind.TIME_LIMIT, "no answer"))
    with pytest.raises(InputError, match=r"^BN-ReLU could not be trained: time_limit: no answer$"):
        evonas.validate(folder, on=ON, steps=3, seeds=2)


def records(folder: Path) -> list[StoredTraining]:
    return Database.open(folder).reader().trainings()


def test_the_run_records_them_once_and_goes_on(pool: AnsweringPool, folder: Path) -> None:
    before = list(dump(Database.open(folder).reader()))

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        evonas.validate(folder, on=ON, seeds=2, on_progress=interrupt)
    assert len(records(folder)) == 3
    told = evonas.validate(folder, on=ON, seeds=2)
    assert len(pool.asked) == len(records(folder)) == 8
    assert evonas.validate(folder, on=ON, seeds=2) == told
    assert len(pool.asked) == 8
    reader = Database.open(folder).reader()
    assert [row for row in dump(reader) if "setting" not in row] == before
    assert replay(reader) == []
    assert reader.finished
    find, split = best(folder)[0], data.split_digest(evonas.load_config(ON).data)
    for each in reader.trainings():
        assert (each.purpose, each.judged_on, each.data, each.split) == ("validate", "test", "embedded", split)
        assert (each.config, each.architecture, each.steps, each.batch_size) == ("other", "preact_resnet", 4, 16)
        assert (each.learning_rate, each.seconds, each.conditions) == (0.05, 2.0, "a CPU")
        assert each.protocol["data"]["image_size"] == 10
        assert (each.birth, each.name) == ((None, "BN-ReLU") if each.name else (find, None))
        assert each.layer == (LAYERS["BN-ReLU"].graph if each.name else reader.graph(find)).formula
    assert {(each.proxy, each.seed, each.name) for each in reader.trainings()} == {
        (proxy, seed, name) for proxy in ("wide", "resnet") for seed in (1, 2) for name in (None, "BN-ReLU")
    }
    wide, narrow = evonas.open_run(folder).validations(find)
    assert (wide.proxy, wide.data, wide.steps, wide.batch_size, wide.seeds) == ("wide", "embedded at 10x10", 4, 16, 2)
    assert wide.accuracy == pytest.approx((0.615, 0.005 * sqrt(2)))  # 0.61 and 0.62
    assert narrow.differences == {"BN-ReLU": (pytest.approx(0.2), pytest.approx((0.2, 0.2)))}
    assert evonas.open_run(folder).validations(find + 1) == []


def test_a_run_that_is_read_only_takes_a_file(
    pool: AnsweringPool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["recipe.learning_rate=0.01"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode, **rest: not mode & os.W_OK)
        with pytest.raises(
            InputError, match=r"read-only; copy its folder .*; or keep the trainings in a file, with out"
        ):
            evonas.validate(folder, on=ON, settings=settings, seeds=1)
        told = evonas.validate(folder, on=ON, settings=settings, seeds=1, out=tmp_path / "out")
    assert records(folder) == []
    pool.asked.clear()
    assert evonas.validate(folder, on=ON, settings=settings, seeds=1, from_files=tmp_path / "out") == told
    assert pool.asked == []
    assert [each.learning_rate for each in records(folder)] == [0.01] * 4
    assert evonas.validate(folder, on=ON, settings=settings, seeds=1) == told
    assert evonas.validate(folder, on=ON, settings=settings, seeds=1, out=tmp_path / "copy") == told  # from the run
    assert pool.asked == []
    assert (tmp_path / "copy").read_text().count("\n") == 1 + 4


def test_its_own_config_on_other_networks(pool: AnsweringPool, folder: Path, calm: Run) -> None:
    pool.answer = lambda job: Evaluation(Fitness({NAME: 0.5}))
    told = evonas.validate(folder, architectures=["resnet", "vgg"], steps=3, seeds=1)
    assert {proxy for each in told.layers for proxy in each.accuracy} == {"resnet", "vgg"}
    widths = {job.protocol.proxies[NAME].architecture: job.protocol.proxies[NAME].width for job in pool.asked}
    assert widths == {"preact_resnet": 8, "vgg": 8}
    assert {(job.protocol.recipe.steps, job.protocol.data) for job in pool.asked} == {(3, calm.config.data)}
    assert evonas.open_run(folder).validated() == {best(folder)[0]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "file"}, "out: trainings under the search's own protocol are recorded in the run alone"),
        ({"from_files": "file"}, "from_files: trainings under the search's own protocol are recorded in the run alone"),
        ({"on": ON, "from_files": "nowhere"}, "nowhere: no such file"),
        ({"data": "CIFAR11"}, "data: no source and no folder 'CIFAR11'; did you mean 'CIFAR10'"),
        ({"data": "FashionMNIST"}, "tiny: its test part is among what run trained"),
        ({"architectures": ["vg"]}, "proxies.vg: unknown architecture 'vg'; did you mean 'vgg'"),
        ({"steps": 0}, "steps: expected 1 to 1000000000, got 0"),
        ({"births": 1, "top": 2}, "births: expected none beside top"),
        ({"on": ON, "top": 0}, "top: expected 1 to 1000000000, got 0"),
        ({"on": ON, "batch_sizes": [0]}, "batch_sizes: expected 1 to 1000000000, got 0"),
        ({"on": ON, "births": 999}, "no birth 999; expected 1 to 40"),
        ({"on": ON, "baselines": "GN-RelU"}, "did you mean 'GN-ReLU'"),
        ({"on": "nowhere.yaml"}, "nowhere.yaml"),
        ({"on": ON, "settings": ["data.split_seed=1"]}, "other: its test part is among what run trained"),
        ({"on": ON, "settings": ["data={source: FashionMNIST}"]}, "other: its test part is among what run"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_line(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evonas.validate(folder, **options)


def test_until_the_search_has_ended_its_candidates_are_not_judged_elsewhere(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.db"
    copy.write_bytes((folder / "run.db").read_bytes())
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE run SET finished = NULL")
    with pytest.raises(InputError, match="the search has not ended; its test images stay closed until then"):
        evonas.validate(copy, on=ON)
