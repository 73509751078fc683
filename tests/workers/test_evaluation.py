"""evaluate(job): each verdict, what is measured on the way, and that nothing but the job decides."""

import gc
import json
import math
import random
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from evonas.workers.evaluation import Judged, evaluate
from evonas.workers.gates import stability
from evonas.workers.gates.quality import Quality
from evonas.workers.gates.rung import Rung
from evonas.workers.machine import peak_mb
from evonas.workers.outcome import Crash, Evaluation, Fitness, Rejection
from evonas.workers.protocol import BaselinePoint, Job, Protocol, Threshold
from evonas.workers.training import Training
from tests.conftest import ROOT
from tests.workers.conftest import BN_RELU, STABLE, graph, images, protocol

QUALITY = {"gate": "quality", "steps": 3, "min_accuracy": 0.0}
STABILITY = {"gate": "stability", "steps": 2}
SCREENING = ({"gate": "depends_on_x"}, {"gate": "finite"})


def job(text: str = "BN-ReLU", seed: int = 0, baseline: tuple[BaselinePoint, ...] = (), **changes: Any) -> Job:
    return Job(graph=str(graph(text)), protocol=protocol(**changes), seed=seed, baseline=baseline)


def test_a_proxy_has_a_name() -> None:
    """A measurement of "" is of no proxy."""
    raw = protocol().model_dump(mode="json")
    raw["proxies"][""] = raw["proxies"].pop("resnet")
    with pytest.raises(ValidationError, match="a proxy's name is empty"):
        Protocol.model_validate_json(json.dumps(raw))


def decided(of: Evaluation) -> Evaluation:
    """Without what the machine adds: seconds, memory, host."""
    measurements = tuple(replace(each, seconds=0.0) for each in of.measurements)
    return Evaluation(of.outcome, measurements, of.points)


# --------------------------------------------------------------------------- a function of the job alone


def test_the_same_job_is_answered_alike() -> None:
    asked = job(gates=(QUALITY, STABILITY), recipe={"crop": 6, "flip": True, "schedule": "cosine"})
    first = evaluate(asked)
    evaluate(job("EvoNorm-S0", seed=5))  # another in between
    assert decided(evaluate(asked)) == decided(first)


