"""Small transformers, and what goes into them."""

from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

import evonas
from evonas.workers.architectures import build
from evonas.workers.architectures.placements import PLACEMENTS
from evonas.workers.proxies import GPT, Transformer, ViT

WIDTH, DEPTH, HEADS = 16, 2, 4
CONTEXT, BYTES = 12, 256
SIZES: dict[str, Any] = {"width": WIDTH, "depth": DEPTH, "heads": HEADS}
OPTIONS: list[dict[str, Any]] = [
    {"placement": "pre", "qk_norm": True},
    {"placement": "normformer", "residual_scale": True},
    *({"placement": placement, "gpas": True} for placement in PLACEMENTS if placement != "ngpt"),
]
WAYS = [{"placement": placement, "act": act} for placement, act in product(PLACEMENTS, ("gelu", "candidate"))] + OPTIONS


def gpt(**options: Any) -> GPT:
    return GPT(architecture="gpt", **SIZES, **options)


def vit(**options: Any) -> ViT:
    return ViT(architecture="vit", **SIZES, **options)


def layer_norm(num_features: int, channel_dim: int = 1) -> nn.Module:
    assert channel_dim == -1
    return nn.LayerNorm(num_features)


def layer(text: str) -> Any:
    return partial(evonas.layer, text)


def made(proxy: Transformer, norm_act: Any = layer_norm, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(proxy, norm_act, *((CONTEXT, BYTES) if isinstance(proxy, GPT) else (3, 10)))


def inputs(proxy: Transformer, n: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if isinstance(proxy, GPT):
        return torch.randint(BYTES, (n, CONTEXT), generator=generator)
    return torch.randn(n, 3, 9, 8, generator=generator)


def shaken(model: nn.Module) -> nn.Module:
    """With every parameter moved, so that no bias is 0 and no weight of a norm 1."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
