"""The gates that need no training: pure functions of the graph, asked before any worker is."""

import math
from dataclasses import dataclass

import torch

from search_space.analysis import depends_on_x
from search_space.fingerprint import Probed
from search_space.graph import Graph
from search_space.lowering import NormAct

CHANGE_MIN = 1e-6  # relative; less is rounding. Ours
PROBE_SHAPE = (8, 16, 8, 8)


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
    """Forward and backward in float32 on normal input: the largest absolute value of output and gradient is finite."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(PROBE_SHAPE, generator=generator).requires_grad_()
    layer = NormAct(graph, PROBE_SHAPE[1], groups=groups)
    output = layer(x)
    slope = torch.randn(PROBE_SHAPE, generator=generator)
    (gradient,) = torch.autograd.grad((output * slope).sum(), x, allow_unused=True, materialize_grads=True)
    largest = float(torch.stack([each.detach().abs().max() for each in (output, gradient)]).max())  # NaN wins
    largest = largest if math.isfinite(largest) else math.inf
    return Check("finite", largest, torch.finfo(torch.float32).max, math.isfinite(largest))
