"""A language model as a proxy: its training, its gates, its recipe, and what it refuses."""

import copy
import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.workers.data import load_tasks
from evonas.workers.evaluation import evaluate
from evonas.workers.gates.stability import Stability, ascend
from evonas.workers.gradients import convolution_weights
from evonas.workers.outcome import Fitness, bits_per_byte
from evonas.workers.protocol import Job, Protocol
from evonas.workers.step import StaticStep, optimizer_of
from evonas.workers.training import Training, build_model
from tests.conftest import TINY
from tests.workers.conftest import graph
from tests.workers.evaluation_cases import decided

GPT = {"architecture": "gpt", "width": 16, "depth": 1, "heads": 2}
VIT = {"architecture": "vit", "width": 16, "depth": 1, "heads": 2}
RECIPE = {"batch_size": 8, "steps": 6, "learning_rate": 0.01, "optimizer": "adamw", "clip": 1.0}
GATES = (
    {"gate": "signal", "logits_std_min": 1e-9, "batch": 4},
    {"gate": "gradient", "norm_min": 1e-9, "norm_max": 1e9, "batch": 4},
    {"gate": "fit", "steps": 3, "max_share": 2.0, "batch": 4},
    {"gate": "stability", "steps": 2, "batch": 4, "gradient_norm_max": 1e30},
    {"gate": "loss", "steps": 2, "max_share": 2.0},
    {"gate": "quality", "steps": 4, "min_accuracy": 0.0},
)


def protocol(*, proxies: dict[str, Any] | None = None, gates: Any = (), **recipe: Any) -> Protocol:
    raw = {
        "data": TINY["data"],
        "text": {"train": 20_000, "validation": 1000, "test": 1000, "context": 16},
        "recipe": {**RECIPE, **recipe},
        "proxies": proxies or {"gpt": GPT},
        "gates": gates,
        "execution": {},
    }
    return Protocol.model_validate_json(json.dumps(raw))


def training(text: str = "LayerNorm", proxy: str = "gpt", **changes: Any) -> Training:
    chosen = protocol(**changes)
    return Training(graph(text), chosen, proxy, load_tasks(chosen)[proxy], 0)


def test_two_evaluations_of_one_job_have_the_same_bits() -> None:
    """Text and images in one protocol, with every gate that looks at networks and trainings."""
    asked = protocol(proxies={"gpt": GPT, "vit": VIT, "vgg": TINY["proxies"]["resnet"]}, gates=GATES)
    job = Job(graph=str(graph("LayerNorm")), protocol=asked, seed=3)
    first, second = evaluate(job), evaluate(job)
    assert isinstance(first.outcome, Fitness), first.outcome
    assert decided(first) == decided(second)
    assert {each.gate for each in first.measurements} == {each["gate"] for each in GATES}
    assert {each.proxy for each in first.measurements} == {"gpt", "vit", "vgg"}
    assert 2**-9 < first.outcome.accuracy["gpt"] < 2**-3


def test_layer_norm_trains_below_4_bits_per_byte_in_a_few_dozen_steps() -> None:
    sizes = {"architecture": "gpt", "width": 64, "depth": 2, "heads": 4}
    recipe = {"batch_size": 16, "steps": 60, "schedule": "cosine", "warmup": 0.1}
    raw = protocol(proxies={"gpt": sizes}, **recipe).model_dump(mode="json")
    raw["text"] = {"train": 1_000_000, "validation": 20_000, "context": 64}
    chosen = Protocol.model_validate_json(json.dumps(raw))
    started = Training(graph("LayerNorm"), chosen, "gpt", load_tasks(chosen)["gpt"], 0)
    begin = bits_per_byte(started.validate().accuracy)
    started.run(60)
    assert begin > 7
    assert bits_per_byte(started.validate().accuracy) < 4


def test_the_validation_is_of_every_byte_of_the_part_whatever_is_judged_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = training()
    whole = started.validate().accuracy
    monkeypatch.setattr("evonas.workers.task.POSITIONS", 32)
    assert started.task.at_once == 2
    assert started.validate().accuracy == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("text", ["x / rms_hw(x)", "LayerNorm-chw", "GroupNorm"])
def test_a_layer_that_would_see_later_bytes_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"proxies\.gpt: a layer over .* sees the bytes after a position"):
        training(text)
    training(text, "vit", proxies={"vit": VIT})  # which may see all of an image


def test_a_dead_reduction_refuses_nobody() -> None:
    dead = Graph.parse("a = mean_hw(x)\nx / rms_c(x)")
    chosen = protocol()
    build_model(dead, chosen, "gpt", load_tasks(chosen)["gpt"], 0)


# --------------------------------------------------------------------------- gates


def test_the_stability_gate_climbs_all_linear_weights() -> None:
    model = training().model
    matrices = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    assert [id(each) for each in convolution_weights(model)] == [id(each) for each in matrices]
    assert len(matrices) == 5  # qkv, out, two of the feed-forward, head


