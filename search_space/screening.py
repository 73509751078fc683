"""Measurements of a layer alone, without training: pure functions of the graph."""

import math
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from evonas.search_space.analysis import depends_on_x
from evonas.search_space.fingerprint import Probed, probe
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
Inputs = Float64[Tensor, "inputs n c h w"]
PerInput = Float64[Tensor, " inputs"]


@dataclass(frozen=True)
class Screening:
    """The measurements of one layer alone, each made when it is first asked for."""

    graph: Graph

    @cached_property
    def probed(self) -> Probed:
        return probe(self.graph)

    @cached_property
    def amplifications(self) -> dict[Degenerate, float]:
        return amplifications(self.graph)

    @property
    def change(self) -> float:
        return change(self.graph, self.probed)

    @cached_property
    def largest_value(self) -> float:
        return largest_value(self.graph)


def change(graph: Graph, probed: Probed) -> float:
    """Relative change of the output between two inputs; 0 where x cannot reach it."""
    return probed.change if depends_on_x(graph) else 0.0


@lru_cache(maxsize=1024)
def changes_with_x(graph: Graph) -> bool:
    """Whether the output changes when x does, by more than rounding: what the gate `depends_on_x` asks."""
    return change(graph, probe(graph)) > CHANGE_MIN


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
def amplifications(graph: Graph) -> dict[Degenerate, float]:
    """The factors by which the layer, at its initial parameters and in training, multiplies input over which some of
    its statistics vanish: rms(output) / rms(input) in float64, to 4 digits; inf where that is not finite.

    `position`: normal input of one position a channel, as in the last stage of a network on small images. Over it every
    std_hw is sqrt(eps): `x / std_hw(x)` has 316, EvoNorm-B0 0.9. `sample`: normal input of one sample. `constant`: 1
    everywhere or -1 everywhere, the larger figure. Over it every std is sqrt(eps): there most EvoNorms have 231 to 316
    as well.
    """
    canonical = graph.canonical()
    position, *constants = _ratios(canonical, *_degenerate()[0])
    (sample,) = _ratios(canonical, *_degenerate()[1])
    return {"position": position, "constant": max(constants), "sample": sample}


def amplification(graph: Graph, at: Degenerate = "position") -> float:
    """One of the `amplifications`."""
    return amplifications(graph)[at]


@cache
def _degenerate() -> tuple[
    tuple[Float64[Tensor, "3 n c 1 1"], Float64[Tensor, " 3"]],
    tuple[Float64[Tensor, "1 1 c h w"], Float64[Tensor, " 1"]],
]:
    """Input of one position (normal, 1, -1) and of one sample, with an axis of inputs in front; and the rms of each."""
    generator = torch.Generator().manual_seed(0)
    position = torch.randn(8, CHANNELS, 1, 1, generator=generator).double()
    positions = torch.stack([position, torch.ones_like(position), -torch.ones_like(position)])
    sample = torch.randn(1, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0)).double()[None]
    return (positions, _rms(positions)), (sample, _rms(sample))


@lru_cache(maxsize=4096)
def _constant(value: float) -> Float64[Tensor, "1 1 c 1 1"]:
    return torch.full((1, 1, CHANNELS, 1, 1), value, dtype=torch.float64)


def _ratios(canonical: Graph, inputs: Inputs, rms: PerInput) -> list[float]:
    """rms(output) / rms(input) of each input."""

    def aggregate(index: int, row: Primitive, a: Tensor) -> Tensor:
        if row.reduces == "bhw":
            moment = row.fn(a, [1, *range(3, a.ndim)])
        else:
            moment = over(row.reduces or "", row.fn, a.flatten(0, 1), 1, GROUPS)
            moment = moment.view(a.shape[0], -1, *moment.shape[1:])
        return torch.sqrt(moment + EPS) if row.rooted else moment

    leaves = [inputs if leaf.kind == "input" else _constant(leaf.value) for leaf in canonical.leaves]
    ratios = (_rms(evaluate(canonical, leaves, aggregate).expand(inputs.shape)) / rms).tolist()
    return [float(f"{ratio:.4g}") if math.isfinite(ratio) else math.inf for ratio in ratios]


def _rms(values: Inputs) -> PerInput:
    return values.square().mean((1, 2, 3, 4)).sqrt()
