"""What can be measured of a layer alone, without training: pure functions of the graph."""

import math
from typing import Literal, get_args

import torch

from evonas.search_space.analysis import depends_on_x
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct

CHANGE_MIN = 1e-6  # relative; less is rounding. Ours
FLOAT32_MAX = torch.finfo(torch.float32).max
CHANNELS, GROUPS = 16, 4
PROBES = (  # shape and scale of normal input; at 10 an exponential of x is still finite
    ((8, CHANNELS, 8, 8), 1.0),
    ((8, CHANNELS, 1, 1), 1.0),  # the statistics of single positions
    ((8, CHANNELS, 4, 4), 1e-3),
    ((8, CHANNELS, 4, 4), 10.0),
)
Degenerate = Literal["position", "constant", "sample"]  # input over which some statistics vanish
DEGENERATE: tuple[Degenerate, ...] = get_args(Degenerate)


def change(graph: Graph, probed: Probed) -> float:
    """Relative change of the output between two inputs; 0 where x cannot reach it."""
    return probed.change if depends_on_x(graph) else 0.0


def largest_value(graph: Graph) -> float:
    """The largest absolute value of outputs and gradients in float32, on normal input of several scales and at one
    position a channel; inf where one is not finite."""
    generator = torch.Generator().manual_seed(0)
    layer = NormAct(graph, CHANNELS, groups=GROUPS)
    largest = 0.0
    for shape, scale in PROBES:
        x = (scale * torch.randn(shape, generator=generator)).requires_grad_()
        output = layer(x)
        slope = torch.randn(shape, generator=generator)
        (gradient,) = torch.autograd.grad((output * slope).sum(), x, allow_unused=True)
        values = [output] if gradient is None else [output, gradient]  # None: the output does not depend on x
        size = float(torch.stack([each.detach().abs().max() for each in values]).max())  # NaN wins
        if not math.isfinite(size):
            return math.inf
        largest = max(largest, size)
    return largest


@torch.no_grad()
def amplification(graph: Graph, at: Degenerate = "position") -> float:
    """By how much the layer, at its initial parameters and in training, multiplies input over which some of its
    statistics vanish: rms(output) / rms(input), inf where that is not finite.

    `position`: normal input of one position a channel, as in the last stage of a network on small images. Over it every
    std_hw is sqrt(eps): `x / std_hw(x)` has 316, EvoNorm-B0 0.9. `sample`: normal input of one sample. `constant`: 1
    everywhere or -1 everywhere, the larger figure. Over it every std is sqrt(eps): most EvoNorms, too, have 231 to 316.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "position": lambda: [torch.randn(8, CHANNELS, 1, 1, generator=generator)],
        "sample": lambda: [torch.randn(1, CHANNELS, 8, 8, generator=generator)],
        "constant": lambda: [torch.full((8, CHANNELS, 8, 8), value) for value in (1.0, -1.0)],
    }
    layer = NormAct(graph, CHANNELS, groups=GROUPS).double()
    ratios = [_rms(layer(x)) / _rms(x) for x in (each.double() for each in inputs[at]())]
    return max(ratio if math.isfinite(ratio) else math.inf for ratio in ratios)


def _rms(a: torch.Tensor) -> float:
    return float(a.square().mean().sqrt())