def test_the_norm_that_is_climbed_has_a_second_derivative_through_attention() -> None:
    """One step up raises it, and float64 agrees."""
    for proxy, spec in (("gpt", GPT), ("vit", VIT)):
        started = training(proxy=proxy, proxies={proxy: spec})
        inputs, targets = started.task.train[:4]
        x = started.task.input(inputs)
        gate = Stability(steps=1, step_size=1e-3, batch=4)
        model = copy.deepcopy(started.model)
        still = ascend(copy.deepcopy(model), x, targets, gate.model_copy(update={"steps": 0}), started.task.loss)[0]
        climbed, at = ascend(copy.deepcopy(model), x, targets, gate, started.task.loss)
        assert at == 1
        assert climbed > still
        exact = ascend(model.double(), x.double() if x.is_floating_point() else x, targets, gate, started.task.loss)[0]
        assert climbed == pytest.approx(exact, rel=1e-3)


# --------------------------------------------------------------------------- the recipe


def test_adamw_is_its_formula_with_decay_on_linear_weights_alone() -> None:
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; w <- w - rate (decay w + m' / (sqrt(v') + 1e-8))."""
    decay, rate, steps = 0.5, 0.01, 3
    started = training(weight_decay=decay, learning_rate=rate, momentum=0.8, beta2=0.9, clip=None, schedule="constant")
    decayed = {id(module.weight) for module in started.model.modules() if isinstance(module, nn.Linear)}
    expected = {name: each.detach().clone() for name, each in started.model.named_parameters()}
    first = {name: torch.zeros_like(each) for name, each in expected.items()}
    second = copy.deepcopy(first)
    for step in range(1, steps + 1):
        started.run(step)
        for name, parameter in started.model.named_parameters():
            assert parameter.grad is not None
            first[name] = 0.8 * first[name] + 0.2 * parameter.grad
            second[name] = 0.9 * second[name] + 0.1 * parameter.grad.square()
            towards = first[name] / (1 - 0.8**step) / ((second[name] / (1 - 0.9**step)).sqrt() + 1e-8)
            shrunk = expected[name] * (1 - rate * decay * (id(parameter) in decayed))
            expected[name] = shrunk - rate * towards
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("clip", [1e-3, 1e6])
def test_a_gradient_is_clipped_to_the_norm(clip: float) -> None:
    def gradient(**recipe: Any) -> torch.Tensor:
        started = training(**recipe)
        started.run(1)
        return torch.cat([each.grad.flatten() for each in started.model.parameters() if each.grad is not None])

    whole, clipped = gradient(clip=None), gradient(clip=clip)
    scale = min(1.0, clip / float(whole.norm()))
    torch.testing.assert_close(clipped, scale * whole, rtol=1e-3, atol=1e-9)


def test_the_static_step_of_a_text_is_the_plain_one() -> None:
    """Within the rounding of torch's fused SGD, with a rate that a schedule moves. AdamW would divide the rounding of
    gradients that are 0, as of the keys' bias, by itself."""
    plain, static = (training(optimizer="sgd", schedule="cosine", warmup=0.3) for _ in range(2))
    static.one_step = StaticStep(static.network, static.recipe)
    for each in (plain, static):
        each.run(5)
    for mine, its in zip(plain.model.parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-4)


def test_the_fused_adamw_is_the_plain_one() -> None:
    recipe = protocol(weight_decay=0.1).recipe
    models = [nn.Linear(5, 3, dtype=torch.float64) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [optimizer_of(model, recipe, fused=fused) for model, fused in zip(models, (False, True), strict=True)]
    for step in range(5):
        for model, optimizer, rate in zip(models, optimizers, (0.5**step, torch.tensor(0.5**step)), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            for parameter in model.parameters():
                parameter.grad = torch.linspace(-1, step, parameter.numel(), dtype=torch.float64).view_as(parameter)
            optimizer.step()
    for mine, its in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


def test_a_tied_head_is_updated_once() -> None:
    model = training(proxies={"gpt": {**GPT, "tied": True}}).model
    groups = optimizer_of(model, protocol().recipe).param_groups
    given = [id(each) for group in groups for each in group["params"]]
    assert sorted(given) == sorted(id(each) for each in model.parameters())


def test_a_plain_recipe_leaves_no_trace_of_the_options_in_a_dump() -> None:
    plain = protocol(optimizer="sgd", clip=None).recipe.model_dump(mode="json")
    assert not {"optimizer", "beta2", "clip"} & plain.keys()


def test_a_text_of_which_nothing_is_learned_is_guessed_at_8_bits() -> None:
    started = training("zero * x")
    assert math.isclose(bits_per_byte(started.validate().accuracy), 8, rel_tol=1e-6)