def test_a_fresh_process_answers_alike() -> None:
    """Bit by bit, and from the job's JSON."""
    asked = job("EvoNorm-B0", gates=(QUALITY, STABILITY))
    program = (
        "import sys, json, torch; from dataclasses import asdict; from evonas.workers.evaluation import evaluate;"
        "from evonas.workers.protocol import Job; torch.set_num_threads(int(sys.argv[1]));"
        "print(json.dumps(asdict(evaluate(Job.model_validate_json(sys.stdin.read())))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(torch.get_num_threads())],
        input=asked.model_dump_json(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
    )
    there, here = json.loads(done.stdout), json.loads(json.dumps(asdict(evaluate(asked))))
    for each in (*there["measurements"], *here["measurements"]):
        del each["seconds"]
    for each in (there, here):
        del each["outcome"]["step_seconds"]
    for key in ("outcome", "measurements", "points", "conditions"):
        assert there[key] == here[key]


def test_seeds_and_layers_differ() -> None:
    curves = {
        tuple(point.loss for point in evaluate(asked).points)
        for asked in (job(), job(seed=1), job("EvoNorm-S0"), job("GN-ReLU"))
    }
    assert len(curves) == 4


def test_equal_layers_train_alike() -> None:
    """Whatever their text: the canonical graph is lowered."""
    one, other = (
        decided(evaluate(job(text))) for text in (BN_RELU, "n0 = exp(x)\nmax(zero, (x - mean_bhw(x)) / std_bhw(x))")
    )
    assert one == other


def test_global_random_states_are_left_alone() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(20261122)  # a state that no evaluation leaves behind
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        evaluate(job(gates=(QUALITY, STABILITY), recipe={"crop": 6, "flip": True}))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.random.get_state()[1].tolist() == states[2]


# --------------------------------------------------------------------------- verdicts


def test_fitness_is_the_accuracy_of_each_proxy_at_the_full_budget() -> None:
    answer = evaluate(job(gates=(QUALITY,)))
    assert isinstance(answer.outcome, Fitness)
    assert list(answer.outcome.accuracy) == ["resnet", "mobilenet"]
    final = {point.proxy: point.accuracy for point in answer.points if point.step == 6}
    assert answer.outcome.accuracy == final
    assert all(0 <= accuracy <= 1 for accuracy in final.values())
    assert answer.seconds > 0
    assert answer.memory_mb > 0
    assert answer.host


def test_training_learns() -> None:
    asked = job(proxies=("resnet",), recipe={"steps": 60, "schedule": "cosine"}, data={"train": 1000})
    answer = evaluate(asked)
    assert isinstance(answer.outcome, Fitness)
    assert answer.outcome.accuracy["resnet"] > 0.4  # of ten classes


def test_measurements_and_points_stand_in_the_order_of_the_gates() -> None:
    answer = evaluate(job(gates=(*SCREENING, QUALITY, STABILITY)))
    assert [(each.gate, each.proxy) for each in answer.measurements] == [
        ("quality", "resnet"),
        ("quality", "mobilenet"),
        ("stability", "resnet"),
        ("stability", "mobilenet"),
    ]
    assert [(each.proxy, each.step) for each in answer.points] == [
        ("resnet", 3),
        ("mobilenet", 3),
        ("resnet", 6),
        ("mobilenet", 6),
    ]
    assert all(each.passed for each in answer.measurements)
    assert [each.value for each in answer.measurements[:2]] == [each.accuracy for each in answer.points[:2]]
    swapped = evaluate(job(gates=(STABILITY, QUALITY)))
    assert [each.gate for each in swapped.measurements] == ["stability", "stability", "quality", "quality"]


def test_gates_do_not_change_the_fitness() -> None:
    """A layer that passes them is trained as if there were none."""
    assert evaluate(job()).outcome == evaluate(job(gates=(QUALITY, STABILITY))).outcome


@pytest.mark.parametrize(
    "gates",
    [
        ({**QUALITY, "steps": 6},),  # at the full budget
        (QUALITY, {**QUALITY, "min_accuracy": 0.01}),
        (QUALITY, {**QUALITY, "steps": 2}),
    ],
)
def test_a_step_has_one_point(gates: tuple[dict[str, Any], ...]) -> None:
    """The store keeps one point for (evaluation, proxy, step)."""
    answer = evaluate(job(gates=gates))
    steps = [(each.proxy, each.step) for each in answer.points]
    assert len(steps) == len(set(steps))


def test_rejection_by_a_minimal_accuracy() -> None:
    answer = evaluate(job(gates=({**QUALITY, "min_accuracy": 0.95}, STABILITY)))
    (measured,) = answer.measurements  # neither the other proxy nor the next gate is asked
    assert answer.outcome == Rejection("quality", "resnet", measured.value, 0.95, 3)
    assert not measured.passed
    assert measured.value < 0.95
    assert [(each.proxy, each.step, each.accuracy) for each in answer.points] == [("resnet", 3, measured.value)]


def test_rejection_by_a_share_of_the_baseline() -> None:
    relative = {"gate": "quality", "steps": 3, "of_baseline": 0.5}
    baseline = (
        BaselinePoint(proxy="resnet", step=2, accuracy=1.0),  # another step: not this gate's
        BaselinePoint(proxy="resnet", step=3, accuracy=0.0),
        BaselinePoint(proxy="mobilenet", step=3, accuracy=0.99),
    )
    answer = evaluate(job("x * zero", gates=(relative,), baseline=baseline))
    assert [each.threshold for each in answer.measurements] == [0.0, 0.5 * 0.99]
    value = answer.measurements[1].value
    assert answer.outcome == Rejection("quality", "mobilenet", value, 0.5 * 0.99, 3)


def test_accuracy_at_the_threshold_passes() -> None:
    relative = {"gate": "quality", "steps": 3, "of_baseline": 1.0}
    own = evaluate(job(gates=(relative,)))
    same = tuple(BaselinePoint(proxy=p.proxy, step=p.step, accuracy=p.accuracy) for p in own.points if p.step == 3)
    answer = evaluate(job(gates=(relative,), baseline=same))
    assert isinstance(answer.outcome, Fitness)
    assert [each.threshold for each in answer.measurements] == [each.accuracy for each in same]


def test_without_a_baseline_a_relative_gate_only_measures() -> None:
    answer = evaluate(job("x * zero", gates=({"gate": "quality", "steps": 3, "of_baseline": 1.0},)))
    assert isinstance(answer.outcome, Fitness)
    assert [each.threshold for each in answer.measurements] == [0.0, 0.0]


def test_rejection_by_stability() -> None:
    answer = evaluate(job("x * x * x * x", gates=(STABILITY, QUALITY)))
    (measured,) = answer.measurements
    assert isinstance(answer.outcome, Rejection)
    assert (answer.outcome.gate, answer.outcome.proxy, answer.outcome.threshold) == ("stability", "resnet", 1e8)
    assert answer.outcome.value == measured.value > 1e8
    assert not answer.points  # stopped before any training


def test_stability_starts_from_untrained_weights() -> None:
    """Its value does not depend on an earlier training, and its ascent does not touch the training."""
    before, after = (evaluate(job(gates=gates)) for gates in ((STABILITY, QUALITY), (QUALITY, STABILITY)))
    norms = [[each.value for each in answer.measurements if each.gate == "stability"] for answer in (before, after)]
    assert norms[0] == norms[1]
    assert before.outcome == after.outcome


def test_a_divergent_training_is_a_rejection() -> None:
    answer = evaluate(job("exp(exp(x))"))
    assert answer.outcome == Rejection("diverged", "resnet", math.inf, math.inf, 1)
    assert not answer.points
    assert not answer.measurements


def test_a_training_that_diverges_before_a_gate_is_a_rejection() -> None:
    answer = evaluate(job("exp(exp(x))", gates=(QUALITY,)))
    assert answer.outcome == Rejection("diverged", "resnet", math.inf, math.inf, 1)


def test_a_network_whose_last_step_breaks_it_has_diverged() -> None:
    """Whatever is not finite in validation is no accuracy."""
    answer = evaluate(job("x * x * x", recipe={"learning_rate": 1e30, "steps": 1}))
    assert isinstance(answer.outcome, Rejection)
    assert answer.outcome.gate == "diverged"


# --------------------------------------------------------------------------- the cheap gates and the rungs


SIGNAL = {"gate": "signal", "logits_std_min": 1e-9}
GRADIENT = {"gate": "gradient", "norm_min": 1e-9, "norm_max": 1e9}
LOSS = {"gate": "loss", "steps": 2, "max_share": 100.0}


def test_cheap_gates_are_asked_proxy_by_proxy_where_they_share_their_work() -> None:
    answer = evaluate(job(gates=(SIGNAL, GRADIENT, LOSS, {**LOSS, "steps": 3}, STABILITY, QUALITY)))
    assert [(each.gate, each.proxy, each.step) for each in answer.measurements if each.gate != "stability"] == [
        *((gate, proxy, 0) for proxy in ("resnet", "mobilenet") for gate in ("signal", "gradient")),
        *(("loss", proxy, step) for proxy in ("resnet", "mobilenet") for step in (2, 3)),
        ("quality", "resnet", 3),
        ("quality", "mobilenet", 3),
    ]
    assert all(each.passed for each in answer.measurements)
    assert answer.outcome == evaluate(job()).outcome  # none of them changes the training


def test_rejection_by_logits_that_hardly_differ() -> None:
    answer = evaluate(job("1e-6 * x", gates=({"gate": "signal"}, QUALITY)))
    (measured,) = answer.measurements
    assert answer.outcome == Rejection("signal", "resnet", measured.value, 1e-3, 0)
    assert 0 < measured.value < 1e-3
    assert not answer.points


@pytest.mark.parametrize(("text", "bound"), [("1e-6 * x", 1e-3), ("1000 * x", 1e4), ("exp(exp(x * x))", 1e4)])
def test_rejection_by_a_gradient_too_small_or_too_large(text: str, bound: float) -> None:
    answer = evaluate(job(text, gates=({"gate": "gradient"},)))
    assert isinstance(answer.outcome, Rejection)
    assert (answer.outcome.gate, answer.outcome.threshold) == ("gradient", bound)
    assert (answer.outcome.value < bound) == (bound == 1e-3)


def test_logits_that_are_no_numbers_are_stopped_by_the_signal() -> None:
    answer = evaluate(job("exp(exp(x * x))", gates=({"gate": "signal"},)))
    assert answer.outcome == Rejection("signal", "resnet", math.inf, 1e-3, 0)


@pytest.mark.parametrize("name", STABLE)
def test_known_layers_pass_the_cheap_gates(name: str) -> None:
    cheap = ({"gate": "signal"}, {"gate": "gradient"})
    recipe = {"steps": 2}
    assert isinstance(evaluate(job(name, gates=cheap, recipe=recipe)).outcome, Fitness)


def test_rejection_of_what_cannot_learn_a_batch() -> None:
    answer = evaluate(job("x * zero", gates=({"gate": "fit", "steps": 2, "max_share": 0.9}, QUALITY)))
    (measured,) = answer.measurements
    assert answer.outcome == Rejection("fit", "resnet", measured.value, 0.9, measured.step)
    assert 0.9 < measured.value < 1.02  # of ln 10: it learns how often each class is there
    assert not answer.points


def test_fit_leaves_the_training_as_it_is() -> None:
    fit = {"gate": "fit", "steps": 2, "max_share": 10.0}
    answer = evaluate(job(gates=(fit,)))
    assert answer.outcome == evaluate(job()).outcome
    assert [(each.gate, each.proxy) for each in answer.measurements] == [("fit", "resnet"), ("fit", "mobilenet")]
    broken = evaluate(job("x / zero", gates=(fit,)))
    assert broken.outcome == Rejection("fit", "resnet", math.inf, 10.0, 0)


def test_rejection_by_a_loss_that_does_not_fall() -> None:
    answer = evaluate(job("x * zero", gates=({**LOSS, "max_share": 0.9},)))
    (measured,) = answer.measurements
    assert answer.outcome == Rejection("loss", "resnet", measured.value, 0.9, 2)
    assert measured.value == pytest.approx(1.0, abs=0.02)  # of ln 10: it guesses


def test_the_loss_is_the_mean_of_the_last_ten_steps() -> None:
    at = {"gate": "loss", "steps": 14, "max_share": 100.0}
    answer = evaluate(job(gates=(at,), recipe={"steps": 14}, proxies=("resnet",)))
    (measured,) = answer.measurements
    asked = protocol(recipe={"steps": 14})
    training = Training(graph("BN-ReLU"), asked, "resnet", images(asked), 0)
    training.run(14)
    assert measured.value == pytest.approx(float(training.losses[4:].mean()) / math.log(10), rel=1e-6)


def test_a_rung_looks_at_the_mean_over_proxies() -> None:
    rung = {"gate": "rung", "steps": 3}
    free = evaluate(job(gates=(rung,)))
    assert free.outcome == evaluate(job()).outcome  # without a threshold it only measures
    (measured,) = free.measurements
    accuracies = [each.accuracy for each in free.points if each.step == 3]
    assert len(accuracies) == 2
    assert measured.value == pytest.approx(sum(accuracies) / 2)
    assert (measured.proxy, measured.threshold) == ("", 0.0)
    for above, passes in ((0.0, True), (1e-6, False)):
        threshold = Threshold(gate="rung", steps=3, value=measured.value + above)
        other = Threshold(gate="rung", steps=2, value=1.0)
        asked = job(gates=(rung, STABILITY)).model_copy(update={"thresholds": (other, threshold)})
        answer = evaluate(asked)
        assert isinstance(answer.outcome, Fitness) == passes
        assert answer.measurements[0].threshold == threshold.value
        if not passes:
            assert answer.outcome == Rejection("rung", "", measured.value, threshold.value, 3)


# --------------------------------------------------------------------------- several seeds, and costs


def test_several_seeds_are_trained_and_averaged() -> None:
    alone = [evaluate(job(seed=seed, proxies=("resnet",))) for seed in (7, 8, 9)]
    together = evaluate(job(seed=7, proxies=("resnet",), recipe={"seeds": 3}, gates=(QUALITY,)))
    assert isinstance(together.outcome, Fitness)
    accuracies = [each.points[-1].accuracy for each in alone]
    assert together.outcome.accuracy == {"resnet": pytest.approx(sum(accuracies) / 3)}
    last = [(each.repeat, each.accuracy) for each in together.points if each.step == 6]
    assert last == list(enumerate(accuracies))
    assert [each.repeat for each in together.points if each.step == 3] == [0]  # gates ask the first seed


def test_a_training_tells_what_its_steps_cost() -> None:
    answer = evaluate(job(gates=(QUALITY,)))
    assert isinstance(answer.outcome, Fitness)
    for seconds in answer.outcome.step_seconds.values():
        assert 0 < seconds < answer.seconds
    larger = evaluate(job(recipe={"batch_size": 32}))
    assert isinstance(larger.outcome, Fitness)
    for proxy, mb in answer.outcome.saved_mb.items():
        assert larger.outcome.saved_mb[proxy] == pytest.approx(2 * mb, rel=0.05)  # of activations, not of weights


def test_saved_memory_counts_each_tensor_once() -> None:
    """tanh keeps its result, which the affine keeps as its input; BN-ReLU by hand keeps more."""
    found = {}
    for text in ("tanh(x)", "BN-ReLU"):
        answer = evaluate(job(text, proxies=("resnet",)))
        assert isinstance(answer.outcome, Fitness)
        found[text] = answer.outcome.saved_mb["resnet"]
    site = 16 * 8 * 8 * 8 * 4 / 2**20  # batch x channels x height x width, float32; the network has three sites
    assert found["tanh(x)"] < found["BN-ReLU"]
    assert 3 * site < found["tanh(x)"] < 9 * site


def test_saved_memory_is_the_same_twice() -> None:
    """What is freed within the forward leaves its address to others: here the layer's value has no gradient to x."""
    found = set()
    for _ in range(4):
        outcome = evaluate(job("abs(v0)", proxies=("resnet",))).outcome
        assert isinstance(outcome, Fitness)
        found.add(outcome.saved_mb["resnet"])
    assert len(found) == 1


def test_a_look_at_the_initial_weights_is_forgotten_before_the_next_gate() -> None:
    """It holds every activation of a network."""
    asked = job(gates=({"gate": "signal"},))
    run = Judged(asked, graph("BN-ReLU"), images(asked.protocol))
    run.ask_gates()
    assert len(run.measurements) == 2
    assert run.passes == {}


def test_neighbours_of_one_work_are_each_asked_once_or_on_every_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Rung, Quality):
        monkeypatch.setattr(kind, "work", "accuracy")
    asked = job(gates=({"gate": "rung", "steps": 2}, QUALITY, {**QUALITY, "min_accuracy": 0.01}))
    run = Judged(asked, graph("BN-ReLU"), images(asked.protocol))
    run.ask_gates()
    asked_of = [(each.gate, each.proxy) for each in run.measurements]
    quality = [("quality", proxy) for proxy in ("resnet", "resnet", "mobilenet", "mobilenet")]
    assert asked_of == [("rung", ""), *quality]


