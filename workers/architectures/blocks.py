"""The blocks of a transformer, with norms where its placement says."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from evonas.workers.architectures.parts import linear
from evonas.workers.architectures.placements import Row, Site, Sites, row_of
from evonas.workers.proxies import Transformer

NormAct = Callable[..., nn.Module]
Tokens = Float[Tensor, "n tokens width"]
NGPT_ALPHA = 0.05  # V, NVIDIA/ngpt; the parameter is alpha / (0.05 sqrt(width)), which sets the optimizer's steps


def initial_std(width: int) -> float:
    """sqrt(2 / (5 width)), which at the width of GPT-2, 768, is its 0.02 (arXiv:1910.05895; remembered)."""
    return math.sqrt(2 / (5 * width))


class Attention(nn.Module):
    """Multi-head self-attention, and what placements add to it: norms of q, k and v in each head, a scale of each head,
    a norm before the output weights."""

    def __init__(
        self, norm_act: NormAct, proxy: Transformer, row: Row, *, causal: bool, gain: float, out_std: float
    ) -> None:
        super().__init__()
        width = proxy.width
        self.heads, self.causal = proxy.heads, causal
        self.qkv = linear(width, 3 * width, initial_std(width))
        if gain != 1.0:
            with torch.no_grad():
                self.qkv.weight[2 * width :].mul_(gain)
        self.out = linear(width, width, out_std)
        normed = 3 if "qkv" in row.attention else 2 if proxy.qk_norm else 0
        self.norms = nn.ModuleList(norm_act(width // self.heads, channel_dim=-1) for _ in range(normed))
        self.scales = nn.Parameter(torch.ones(self.heads)) if row.head_scales else None
        self.inner = norm_act(width, channel_dim=-1) if "inner" in row.attention else nn.Identity()

    def forward(self, x: Tokens) -> Tokens:
        n, tokens, width = x.shape
        qkv = list(self.qkv(x).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4))
        for index, norm in enumerate(self.norms):  # each head is a sequence of tokens of its own
            qkv[index] = norm(qkv[index].flatten(0, 1)).view(qkv[index].shape)
        q, k, v = qkv
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        if self.scales is not None:
            mixed = mixed * self.scales[:, None, None]
        result: Tensor = self.out(self.inner(mixed.transpose(1, 2).reshape(n, tokens, width)))
        return result


class Gate(nn.Module):
    """GPAS, x - SiLU(g) stopgrad(x) with g = 0 at the start: scales x by 1 - SiLU(g), and its gradient by 1.

    "GPAS: Accelerating Convergence of LLM Pretraining via Gradient-Preserving Activation Scaling"; V, dandingsky/GPAS,
    which clips the gradient of g to 0.01 (here the recipe's `clip` is all).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tokens) -> Tokens:
        return x - F.silu(self.gate) * x.detach()


class Residual(nn.Module):
    """A branch f of the residual stream x. Where the placement has no norm stands an identity:

        s = stream(x);  y = output(f(scale * input(s)));  sum(skip * s + y), or nGPT's sum(s + abs(alpha) * (y - s))

    A gate takes what follows the sum, or s where a norm of the sum would undo it, as in its authors' code.
    """

    def __init__(
        self,
        norm_act: NormAct,
        proxy: Transformer,
        row: Row,
        sites: Sites,
        branch: nn.Module,
        *,
        scale: float | None,
        skip: float | nn.Parameter | None,
        gate: Gate | None,
    ) -> None:
        super().__init__()
        width = proxy.width

        def norm(site: Site) -> nn.Module:
            return norm_act(width, channel_dim=-1) if site in sites else nn.Identity()

        self.stream, self.input, self.output, self.sum = norm("stream"), norm("input"), norm("output"), norm("sum")
        self.branch = branch
        self.scale, self.skip, self.gate = scale, skip, gate
        self.gates_stream = "sum" in sites
        self.alpha = nn.Parameter(torch.full((width,), width**-0.5)) if row.interpolates else None

    def forward(self, x: Tokens) -> Tokens:
        s = self.stream(x)
        y = self.input(s)
        y = self.output(self.branch(y if self.scale is None else self.scale * y))
        if self.gate is not None and self.gates_stream:
            s = self.gate(s)
        if self.alpha is not None:
            y = NGPT_ALPHA * len(self.alpha) ** 0.5 * self.alpha.abs() * (y - s)
        result: Tensor = self.sum((s if self.skip is None else self.skip * s) + y)
        return result if self.gate is None or self.gates_stream else self.gate(result)


class TransformerBlock(nn.Sequential):
    """Attention, then a feed-forward network of four times the width: block `number` of its network, from 1 on."""

    def __init__(
        self, norm_act: NormAct, proxy: Transformer, number: int, *, causal: bool, gelu: nn.Module, out_std: float
    ) -> None:
        row = row_of(proxy, number)
        width, depth, std = proxy.width, proxy.depth, initial_std(proxy.width)
        gain = 1.0
        if row.gain is not None:
            gain = row.gain(depth)
            out_std = gain * std
        act = gelu if proxy.act == "gelu" else norm_act(4 * width, channel_dim=-1)
        inner = [linear(width, 4 * width, gain * std), act, linear(4 * width, width, out_std)]
        if "inner" in row.feed_forward:
            inner.insert(2, norm_act(4 * width, channel_dim=-1))
        attention = Attention(norm_act, proxy, row, causal=causal, gain=gain, out_std=out_std)
        scale = None if row.input_scale is None else row.input_scale(number)
        skip = None if row.skip is None else row.skip(depth)
        scales = nn.Parameter(torch.ones(width)) if proxy.residual_scale else skip
        gate = Gate() if proxy.gpas else None
        residuals = (
            Residual(norm_act, proxy, row, row.attention, attention, scale=scale, skip=skip, gate=gate),
            Residual(
                norm_act, proxy, row, row.feed_forward, nn.Sequential(*inner), scale=scale, skip=scales, gate=gate
            ),
        )
        for residual, start in zip(residuals, row.output_starts or (), strict=False):
            weight = getattr(residual.output, "weight", None)
            if isinstance(weight, nn.Parameter):  # a norm may have none
                nn.init.constant_(weight, start / math.sqrt(depth))
        super().__init__(*residuals)
