"""A layer without each of its parts, beside the layer itself."""

import json
import shutil
from math import inf, sqrt
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.run import Run
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store.database import Database
from evonas.studies.trainings import NAME
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Crash, CrashKind, Evaluation, Fitness, Rejection
from evonas.workers.protocol import Job
from tests.conftest import TINY
from tests.evonas.studies.answering import AnsweringPool, answering

LAYER = "tanh(x) / std_bhw(x)"
ACCURACY = {
    "tanh(x) / std_bhw(x)": 0.5,
    "x / std_bhw(x)": 0.4,
    "tanh(x)": 0.2,
    "std_bhw(x)": 0.1,
    "tanh(x) / std_chw(x)": 0.45,
    "tanh(x) / std_hw(x)": 0.55,
    "tanh(x) / std_ghw(x)": 0.5,
}


def answered(job: Job) -> Evaluation:
    """By layer, network and seed; without the statistic the seeds differ more."""
    formula = Graph.parse(job.graph).formula
    wide = 0.1 if job.protocol.proxies[NAME].architecture == "mobilenet_v2" else 0.0
    moved = (0.03 if formula == "tanh(x)" else 0.01) * job.seed
    return Evaluation(Fitness({NAME: ACCURACY[formula] + wide + moved}), seconds=1.0, conditions="a CPU")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> AnsweringPool:
    return answering(monkeypatch, evonas.load_config(TINY), answered, "ablate")


def test_the_figures_by_hand(pool: AnsweringPool) -> None:
    told = evonas.ablate(LAYER, TINY, seeds=2)
    first, *others = told.layers
    assert (first.part, first.becomes, first.formula, first.failed) == (None, None, LAYER, 0)
    # seeds 1 and 2: 0.51 and 0.52 on one proxy, 0.61 and 0.62 on the other
    assert first.mean == pytest.approx((0.565, 0.01 / sqrt(2)))
    assert first.accuracy == {
        "resnet": pytest.approx((0.515, 0.01 / sqrt(2))),
        "mobilenet": pytest.approx((0.615, 0.01 / sqrt(2))),
    }
    assert first.difference == (0.0, (0.0, 0.0))
    assert [(each.part, each.becomes) for each in others] == [
        ("tanh(x) / std_bhw(x)", "std_bhw(x)"),  # where it loses most
        ("std_bhw(x)", "1"),
        ("tanh(x)", "x"),
        ("std_bhw(x)", "std_chw(x)"),
        ("std_bhw(x)", "std_ghw(x)"),
        ("std_bhw(x)", "std_hw(x)"),
    ]
    alone = others[1]  # by seed: -0.28 and -0.26 on both proxies
    assert alone.difference == (
        pytest.approx(-0.27),
        (pytest.approx(-0.27 - 12.706205 * 0.01), pytest.approx(-0.27 + 12.706205 * 0.01)),
    )
    assert alone.by_proxy["mobilenet"][0] == pytest.approx(-0.27)
    assert others[-1].difference[0] == pytest.approx(0.05)
    assert (told.seeds, told.crashed, told.conditions) == (2, {}, {"a CPU": 2 * 2 * 7})
    assert repr(told) == f"<Ablation of {LAYER}, 2 seeds: {LAYER} matters most>"
    assert told._repr_html_().count("<tr>") == 1 + 7
    assert json.loads(json.dumps(told.as_json()))["layers"][2]["difference"][0] == pytest.approx(-0.27)


def test_it_trains_without_gates_on_validation_images_and_goes_on_with_its_file(
    pool: AnsweringPool, tmp_path: Path
) -> None:
    out, counted = tmp_path / "ablation.jsonl", list[tuple[int, int]]()
    first = evonas.ablate(LAYER, TINY, seeds=1, out=out, on_progress=lambda *count: counted.append(count))
    assert counted == [(done, 14) for done in range(15)]
    for job in pool.asked:
        assert (job.judged_on, job.protocol.gates, job.seed) == ("validation", (), 1)
    assert first.layers[0].difference == (0.0, None)
    pool.asked.clear()
    evonas.ablate(LAYER, TINY, seeds=2, out=out)
    assert {job.seed for job in pool.asked} == {2}
    pool.asked.clear()
    assert evonas.ablate(LAYER, TINY, seeds=1, out=out) == first
    evonas.ablate(LAYER, TINY, seeds=1, out=out, settings=["recipe.steps=4"])
    assert len(pool.asked) == 14
    with pytest.raises(InputError, match="holds no results"):
        (tmp_path / "text").write_text("text")
        evonas.ablate(LAYER, TINY, out=tmp_path / "text")


