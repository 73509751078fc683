"""The training step: as a function of buffers that stay where they are, and as what a graph replays."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evonas.search_space.errors import InputError
from evonas.workers import step
from evonas.workers.evaluation import evaluate
from evonas.workers.machine import conditions
from evonas.workers.outcome import Fitness
from evonas.workers.pool import InProcessPool
from evonas.workers.protocol import Execution, Protocol
from evonas.workers.step import WARM_UP, CapturedStep, StaticStep, Step
from evonas.workers.training import Diverged, Training
from tests.workers.conftest import graph, images, protocol
from tests.workers.evaluation_cases import QUALITY, STABILITY, job
from tests.workers.tape import Tape

# a schedule that changes the rate at every step, crops that leave images strided, and more than one epoch
RECIPE = {"steps": 12, "learning_rate": 0.01, "schedule": "cosine", "warmup": 0.3, "crop": 6, "flip": True}
STAGES = [{"expand": 2, "channels": 16, "blocks": 2, "stride": 2}]
EFFICIENT = {"efficientnet": {"architecture": "efficientnet", "width": 0.5, "groups": 4, "stages": STAGES}}
MOMENTS = "x / max(std_bhw(x), rms_bhw(v1 * x)) + mean_bhw(x)"  # a running moment of each aggregation
CASES = [
    *((text, proxy) for text in ("BN-ReLU", "EvoNorm-B0", "EvoNorm-S0", MOMENTS) for proxy in ("resnet", "mobilenet")),
    (MOMENTS, "efficientnet"),
]


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tape]]:
    """CUDA graphs are tapes, so a CPU has them."""
    tapes: list[Tape] = []

    def tape() -> Tape:
        tapes.append(Tape())
        return tapes[-1]

    monkeypatch.setattr(step, "CudaGraph", tape)
    monkeypatch.setattr(step, "check_graphs", lambda *_: None)
    yield tapes


def training(kind: type[Step], text: str, proxy: str, **changes: dict[str, Any]) -> Training:
    changes["recipe"] = RECIPE | changes.get("recipe", {})
    chosen = protocol(**changes)
    if proxy == "efficientnet":
        chosen = Protocol.model_validate_json(json.dumps(chosen.model_dump(mode="json") | {"proxies": EFFICIENT}))
    made = Training(graph(text), chosen, proxy, images(chosen), 0)
    made.one_step = kind(made.network, made.recipe)
    made.cold = kind.cold
    return made


def state(of: Training) -> dict[str, Tensor]:
    """Parameters, running moments, the optimizer's momenta, and the losses."""
    momenta = of.one_step.optimizer.state
    found = {name: each.detach() for name, each in (*of.model.named_parameters(), *of.model.named_buffers())}
    found |= {
        f"momentum of {name}": momenta[parameter]["momentum_buffer"]
        for name, parameter in of.model.named_parameters()
        if parameter in momenta
    }
    return found | {"losses": of.losses}


def expect_equal(first: Training, second: Training) -> None:
    ours, theirs = state(first), state(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# --------------------------------------------------------------------------- buffers that stay


@pytest.mark.parametrize(("text", "proxy"), CASES)
def test_the_static_step_is_the_plain_one_but_for_rounding(text: str, proxy: str) -> None:
    """torch's fused SGD against its plain one, after three steps: before rounding grows."""
    plain, static = training(Step, text, proxy), training(StaticStep, text, proxy)
    plain.run(3)
    static.run(3)
    ours, theirs = state(plain), state(static)
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
        )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_static_update_is_that_of_sgd(momentum: float) -> None:
    """Nesterov momentum and weight decay in float64, with the rates of a schedule."""
    model = nn.Linear(5, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel(), dtype=torch.float64).view_as(parameter))
    recipe = protocol(recipe={"momentum": momentum, "weight_decay": 0.01}).recipe
    optimizer, rate = step.optimizer_of(model, recipe, fused=True), torch.zeros(())
    for group in optimizer.param_groups:
        group["lr"] = rate
    wanted = [parameter.detach().clone() for parameter in model.parameters()]
    speed = [torch.zeros_like(each) for each in wanted]
    for number in range(5):
        rate.fill_(0.5**number)  # which float32 holds exactly
        for index, (parameter, decay) in enumerate(zip(model.parameters(), (0.01, 0.0), strict=True)):
            parameter.grad = torch.full_like(parameter, 0.1 * (number + 1))
            slope = parameter.grad + decay * wanted[index]
            speed[index] = momentum * speed[index] + slope
            wanted[index] = wanted[index] - 0.5**number * (slope + momentum * speed[index])
        optimizer.step()
        for parameter, each in zip(model.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.detach(), each, rtol=1e-12, atol=1e-12)


# --------------------------------------------------------------------------- captured


@pytest.mark.parametrize(("text", "proxy"), CASES)
def test_the_captured_step_is_the_static_one(taped: list[Tape], text: str, proxy: str) -> None:
    """Bit for bit: weights, running moments, momenta, losses; after replays on new batches at new rates."""
    static, captured = training(StaticStep, text, proxy), training(CapturedStep, text, proxy)
    static.run(6)
    captured.run(6)
    (tape,) = taped
    assert (tape.warm_ups, tape.captures, tape.replays) == (WARM_UP, 1, 6 - WARM_UP)
    expect_equal(static, captured)
    assert static.validate() == captured.validate()


