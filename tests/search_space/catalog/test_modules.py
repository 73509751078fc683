"""The reference modules: training, evaluation and gradients against numpy and torch.nn; options."""

import math
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from evonas.search_space.catalog.modules import BatchChannelNorm, EstBN, OnlineNorm, PowerNorm, PRepBN, UnifiedNorm
from evonas.search_space.catalog.modules.base import ReferenceModule
from evonas.search_space.layer import Layer
from tests.search_space.catalog.module_cases import CASES, C, TorchBCN, TorchPRepBN, cases, dy, normal, train
from tests.shapes import checked


def close(actual: Tensor, expected: Any, message: str) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=1e-7, atol=1e-8, err_msg=message)


# --------------------------------------------------------------------------- numpy


@cases
def test_training_and_evaluation_are_the_transcribed_formulas(name: str) -> None:
    case = CASES[name]
    module = case.build()
    parameters = {key: value.detach().numpy().copy() for key, value in module.named_parameters()}
    oracle = case.oracle(**parameters, **case.options)
    for step in range(case.steps + 2):
        training = step < case.steps
        module.train(training)
        x = case.x(step)
        y, dx, weight, bias, *_ = train(module, x)
        close(y, oracle.forward(x.numpy(), training), f"y, step {step}")
        for gradient, expected in zip((dx, weight, bias), oracle.backward(dy(x).numpy()), strict=True):
            close(gradient, expected, f"gradient, step {step}")
        for key, state in oracle.state.items():
            close(module.get_buffer(key), state, f"{key}, step {step}")


def test_the_steps_of_unified_norm_reach_the_correction_and_the_filter() -> None:
    corrections = {}
    for name in ("UnifiedNorm", "UnifiedNorm-filter"):
        module, case = CASES[name].build(), CASES[name]
        steps = []
        for step in range(case.steps):
            train(module, case.x(step))
            steps.append(module.get_buffer("correction").tolist())
        corrections[name] = steps
    for steps in corrections.values():
        assert steps[:6] == [[1.0] * C] * 6
    assert {0.2, 5.0} < {value for step in corrections["UnifiedNorm"] for value in step}
    skipped = [values == [1.0] * C for values in corrections["UnifiedNorm-filter"]]
    assert skipped[6:11] == [False, False, False, True, False]


@pytest.mark.parametrize(("root", "skipped"), [(1.0, False), (3.1, False), (3.2, True)])
def test_an_outlier_is_farther_off_than_the_steps_and_channels_before_spread(root: float, skipped: bool) -> None:
    module = UnifiedNorm(2, window=2, warmup=0, outlier_filtration=True)
    squares = torch.tensor([[1.0, 1.0], [4.0, 4.0]])  # whose roots 1, 1, 2, 2 have the unbiased variance 1 / 3
    module.load_state_dict({"step": torch.tensor(2), "squares": squares}, strict=False)
    x = torch.full((3, 2, 2), 2.0)
    x[:, 0] = root  # (2 - root)² / 2 against 2 / 3: an outlier from 3.155 on
    module(x)
    assert module.squares[1].tolist() == pytest.approx([1.0, 1.0] if skipped else [root**2, 4.0])


# --------------------------------------------------------------------------- torch.nn


@pytest.mark.parametrize(("name", "torchs"), [("BCN", TorchBCN), ("PRepBN", TorchPRepBN)])
def test_what_torch_has_is_made_of_torchs_layers(name: str, torchs: Callable[[ReferenceModule], nn.Module]) -> None:
    case = CASES[name]
    module = case.build()
    oracle = torchs(module)
    order = {key.replace("batch.", "").replace("layer.", "layer_"): key for key, _ in oracle.named_parameters()}
    for step in range(case.steps + 2):
        for each in (module, oracle):
            each.train(step < case.steps)
        x = case.x(step, 4, C, 7)
        actual, expected = train(module, x), train(oracle, x)
        gradients = dict(zip([key for key, _ in oracle.named_parameters()], expected[2:], strict=True))
        named = [gradients[order[key]] for key, _ in module.named_parameters()]
        torch.testing.assert_close(actual, (*expected[:2], *named), rtol=1e-9, atol=1e-11)


def test_est_bn_is_torchs_evaluation_by_the_moments_that_it_has_moved_to() -> None:
    module = CASES["EstBN"].build()
    for step in range(4):
        actual = train(module, CASES["EstBN"].x(step))
        oracle = nn.BatchNorm1d(C, eps=1e-3).double().eval()
        oracle.load_state_dict(module.state_dict(), strict=False)
        torch.testing.assert_close(actual, train(oracle, CASES["EstBN"].x(step)))


# --------------------------------------------------------------------------- laws of the custom backwards


def test_a_skipped_step_of_unified_norm_is_the_gradient_of_its_forward() -> None:
    case = CASES["UnifiedNorm-filter"]
    module = case.build()
    for step in range(10):
        y, dx, *gradients = train(module, case.x(step))
    x = case.x(9).requires_grad_()
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in (module.weight, module.bias))
    z = x / (x.square().mean((0, 2), keepdim=True) + 1e-3).sqrt()
    expected = z * weight.unsqueeze(1) + bias.unsqueeze(1)
    expected.backward(dy(x))
    torch.testing.assert_close([y, dx, *gradients], [expected.detach(), x.grad, weight.grad, bias.grad])


