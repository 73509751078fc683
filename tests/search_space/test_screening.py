"""The gates that need no training: each fires on what it is for, and lets the known layers pass."""

import math

import pytest
import torch

from evonas.search_space.catalog import catalog
from evonas.search_space.fingerprint import probe
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.screening import CHANGE_MIN, check_depends_on_x, check_finite


@pytest.mark.parametrize("name", [name for name in catalog.graphs if catalog[name].inputs == 1])
def test_known_layers_pass_both(name: str) -> None:
    graph = catalog[name].graph
    for check in (check_depends_on_x(graph, probe(graph)), check_finite(graph)):
        assert check.passed
        assert math.isfinite(check.value)


@pytest.mark.parametrize(
    "text",
    [
        "v1",
        "zero",
        "3",
        "x * zero",
        "x - x",
        "x / x",
        "std_hw(std_hw(x))",
        "mean_bhw(v1)",
        "dead = exp(x)\nv0 + v1",
        "zero / zero",  # not finite, and for no fault of x
        "exp(exp(exp(exp(exp(v1)))))",
    ],
)
def test_what_ignores_x_is_stopped(text: str) -> None:
    graph = Graph.parse(text)
    check = check_depends_on_x(graph, probe(graph))
    assert not check.passed
    assert check.gate == "depends_on_x"
    assert check.value <= check.threshold == CHANGE_MIN


@pytest.mark.parametrize("text", ["x", "mean_bhw(x)", "1e-9 * x", "v1 + 0.001 * tanh(x)", "x - mean_c(x)"])
def test_what_depends_on_x_passes(text: str) -> None:
    graph = Graph.parse(text)
    check = check_depends_on_x(graph, probe(graph))
    assert check.passed
    assert check.value > check.threshold


@pytest.mark.parametrize(
    "text",
    [
        "exp(exp(exp(x)))",
        "x / zero",
        "zero / zero",
        "x + 1 / (x - x)",
        "1e30 * x * 1e30",
        "sqrt(x) / (x * zero)",
        "tanh(exp(exp(exp(x))))",  # the value is finite, its gradient is not
        "max(exp(exp(exp(x))), zero)",
    ],
)
def test_what_is_not_finite_is_stopped(text: str) -> None:
    check = check_finite(Graph.parse(text))
    assert not check.passed
    assert check.gate == "finite"
    assert check.value == math.inf


@pytest.mark.parametrize(
    "text",
    ["exp(x)", "exp(-x)", "exp(exp(tanh(x)))", "sqrt(zero * x)", "log(zero * x)", "x / sqrt(x)", "v1", "1e30 * x"],
)
def test_what_is_finite_passes(text: str) -> None:
    check = check_finite(Graph.parse(text))
    assert check.passed
    assert check.value < check.threshold == torch.finfo(torch.float32).max


@pytest.mark.parametrize(
    "text",
    [
        "exp(exp(x))",  # finite on normal input, not at 10 times its scale
        "1 / (x * x * x * x)",  # finite but for small input
        "x / (x - mean_hw(x))",  # 0 / 0 where a channel has one position
    ],
)
def test_what_is_finite_at_one_scale_or_size_alone_is_stopped(text: str) -> None:
    graph = Graph.parse(text)
    layer = NormAct(graph, 16, groups=4)
    x = torch.randn((8, 16, 8, 8), generator=torch.Generator().manual_seed(0)).requires_grad_()
    output = layer(x)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert output.isfinite().all()
    assert gradient.isfinite().all()
    assert not check_finite(graph).passed


def test_the_value_is_the_largest_of_output_and_gradient() -> None:
    assert check_finite(Graph.parse("500")).value == 500  # no gradient
    output = check_finite(Graph.parse("x"))
    steep = check_finite(Graph.parse("tanh(10000 * x) / 100"))
    assert 30 < output.value < 60  # of normal numbers at 10 times their scale
    assert steep.value > 1


def test_a_check_repeats_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    graph = catalog["EvoNorm-B0"].graph
    assert check_finite(graph) == check_finite(graph)
    assert torch.equal(torch.get_rng_state(), state)
