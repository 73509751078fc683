"""`evaluate(job)`: each verdict, and that nothing but the job decides."""

import json
import math
import random
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from evonas.workers.evaluation import evaluate
from evonas.workers.gates import stability
from evonas.workers.outcome import Crash, Fitness, Rejection
from evonas.workers.protocol import BaselinePoint, Protocol
from tests.conftest import ROOT
from tests.workers.conftest import BN_RELU, protocol
from tests.workers.evaluation_cases import QUALITY, SCREENING, STABILITY, decided, job


def test_a_proxy_has_a_name() -> None:
    """A measurement of "" is of no proxy."""
    raw = protocol().model_dump(mode="json")
    raw["proxies"][""] = raw["proxies"].pop("resnet")
    with pytest.raises(ValidationError, match="a name is empty"):
        Protocol.model_validate_json(json.dumps(raw))


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
