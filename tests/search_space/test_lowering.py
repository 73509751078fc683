"""Graph -> NormAct: total, differentiable twice, what numpy computes, and one layer for equal digests."""

import copy
import io
import pickle
from functools import partial
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from tests.conftest import graphs
from tests.search_space import reference
from tests.search_space.graphs import EVERY_OP, twin, woven_graphs
from tests.search_space.tensors import standard_normal

LAYOUTS = [((4, 8, 3, 5), 1), ((2, 8, 1, 1), 1), ((1, 8, 4), 1), ((2, 8), 1), ((2, 8, 2, 2, 2), 1), ((2, 5, 8), -1)]
ANY_GRAPH = graphs(EVERY_OP) | woven_graphs()

normal = partial(standard_normal, dtype=torch.float32)


def perturb(layer: nn.Module) -> None:
    """Other values for every parameter, the same for layers with the same names."""
    for name, parameter in layer.named_parameters():
        with torch.no_grad():
            parameter.add_(0.5 * normal(*parameter.shape, seed=sum(name.encode())).to(parameter.dtype))


def trajectory(layer: NormAct, steps: int = 3) -> list[Tensor]:
    """Outputs of training steps and of an evaluation, then the state: everything that a user could compare."""
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
    outputs = []
    for step in range(steps):
        output = layer.train()(normal(4, 8, 3, 5, seed=step))
        optimizer.zero_grad()
        (output * normal(4, 8, 3, 5, seed=99)).sum().backward()
        optimizer.step()
        outputs.append(output.detach())
    return [*outputs, layer.eval()(normal(4, 8, 3, 5, seed=50)).detach(), *layer.state_dict().values()]


def identical(first: list[Tensor], second: list[Tensor]) -> bool:
    """Bit by bit; NaN equals NaN."""
    return len(first) == len(second) and all(
        torch.equal(torch.isnan(a), torch.isnan(b))
        and torch.equal(a.nan_to_num(0, 1e30, -1e30), b.nan_to_num(0, 1e30, -1e30))
        for a, b in zip(first, second, strict=True)
    )


# --------------------------------------------------------------------------- laws of random graphs


@given(ANY_GRAPH)
def test_every_graph_is_total(graph: Graph) -> None:
    for shape, channel_dim in LAYOUTS:
        layer = NormAct(graph, 8, channel_dim=channel_dim, groups=4)
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            x = normal(*shape).to(dtype)
            for training in (True, False):
                output = layer.train(training)(x)
                assert output.shape == x.shape
                assert output.dtype == x.dtype


@pytest.mark.parametrize("number", ["1e38", "3e38", "-3e38", "1e-300"])
def test_a_graph_with_any_number_is_total(number: str) -> None:
    for text in (f"x * {number}", f"a = scalar({number})\nx * a", f"a = vector({number})\nx * a"):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            x = normal(2, 8, 3).to(dtype)
            output = NormAct(Graph.parse(text), 8)(x)
            assert output.shape == x.shape
            assert output.dtype == dtype


@given(ANY_GRAPH)
def test_gradients_flow_twice(graph: Graph) -> None:
    layer = NormAct(graph, 8, groups=4)
    x = normal(4, 8, 3, 5).requires_grad_()
    for training in (True, False):
        output = layer.train(training)(x)
        learned = [x, *layer.parameters()]
        first = torch.autograd.grad(
            output.square().sum(), learned, create_graph=True, allow_unused=True, materialize_grads=True
        )
        norm = torch.stack([gradient.square().sum() for gradient in first]).sum()
        second = torch.autograd.grad(norm, learned, allow_unused=True, materialize_grads=True)
        assert [each.shape for each in first] == [each.shape for each in learned]
        assert [each.shape for each in second] == [each.shape for each in learned]


@given(woven_graphs(), st.sampled_from([((4, 8, 3, 5), 1), ((3, 8), 1), ((3, 5, 8), -1)]))
def test_a_layer_computes_what_numpy_computes(graph: Graph, layout: tuple[tuple[int, ...], int]) -> None:
    shape, channel_dim = layout
    layer = NormAct(graph, 8, channel_dim=channel_dim, groups=4).double()
    perturb(layer)
    x = normal(*shape).double()
    learned = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    learned = {"v0": np.zeros(8), "v1": np.ones(8), "beta": np.full(8, -2.0), "alpha": np.array([0.5]), **learned}
    disturbed = [
        reference.interpret(
            graph, x.numpy(), learned, groups=4, channel_dim=channel_dim, rounding=np.random.default_rng(seed)
        )
        for seed in (0, 1)
    ]
    assume(np.isfinite(disturbed).all())
    assume(np.allclose(disturbed[0], disturbed[1], rtol=1e-7, atol=1e-9))  # else rounding decides the result
    expected = reference.interpret(graph, x.numpy(), learned, groups=4, channel_dim=channel_dim)
    per_channel = [-1 if axis == channel_dim % x.ndim else 1 for axis in range(x.ndim)]
    expected = expected * learned["weight"].reshape(per_channel) + learned["bias"].reshape(per_channel)
    np.testing.assert_allclose(layer(x).detach(), expected, rtol=1e-6, atol=1e-8)


@given(ANY_GRAPH, st.integers(0, 2**32))
def test_graphs_of_equal_digest_train_bit_identically(graph: Graph, seed: int) -> None:
    other = twin(graph, Random(seed))
    assert other.digest == graph.digest
    first, second = NormAct(graph, 8, groups=4), NormAct(other, 8, groups=4)
    assert list(first.state_dict()) == list(second.state_dict())
    perturb(first)
    perturb(second)
    assert identical(trajectory(first), trajectory(second))