def test_an_evaluation_leaves_no_tensor_behind() -> None:
    """A worker evaluates thousands. (A hook of autograd that keeps a node's own result keeps the node alive, too.)"""

    def live() -> int:
        gc.collect()
        return sum(type(each) in (torch.Tensor, torch.nn.Parameter) for each in gc.get_objects())

    asked = [job(name, gates=(SIGNAL, STABILITY)) for name in ("EvoNorm-B0", "x * x * x * x", "exp(exp(x))")]
    for each in asked:
        evaluate(each)
    before = live()
    for each in asked * 3:
        evaluate(each)
    assert live() < before + 20  # a network that stayed would be so many


def test_conditions_name_what_decides_the_bits() -> None:
    told = evaluate(job(recipe={"steps": 1})).conditions
    assert told.startswith("cpu, ")
    assert f"torch {torch.__version__}" in told
    assert f"{torch.get_num_threads()} thread" in told
    assert torch.backends.cpu.get_cpu_capability() in told


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a peak that can be forgotten")
def test_the_peak_is_that_of_one_evaluation() -> None:
    block = torch.ones(2**26)  # 256 MiB that are gone before the evaluation
    before = peak_mb()
    del block
    assert evaluate(job(recipe={"steps": 1})).memory_mb < before - 128


# --------------------------------------------------------------------------- crashes


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...\nmore"),
        MemoryError("Unable to allocate 8 GiB"),
        MemoryError(),
    ],
)
def test_exhausted_memory_is_a_crash(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def exhausted(*_: object) -> None:
        raise error

    monkeypatch.setattr(stability, "ascend", exhausted)
    answer = evaluate(job(gates=(QUALITY, STABILITY)))
    assert isinstance(answer.outcome, Crash)
    assert answer.outcome.kind == "out_of_memory"
    assert answer.outcome.message == (str(error).splitlines() or ["MemoryError"])[0]
    assert [each.gate for each in answer.measurements] == ["quality", "quality"]  # what was known is kept


def test_memory_that_torch_cannot_allocate_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own words on a CPU."""
    monkeypatch.setattr(stability, "ascend", lambda *_: torch.empty(2**46))  # 256 TiB: beyond any address space
    answer = evaluate(job(gates=(STABILITY,)))
    assert isinstance(answer.outcome, Crash)
    assert answer.outcome.kind == "out_of_memory"


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ZeroDivisionError("bug")])
def test_a_bad_program_is_an_exception(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(stability, "ascend", broken)
    with pytest.raises(type(error), match=str(error)):
        evaluate(job(gates=(STABILITY,)))
