"""What the analysis claims, against what changes when the graph is run in float64."""

import pytest
import torch
from hypothesis import given
from torch import Tensor

from evonas.search_space.analysis import Dependence, analyse, batch_dependent, depends_on_x, is_affine
from evonas.search_space.catalog import LAYERS, GraphLayer
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from tests.conftest import graphs
from tests.search_space.graphs import EVERY_OP, woven_graphs

SHAPE = (3, 8, 2, 3)
ANY_GRAPH = graphs(EVERY_OP) | woven_graphs()


def normal(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def run(graph: Graph, output: int, x: Tensor) -> Tensor:
    """One value of the graph in training, with the learned vectors perturbed, without the affine."""
    layer = NormAct(Graph(graph.leaves, graph.nodes, output), SHAPE[1], groups=4).double()
    for seed, (name, parameter) in enumerate(sorted(layer.named_parameters())):
        if name not in ("weight", "bias"):
            parameter.add_(torch.linspace(-0.4, 0.7 + 0.1 * seed, parameter.numel()).view(parameter.shape))
    value: Tensor = layer(x)
    return value


def finite(*outputs: Tensor) -> bool:
    return all(bool(torch.isfinite(each).all()) for each in outputs)


def claims(graph: Graph) -> list[tuple[int, Dependence]]:
    return list(enumerate(analyse(graph)))[len(graph.leaves) :]


@given(ANY_GRAPH)
def test_what_does_not_depend_on_x_does_not_change_with_x(graph: Graph) -> None:
    for output, claim in claims(graph):
        first, second = run(graph, output, normal(0)), run(graph, output, 2 * normal(1))
        if not claim.on_x and finite(first, second):
            assert torch.equal(first, second), Graph(graph.leaves, graph.nodes, output).formula


@given(ANY_GRAPH)
def test_what_is_not_batch_dependent_does_not_change_with_the_other_examples(graph: Graph) -> None:
    x, other = normal(0), 2 * normal(1)
    other[0] = x[0]
    for output, claim in claims(graph):
        first, second = run(graph, output, x), run(graph, output, other)
        if not claim.on_batch and finite(first, second):
            assert torch.equal(first[0], second[0]), Graph(graph.leaves, graph.nodes, output).formula


@given(ANY_GRAPH)
def test_a_value_is_constant_over_the_axes_that_it_does_not_vary_over(graph: Graph) -> None:
    for output, claim in claims(graph):
        value = run(graph, output, normal(0))
        if not finite(value):
            continue
        axes = {"b": (0,), "c": (1,), "hw": (2, 3)}
        for name in axes.keys() - claim.axes:
            spread = value.amax(axes[name]) - value.amin(axes[name])
            assert not spread.any(), Graph(graph.leaves, graph.nodes, output).formula


def test_most_claims_of_dependence_are_true() -> None:
    """The analysis errs on one side only, and seldom: `x * zero`, `x - x`, the max of x and a large number."""
    texts = [
        "x * sigmoid(v1 * x)",
        "mean_bhw(x) + v0",
        "std_hw(tanh(x))",
        "max(x, v1)",
        "rms_chw(mean_hw(x))",
        "std_ghw(x)",
    ]
    for graph in map(Graph.parse, texts):
        first, second = run(graph, graph.output, normal(0)), run(graph, graph.output, normal(1))
        assert depends_on_x(graph)
        assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("text", "on_x", "on_batch"),
    [
        ("x", True, False),
        ("y", False, False),
        ("v1", False, False),
        ("3", False, False),
        ("mean_bhw(x)", True, True),
        ("std_bhw(x)", True, True),
        ("rms_bhw(x)", True, True),
        ("mean_bhw(v1)", False, False),  # nothing to average
        ("rms_bhw(v0 + v1)", False, False),
        ("x + mean_bhw(v1)", True, False),
        ("mean_bhw(y)", False, True),
        ("mean_hw(x)", True, False),
        ("mean_chw(x)", True, False),
        ("std_ghw(x)", True, False),
        ("mean_c(x)", True, False),
        ("std_hw(std_hw(x))", False, False),  # no position to vary over: the constant sqrt(eps)
        ("std_hw(mean_chw(x))", False, False),
        ("std_c(std_c(x))", False, False),
        ("std_c(mean_hw(x))", True, False),
        ("std_bhw(std_bhw(x))", False, False),
        ("std_bhw(std_hw(x))", True, True),  # it still varies over the batch
        ("rms_hw(std_hw(x))", True, False),
        ("std_ghw(std_hw(x))", True, False),  # a group has several channels
        ("std_ghw(std_chw(x))", False, False),
        ("std_hw(v1)", False, False),
        ("std_hw(mean_bhw(x)) + x", True, False),
        ("std_hw(x * mean_bhw(x))", True, True),
        ("dead = mean_bhw(x)\nx", True, False),
        ("x / max(std_bhw(x), v1 * x + std_hw(x))", True, True),
        ("x * sigmoid(v1 * x) / std_ghw(x)", True, False),
    ],
)
def test_known_cases(text: str, on_x: bool, on_batch: bool) -> None:
    graph = Graph.parse(text)
    assert depends_on_x(graph) == on_x
    assert batch_dependent(graph) == on_batch


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("x", {"b", "c", "hw"}),
        ("v1", {"c"}),
        ("a = scalar(1)\na", set()),
        ("zero", set()),
        ("mean_bhw(x)", {"c"}),
        ("mean_chw(x)", {"b"}),
        ("mean_hw(x)", {"b", "c"}),
        ("mean_ghw(x)", {"b", "c"}),
        ("mean_c(x)", {"b", "hw"}),
        ("mean_chw(x) * v1", {"b", "c"}),
        ("std_hw(v1)", set()),
    ],
)
def test_known_axes(text: str, axes: set[str]) -> None:
    graph = Graph.parse(text)
    assert analyse(graph)[graph.output].axes == axes


