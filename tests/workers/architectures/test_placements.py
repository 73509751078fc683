"""Placements of the norms of a transformer: each against its formula, written here a second time."""

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from evonas.workers.architectures import TransformerBlock
from evonas.workers.architectures.blocks import Gate, Residual
from evonas.workers.architectures.placements import PLACEMENTS
from evonas.workers.proxies import GPT, Placement, Transformer, ViT
from tests.conftest import ROOT
from tests.workers.architectures.transformer_cases import (
    CONTEXT,
    DEPTH,
    HEADS,
    WAYS,
    WIDTH,
    gpt,
    inputs,
    layer,
    layer_norm,
    made,
    shaken,
    vit,
)

NORM_AFTER_EMBEDDING, NORM_ENDS_BLOCK = {"peri", "ngpt"}, {"post", "deepnorm", "ngpt"}
MAKERS = [gpt, vit]


# --------------------------------------------------------------------------- a second implementation


class Block:
    """Block l of a network: its branches f(0, x), attention, and f(1, x), feed-forward, and its norms, written out with
    the weights of the module."""

    def __init__(self, block: nn.Module, number: int, proxy: Transformer) -> None:
        self.weights = dict(block.named_parameters(remove_duplicate=False))
        self.l, self.proxy = number, proxy

    def w(self, name: str) -> Tensor:
        return self.weights[name]

    def affine(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w(f"{name}.weight").T + self.w(f"{name}.bias")

    def n(self, name: str, x: Tensor) -> Tensor:
        scale = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return (x - x.mean(-1, keepdim=True)) / scale * self.w(f"{name}.weight") + self.w(f"{name}.bias")

    def f(self, branch: int, x: Tensor, *, inner: bool = False, heads_scaled: bool = False, normed: str = "") -> Tensor:
        if branch == 1:
            h = self.affine("1.branch.0", x)
            if self.proxy.act == "gelu":
                h = F.gelu(h, approximate="tanh" if isinstance(self.proxy, GPT) else "none")
            else:
                h = self.n("1.branch.1", h)
            return self.affine("1.branch.3", self.n("1.branch.2", h)) if inner else self.affine("1.branch.2", h)
        normed = "qk" if self.proxy.qk_norm else normed
        heads = []
        for h, columns in enumerate(torch.arange(WIDTH).chunk(HEADS)):
            q, k, v = (each[..., columns] for each in self.affine("0.branch.qkv", x).chunk(3, -1))
            q, k, v = (self.n(f"0.branch.norms.{i}", e) if i < len(normed) else e for i, e in enumerate((q, k, v)))
            scores = q @ k.transpose(1, 2) / math.sqrt(len(columns))
            if isinstance(self.proxy, GPT):
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
            heads.append(scores.softmax(-1) @ v * (self.w("0.branch.scales")[h] if heads_scaled else 1.0))
        mixed = torch.cat(heads, -1)
        return self.affine("0.branch.out", self.n("0.branch.inner", mixed) if inner else mixed)

    def gated(self, x: Tensor) -> Tensor:
        return x * (1 - F.silu(self.w("0.gate.gate"))) if self.proxy.gpas else x

    def __call__(self, x: Tensor) -> Tensor:
        for branch in (0, 1):
            x = FORMULAS[self.proxy.placement](self, branch, x)
        return x


def pre(b: Block, i: int, x: Tensor) -> Tensor:
    return b.gated(x + b.f(i, b.n(f"{i}.input", x)))


def post(b: Block, i: int, x: Tensor) -> Tensor:
    return b.n(f"{i}.sum", b.gated(x) + b.f(i, x))


def peri(b: Block, i: int, x: Tensor) -> Tensor:
    return b.gated(x + b.n(f"{i}.output", b.f(i, b.n(f"{i}.input", x))))


def mix(b: Block, i: int, x: Tensor) -> Tensor:
    return post(b, i, x) if b.l == 1 else pre(b, i, x)


def hybrid(b: Block, i: int, x: Tensor) -> Tensor:
    if i == 0:
        return b.gated(x + b.f(0, x, normed="qkv"))
    h = b.n("1.stream", x)
    return b.gated(h + b.f(1, h))


def sub_ln(b: Block, i: int, x: Tensor) -> Tensor:
    return b.gated(x + b.f(i, b.n(f"{i}.input", x), inner=True))


def normformer(b: Block, i: int, x: Tensor) -> Tensor:
    h = b.n(f"{i}.input", x)
    if i == 0:
        return b.gated(x + b.n("0.output", b.f(0, h, heads_scaled=True)))
    return b.gated((b.w("1.skip") * x if b.proxy.residual_scale else x) + b.f(1, h, inner=True))


def lns(b: Block, i: int, x: Tensor) -> Tensor:
    return b.gated(x + b.f(i, b.n(f"{i}.input", x) / math.sqrt(b.l)))


def deepnorm(b: Block, i: int, x: Tensor) -> Tensor:
    return b.n(f"{i}.sum", (2 * DEPTH) ** (1 / 4) * b.gated(x) + b.f(i, x))


def ngpt(b: Block, i: int, x: Tensor) -> Tensor:
    alpha = (b.w(f"{i}.alpha") * 0.05 * math.sqrt(WIDTH)).abs()
    return b.n(f"{i}.sum", x + alpha * (b.n(f"{i}.output", b.f(i, x)) - x))


FORMULAS: dict[Placement, Callable[[Block, int, Tensor], Tensor]] = {
    "pre": pre,
    "post": post,
    "peri": peri,
    "sandwich": peri,
    "mix": mix,
    "hybrid": hybrid,
    "sub_ln": sub_ln,
    "normformer": normformer,
    "lns": lns,
    "deepnorm": deepnorm,
    "ngpt": ngpt,
}


def by_formula(model: Any, proxy: Transformer, x: Tensor) -> Tensor:
    """The output of the network, its blocks and norms written out."""
    parts = list(model)
    x = parts.pop(0)(x)
    head = parts.pop()
    if isinstance(proxy, ViT):
        parts.pop()  # pools
    if proxy.placement in NORM_AFTER_EMBEDDING:
        x = parts.pop(0)(x)
    for number in range(1, DEPTH + 1):
        x = Block(parts.pop(0), number, proxy)(x)
    if proxy.placement not in NORM_ENDS_BLOCK:
        x = parts.pop(0)(x)
    assert not parts
    result: Tensor = head(x.mean(1) if isinstance(proxy, ViT) else x)
    return result


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_network_of_two_blocks_is_its_formula(make: Any, way: dict[str, Any]) -> None:
    proxy: Transformer = make(**way)
    model = shaken(made(proxy)).double()
    x = inputs(proxy)
    x = x if isinstance(proxy, GPT) else x.double()
    torch.testing.assert_close(model(x), by_formula(model, proxy, x))


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_what_other_placements_have_costs_pre_and_post_no_bit(placement: Placement) -> None:
    block: Any = shaken(made(gpt(placement=placement)))[1]
    x = torch.randn(2, 7, WIDTH)
    for residual in block:
        f = residual.branch
        expected = x + f(residual.input(x)) if placement == "pre" else residual.sum(x + f(x))
        assert torch.equal(residual(x), expected)


def test_dual_patch_norm_is_before_and_after_the_embedding_of_patches() -> None:
    proxy = vit(dual_patch_norm=True)
    model: Any = shaken(made(proxy))
    images = torch.randn(2, 3, 8, 8)
    patches = images.view(2, 3, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(2, 4, 48)
    own = model[0]
    embedded = own.after(own.before(patches) @ own.embed.weight.T + own.embed.bias)
    positions = made(vit())[0](torch.zeros(1, 3, 8, 8))  # of which the embedding is 0
    torch.testing.assert_close(own(images), embedded + positions)


# --------------------------------------------------------------------------- at the start


def branch_weights(block: Any) -> dict[str, Tensor]:
    qkv, out = block[0].branch.qkv.weight.detach(), block[0].branch.out.weight.detach()
    first, *_, last = (each.weight.detach() for each in block[1].branch if isinstance(each, nn.Linear))
    return {"qk": qkv[: 2 * WIDTH], "v": qkv[2 * WIDTH :], "out": out, "first": first, "last": last}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_all_placements_start_from_the_same_draws_times_their_factors(make: Any, placement: Placement) -> None:
    """Sub-LN's sqrt(ln(2L)) and DeepNorm's (8L)^(-1/4) on values, out and feed-forward. LayerNorm Scaling is plain. The
    others keep GPT-2's 1 / sqrt(2L) at the end of a branch, which a ViT does not have."""
    factor = {"sub_ln": math.sqrt(math.log(2 * DEPTH)), "deepnorm": (8 * DEPTH) ** -0.25, "lns": 1.0}.get(placement)
    undone = math.sqrt(2 * DEPTH) if make is gpt else 1.0
    plain, ours = (
        [each for each in made(make(**way)).children() if isinstance(each, TransformerBlock)]
        for way in ({}, {"placement": placement})
    )
    for usual, block in zip(plain, ours, strict=True):
        its = branch_weights(block)
        for name, weight in branch_weights(usual).items():
            ends = name in ("out", "last")
            times = 1.0 if factor is None or name == "qk" else factor * undone if ends else factor
            torch.testing.assert_close(its[name], weight * times)


@pytest.mark.parametrize("norm", [layer_norm, layer("RMSNorm")], ids=["torch", "graph"])
@pytest.mark.parametrize("depth", [1, 2, 8])
def test_the_outer_norms_of_a_sandwich_start_smaller_with_depth(norm: Any, depth: int) -> None:
    model: Any = made(gpt().model_copy(update={"placement": "sandwich", "depth": depth}), norm)
    for block in model[1:-2]:
        for residual, start in zip(block, (0.283, 0.432), strict=True):
            assert torch.equal(residual.input.weight, torch.ones(WIDTH))
            assert torch.equal(residual.output.weight, torch.full((WIDTH,), start / math.sqrt(depth)))


def test_alpha_of_ngpt_starts_at_a_twentieth() -> None:
    residual = next(each for each in made(gpt(placement="ngpt")).modules() if isinstance(each, Residual))
    x = torch.randn(2, CONTEXT, WIDTH)
    torch.testing.assert_close(residual(x), residual.sum(x + 0.05 * (residual.output(residual.branch(x)) - x)))


@pytest.mark.parametrize(("depth", "posts"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (12, 3)])
def test_the_first_quarter_of_a_mix_is_post(depth: int, posts: int) -> None:
    model: Any = made(gpt().model_copy(update={"placement": "mix", "depth": depth}))
    are_post = [isinstance(residual.sum, nn.LayerNorm) for block in model[1 : depth + 1] for residual in block]
    assert are_post == [True] * 2 * posts + [False] * 2 * (depth - posts)


def test_a_gate_scales_its_input_and_not_the_gradient() -> None:
    """Here the gradient of g is -SiLU'(g) times the sum of x."""
    gate = Gate()
    x = torch.randn(2, 3, 4, requires_grad=True)
    assert torch.equal(gate(x), x)
    nn.init.constant_(gate.gate, 0.7)
    y = gate(x)
    torch.testing.assert_close(y, x * (1 - F.silu(torch.tensor(0.7))))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))
    sigmoid = 1 / (1 + math.exp(-0.7))
    slope = sigmoid * (1 + 0.7 * (1 - sigmoid))
    torch.testing.assert_close(gate.gate.grad, -slope * x.detach().sum().view(1))


