"""The error of a layer in half precision, and in single, beside BN-ReLU's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from evonas.config import BASELINE
from evonas.layers.fragility import realistic
from evonas.search_space.catalog.named import NamedGraph, named_graph
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct

DTYPES = ("float32", "bfloat16", "float16")
SHAPE = (16, 32, 8, 8)  # n c h w
SEED = 0


@dataclass(frozen=True, slots=True)
class HalfPrecisionRow:
    """Norms of the errors of a layer, relative to a float64 reference on the same input; inf where it overflows."""

    layer: str
    dtype: str  # of the input, and of autocast if it is half
    forward: float
    backward: float  # of the gradient with respect to the input


def half_precision(layer: NamedGraph, groups: int = 32) -> list[HalfPrecisionRow]:
    """Compare a layer in training mode, and BN-ReLU, with float64, in each type; on a CPU, under autocast as in
    training."""
    layers = {each.name: each.graph for each in (layer, named_graph(BASELINE))}
    return [
        HalfPrecisionRow(name, dtype, *_errors(graph, groups, getattr(torch, dtype)))
        for name, graph in layers.items()
        for dtype in DTYPES
    ]


def _errors(graph: Graph, groups: int, dtype: torch.dtype) -> tuple[float, float]:
    generator = torch.Generator().manual_seed(SEED)
    x, slope = realistic(generator, SHAPE).to(dtype), torch.randn(SHAPE, generator=generator).to(dtype)
    exact = _run(graph, groups, x.double(), slope.double(), torch.float64)
    rough = _run(graph, groups, x, slope, dtype)
    forward, backward = (_relative(a.double(), b) for a, b in zip(rough, exact, strict=True))
    return forward, backward


def _run(graph: Graph, groups: int, x: Tensor, slope: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    is_half = dtype in (torch.bfloat16, torch.float16)
    module = NormAct(graph, SHAPE[1], groups=groups, dtype=torch.float32 if is_half else dtype)
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", dtype=dtype if is_half else torch.bfloat16, enabled=is_half):
        y = module(x)
    (gradient,) = torch.autograd.grad(y, [x], slope.to(y.dtype), allow_unused=True)
    return y.detach(), torch.zeros_like(x) if gradient is None else gradient


def _relative(rough: Tensor, exact: Tensor) -> float:
    """The norm of the error, relative to the exact one's; 0 where both are 0."""
    if not bool(torch.isfinite(rough).all()):
        return float("inf")
    error, size = float((rough - exact).norm()), float(exact.norm())
    return 0.0 if error == 0.0 else error / size if size else float("inf")
