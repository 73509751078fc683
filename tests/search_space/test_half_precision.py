"""Half precision: every step is computed in float32, and the result rounded once; without upcast every step is half."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.primitives import PRIMITIVES
from tests.search_space.layers import layer_of as any_layer_of

CHANNELS, GROUPS = 8, 4
SHAPE = (4, CHANNELS, 4, 4)  # sums over powers of two are exact, so that rounding is the result's alone
INPUTS = {
    "256": torch.full(SHAPE, 256.0),  # whose square is infinite in float16
    "512 of both signs": torch.tensor([512.0, -512.0]).repeat(64).repeat(4).view(SHAPE),
    "30,000": torch.full(SHAPE, 3e4),
    "0.0001": torch.full(SHAPE, 1e-4),
}
HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


layer_of = partial(any_layer_of, dtype=torch.float32)


def ulps(result: Tensor, exact: Tensor) -> float:
    """The largest distance to the exact value, in units of the last place of the result's type."""
    info = torch.finfo(result.dtype)
    unit = info.eps * exact.abs().clamp(min=info.tiny)
    finite = result.isfinite()
    return float(((result.double() - exact).abs() / unit)[finite].max()) if finite.any() else 0.0


@HALF
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS.graphs)
@torch.no_grad()
def test_a_result_is_that_of_float64_rounded(name: str, training: bool, dtype: torch.dtype) -> None:
    layer, exact_layer = (layer_of(name).train(training) for _ in range(2))
    exact_layer.double()
    for kind, x in INPUTS.items():
        inputs = [x.to(dtype), x.flip(0).to(dtype)][: LAYERS[name].inputs]
        result, exact = layer(*inputs), exact_layer(*(each.double() for each in inputs))
        assert result.dtype == dtype
        assert torch.equal(result.isfinite(), exact.to(dtype).isfinite()), kind
        assert ulps(result, exact) < 2, kind


@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [
        ("square(x) / rms_hw(square(x))", [256.0, 256.0], [1.0, 1.0]),
        ("a = scalar(70000)\nx / a", [1000.0], [1000 / 70000]),
        ("GELU-tanh", [256.0, 1000.0, -256.0, -1000.0], [256.0, 1000.0, 0.0, 0.0]),
        ("EvoNorm-S0", [3e4], [float("inf")]),  # 9,486,833: too large for float16
        ("log(exp(x))", [50.0], [50.0]),
    ],
)
@pytest.mark.parametrize("autocast", [False, True])
def test_values_that_overflow_midway(text: str, x: list[float], expected: list[float], autocast: bool) -> None:
    with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
        result = layer_of(text, 1)(torch.tensor(x).half().view(1, 1, -1))
    torch.testing.assert_close(result.flatten(), torch.tensor(expected).half(), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("text", "slope"), [("GELU-tanh", 1.0), ("SiLU", 100.0)])
def test_gradients_that_overflow_midway(text: str, slope: float) -> None:
    x = torch.tensor([256.0, 1000.0, -256.0, -1000.0]).half().view(1, 1, -1).requires_grad_()
    (gradient,) = torch.autograd.grad(layer_of(text, 1)(x), x, torch.full_like(x, slope))
    assert gradient.dtype == torch.float16
    assert gradient.flatten().tolist() == [slope, slope, 0.0, 0.0]


def test_running_moments_in_half_precision_are_widened_before_eps_is_added() -> None:
    """eps=1e-8 is 0 in float16."""
    layer = layer_of("BatchNorm", 4)
    layer.eps = 1e-8
    layer.get_buffer("running_1").zero_()
    x = torch.tensor([0.0, 1e-3]).half().view(2, 1).expand(2, 4)
    theirs = torch.nn.BatchNorm1d(4, eps=1e-8)
    assert theirs.running_var is not None
    theirs.running_var.zero_()
    result = layer.half().eval()(x)
    torch.testing.assert_close(result, theirs.eval()(x.float()).half())
    assert result[:, 0].tolist() == pytest.approx([0.0, 10.0], rel=1e-3)


@HALF
def test_without_upcast_elementwise_steps_keep_the_inputs_type(dtype: torch.dtype) -> None:
    x = torch.full((1, 1, 2), 256.0).to(dtype)
    assert layer_of("square(x)", 1)(x).isfinite().all() == (dtype == torch.bfloat16)
    narrow = layer_of("tanh(x) * sigmoid(x)", 1, upcast=False)
    assert "upcast=False" in repr(narrow)
    steps: list[torch.dtype] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: steps.append(kept.dtype) or kept, lambda kept: kept):
        narrow(x.requires_grad_())
    assert set(steps) == {dtype}


@HALF
@pytest.mark.parametrize("text", [*LAYERS.graphs, "x * 70000 + max(0.5, v1)", "x / std_hw(x) - mean_bhw(x) * 0.1"])
def test_without_upcast_every_step_that_sees_half_is_half(text: str, dtype: torch.dtype) -> None:
    """Steps between statistics and numbers alone are not: a mean rounded to half precision would shift all of x."""
    graph = (LAYERS[text].graph if text in LAYERS else Graph.parse(text)).canonical()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)
    half = {index for index, leaf in enumerate(graph.leaves) if leaf.kind != "number"}
    for index, node in enumerate(graph.nodes, start=len(graph.leaves)):
        if not PRIMITIVES[node.op].reduces and half & set(node.inputs):
            half.add(index)
        layer = NormAct(replace(graph, output=index), CHANNELS, groups=GROUPS, upcast=False)
        inputs = [x] * (1 + layer.genotype.takes_y)
        for training in (True, False):
            assert layer.train(training).transform(*inputs).dtype == (dtype if index in half else torch.float32)
    assert graph.output in half


@HALF
@pytest.mark.parametrize("name", ["BN-ReLU", "EvoNorm-S0"])
def test_without_upcast_statistics_are_float32(name: str, dtype: torch.dtype) -> None:
    x = (64 + torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))).to(dtype)  # bfloat16 has 8 bits
    exact = layer_of(name)(x)
    torch.testing.assert_close(layer_of(name, upcast=False)(x), exact, rtol=0.02, atol=0.02)
