"""Where a transformer block has its norms: one row a placement.

In formulas f is a branch (attention or feed-forward), n a norm, L the number of blocks, and l that of the block, from 1
on. A source says how a row is known: V, the authors' or a named project's code was read; V3, other code or an abstract;
M, remembered.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evonas.workers.proxies import Placement, Transformer

# Norms about a branch f of the stream x: stream, n(x) in the place of x; input, f(n(x)); qkv, of the queries, keys and
# values of each head; inner, of what the last weights of f take; output, n(f(x)); sum, n(x + f(x)).
Site = Literal["stream", "input", "qkv", "inner", "output", "sum"]
Sites = tuple[Site, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """The norms about both branches of a block, what else a placement has, and where it comes from."""

    attention: Sites
    feed_forward: Sites
    formula: str
    paper: str
    source: str
    embedding: bool = False  # a norm follows it
    head_scales: bool = False  # of attention, learned
    interpolates: bool = False  # x + abs(alpha) (y - x) in the place of x + y
    input_scale: Callable[[int], float] | None = None  # of the norms at the inputs, by l
    skip: Callable[[int], float] | None = None  # of x in x + f(x), by L
    gain: Callable[[int], float] | None = None  # of the initial v, out and feed-forward, by L; None: the network's own
    output_starts: tuple[float, float] | None = None  # sqrt(L) times the initial weight of the norms at the outputs


PLACEMENTS: dict[Placement, Row] = {
    "pre": Row(
        ("input",), ("input",),
        "x + f(n(x))",
        "On Layer Normalization in the Transformer Architecture", "V, pixeli99/MixLN",
    ),
    "post": Row(
        ("sum",), ("sum",),
        "n(x + f(x))",
        "On Layer Normalization in the Transformer Architecture", "V, pixeli99/MixLN",
    ),
    "peri": Row(
        ("input", "output"), ("input", "output"),
        "x + n(f(n(x))), and a norm after the embedding",
        "Peri-LN", "V3, documentation of several repositories",
        embedding=True,
    ),
    "sandwich": Row(
        ("input", "output"), ("input", "output"),
        "x + n(f(n(x))); the weight of the outer n starts at 0.283 / sqrt(L) for attention, 0.432 / sqrt(L) for the "
        "feed-forward",
        "Pangu Ultra", "M",
        output_starts=(0.283, 0.432),
    ),
    "mix": Row(
        ("input",), ("input",),
        "n(x + f(x)) for l <= max(1, floor(L / 4)), then x + f(n(x))",
        "Mix-LN", "V, pixeli99/MixLN",
    ),
    "hybrid": Row(
        ("qkv",), ("stream",),
        "x + f(x) with n(q), n(k), n(v) in each head, then n(x) + f(n(x))",
        "HybridNorm", "V, BryceZhuo/HybridNorm",
    ),
    "sub_ln": Row(
        ("input", "inner"), ("input", "inner"),
        "x + W n(g(n(x))) with f = W g; v, out and both weights of the feed-forward start sqrt(ln(2L)) times as large",
        "Foundation Transformers", "V, microsoft/torchscale",
        gain=lambda depth: math.sqrt(math.log(2 * depth)),
    ),
    "normformer": Row(
        ("input", "output"), ("input", "inner"),
        "x + n(W concat(s_h head_h)) with heads of n(x) and s_h = 1 at the start, then x + W2 n(act(W1 n(x)))",
        "NormFormer", "V, fairseq, whose s_h follow W; before W, as in the paper: M",
        head_scales=True,
    ),
    "lns": Row(
        ("input",), ("input",),
        "x + f(n(x) / sqrt(l))",
        "The Curse of Depth in Large Language Models", "V, lmsdss/LayerNorm-Scaling",
        input_scale=lambda block: block**-0.5, gain=lambda depth: 1.0,
    ),
    "deepnorm": Row(
        ("sum",), ("sum",),
        "n((2L)^(1/4) x + f(x)); v, out and both weights of the feed-forward start (8L)^(-1/4) times as large",
        "DeepNet", "V, microsoft/torchscale",
        skip=lambda depth: (2 * depth) ** 0.25, gain=lambda depth: (8 * depth) ** -0.25,
    ),
    "ngpt": Row(
        ("output", "sum"), ("output", "sum"),
        "n(x + abs(alpha) (n(f(x)) - x)), alpha = 0.05 for each channel at the start, and a norm after the embedding",
        "nGPT", "V, NVIDIA/ngpt",
        embedding=True, interpolates=True,
    ),
}  # fmt: skip


def row_of(proxy: Transformer, block: int) -> Row:
    """The row of a block, from 1 on."""
    is_post = proxy.placement == "mix" and block <= max(1, proxy.depth // 4)
    return PLACEMENTS["post" if is_post else proxy.placement]