# --------------------------------------------------------------------------- parameters and buffers


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("x", {"weight", "bias"}),
        ("v0 + v1 * x", {"weight", "bias", "v0", "v1"}),
        ("v1 * x", {"weight", "bias", "v1"}),
        ("dead = v0 * x\nv1 * x", {"weight", "bias", "v1"}),
        ("dead = mean_bhw(x)\nx", {"weight", "bias"}),
        ("x - mean_bhw(x)", {"weight", "bias", "running_0"}),
        ("x - mean_hw(x)", {"weight", "bias"}),
        ("(x - mean_bhw(x)) / std_bhw(x)", {"weight", "bias", "running_0", "running_1"}),
        ("mean_bhw(x) * mean_bhw(x)", {"weight", "bias", "running_0"}),
        ("alpha = scalar(0.5)\nbeta = vector(2)\ntanh(alpha * x) + beta * alpha", {"weight", "bias", "alpha", "beta"}),
        ("alpha = scalar(0.5)\nx", {"weight", "bias"}),
    ],
)
def test_parameters_and_buffers_exist_only_if_live(text: str, keys: set[str]) -> None:
    assert set(NormAct(Graph.parse(text), 4).state_dict()) == keys


def test_parameters_start_at_their_values() -> None:
    state = NormAct(Graph.parse("a = scalar(0.5)\nb = vector(-2)\nv0 + v1 * x + a * b"), 3).state_dict()
    expected = {
        "weight": [1.0] * 3,
        "bias": [0.0] * 3,
        "v0": [0.0] * 3,
        "v1": [1.0] * 3,
        "a": [0.5],
        "b": [-2.0] * 3,
    }
    assert {name: value.tolist() for name, value in state.items()} == expected


def test_a_shared_parameter_is_one_parameter() -> None:
    layer = NormAct(Graph.parse("a = scalar(2)\n(x * a) * a"), 3)
    x = normal(2, 3, 4)
    layer(x).sum().backward()
    torch.testing.assert_close(layer(x), 4 * x)
    torch.testing.assert_close(layer.get_parameter("a").grad, (4 * x).sum().view(1))


@pytest.mark.parametrize("name", ["genotype", "graph", "forward", "weight", "running_0", "n0", "x", "tanh", "groups"])
def test_a_parameters_name_is_a_state_dict_key_or_an_input_error(name: str) -> None:
    try:
        graph = Graph.parse(f"{name} = scalar(0.5)\nx * {name}")
    except ValueError as error:
        assert name in str(error)
        return
    assert name in NormAct(graph, 4).state_dict()


def test_the_affine_follows_the_graph() -> None:
    layer = NormAct(Graph.parse("max(x, zero)"), 3)
    layer.load_state_dict({"weight": torch.tensor([-1.0, 2.0, 3.0]), "bias": torch.tensor([5.0, -6.0, 7.0])})
    x = normal(2, 3, 4)
    expected = torch.stack([-x[:, 0].relu() + 5, 2 * x[:, 1].relu() - 6, 3 * x[:, 2].relu() + 7], dim=1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("text", ["zero", "v1", "3", "a = scalar(3)\na", "mean_chw(x)", "mean_bhw(x)", "mean_c(x)"])
def test_a_value_that_varies_less_is_spread_to_the_shape_of_x(text: str) -> None:
    x = normal(2, 3, 4, 5)
    assert NormAct(Graph.parse(text), 3)(x).shape == x.shape


# --------------------------------------------------------------------------- copies


STATEFUL = "a = scalar(0.5)\ntanh(a * x) * v1 / std_bhw(x) + mean_bhw(x)"


def trained(text: str = STATEFUL) -> NormAct:
    layer = NormAct(Graph.parse(text), 8, groups=4, momentum=0.2, eps=1e-4)
    perturb(layer)
    trajectory(layer)
    return layer


def test_state_dict_round_trips() -> None:
    source, target = trained(), NormAct(Graph.parse(STATEFUL), 8, groups=4, momentum=0.2, eps=1e-4)
    stream = io.BytesIO()
    torch.save(source.state_dict(), stream)
    stream.seek(0)
    target.load_state_dict(torch.load(stream, weights_only=True))
    assert identical(trajectory(source), trajectory(target))


def test_a_deep_copy_is_the_same_and_apart() -> None:
    source = trained()
    clone = copy.deepcopy(source)
    before = [value.clone() for value in clone.state_dict().values()]
    expected = trajectory(source)
    assert identical(before, list(clone.state_dict().values()))
    assert identical(trajectory(clone), expected)


def test_a_pickle_is_the_same() -> None:
    source = trained()
    clone = pickle.loads(pickle.dumps(source))
    assert isinstance(clone, NormAct)
    assert clone.genotype == source.genotype
    assert (clone.momentum, clone.eps, clone.groups, clone.channel_dim) == (0.2, 1e-4, 4, 1)
    assert identical(trajectory(clone), trajectory(source))


# --------------------------------------------------------------------------- the second input


def test_the_second_input_is_y() -> None:
    x, y = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    torch.testing.assert_close(NormAct(Graph.parse("x / exp(y)"), 3)(x, y), x / y.exp())


def test_a_missing_and_a_surplus_second_input_are_errors() -> None:
    x = normal(2, 3)
    with pytest.raises(ValueError, match="takes 2 inputs, got 1"):
        NormAct(Graph.parse("x + y"), 3)(x)
    with pytest.raises(ValueError, match="takes 1 inputs, got 2"):
        NormAct(Graph.parse("tanh(x)"), 3)(x, x)


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_repr_shows_the_formula(name: str) -> None:
    graph = LAYERS[name].graph
    assert repr(graph.formula) in repr(NormAct(graph, 8))