@given(ANY_GRAPH)
def test_a_value_changes_with_no_other_parameter(graph: Graph) -> None:
    for output, claim in claims(graph):
        layer = NormAct(Graph(graph.leaves, graph.nodes, output), SHAPE[1], groups=4).double()
        with torch.no_grad():
            first = layer(normal(0))
            for name, parameter in layer.named_parameters():
                if name not in {"weight", "bias", *claim.parameters}:
                    parameter.add_(0.37)
            second = layer(normal(0))
        if finite(first, second):
            assert torch.equal(first, second), layer.genotype.formula


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("v1 * x + v0", {"v0", "v1"}),
        ("a = scalar(1)\ntanh(a * x)", {"a"}),
        ("std_hw(v1) + x", set()),
        ("std_c(v1) + x", {"v1"}),
        ("dead = exp(v0)\nx", set()),
    ],
)
def test_known_parameters(text: str, parameters: set[str]) -> None:
    graph = Graph.parse(text)
    assert analyse(graph)[graph.output].parameters == parameters


SQUASHING = {"DyT", "Derf", "DyISRU", "TD-LN"}  # norms that bend x: no affine of it


def test_the_norms_of_the_catalog_are_affine_in_x_but_for_their_statistics() -> None:
    rows = [row for row in LAYERS.values() if isinstance(row, GraphLayer)]
    norms = {row.name for row in rows if row.norm and Graph.parse(row.norm).digest == row.graph.digest}
    assert {row.name for row in rows if is_affine(row.graph)} == norms - SQUASHING
    assert len(norms) > 15


@pytest.mark.parametrize(
    "text", ["x", "3", "v1 * x - v0", "x / 2", "(x - mean_hw(x)) * rms_c(x)", "x * tanh(std_hw(x))"]
)
def test_affine_in_x(text: str) -> None:
    assert is_affine(Graph.parse(text))


@pytest.mark.parametrize(
    "text", ["x * x", "2 / x", "max(x, zero)", "x * sigmoid(x)", "x / max(std_bhw(x), x)", "-square(x)"]
)
def test_not_affine_in_x(text: str) -> None:
    assert not is_affine(Graph.parse(text))
