"""The gates that need no training: pure functions of the graph, asked before any worker is."""

import math
from dataclasses import dataclass

import torch

from evonas.search_space.analysis import depends_on_x
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct

CHANGE_MIN = 1e-6  # relative; less is rounding. Ours
PROBE_SHAPE = (8, 16, 8, 8)
PROBES = (  # shape and scale of normal input; at 10 an exponential of x is still finite
    (PROBE_SHAPE, 1.0),
    ((8, 16, 1, 1), 1.0),  # the statistics of single positions
    ((8, 16, 4, 4), 1e-3),
    ((8, 16, 4, 4), 10.0),
)


@dataclass(frozen=True, slots=True)
class Check:
    """What one gate measured, and whether the candidate passed it."""

    gate: str
    value: float
    threshold: float
    passed: bool


def check_depends_on_x(graph: Graph, probed: Probed) -> Check:
    """By structure, then by the relative change of the output between two inputs (`x * zero` has none)."""
    change = probed.change if depends_on_x(graph) else 0.0
    return Check("depends_on_x", change, CHANGE_MIN, change > CHANGE_MIN)


def check_finite(graph: Graph, groups: int = 4) -> Check:
    """Forward and backward in float32 on normal input of several scales, and at one position a channel: the largest
    absolute value of outputs and gradients is finite."""
    generator = torch.Generator().manual_seed(0)
    layer = NormAct(graph, PROBE_SHAPE[1], groups=groups)
    largest = 0.0
    for shape, scale in PROBES:
        x = (scale * torch.randn(shape, generator=generator)).requires_grad_()
        output = layer(x)
        slope = torch.randn(shape, generator=generator)
        (gradient,) = torch.autograd.grad((output * slope).sum(), x, allow_unused=True, materialize_grads=True)
        size = float(torch.stack([each.detach().abs().max() for each in (output, gradient)]).max())  # NaN wins
        if not math.isfinite(size):
            return Check("finite", math.inf, torch.finfo(torch.float32).max, False)
        largest = max(largest, size)
    return Check("finite", largest, torch.finfo(torch.float32).max, True)
