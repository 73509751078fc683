"""Every graph of the catalog against torch.nn.functional, or against its paper's formula written here once more.

Nothing of the primitives is used. A statistic over the batch goes through `Running`, the oracle's own moving averages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evonas.search_space.catalog import LAYERS
from evonas.search_space.lowering import NormAct
from tests.search_space.tensors import standard_normal as normal

CHANNELS, GROUPS, EPS = 8, 4, 1e-5
SHAPE = (5, CHANNELS, 4, 3)
BATCH, IMAGE, PLACE = (0, 2, 3), (2, 3), (1, 2, 3)  # axes

Parameters = Mapping[str, Tensor]


@dataclass
class Running:
    """Moments over the batch: its own in training, which move an average (decay 0.9); that average in evaluation."""

    training: bool = True
    values: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, name: str, batch: Tensor, start: float) -> Tensor:
        if not self.training:
            return self.values[name]
        before = self.values.get(name, torch.full_like(batch, start))
        self.values[name] = 0.9 * before + 0.1 * batch.detach()
        return batch


Oracle = Callable[[Tensor, Tensor, Parameters, Running], Tensor]  # x, y, parameters, moments -> before the affine


def variance(a: Tensor, axes: tuple[int, ...]) -> Tensor:
    return torch.var(a, dim=axes, correction=0, keepdim=True)


def deviation(a: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (variance(a, axes) + EPS) ** 0.5


def second_moment(a: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (a**2).mean(axes, keepdim=True)


def group_moment(x: Tensor, moment: Callable[..., Tensor]) -> Tensor:
    """A moment over each group's channels and positions, for each channel."""
    grouped = x.reshape(x.shape[0], GROUPS, -1)
    return moment(grouped, (2,)).repeat_interleave(CHANNELS // GROUPS, dim=1).unsqueeze(-1)


def last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


def first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def tokens(x: Tensor) -> Tensor:
    return first(F.layer_norm(last(x), (CHANNELS,), eps=EPS))


def image(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[1:], eps=EPS)


def unit(x: Tensor) -> Tensor:
    """Root mean square 1 over the channels."""
    return first(F.rms_norm(last(x), (CHANNELS,), eps=EPS))


def batch_norm(x: Tensor, running: Running) -> Tensor:
    mean = running("mean", x.mean(BATCH, keepdim=True), 0.0)
    moment = running("variance", variance(x, BATCH), 1.0)
    if running.training:
        return F.batch_norm(x, None, None, training=True, eps=EPS)
    return F.batch_norm(x, mean.flatten(), moment.flatten(), training=False, eps=EPS)


def batch_deviation(x: Tensor, running: Running) -> Tensor:
    return (running("variance", variance(x, BATCH), 1.0) + EPS) ** 0.5


def l1_batch_norm(x: Tensor, running: Running, factor: float) -> Tensor:
    centred = x - running("mean", x.mean(BATCH, keepdim=True), 0.0)
    return centred / (factor * running("deviation", centred.abs().mean(BATCH, keepdim=True), 0.0) + 1e-5)


def adaptive_instance_norm(x: Tensor, style: Tensor) -> Tensor:
    return F.instance_norm(x, eps=EPS) * deviation(style, IMAGE) + style.mean(IMAGE, keepdim=True)


def n_gpt(h: Tensor, f: Tensor, alpha: Tensor) -> Tensor:
    """The paper's residual rule in its own units: all vectors of norm 1; the result scaled by sqrt(C)."""

    def normalise(a: Tensor) -> Tensor:
        return a / ((a**2).sum(1, keepdim=True) + CHANNELS * EPS) ** 0.5

    h = h / CHANNELS**0.5
    moved = h + alpha.abs() * (normalise(f) - h)
    scale = ((moved**2).sum(1, keepdim=True) + EPS) ** 0.5
    return CHANNELS**0.5 * moved / scale


def message_norm(h: Tensor, message: Tensor, s: Tensor) -> Tensor:
    """h + s |h|_2 m / |m|_2; the language's norms have C eps inside the root."""
    norms = [((a**2).sum(1, keepdim=True) + CHANNELS * EPS) ** 0.5 for a in (h, message)]
    return h + s * norms[0] * message / norms[1]


def time_dependent(x: Tensor, t: Tensor, p: Parameters) -> Tensor:
    s, r = (1 / (1 + torch.exp(-(p[f"w{k}"] * t + p[f"b{k}"]))) for k in ("g", "b"))
    scale, shift = s * p["g0"] + (1 - s) * p["g1"], r * p["b0"] + (1 - r) * p["b1"]
    return tokens(x) * scale + shift


def cross_norm(x: Tensor, control: Tensor) -> Tensor:
    return image(control) * deviation(x, PLACE) + x.mean(PLACE, keepdim=True)


def mean_deviation_norm(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.abs().sum(1, keepdim=True) / CHANNELS + eps)


def evonorm_s(x: Tensor, gate: Tensor, moment: Callable[..., Tensor]) -> Tensor:
    return x / (1 + torch.exp(-gate)) / (group_moment(x, moment) + EPS) ** 0.5


ORACLES: dict[str, Oracle] = {
    "BN-ReLU": lambda x, y, p, running: F.relu(batch_norm(x, running)),
    "BN-SiLU": lambda x, y, p, running: F.silu(batch_norm(x, running)),
    "BN-LeakyReLU": lambda x, y, p, running: F.leaky_relu(batch_norm(x, running), 0.2),
    "BN-PReLU": lambda x, y, p, running: F.prelu(batch_norm(x, running), p["slope"].flatten()),
    "GN-LeakyReLU": lambda x, y, p, running: F.leaky_relu(F.group_norm(x, GROUPS, eps=EPS), 0.2),
    "GN-ReLU": lambda x, y, p, running: F.relu(F.group_norm(x, GROUPS, eps=EPS)),
    "GN-SiLU": lambda x, y, p, running: F.silu(F.group_norm(x, GROUPS, eps=EPS)),
    "GroupNorm": lambda x, y, p, running: F.group_norm(x, GROUPS, eps=EPS),
    "FRN+TLU": lambda x, y, p, running: torch.maximum(x / (second_moment(x, IMAGE) + EPS) ** 0.5, p["v0"]),
    "BN-second-moment": lambda x, y, p, running: x / (running("m2", second_moment(x, BATCH), 1.0) + EPS) ** 0.5,
    "ReLU": lambda x, y, p, running: F.relu(x),
    "SiLU": lambda x, y, p, running: F.silu(x),
    "GELU-tanh": lambda x, y, p, running: F.gelu(x, approximate="tanh"),
    "GELU": lambda x, y, p, running: F.gelu(x),
    "tanh": lambda x, y, p, running: torch.tanh(x),
    "EvoNorm-B0": lambda x, y, p, running: (
        x / torch.maximum(batch_deviation(x, running), p["v1"] * x + deviation(x, IMAGE))
    ),
    "EvoNorm-B1": lambda x, y, p, running: (
        x / torch.maximum(batch_deviation(x, running), (x + 1) * (second_moment(x, IMAGE) + EPS) ** 0.5)
    ),
    "EvoNorm-B2": lambda x, y, p, running: (
        x / torch.maximum(batch_deviation(x, running), (second_moment(x, IMAGE) + EPS) ** 0.5 - x)
    ),
    "EvoNorm-S0": lambda x, y, p, running: evonorm_s(x, p["v1"] * x, variance),
    "EvoNorm-S1": lambda x, y, p, running: evonorm_s(x, x, variance),
    "EvoNorm-S2": lambda x, y, p, running: evonorm_s(x, x, second_moment),
    "BatchNorm": lambda x, y, p, running: batch_norm(x, running),
    "LayerNorm": lambda x, y, p, running: tokens(x),
    "LayerNorm-chw": lambda x, y, p, running: image(x),
    "InstanceNorm": lambda x, y, p, running: F.instance_norm(x, eps=EPS),
    "RMSNorm": lambda x, y, p, running: unit(x),
    "RepBN": lambda x, y, p, running: batch_norm(x, running) + p["eta"] * x,
    "DyT": lambda x, y, p, running: torch.tanh(p["alpha"] * x),
    # erf(z) = 2 Φ(√2 z) - 1, with the distribution function Φ of the normal distribution
    "Derf": lambda x, y, p, running: 2 * torch.special.ndtr(2**0.5 * (p["alpha"] * x + p["s"])) - 1,
    "DyISRU": lambda x, y, p, running: x * torch.rsqrt(p["beta"] + x * x + EPS),
    "ScaleNorm": lambda x, y, p, running: (
        p["g"] * CHANNELS**0.5 * x / ((x**2).sum(1, keepdim=True) + CHANNELS * EPS) ** 0.5
    ),
    "nGPT": lambda x, y, p, running: n_gpt(x, y, p["alpha"]),
    "MsgNorm": lambda x, y, p, running: message_norm(x, y, p["s"]),
    "FAdaIN": lambda x, y, p, running: adaptive_instance_norm(x, y),
    "ILN": lambda x, y, p, running: p["rho"] * F.instance_norm(x, eps=EPS) + (1 - p["rho"]) * image(x),
    "TD-LN": lambda x, y, p, running: time_dependent(x, y, p),
    "L1-BN": lambda x, y, p, running: l1_batch_norm(x, running, 1.0),
    "L1-LN": lambda x, y, p, running: mean_deviation_norm(x, 1e-5),
    "L1-BN-Wu": lambda x, y, p, running: l1_batch_norm(x, running, (torch.pi / 2) ** 0.5),
    "CrossNorm": lambda x, y, p, running: cross_norm(x, y),
    "MAD-LN": lambda x, y, p, running: tokens(mean_deviation_norm(x, 0.0)),
    "SELU": lambda x, y, p, running: F.selu(x),
}


def assert_same(layer: NormAct, oracle: Oracle, running: Running, seed: int, inputs_wanted: int) -> None:
    """Values, and gradients to the inputs and to every parameter, of one weighted sum of the output."""
    x, y = (factor * normal(*SHAPE, seed=seed + k) + 0.3 for k, factor in enumerate((1.5, 0.8)))
    inputs = [x.requires_grad_(), y.requires_grad_()][:inputs_wanted]
    own = dict(layer.named_parameters())
    copies = {name: value.detach().clone().requires_grad_() for name, value in own.items()}
    spread = {name: value.view(1, -1, 1, 1) for name, value in copies.items()}
    output = layer(*inputs)
    expected = oracle(x, y, spread, running) * spread["weight"] + spread["bias"]
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-10)
    slope = normal(*SHAPE, seed=seed + 50)
    ours = torch.autograd.grad((output * slope).sum(), [*inputs, *own.values()])
    theirs = torch.autograd.grad((expected * slope).sum(), [*inputs, *copies.values()])
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_a_graph_is_its_formula_in_two_training_steps_and_then_in_evaluation(name: str) -> None:
    layer = NormAct(LAYERS[name].graph, CHANNELS, groups=GROUPS).double()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters(), start=100):  # no longer where they started
            parameter.add_(0.3 * normal(*parameter.shape, seed=seed))
    running = Running()
    for seed in (0, 10):
        assert_same(layer, ORACLES[name], running, seed, LAYERS[name].inputs)
    running.training = False
    assert_same(layer.eval(), ORACLES[name], running, 20, LAYERS[name].inputs)
    found = sorted(float(buffer.sum()) for buffer in layer.buffers())
    assert found == pytest.approx(sorted(float(value.sum()) for value in running.values.values()), rel=1e-9)


