"""How a layer starts to train, as a key: layers share it that differ by a part without effect on output and gradients.

Such a part has no effect later, unless training takes its values elsewhere: `max(std_bhw(x), tanh(v0))` trains as
`std_bhw(x)` does.
"""

import hashlib
from functools import cache, lru_cache

import torch
from jaxtyping import Float64
from torch import Tensor

from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.significant import significant

INPUTS = (  # shape, scale and shift of normal input: some of it is small, some far from 0 on either side
    ((4, 8, 3, 5), 1.0, 0.3),
    ((8, 8, 2, 2), 0.02, 0.0),
    ((4, 8, 3, 5), 0.5, 3.0),
    ((8, 8, 2, 2), 8.0, -20.0),
)
GROUPS = 2


@cache
def _passes() -> list[tuple[Float64[Tensor, "n c h w"], Float64[Tensor, "n c h w"]]]:
    """Inputs, and the slopes of a loss by the outputs."""
    generator = torch.Generator().manual_seed(0)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [(scale * normal(shape) + shift, normal(shape)) for shape, scale, shift in INPUTS]


@lru_cache(maxsize=1 << 14)
def start(text: str) -> str:
    """The key of a graph of one input: of its outputs in training at the initial parameters, of their gradients by x,
    and of those by each learned parameter that are not 0, whatever its name; to 6 digits."""
    graph = Graph.parse(text)
    digest = hashlib.sha256()
    for x, slope in _passes():
        layer = NormAct(graph, x.shape[1], groups=GROUPS).double()
        learned = [value for name, value in layer.named_parameters() if name not in ("weight", "bias")]
        mine = x.clone().requires_grad_()
        output = layer(mine)
        gradients = torch.autograd.grad((output * slope).sum(), [mine, *learned], allow_unused=True)
        of_x = torch.zeros_like(mine) if gradients[0] is None else gradients[0]
        digest.update(significant(torch.stack([output.detach(), of_x]).flatten(1).numpy()).tobytes())
        moving = [each.flatten() for each in gradients[1:] if each is not None and bool(each.any())]
        digest.update(b"".join(sorted(significant(each[None].numpy()).tobytes() for each in moving)))
    return digest.hexdigest()[:32]
