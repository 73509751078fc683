"""ViT and GPT: their blocks against timm's and torch's own, their sites, and what a position may see."""

import math
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from evonas.workers.architectures import TransformerBlock, size
from evonas.workers.architectures.transformer import positions
from evonas.workers.proxies import GPT, Transformer
from tests.workers.architectures.transformer_cases import (
    BYTES,
    CONTEXT,
    DEPTH,
    HEADS,
    WAYS,
    WIDTH,
    gpt,
    inputs,
    layer,
    made,
    parameters,
    shaken,
    vit,
)

# --------------------------------------------------------------------------- against timm and torch


def names_of_timm(block: str) -> dict[str, str]:
    """The parameters of timm's block by those of ours."""
    ours = {"0.input": "norm1", "0.branch.qkv": "attn.qkv", "0.branch.out": "attn.proj", "1.input": "norm2"}
    ours |= {"1.branch.0": "mlp.fc1", "1.branch.2": "mlp.fc2"}
    kinds = ("weight", "bias")
    return {f"{mine}.{kind}": f"{block}{its}.{kind}" for mine, its in ours.items() for kind in kinds}


def test_a_vit_block_is_timms() -> None:
    """Parameter by parameter, and in its outputs."""
    ours = made(vit())[1]
    theirs = shaken(Block(WIDTH, HEADS, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-5)))
    assert parameters(ours) == parameters(theirs)
    state = theirs.state_dict()
    ours.load_state_dict({mine: state[its] for mine, its in names_of_timm("").items()})
    x = torch.randn(2, 5, WIDTH)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("pool", "of_timm"), [("token", "token"), ("mean", "avg")])
def test_a_vit_is_timms_with_its_positions(pool: str, of_timm: str) -> None:
    ours = shaken(made(vit(pool=pool, patch=3)))
    theirs = timm.models.VisionTransformer(
        (9, 6), 3, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=10, global_pool=of_timm, fc_norm=False,
        class_token=pool == "token", norm_layer=partial(nn.LayerNorm, eps=1e-5),
    ).eval()  # fmt: skip
    mine = ours.state_dict()
    state = {"patch_embed.proj.weight": mine["0.embed.weight"].view(WIDTH, 3, 3, 3)}
    state |= {"patch_embed.proj.bias": mine["0.embed.bias"], "norm.weight": mine["3.weight"]}
    state |= {"norm.bias": mine["3.bias"], "head.weight": mine["5.weight"], "head.bias": mine["5.bias"]}
    state["pos_embed"] = positions(3, 2, torch.empty(1, WIDTH))[None]
    if pool == "token":
        state["cls_token"] = mine["0.token"]
        state["pos_embed"] = F.pad(state["pos_embed"], (0, 0, 1, 0))
    for block in range(DEPTH):
        names = names_of_timm(f"blocks.{block}.")
        state |= {its: mine[f"{block + 1}.{name}"] for name, its in names.items()}
    theirs.load_state_dict(state)
    x = torch.randn(2, 3, 9, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_gpt_block_is_torchs_causal_encoder_layer(norm_first: bool) -> None:
    """GPT-2's has pre-norm and the approximate GELU; post-norm is the original transformer's."""
    ours = shaken(made(gpt(placement="pre" if norm_first else "post")))[1]
    gelu = partial(F.gelu, approximate="tanh")
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation=gelu, batch_first=True, norm_first=norm_first
    )
    assert parameters(ours) == parameters(theirs)
    site = "input" if norm_first else "sum"
    names = {f"0.{site}": "norm1", "0.branch.qkv": "self_attn.in_proj_", "0.branch.out": "self_attn.out_proj"}
    names |= {f"1.{site}": "norm2", "1.branch.0": "linear1", "1.branch.2": "linear2"}
    state = ours.state_dict()
    theirs.load_state_dict(
        {
            f"{its}{kind}" if its.endswith("_") else f"{its}.{kind}": state[f"{mine}.{kind}"]
            for mine, its in names.items()
            for kind in ("weight", "bias")
        }
    )
    x = torch.randn(2, 7, WIDTH)
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    torch.testing.assert_close(ours(x), theirs(x, src_mask=mask, is_causal=True))


@pytest.mark.parametrize("proxy", [gpt(), vit(), gpt(placement="post"), vit(placement="post", pool="token")])
def test_layer_norm_as_a_graph_is_torchs(proxy: Transformer) -> None:
    theirs, ours = shaken(made(proxy)), made(proxy, layer("LayerNorm"))
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(inputs(proxy)), theirs(inputs(proxy)))


@pytest.mark.parametrize("tied", [False, True])
def test_a_gpt_has_gpt_2s_parameters(tied: bool) -> None:
    """A block has 12 w^2 + 13 w. Embeddings and last norm come on top, and a head without bias unless it is tied."""
    block = 12 * WIDTH**2 + 13 * WIDTH
    rest = (BYTES + CONTEXT) * WIDTH + 2 * WIDTH + (0 if tied else BYTES * WIDTH)
    assert parameters(made(gpt(tied=tied))) == DEPTH * block + rest


# --------------------------------------------------------------------------- sites


