"""Transformers: ViT (arXiv:2010.11929) and GPT-2, with a layer at every site of a norm."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from evonas.workers.architectures.blocks import NormAct, Tokens, TransformerBlock, initial_std
from evonas.workers.architectures.parts import linear, normal
from evonas.workers.architectures.placements import row_of
from evonas.workers.proxies import GPT, Transformer, ViT


def _stack(norm_act: NormAct, proxy: Transformer, blocks: Iterable[nn.Module]) -> list[nn.Module]:
    """The blocks with the norms around them: after the embedding where the placement says, and after a stream that no
    norm ends."""
    first = [norm_act(proxy.width, channel_dim=-1)] if row_of(proxy, 1).embedding else []
    last = [] if "sum" in row_of(proxy, proxy.depth).feed_forward else [norm_act(proxy.width, channel_dim=-1)]
    return [*first, *blocks, *last]


# --------------------------------------------------------------------------- vit


class Patches(nn.Module):
    """Patches of images as tokens, with their positions; before them a class token, if there is one.

    With `dual_patch_norm` tokens are n(W n(patch)) ("Dual PatchNorm"; V3, its abstract), to which positions are added.
    """

    def __init__(self, norm_act: NormAct, channels: int, proxy: ViT) -> None:
        super().__init__()
        self.patch = proxy.patch
        inputs = channels * proxy.patch**2

        def norm(width: int) -> nn.Module:
            return norm_act(width, channel_dim=-1) if proxy.dual_patch_norm else nn.Identity()

        self.before, self.after = norm(inputs), norm(proxy.width)
        self.embed = linear(inputs, proxy.width, initial_std(inputs))
        self.token = nn.Parameter(torch.zeros(1, 1, proxy.width)) if proxy.pool == "token" else None

    def forward(self, images: Float[Tensor, "n c h w"]) -> Tokens:
        n, _, height, width = images.shape
        padded = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        patches = F.unfold(padded, self.patch, stride=self.patch).transpose(1, 2)
        x = self.after(self.embed(self.before(patches)))
        x = x + positions(-(-height // self.patch), -(-width // self.patch), x)
        return x if self.token is None else torch.cat([self.token.expand(n, -1, -1).to(x.dtype), x], 1)


def positions(rows: int, columns: int, like: Tensor) -> Float[Tensor, "tokens width"]:
    """Sines and cosines of row and column at frequencies from 1 to 1/10000 (arXiv:2205.01580)."""
    quarter = like.shape[-1] // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, device=like.device) / max(1, quarter - 1))
    row, column = (torch.arange(size, device=like.device)[:, None] * frequencies for size in (rows, columns))
    row, column = row.repeat_interleave(columns, 0), column.repeat(rows, 1)
    return torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], 1).to(like.dtype)


class Pool(nn.Module):
    """The class token, or the mean of all tokens."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tokens) -> Float[Tensor, "n width"]:
        return x[:, 0] if self.pool == "token" else x.mean(1)


def vit(norm_act: NormAct, channels: int, classes: int, proxy: ViT) -> nn.Module:
    std = initial_std(proxy.width)
    blocks = (
        TransformerBlock(norm_act, proxy, number, causal=False, gelu=nn.GELU(), out_std=std)
        for number in range(1, proxy.depth + 1)
    )
    head = linear(proxy.width, classes, std)
    patches = Patches(norm_act, channels, proxy)
    return nn.Sequential(patches, *_stack(norm_act, proxy, blocks), Pool(proxy.pool), head)


# --------------------------------------------------------------------------- gpt


class Embedding(nn.Module):
    """Bytes as tokens, with learned positions."""

    def __init__(self, context: int, classes: int, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.token, self.position = nn.Embedding(classes, width), nn.Embedding(context, width)
        for each in (self.token, self.position):
            normal(each.weight, initial_std(width))

    def forward(self, x: Int64[Tensor, "n tokens"]) -> Tokens:
        embedded: Tensor = self.token(x) + self.position.weight[: x.shape[1]]
        return embedded if self.scale == 1.0 else self.scale * embedded


def gpt(norm_act: NormAct, context: int, classes: int, proxy: GPT) -> nn.Module:
    """The weights that end a branch start smaller by 1 / sqrt(2 depth), as GPT-2's do, unless the placement has its own
    factor."""
    std = initial_std(proxy.width)
    out_std = std / math.sqrt(2 * proxy.depth)
    blocks = (
        TransformerBlock(norm_act, proxy, number, causal=True, gelu=nn.GELU(approximate="tanh"), out_std=out_std)
        for number in range(1, proxy.depth + 1)
    )
    embedding = Embedding(context, classes, proxy.width, math.sqrt(proxy.width) if proxy.scale_embedding else 1.0)
    head = linear(proxy.width, classes, std, bias=False)
    if proxy.tied:
        head.weight = embedding.token.weight
    return nn.Sequential(embedding, *_stack(norm_act, proxy, blocks), head)