def test_a_candidate_is_trained_under_the_config_of_its_run(pool: AnsweringPool, calm: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(calm.folder, tmp_path / "run"))
    pool.answer = lambda job: Evaluation(Fitness({NAME: 0.5}))
    birth = evonas.open_run(folder).top(1)[0].birth
    told = evonas.ablate(f"{folder}#{birth}", seeds=1)
    assert told.layers[0].formula == calm.graph(birth).formula
    assert {job.protocol.recipe.steps for job in pool.asked} == {calm.config.recipe.steps}
    trained = Database.open(folder).reader().trainings()
    assert {(each.purpose, each.birth, each.judged_on) for each in trained} == {("ablate", birth, "validation")}
    assert {each.layer for each in trained} == {each.formula for each in told.layers}
    pool.asked.clear()
    assert evonas.ablate(f"{folder}#{birth}", seeds=1) == told
    assert pool.asked == []


def test_a_training_is_what_a_worker_answers() -> None:
    alone = {"resnet": TINY["proxies"]["resnet"]}
    told = evonas.ablate("tanh(x)", TINY | {"proxies": alone, "cluster": {"address": "in_process"}}, seeds=1)
    config = evonas.load_config(TINY)
    assert [each.formula for each in told.layers] in (["tanh(x)", "x"],)
    for each in told.layers:
        protocol = config.protocol.ungated().model_copy(update={"proxies": {NAME: config.proxies["resnet"]}})
        answer = evaluate(Job(graph=each.formula, protocol=protocol, seed=1)).outcome
        assert isinstance(answer, Fitness)
        assert each.accuracy["resnet"] == (answer.accuracy[NAME], None)


def test_a_divergence_counts_as_guessing_and_a_crash_as_no_answer(pool: AnsweringPool) -> None:
    def fails(job: Job) -> Evaluation:
        match Graph.parse(job.graph).formula:
            case "x / std_bhw(x)":
                return Evaluation(Rejection("diverged", NAME, inf, inf, 3))
            case "tanh(x) / std_hw(x)":
                return Evaluation(Crash(CrashKind.TIME_LIMIT, "no answer"))
        return answered(job)

    pool.answer = fails
    told = evonas.ablate(LAYER, TINY, seeds=2)
    assert told.crashed == {"tanh(x) / std_hw(x)": "time_limit: no answer"}
    assert len(told.layers) == 6
    diverged = next(each for each in told.layers if each.formula == "x / std_bhw(x)")
    assert (diverged.failed, diverged.mean) == (4, (0.1, 0.0))
    pool.answer = lambda job: Evaluation(Crash(CrashKind.TIME_LIMIT, "no answer"))
    with pytest.raises(InputError, match=r"could not be trained: time_limit: no answer$"):
        evonas.ablate(LAYER, TINY)


@pytest.mark.parametrize(
    ("layer", "given", "message"),
    [
        (LAYER, {}, "config: expected one, since .* is of no run"),
        ("BN-RelU", {"config": TINY}, "did you mean 'BN-ReLU'"),
        ("x + y", {"config": TINY}, "takes two inputs"),
        (LAYER, {"config": TINY, "seeds": 0}, "seeds: expected 1 to 1000, got 0"),
        (LAYER, {"config": "nowhere.yaml"}, "nowhere.yaml"),
        (LAYER, {"config": TINY, "settings": ["recipe.step=3"]}, "did you mean"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_line(layer: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evonas.ablate(layer, **given)


def test_a_layer_without_parts(pool: AnsweringPool) -> None:
    pool.answer = lambda job: Evaluation(Fitness({NAME: 0.5}))
    told = evonas.ablate("x", TINY, seeds=1)
    assert len(told.layers) == 1
    assert repr(told) == "<Ablation of x, 1 seed>"