@pytest.mark.parametrize("execution", [{"channels_last": True}, {"dtype": "bfloat16"}])
def test_so_it_is_in_every_format(taped: list[Tape], execution: dict[str, object]) -> None:
    static = training(StaticStep, "EvoNorm-B0", "resnet", execution=execution)
    captured = training(CapturedStep, "EvoNorm-B0", "resnet", execution=execution)
    static.run(6)
    captured.run(6)
    assert taped[0].replays == 6 - WARM_UP
    expect_equal(static, captured)


def test_a_captured_training_in_parts_is_the_training_in_one(taped: list[Tape]) -> None:
    """Gates validate on the way, and ask for the memory of a step, which both run eagerly on the same tensors."""
    whole, parts = training(CapturedStep, MOMENTS, "resnet"), training(CapturedStep, MOMENTS, "resnet")
    whole.run(12)
    for until in (1, 3, 4, 4, 9, 12):
        parts.run(until)
        parts.validate()
    assert [tape.captures for tape in taped] == [1, 1]
    expect_equal(whole, parts)
    assert parts.saved_mb() == whole.saved_mb() > 0


def test_compiled_layers_are_captured_anew(taped: list[Tape], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilation starts with a later stretch: what was captured before would go on running the eager layers."""
    monkeypatch.setattr("evonas.search_space.lowering.NormAct.compile", lambda self, dynamic: None)
    execution = {"compile_from_steps": 6, "cuda_graphs": True}
    static, captured = (
        training(StaticStep, "BN-ReLU", "resnet"),
        training(CapturedStep, "BN-ReLU", "resnet", execution=execution),
    )
    for each in (static, captured):
        each.run(5)
        each.run(12)
    assert captured.compiled
    assert [(tape.warm_ups, tape.replays) for tape in taped if tape.captures] == [(WARM_UP, 2), (WARM_UP, 4)]
    expect_equal(static, captured)


def test_replays_alone_are_timed(taped: list[Tape]) -> None:
    captured = training(CapturedStep, "BN-ReLU", "resnet")
    captured.run(WARM_UP + 1)
    assert (captured.timed, captured.cold) == (0, 0)
    captured.run(12)
    assert captured.timed == 12 - WARM_UP - 1
    assert captured.step_seconds > 0


@pytest.mark.parametrize(("rate", "replayed"), [(1e9, False), (1.0, True)])
def test_a_captured_training_diverges_as_the_static_one(taped: list[Tape], rate: float, replayed: bool) -> None:
    """Whether a warm-up or a replay brings the loss that is not finite."""
    stops = []
    for kind in (StaticStep, CapturedStep):
        made = training(kind, "x * x", "resnet", recipe={"learning_rate": rate, "schedule": "constant", "steps": 40})
        made.cold = CapturedStep.cold  # both look after the same steps
        with pytest.raises(Diverged) as caught:
            made.run(40)
        stops.append(caught.value.step)
    assert stops[0] == stops[1]
    assert (taped[0].replays > 0) == replayed


def test_a_capture_with_a_value_of_the_host_is_seen() -> None:
    """The tape is honest: torch's plain SGD, whose rate is a number of the host, repeats the rate of its capture."""
    plain = training(Step, "BN-ReLU", "resnet")
    plain.run(1)
    tape, (shown, labels) = Tape(), next(plain.batches)
    tape.capture(lambda: plain.one_step(shown, labels, 0.1))
    before = plain.model[0].weight.detach().clone()
    plain.one_step.optimizer.param_groups[0]["lr"] = 0.0
    tape.replay()
    assert not torch.equal(plain.model[0].weight, before)
    with pytest.raises(RuntimeError, match="capturing"):
        Tape().capture(lambda: torch.ones(()) * float(labels.sum()))


def test_a_whole_evaluation_with_captured_steps(taped: list[Tape]) -> None:
    """Gates, trainings of two proxies with two seeds, memory: an outcome as any other, and the same twice."""
    asked = job("EvoNorm-B0", gates=(QUALITY, STABILITY), recipe={"seeds": 2}, execution={"cuda_graphs": True})
    first, second = evaluate(asked), evaluate(asked)
    assert isinstance(first.outcome, Fitness)
    assert first.outcome == second.outcome
    assert first.points == second.points
    assert sum(tape.captures for tape in taped) == 2 * 2 * 2  # evaluations, proxies, seeds
    plain = evaluate(job("EvoNorm-B0", gates=(QUALITY, STABILITY), recipe={"seeds": 2}))
    assert first.measurements[-1].value == plain.measurements[-1].value  # stability starts from fresh weights, eagerly
    assert first.conditions == conditions("cpu")


# --------------------------------------------------------------------------- without a GPU


def test_graphs_without_a_gpu_are_bad_input() -> None:
    """In a pool at its start, and in an evaluation that goes on without one."""
    said = r"^execution\.cuda_graphs: true, but the worker computes on a CPU; expected false, or a GPU"
    asked = job(execution={"cuda_graphs": True})
    with pytest.raises(InputError, match=said):
        InProcessPool(asked.protocol, "cpu")
    with pytest.raises(InputError, match=said):
        evaluate(asked)


def test_a_dump_without_graphs_is_the_one_from_before_them() -> None:
    assert "cuda_graphs" not in Execution().model_dump()
    assert "cuda_graphs" not in Execution().model_dump_json()
    asked = Execution(cuda_graphs=True)
    assert Execution.model_validate_json(asked.model_dump_json()) == asked