def test_each_graph_has_its_oracle() -> None:
    assert set(ORACLES) == set(LAYERS.graphs)


@pytest.mark.parametrize("training", [True, False])
def test_the_time_of_td_ln_is_one_number_an_example(training: bool) -> None:
    layer = NormAct(LAYERS["TD-LN"].graph, CHANNELS).double().train(training)
    x, t = normal(*SHAPE, seed=0), normal(SHAPE[0], 1, 1, 1, seed=1)
    torch.testing.assert_close(layer(x, t), layer(x, t.expand(SHAPE)))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_mad_ln_is_layer_norm_of_large_values_too(scale: float) -> None:
    x = scale * (normal(*SHAPE, seed=0) + 1)
    layer = NormAct(LAYERS["MAD-LN"].graph, CHANNELS).double()
    torch.testing.assert_close(layer(x), tokens(x / scale), rtol=1e-4, atol=1e-5)


def test_the_statistics_of_wu_are_the_standard_deviation_of_normal_values() -> None:
    x = 3 * normal(4000, CHANNELS, seed=0) + 1
    layer = NormAct(LAYERS["L1-BN-Wu"].graph, CHANNELS).double()
    torch.testing.assert_close(layer(x), F.batch_norm(x, None, None, training=True), rtol=0.03, atol=0.0)