def test_the_first_step_of_power_norm_holds_the_batch_constant() -> None:
    module = CASES["PowerNorm"].build()
    _, dx, *_ = train(module, CASES["PowerNorm"].x(0))
    x = CASES["PowerNorm"].x(0).requires_grad_()
    grouped = x.unflatten(1, (2, 3))
    scaled = (grouped / (grouped.square().mean(2, keepdim=True) + 1e-3).sqrt()).flatten(1, 2)
    z = scaled / (scaled.square().mean((0, 2), keepdim=True) + 1e-3).sqrt().detach()
    (z * module.weight.detach().unsqueeze(1)).backward(dy(x))
    torch.testing.assert_close(dx, x.grad)


def test_online_norm_takes_a_batch_as_it_takes_its_samples_one_by_one() -> None:
    together, apart = CASES["OnlineNorm"].build(), CASES["OnlineNorm"].build()
    x = normal(4, C, 5, seed=0)
    whole = train(together, x)
    rows = x.clone().requires_grad_()
    apart.zero_grad()
    y = [apart(rows[n : n + 1]) for n in range(4)]
    for n in range(4):
        y[n].backward(dy(x)[n : n + 1])
    torch.testing.assert_close(whole, (torch.cat(y), rows.grad, apart.weight.grad, apart.bias.grad))
    torch.testing.assert_close(together.state_dict(), apart.state_dict())


def test_the_first_sample_of_online_norm_meets_mean_0_and_variance_1() -> None:
    y, dx, *_ = train(OnlineNorm(C).double(), x := normal(1, C, 3, seed=0))
    scale = 1 / math.sqrt(1 + 1e-5)
    torch.testing.assert_close((y, dx), ((x * scale).clamp(-5, 5), dy(x) * scale))


@pytest.mark.parametrize("name", ["PowerNorm", "UnifiedNorm", "OnlineNorm"])
def test_a_custom_backward_has_no_second_derivative(name: str) -> None:
    x = CASES[name].x(0).requires_grad_()
    (dx,) = torch.autograd.grad(CASES[name].build()(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


# --------------------------------------------------------------------------- options


@cases
def test_every_module_takes_groups_a_device_and_a_type(name: str) -> None:
    module = CASES[name].module(np.int64(C), groups=2, device="cpu", dtype=torch.float64)
    floating = [each for each in (*module.parameters(), *module.buffers()) if each.is_floating_point()]
    assert {each.dtype for each in floating} == {torch.float64}
    assert module(CASES[name].x(0)).dtype == torch.float64


@pytest.mark.parametrize(
    ("module", "defaults"),
    [
        (EstBN, {"eps": 1e-5}),
        (BatchChannelNorm, {"groups": 32, "micro_batch": False, "momentum": 0.1, "eps": 1e-5}),
        (PRepBN, {"total_steps": 300_000, "warmup": 0, "start": 1.0, "momentum": 0.1, "eps": 1e-5}),
        (PowerNorm, {"momentum": 0.1, "backward_decay": 0.9, "warmup": 10_000, "eps": 1e-5}),
        (UnifiedNorm, {"window": 4, "warmup": 4000, "correction_after": 1000, "momentum": 0.1, "backward_decay": 0.9}),
        (OnlineNorm, {"forward_decay": 0.999, "backward_decay": 0.99, "guard": 5.0, "eps": 1e-5}),
    ],
)
def test_defaults_are_the_papers(module: Callable[..., Layer], defaults: dict[str, float]) -> None:
    options = {name: option.default for name, option in signature(module).parameters.items()}
    assert options | defaults == options


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (PRepBN, {"total_steps": 0}, "total_steps: expected an integer of at least 1, got 0"),
        (PRepBN, {"start": 1.5}, "start: expected 0 to 1, got 1.5"),
        (PowerNorm, {"warmup": -1}, "warmup: expected an integer of at least 0, got -1"),
        (PowerNorm, {"backward_decay": math.nan}, "backward_decay: expected 0 to 1, got nan"),
        (UnifiedNorm, {"window": 2.5}, "window: expected an integer of at least 1, got 2.5"),
        (OnlineNorm, {"guard": 0}, "guard: expected a number above 0, got 0"),
        (EstBN, {"momentum": 2}, "momentum: expected 0 to 1, got 2"),
    ],
)
def test_an_option_out_of_range_is_refused(module: Callable[..., Layer], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(C, **options)


@cases
def test_other_channels_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected 6 channels at axis 1, got shape"):
        CASES[name].build()(torch.zeros(2, C + 1, 3))
    with pytest.raises(ValueError, match="expected a floating-point input"):
        CASES[name].build()(torch.zeros(2, C, 3, dtype=torch.long))


# --------------------------------------------------------------------------- shapes in types


def test_the_modules_keep_the_shapes_in_their_types() -> None:
    copies = checked("evonas.search_space.catalog.modules")
    for case in CASES.values():
        module = getattr(copies, case.module.__name__)(C, **case.options)
        assert type(module) is not case.module
        for _ in range(case.steps):
            train(module, normal(4, C, 5).float())
        train(module.eval(), normal(4, C, 2, 3).float())
        with pytest.raises(TypeCheckError, match="'x'"):
            module.normalize(torch.ones(4, C, 2, 3))
