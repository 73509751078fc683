"""Measurements of a layer alone: each finds what it is for, and is harmless for the known layers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from evonas.search_space.catalog import LAYERS
from evonas.search_space.fingerprint import probe
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.screening import (
    CHANGE_MIN,
    DEGENERATE,
    Degenerate,
    amplification,
    amplifications,
    change,
    largest_value,
)
from tests.conftest import graphs
from tests.shapes import checked


@pytest.mark.parametrize("name", [name for name in LAYERS.graphs if LAYERS[name].inputs == 1])
def test_known_layers_pass_both(name: str) -> None:
    graph = LAYERS[name].graph
    assert CHANGE_MIN < change(graph, probe(graph)) < math.inf
    assert math.isfinite(largest_value(graph))


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
    assert change(graph, probe(graph)) <= CHANGE_MIN


@pytest.mark.parametrize("text", ["x", "mean_bhw(x)", "1e-9 * x", "v1 + 0.001 * tanh(x)", "x - mean_c(x)"])
def test_what_depends_on_x_passes(text: str) -> None:
    graph = Graph.parse(text)
    assert change(graph, probe(graph)) > CHANGE_MIN


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
    assert largest_value(Graph.parse(text)) == math.inf


@pytest.mark.parametrize(
    "text",
    ["exp(x)", "exp(-x)", "exp(exp(tanh(x)))", "sqrt(zero * x)", "log(zero * x)", "x / sqrt(x)", "v1", "1e30 * x"],
)
def test_what_is_finite_passes(text: str) -> None:
    assert largest_value(Graph.parse(text)) < torch.finfo(torch.float32).max


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
    assert largest_value(graph) == math.inf


def test_the_value_is_the_largest_of_output_and_gradient() -> None:
    assert largest_value(Graph.parse("500")) == 500  # no gradient
    output = largest_value(Graph.parse("x"))
    steep = largest_value(Graph.parse("tanh(10000 * x) / 100"))
    assert 30 < output < 60  # of normal numbers at 10 times their scale
    assert steep > 1


def test_a_check_repeats_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    graph = LAYERS["EvoNorm-B0"].graph
    assert largest_value(graph) == largest_value(graph)
    for at in DEGENERATE:
        assert amplification(graph, at) == amplification(graph, at)
    assert torch.equal(torch.get_rng_state(), state)


# --------------------------------------------------------------------------- amplification


ROOT_EPS = math.sqrt(1e-5)  # what a std is over equal values


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("x", "position", 1.0),
        ("3 * x", "sample", 3.0),
        ("x / std_hw(x)", "position", 1 / ROOT_EPS),
        ("x / std_hw(v1 * x)", "position", 1 / ROOT_EPS),
        ("x / std_hw(x)", "sample", 1.0),
        ("x / std_bhw(x)", "constant", 1 / ROOT_EPS),
        ("x - mean_hw(x)", "position", 0.0),
        ("max(x, zero) / std_chw(x)", "constant", 1 / ROOT_EPS),  # at 1; at -1 it is 0
        ("max(-x, zero) / std_chw(x)", "constant", 1 / ROOT_EPS),
        ("EvoNorm-S0", "constant", 1 / (1 + math.exp(-1)) / ROOT_EPS),
        ("zero / zero", "position", math.inf),
        ("exp(exp(exp(10 * x)))", "sample", math.inf),
    ],
)
def test_the_amplification_is_what_the_formula_gives(text: str, at: Degenerate, expected: float) -> None:
    graph = LAYERS[text].graph if text in LAYERS else Graph.parse(text)
    assert amplification(graph, at) == pytest.approx(expected, rel=0.03, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in LAYERS.graphs if LAYERS[name].inputs == 1])
def test_known_layers_do_not_amplify_a_position_or_a_sample(name: str) -> None:
    """EvoNorm-B0 has 0.87: E[min(x, 1)^2] of normal x is 0.76 where std_bhw is 1."""
    for at in ("position", "sample"):
        assert amplification(LAYERS[name].graph, at) < 2.0
    assert amplification(LAYERS["EvoNorm-B0"].graph) == pytest.approx(0.87, abs=0.05)


@given(graphs(), st.sampled_from(DEGENERATE))
def test_the_amplification_is_the_layers(graph: Graph, at: Degenerate) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 16, 8, 8) if at == "sample" else (8, 16, 1, 1)
    inputs = [torch.randn(shape, generator=generator).double()]
    if at == "constant":
        inputs = [torch.ones(8, 16, 8, 8).double(), -torch.ones(8, 16, 8, 8).double()]
    layer = NormAct(graph, 16, groups=4).double()
    ratios = [float(layer(x).detach().square().mean().sqrt() / x.square().mean().sqrt()) for x in inputs]
    expected = max(ratio if math.isfinite(ratio) else math.inf for ratio in ratios)
    assert amplification(graph, at) == pytest.approx(expected, rel=1e-3)


def test_the_screening_keeps_the_shapes_in_its_types() -> None:
    copy = checked("evonas.search_space.screening")
    for text in ("1 + 1", "x * v1 + y", "x / std_hw(x) + mean_ghw(y)", "std_bhw(x)", "mean_chw(v1) + x"):
        graph = Graph.parse(text)
        assert copy.amplifications(graph) == amplifications(graph), text
    with pytest.raises(TypeCheckError, match="'values'"):
        copy._rms(torch.ones(8, 16, 1, 1).double())
