"""How much a layer amplifies the rounding of its own steps."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from evonas.search_space.graph import Graph
from evonas.search_space.moments import over
from evonas.search_space.primitives import EPS, PRIMITIVES

ROUNDING = 2.0**-24  # of float32, relative, at most
SHAPE, GROUPS = (8, 16, 8, 8), 4
DRAWS = 4

Rounded = Callable[[Tensor], Tensor]


@torch.no_grad()
def fragility(graph: Graph) -> float:
    """The amplification of rounding: rms(f'(x) - f(x)) / (u rms(f(x))), where u = 2^-24 is the rounding of float32.

    f is the graph in float64, in training, at its initial parameters. f' is the same with x, the parameters and the
    value of each node multiplied by 1 + u d, where d is 1 or -1 at random for each element (Monte Carlo arithmetic;
    Parker, 1997). x is normal, of another scale and shift in each channel. The numerator is over 4 draws of f'.

    A layer of well-conditioned steps has about the square root of their number: EvoNorm-S0 2.4. One of 10^7 has no
    right digit in float32. To 3 digits; NaN where f is not finite, or 0 everywhere.

    >>> fragility(Graph.parse("1 / (1 - sigmoid(3 * x))"))  # 1.8e7: what rounding leaves near 1 is divided by
    """
    canonical = graph.canonical()
    generator = torch.Generator().manual_seed(0)
    inputs = [realistic(generator, SHAPE).double() for _ in range(2)]

    def rounded(value: Tensor) -> Tensor:
        signs = torch.randint(0, 2, value.shape, generator=generator).double() * 2 - 1
        return value * (1 + ROUNDING * signs)

    exact = _output(canonical, inputs, lambda value: value)
    errors = torch.stack([_output(canonical, inputs, rounded) - exact for _ in range(DRAWS)])
    ratio = errors.square().mean().sqrt() / (ROUNDING * exact.square().mean().sqrt())
    return float(f"{float(ratio):.3g}")


def realistic(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Normal input of shape (N, C, H, W), as after a convolution: each channel has its own scale and shift."""
    size = (1, shape[1], 1, 1)
    scale = torch.empty(size).uniform_(0.5, 2.0, generator=generator)
    return scale * (torch.randn(shape, generator=generator) + 0.5 * torch.randn(size, generator=generator))


def _output(canonical: Graph, inputs: list[Tensor], rounded: Rounded) -> Float64[Tensor, "n c h w"]:
    values = [
        rounded(inputs[leaf.name == "y"])
        if leaf.kind == "input"
        else rounded(torch.full((1, SHAPE[1], 1, 1), leaf.value, dtype=torch.float64))
        for leaf in canonical.leaves
    ]
    for node in canonical.nodes:
        row, operands = PRIMITIVES[node.op], [values[i] for i in node.inputs]
        if row.reduces is None:
            values.append(rounded(row.fn(*operands)))
            continue
        a = operands[0].expand(SHAPE)
        moment = row.fn(a, [0, 2, 3]) if row.reduces == "bhw" else over(row.reduces, row.fn, a, 1, GROUPS)
        values.append(rounded(torch.sqrt(moment + EPS) if row.rooted else moment))
    return values[canonical.output].expand(SHAPE)