SITES = {  # placement -> norms of a block over the width, four times the width, and a head; norms beside the blocks
    "pre": (2, 0, 0, 1),
    "post": (2, 0, 0, 0),
    "peri": (4, 0, 0, 2),
    "sandwich": (4, 0, 0, 1),
    "mix": (2, 0, 0, 1),
    "hybrid": (1, 0, 3, 1),
    "sub_ln": (3, 1, 0, 1),
    "normformer": (3, 1, 0, 1),
    "lns": (2, 0, 0, 1),
    "deepnorm": (2, 0, 0, 0),
    "ngpt": (4, 0, 0, 1),
}


@pytest.mark.parametrize("make", [gpt, vit])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_layer_is_at_every_norm_and_where_asked_at_the_activation(make: Any, way: dict[str, Any]) -> None:
    proxy: Transformer = make(**way)
    calls: list[tuple[int, ...]] = []

    class Site(nn.Identity):
        def __init__(self, num_features: int, channel_dim: int = 1) -> None:
            super().__init__()
            self.expected = num_features
            assert channel_dim == -1

        def forward(self, x: Tensor) -> Tensor:
            assert x.ndim == 3
            calls.append(x.shape)
            assert x.shape[-1] == self.expected
            return x

    made(proxy, Site)(inputs(proxy))
    widths = [shape[-1] for shape in calls]
    narrow, wide, heads, outside = SITES[proxy.placement]
    assert widths.count(WIDTH) == narrow * DEPTH + outside
    assert widths.count(4 * WIDTH) == (wide + (proxy.act == "candidate")) * DEPTH
    assert widths.count(WIDTH // HEADS) == (heads + 2 * proxy.qk_norm) * DEPTH


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("make", [gpt, vit])
def test_every_weight_learns(make: Any, way: dict[str, Any]) -> None:
    model = made(make(**way))
    model(inputs(make(**way))).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert all(norm.weight.grad is not None and norm.weight.grad.any() for norm in norms)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_size_of_a_network_is_counted_without_building_it(depth: int) -> None:
    images = vit(), vit(dual_patch_norm=True)
    for proxy in (*images, *(gpt(**way) for way in WAYS), *(vit(**way) for way in WAYS)):
        deep = proxy.model_copy(update={"depth": depth})
        seen: list[int] = []

        class Site(nn.Identity):
            def __init__(self, num_features: int, channel_dim: int = 1) -> None:
                super().__init__()

            def forward(self, x: Tensor, seen: list[int] = seen) -> Tensor:
                seen.append(x.numel())
                return x

        model = made(deep, Site)
        model(torch.zeros(1, CONTEXT, dtype=torch.long) if isinstance(deep, GPT) else torch.zeros(1, 3, 8, 8))
        counted = size(deep, 8, CONTEXT)
        assert (counted.layers, counted.parameters, counted.values) == (len(seen), parameters(model), sum(seen))


# --------------------------------------------------------------------------- what a position sees


@pytest.mark.parametrize("text", ["LayerNorm", "RMSNorm", "DyT", "BN-ReLU"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_output_of_a_gpt_depends_on_later_bytes(text: str, way: dict[str, Any]) -> None:
    """Over c and, in evaluation, bhw; the outputs before a byte stay when it and all after it change."""
    model = shaken(made(gpt(**way), layer(text))).eval()
    x = inputs(gpt())
    for t in (0, 5, CONTEXT - 1):
        other = x.clone()
        other[:, t:] = (other[:, t:] + 1) % BYTES
        torch.testing.assert_close(model(other)[:, :t], model(x)[:, :t], rtol=0, atol=1e-6)
        assert not torch.allclose(model(other)[:, t], model(x)[:, t])


def test_a_vit_takes_images_of_any_size_and_sees_the_places_of_patches() -> None:
    model = made(vit()).eval()
    assert model(torch.randn(2, 3, 7, 13)).shape == (2, 10)
    x = torch.randn(2, 3, 8, 8)
    swapped = torch.cat([x[:, :, 4:], x[:, :, :4]], 2)
    assert not torch.allclose(model(x), model(swapped))


def test_initial_weights_have_the_scale_of_gpt_2_at_its_width() -> None:
    proxy = GPT(architecture="gpt", width=768, depth=2, heads=12)
    model = made(proxy)
    assert isinstance(model[1], TransformerBlock)
    attention, feed_forward = (residual.branch for residual in model[1])
    assert float(attention.qkv.weight.detach().std()) == pytest.approx(0.02, rel=0.15)
    ends = (attention.out, feed_forward[2])
    for end in ends:
        assert float(end.weight.detach().std()) == pytest.approx(0.02 / math.sqrt(4), rel=0.15)


@pytest.mark.parametrize("scaled", [False, True])
def test_scaled_embeddings_start_near_1(scaled: bool) -> None:
    """Rows of the embedding have the root mean square sqrt(2 / 5) / sqrt(width); scaled, of token and position 0.9."""
    embedded = made(gpt(scale_embedding=scaled))[0](inputs(gpt()))
    expected = math.sqrt(4 / 5) / (1 if scaled else math.sqrt(WIDTH))
    assert float(embedded.detach().std()) == pytest.approx(expected, rel=0.2)
