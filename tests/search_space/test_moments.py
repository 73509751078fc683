"""Statistics over every index set in every layout, against numpy; running moments; what a layer refuses."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.moments import INDEX_SETS, mean, mean_square, variance
from evonas.search_space.primitives import PRIMITIVES
from tests.search_space import reference
from tests.search_space.layers import layer_of as any_layer_of
from tests.search_space.tensors import normal

CHANNELS, GROUPS = 6, 2
ONE_INPUT = [name for name in LAYERS.graphs if LAYERS[name].inputs == 1]
LAYOUTS = [  # shape, axis of the channels
    ((4, 6, 5, 3), 1),
    ((4, 6, 5, 3), -3),
    ((1, 6, 4, 4), 1),
    ((4, 6, 1, 1), 1),
    ((4, 6), 1),
    ((4, 6), -1),
    ((4, 6, 7), 1),
    ((3, 6, 2, 3, 4), 1),
    ((4, 7, 6), -1),
    ((4, 5, 3, 6), -1),
]
AGGREGATIONS = [name for name, row in PRIMITIVES.items() if row.reduces]
STARTS = {"mean": 0.0, "rms": 1.0, "std": 1.0}


layer_of = partial(any_layer_of, channels=CHANNELS, groups=GROUPS)


def batch_moment(name: str, x: Tensor) -> Tensor:
    """What `name`_bhw(x) keeps of a batch: the mean, the mean square or the biased variance of each channel."""
    rows = x.numpy().swapaxes(0, 1).reshape(x.shape[1], -1)
    return torch.from_numpy({"mean": rows.mean(1), "rms": (rows**2).mean(1), "std": rows.var(1)}[name])


@pytest.mark.parametrize(("shape", "channel_dim"), LAYOUTS)
@pytest.mark.parametrize("op", AGGREGATIONS)
def test_an_aggregation_is_its_moment(op: str, shape: tuple[int, ...], channel_dim: int) -> None:
    x = normal(*shape)
    expected = reference.aggregate(op, reference.flat(x.numpy(), channel_dim), GROUPS)
    result = layer_of(f"{op}(x)", channel_dim=channel_dim)(x)
    assert result.shape == x.shape
    np.testing.assert_allclose(result.detach(), reference.unflat(expected, shape, channel_dim), rtol=1e-10)


@pytest.mark.parametrize("text", [*(f"{op}(x)" for op in AGGREGATIONS), *(LAYERS[name].text for name in ONE_INPUT)])
def test_channels_last_is_channels_first_transposed(text: str) -> None:
    first, last = layer_of(text), layer_of(text, channel_dim=-1)
    for training in (True, False):
        first.train(training)
        last.train(training)
        x = normal(4, 7, CHANNELS, seed=int(training))
        torch.testing.assert_close(last(x), first(x.transpose(1, 2)).transpose(1, 2), rtol=1e-11, atol=1e-12)
    for name, buffer in first.named_buffers():
        torch.testing.assert_close(last.get_buffer(name), buffer)


@pytest.mark.parametrize("index_set", INDEX_SETS)
def test_the_moments_of_a_constant(index_set: str) -> None:
    text = f"a = vector(3)\n{{}}_{index_set}(a)"
    x = normal(4, CHANNELS, 3)
    mean, rms, std = (layer_of(text.format(name))(x) for name in ("mean", "rms", "std"))
    torch.testing.assert_close(mean, torch.full_like(x, 3.0), rtol=1e-14, atol=0)
    torch.testing.assert_close(rms, torch.full_like(x, math.sqrt(9 + 1e-5)), rtol=1e-14, atol=0)
    torch.testing.assert_close(std, torch.full_like(x, math.sqrt(1e-5)), rtol=1e-14, atol=0)


@pytest.mark.parametrize("index_set", ["bhw", "hw"])
def test_reducing_axes_that_a_vector_lacks_changes_no_channel(index_set: str) -> None:
    x = normal(4, CHANNELS, 3)
    layer, std = layer_of(f"mean_{index_set}(v0)"), layer_of(f"std_{index_set}(v0)")
    v0 = torch.arange(CHANNELS, dtype=torch.float64)
    layer.load_state_dict({"v0": v0}, strict=False)
    std.load_state_dict({"v0": v0}, strict=False)
    assert torch.equal(layer(x), v0.view(1, -1, 1).expand(x.shape))
    assert torch.equal(std(x), torch.full_like(x, 1e-5).sqrt())


@pytest.mark.parametrize("index_set", ["chw", "ghw", "c"])
def test_index_sets_with_channels_reduce_a_vector(index_set: str) -> None:
    x = normal(4, CHANNELS, 3)
    layer = layer_of(f"mean_{index_set}(v0)")
    layer.load_state_dict({"v0": torch.arange(CHANNELS, dtype=torch.float64)}, strict=False)
    expected = [1.0, 1.0, 1.0, 4.0, 4.0, 4.0] if index_set == "ghw" else [2.5] * CHANNELS
    torch.testing.assert_close(layer(x)[0, :, 0], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("outer", ["chw", "hw", "ghw", "bhw"])
def test_the_std_of_an_instance_std_is_the_root_of_epsilon_where_it_does_not_vary(outer: str) -> None:
    x = normal(4, CHANNELS, 3, 3)
    result = layer_of(f"std_{outer}(std_hw(x))")(x)
    assert torch.equal(result, torch.full_like(x, 1e-5).sqrt()) == (outer == "hw")


@pytest.mark.parametrize("op", ["mean", "rms", "std"])
def test_one_group_is_the_layer_and_one_channel_a_group_the_instance(op: str) -> None:
    x = normal(4, CHANNELS, 5)
    torch.testing.assert_close(layer_of(f"{op}_ghw(x)", groups=1)(x), layer_of(f"{op}_chw(x)")(x))
    torch.testing.assert_close(layer_of(f"{op}_ghw(x)", groups=CHANNELS)(x), layer_of(f"{op}_hw(x)")(x))


@pytest.mark.parametrize("channels", [1, 2, 6, 7, 12, 30, 32, 36])
@pytest.mark.parametrize("groups", [1, 2, 3, 5, 8, 32, 100])
def test_groups_are_lowered_until_they_divide_the_channels(channels: int, groups: int) -> None:
    fits = [each for each in range(1, groups + 1) if channels % each == 0]
    assert NormAct(Graph.parse("x"), channels, groups=groups).groups == fits[-1]


def test_epsilon_is_an_option() -> None:
    x = torch.zeros(2, 3, 4)
    assert NormAct(Graph.parse("std_hw(x)"), 3, eps=0.25)(x).unique().tolist() == [0.5]
    assert NormAct(Graph.parse("rms_hw(x)"), 3, eps=0.25)(x).unique().tolist() == [0.5]


# --------------------------------------------------------------------------- running moments


@pytest.mark.parametrize("op", ["mean", "rms", "std"])
@pytest.mark.parametrize("channel_dim", [1, -1])
def test_a_running_moment_follows_the_biased_moments_of_batches(op: str, channel_dim: int) -> None:
    layer = layer_of(f"{op}_bhw(x)", channel_dim=channel_dim)
    expected = torch.full((CHANNELS,), STARTS[op], dtype=torch.float64)
    assert torch.equal(layer.get_buffer("running_0"), expected)
    for step in range(4):
        x = normal(3, CHANNELS, 5, seed=step)
        layer(x.movedim(1, channel_dim))
        expected = 0.9 * expected + 0.1 * batch_moment(op, x)
        torch.testing.assert_close(layer.get_buffer("running_0"), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("op", ["mean", "rms", "std"])
def test_evaluation_uses_the_running_moment_and_leaves_it(op: str) -> None:
    layer = layer_of(f"{op}_bhw(x)")
    layer(normal(3, CHANNELS, 5))
    running = layer.get_buffer("running_0").clone()
    expected = running if op == "mean" else torch.sqrt(running + 1e-5)
    x = normal(2, CHANNELS, 4, seed=1)
    for _ in range(2):
        assert torch.equal(layer.eval()(x), expected.view(1, -1, 1).expand(x.shape))
    assert torch.equal(layer.get_buffer("running_0"), running)


def test_a_running_moment_is_of_the_nodes_input() -> None:
    layer = layer_of("rms_bhw(tanh(x))")
    x = normal(3, CHANNELS, 5)
    layer(x)
    torch.testing.assert_close(layer.get_buffer("running_0"), 0.9 + 0.1 * batch_moment("rms", x.tanh()))


def test_every_batch_node_owns_its_running_moment() -> None:
    layer = layer_of("mean_bhw(x) + rms_bhw(x) + std_bhw(mean_bhw(x) * x) + mean_hw(x)")
    starts = sorted(float(buffer[0]) for buffer in layer.buffers())
    assert starts == [0.0, 1.0, 1.0]
    assert {name for name, _ in layer.named_buffers()} == {"running_0", "running_1", "running_2"}
    assert all(buffer.shape == (CHANNELS,) for buffer in layer.buffers())


def test_a_running_moment_of_no_channel_axis_is_spread_over_the_channels() -> None:
    layer = layer_of("mean_bhw(mean_chw(x))")
    x = normal(3, CHANNELS, 5)
    layer(x)
    torch.testing.assert_close(layer.get_buffer("running_0"), (0.1 * x.mean()).expand(CHANNELS))


def test_momentum_is_the_share_of_the_new_batch() -> None:
    layer = NormAct(Graph.parse("rms_bhw(x)"), CHANNELS, momentum=0.25).double()
    x = normal(3, CHANNELS, 5)
    layer(x)
    torch.testing.assert_close(layer.get_buffer("running_0"), 0.75 + 0.25 * batch_moment("rms", x))


@pytest.mark.parametrize("shape", [(0, CHANNELS, 2, 2), (4, CHANNELS, 0, 2)])
@pytest.mark.parametrize("op", ["mean", "rms", "std"])
def test_empty_input_moves_no_running_moment(op: str, shape: tuple[int, ...]) -> None:
    layer = layer_of(f"x / {op}_bhw(mean_hw(x))")
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    result = layer(x)
    assert result.shape == shape
    result.sum().backward()
    assert layer.get_buffer("running_0").unique().tolist() == [STARTS[op]]


def test_no_gradient_flows_into_the_running_moments() -> None:
    layer = layer_of("x / std_bhw(x)")
    layer(normal(3, CHANNELS, 5).requires_grad_())
    assert not layer.get_buffer("running_0").requires_grad


# --------------------------------------------------------------------------- precision

OFFSET = 64.0  # a bfloat16 has 8 bits: the variance of 64 + noise is lost in it


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("index_set", INDEX_SETS)
def test_statistics_of_half_precision_are_float32(index_set: str, dtype: torch.dtype) -> None:
    x = (normal(4, CHANNELS, 8, 8) + OFFSET).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer, running = NormAct(Graph.parse("x"), CHANNELS, groups=GROUPS), torch.ones(CHANNELS)
        tracked = running if index_set == "bhw" else None
        rows = {"mean": mean, "rms": mean_square, "std": variance}
        moments = {name: layer.over(index_set, moment, x.float(), tracked) for name, moment in rows.items()}
    exact = reference.flat(x.double().numpy(), 1)
    for name, moment in moments.items():
        expected = reference.aggregate(f"{name}_{index_set}", exact, GROUPS)
        squared = expected if name == "mean" else expected**2 - 1e-5
        assert moment.dtype == torch.float32
        np.testing.assert_allclose(moment.expand(x.shape).flatten(2), squared, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", ["mean", "rms", "std"])
def test_running_moments_stay_float32_under_autocast(op: str) -> None:
    x = (normal(4, CHANNELS, 8, 8) + OFFSET).bfloat16()
    layer = NormAct(Graph.parse(f"x / {op}_bhw(x)"), CHANNELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(x)
    running = layer.get_buffer("running_0")
    expected = 0.9 * STARTS[op] + 0.1 * batch_moment(op, x.double())
    assert result.dtype == torch.bfloat16
    assert running.dtype == torch.float32
    torch.testing.assert_close(running.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ONE_INPUT)
def test_the_catalog_under_autocast_is_near_its_float32(name: str) -> None:
    x = (normal(4, CHANNELS, 8, 8) + OFFSET).bfloat16()
    exact = NormAct(LAYERS[name].graph, CHANNELS, groups=GROUPS)(x.float())
    layer = NormAct(LAYERS[name].graph, CHANNELS, groups=GROUPS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), exact, rtol=0.02, atol=0.02)


def test_autocast_changes_no_bit_of_a_float32_input() -> None:
    x = normal(4, CHANNELS, 8, 8).float()
    plain = NormAct(LAYERS["EvoNorm-B0"].graph, CHANNELS)(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = NormAct(LAYERS["EvoNorm-B0"].graph, CHANNELS)(x)
    assert result.dtype == torch.float32
    assert torch.equal(result, plain)


# --------------------------------------------------------------------------- what a layer refuses


@pytest.mark.parametrize(
    ("shape", "channel_dim"),
    [
        ((4, 5, 3, 3), 1),
        ((4, 3, 3, 6), 1),
        ((4, 6, 3), -1),
        ((6,), 1),
        ((), 1),
        ((4, 6), 2),
        ((6, 4), -2),
        ((6, 4), -3),
    ],
)
def test_a_layer_refuses_other_channels(shape: tuple[int, ...], channel_dim: int) -> None:
    with pytest.raises(ValueError, match=f"expected 6 channels at axis {channel_dim}, got shape") as caught:
        NormAct(Graph.parse("x"), 6, channel_dim=channel_dim)(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (0, {}, "num_features: expected an integer of at least 1, got 0"),
        (-3, {}, "num_features: expected an integer of at least 1, got -3"),
        (8.0, {}, "num_features: expected an integer of at least 1, got 8.0"),
        (8, {"channel_dim": 0}, "channel_dim: expected 1 or -1"),
        (8, {"groups": 0}, "groups: expected an integer of at least 1, got 0"),
        (8, {"groups": -2}, "groups: expected an integer of at least 1, got -2"),
        (8, {"groups": 2.5}, "groups: expected an integer of at least 1, got 2.5"),
        (8, {"momentum": -0.1}, "momentum: expected 0 to 1, got -0.1"),
        (8, {"momentum": 1.1}, "momentum: expected 0 to 1, got 1.1"),
        (8, {"eps": 0}, "eps: expected a number above 0, got 0"),
        (8, {"eps": math.nan}, "eps: expected a number above 0, got nan"),
        (8, {"eps": 1e-50}, "eps: expected a number above 0, got 1e-50, which float32 lacks"),
        (8, {"channel_dim": 1.0}, "channel_dim: expected an integer, got 1.0"),
        (8, {"dtype": torch.int64}, "dtype: expected a floating-point type such as torch.float32, got torch.int64"),
    ],
)
def test_a_layer_fails_at_construction(features: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NormAct(Graph.parse("x"), features, **options)


def test_momentum_may_be_0_or_1() -> None:
    for momentum in (0, 1):
        NormAct(Graph.parse("x"), 8, momentum=momentum)


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8])
def test_numpys_numbers_are_numbers(integer: type[Any]) -> None:
    layer = NormAct(
        Graph.parse("x / std_ghw(x)"), integer(8), groups=integer(3), eps=np.float32(0.25), momentum=np.float64(1)
    )
    assert (layer.num_features, layer.groups, layer.eps, layer.momentum) == (8, 2, 0.25, 1.0)
    assert {type(number) for number in (layer.num_features, layer.groups, layer.channel_dim)} == {int}
    assert layer(torch.zeros(2, 8, 3)).shape == (2, 8, 3)


@pytest.mark.parametrize("name", ONE_INPUT)
def test_the_state_is_made_where_and_of_the_type_that_is_asked_for(name: str) -> None:
    usual = NormAct(LAYERS[name].graph, CHANNELS)
    layer = NormAct(LAYERS[name].graph, CHANNELS, device="meta", dtype=torch.float64)
    made = [*layer.parameters(), *layer.buffers()]
    assert {(value.device.type, value.dtype) for value in made} == {("meta", torch.float64)}
    assert {name: value.shape for name, value in layer.state_dict().items()} == {
        name: value.shape for name, value in usual.state_dict().items()
    }


def test_unknown_options_are_errors() -> None:
    with pytest.raises(TypeError, match="num_groups"):
        NormAct(Graph.parse("x"), 8, num_groups=4)
