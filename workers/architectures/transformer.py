"""Transformers: ViT (arXiv:2010.11929) and GPT-2, with a layer at every site of a norm."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from evonas.workers.architectures.parts import linear, normal
from evonas.workers.proxies import GPT, Placement, Transformer, ViT

NormAct = Callable[..., nn.Module]
Tokens = Float[Tensor, "n tokens width"]


def initial_std(width: int) -> float:
    """sqrt(2 / (5 width)), which at the width of GPT-2, 768, is its 0.02 (arXiv:1910.05895; remembered)."""
    return math.sqrt(2 / (5 * width))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, causal: bool, out_std: float) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = linear(width, 3 * width, initial_std(width))
        self.out = linear(width, width, out_std)

    def forward(self, x: Tokens) -> Tokens:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(n, tokens, width))
        return result


class Residual(nn.Module):
    """A branch of the residual stream, its norm where `placement` says."""

    def __init__(self, placement: Placement, norm: nn.Module, branch: nn.Module) -> None:
        super().__init__()
        self.placement = placement
        self.norm = norm
        self.branch = branch

    def forward(self, x: Tokens) -> Tokens:
        result: Tensor
        match self.placement:
            case "pre":
                result = x + self.branch(self.norm(x))
            case "post":
                result = self.norm(x + self.branch(x))
        return result


class TransformerBlock(nn.Sequential):
    """Attention, then a feed-forward network of four times the width."""

    def __init__(self, norm_act: NormAct, proxy: Transformer, *, causal: bool, gelu: nn.Module, out_std: float) -> None:
        width = proxy.width
        act = gelu if proxy.act == "gelu" else norm_act(4 * width, channel_dim=-1)
        inner = linear(width, 4 * width, initial_std(width)), act, linear(4 * width, width, out_std)
        attention = Attention(width, proxy.heads, causal, out_std)
        super().__init__(
            Residual(proxy.placement, norm_act(width, channel_dim=-1), attention),
            Residual(proxy.placement, norm_act(width, channel_dim=-1), nn.Sequential(*inner)),
        )


def _last_norm(norm_act: NormAct, proxy: Transformer) -> list[nn.Module]:
    """A stream that no norm follows has one at its end."""
    return [norm_act(proxy.width, channel_dim=-1)] if proxy.placement == "pre" else []


# --------------------------------------------------------------------------- vit


class Patches(nn.Module):
    """Patches of images as tokens, with their positions; before them a class token, if there is one."""

    def __init__(self, channels: int, proxy: ViT) -> None:
        super().__init__()
        self.patch = proxy.patch
        inputs = channels * proxy.patch**2
        self.embed = linear(inputs, proxy.width, initial_std(inputs))
        self.token = nn.Parameter(torch.zeros(1, 1, proxy.width)) if proxy.pool == "token" else None

    def forward(self, images: Float[Tensor, "n c h w"]) -> Tokens:
        n, _, height, width = images.shape
        padded = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        x = self.embed(F.unfold(padded, self.patch, stride=self.patch).transpose(1, 2))
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
    blocks = (TransformerBlock(norm_act, proxy, causal=False, gelu=nn.GELU(), out_std=std) for _ in range(proxy.depth))
    head = linear(proxy.width, classes, std)
    return nn.Sequential(Patches(channels, proxy), *blocks, *_last_norm(norm_act, proxy), Pool(proxy.pool), head)


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
    """The weights that end a branch start smaller by 1 / sqrt(2 depth), as GPT-2's do."""
    std = initial_std(proxy.width)
    out_std = std / math.sqrt(2 * proxy.depth)
    blocks = (
        TransformerBlock(norm_act, proxy, causal=True, gelu=nn.GELU(approximate="tanh"), out_std=out_std)
        for _ in range(proxy.depth)
    )
    embedding = Embedding(context, classes, proxy.width, math.sqrt(proxy.width) if proxy.scale_embedding else 1.0)
    head = linear(proxy.width, classes, std, bias=False)
    if proxy.tied:
        head.weight = embedding.token.weight
    return nn.Sequential(embedding, *blocks, *_last_norm(norm_act, proxy), head)