# --------------------------------------------------------------------------- laws


PROXIES = [*(make(**way) for make in MAKERS for way in WAYS), vit(dual_patch_norm=True)]


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda proxy: str(proxy.model_dump(exclude_defaults=True)))
def test_every_placement_trains(proxy: Transformer) -> None:
    model = made(proxy)
    x = inputs(proxy)
    targets = x.roll(-1, 1) if isinstance(proxy, GPT) else torch.arange(len(x))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(x).flatten(0, -2), targets.flatten())
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


# --------------------------------------------------------------------------- the config and the page


def test_the_table_is_whole() -> None:
    assert set(PLACEMENTS) == set(get_args(Placement)) == set(FORMULAS)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (vit, {"placement": "hybrid", "qk_norm": True}, "qk_norm: true, but placement hybrid has norms of queries"),
        (gpt, {"residual_scale": True}, "residual_scale: true, but placement is pre"),
        (vit, {"placement": "ngpt", "gpas": True}, "gpas: true, but the stream of placement ngpt is normalised"),
    ],
)
def test_options_that_do_not_fit_are_refused(make: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make(**options)


@pytest.mark.parametrize("way", [{"placement": "hybrid"}, {"qk_norm": True}], ids=str)
def test_a_norm_of_heads_has_two_channels_at_least(way: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="heads: 8 leave 1 channel to each"):
        GPT(architecture="gpt", width=8, heads=8, **way)


def test_options_that_are_off_leave_no_trace_in_a_dump() -> None:
    options = {"qk_norm", "residual_scale", "gpas", "dual_patch_norm"}
    assert not options & vit().model_dump().keys()
    on = vit(placement="normformer", **dict.fromkeys(options, True))
    assert options <= on.model_dump().keys()
    assert ViT.model_validate_json(on.model_dump_json()) == on


def test_the_page_has_every_placement_with_its_formula_and_paper() -> None:
    page = (ROOT / "docs" / "how-to" / "transformers.md").read_text(encoding="utf-8")
    for name, row in PLACEMENTS.items():
        assert f"| `{name}` | {row.formula} | {row.paper} | {row.source} |" in page
