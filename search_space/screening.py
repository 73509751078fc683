"""What can be measured of a layer alone, without training: pure functions of the graph."""

import math
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor

from evonas.search_space.analysis import depends_on_x
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct, evaluate
from evonas.search_space.moments import over
from evonas.search_space.primitives import EPS, Primitive

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
    statistics vanish: rms(output) / rms(input) in float64, to 4 digits; inf where that is not finite.

    `position`: normal input of one position a channel, as in the last stage of a network on small images. Over it every
    std_hw is sqrt(eps): `x / std_hw(x)` has 316, EvoNorm-B0 0.9. `sample`: normal input of one sample. `constant`: 1
    everywhere or -1 everywhere, the larger figure. Over it every std is sqrt(eps): most EvoNorms, too, have 231 to 316.
    """
    canonical = graph.canonical()
    return max(_ratio(canonical, x) for x in _degenerate(at))


@cache
def _degenerate(at: Degenerate) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    match at:
        case "position":
            return (torch.randn(8, CHANNELS, 1, 1, generator=generator).double(),)
        case "sample":
            return (torch.randn(1, CHANNELS, 8, 8, generator=generator).double(),)
        case "constant":
            return tuple(torch.full((8, CHANNELS, 8, 8), value, dtype=torch.float64) for value in (1.0, -1.0))


def _ratio(canonical: Graph, x: Tensor) -> float:
    def aggregate(index: int, row: Primitive, a: Tensor) -> Tensor:
        moment = row.fn(a, [0, 2, 3]) if row.reduces == "bhw" else over(row.reduces or "", row.fn, a, 1, GROUPS)
        return torch.sqrt(moment + EPS) if row.rooted else moment

    constants = [torch.full((1, CHANNELS, 1, 1), leaf.value, dtype=torch.float64) for leaf in canonical.leaves]
    leaves = [x if leaf.kind == "input" else value for leaf, value in zip(canonical.leaves, constants, strict=True)]
    output = evaluate(canonical, leaves, aggregate).expand(x.shape)
    ratio = float(output.square().mean().sqrt() / x.square().mean().sqrt())
    return float(f"{ratio:.4g}") if math.isfinite(ratio) else math.inf
