"""The networks that a layer is trained in, with their sizes."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from evonas.workers.calls import check_call
from evonas.workers.frozen import Frozen, Given, Name, Options, SmallCount
from evonas.workers.plugins import Reference, may_load

Groups = Annotated[int, Field(ge=2, le=65536, description="of ghw; lowered at each site until it divides the channels")]


Channels = Annotated[int, Field(ge=1, le=10**6)]
Multiplier = Annotated[float, Field(gt=0.0, le=100.0)]


class PreactResNet(Frozen):
    """Pre-activation ResNet (arXiv:1603.05027), 3x3 stem of stride 1; stages after the first halve the image."""

    architecture: Literal["preact_resnet"]
    width: Channels = Field(8, description="channels of the first stage; each later stage doubles them")
    blocks: tuple[SmallCount, ...] = Field((1, 1, 1), min_length=1, max_length=8, description="blocks of each stage")
    bottleneck: bool = Field(False, description="1x1-3x3-1x1 blocks of four times the width, as in ResNet-50")
    groups: Groups = 4


class VGG(Frozen):
    """VGG (arXiv:1409.1556), a plain stack of 3x3 convolutions with one linear layer after average pooling; stages
    after the first halve the image."""

    architecture: Literal["vgg"]
    width: Channels = Field(8, description="channels of the first stage; each later stage doubles them, up to 8 times")
    blocks: tuple[SmallCount, ...] = Field(
        (1, 1, 2), min_length=1, max_length=8, description="convolutions of each stage; VGG-16's are 2, 2, 3, 3, 3"
    )
    groups: Groups = 4


class Stage(Frozen):
    """One row of an inverted-bottleneck network: `blocks` blocks, the first of them with the stride."""

    expand: Annotated[int, Field(ge=1, le=100)] = Field(
        description="channels inside a block, as a multiple of its input's"
    )
    channels: Channels = Field(description="of the output, before the network's `width`")
    blocks: SmallCount = Field(description="in a row")
    stride: Literal[1, 2] = Field(description="of the first block")
    kernel: Literal[3, 5] = Field(3, description="side of the depthwise convolution")


def _some_stage(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if not stages:
        raise ValueError("expected at least one stage, or null for the paper's table")
    return stages


Stages = Annotated[tuple[Stage, ...], Field(max_length=100), AfterValidator(_some_stage)]


class MobileNetV2(Frozen):
    """MobileNetV2 (arXiv:1801.04381); `stages: null` is the paper's table with its first two strides 2 set to 1."""

    architecture: Literal["mobilenet_v2"]
    width: Multiplier = Field(1.0, description="multiplies all channels, rounded to multiples of 8")
    stages: Stages | None = Field(None, description="one row a stage; null: the paper's table")
    groups: Groups = 4


class EfficientNet(Frozen):
    """EfficientNet (arXiv:1905.11946) with squeeze and excitation; `stages: null` is B0, two strides 2 set to 1."""

    architecture: Literal["efficientnet"]
    width: Multiplier = Field(1.0, description="multiplies all channels, rounded to multiples of 8")
    stages: Stages | None = Field(None, description="one row a stage; null: the paper's table")
    groups: Groups = 4


Placement = Literal[
    "pre", "post", "peri", "sandwich", "mix", "hybrid", "sub_ln", "normformer", "lns", "deepnorm", "ngpt"
]
Act = Literal["gelu", "candidate"]


def _is_off(option: bool) -> bool:
    return not option


# An option that leaves no trace in the dump of a run without it: those of earlier runs stay as they were
Option = Annotated[bool, Field(exclude_if=_is_off)]


class Transformer(Frozen):
    """The options of `vit` and `gpt` alike. Their layers normalise: each is the whole graph over tokens (n, tokens,
    channels), and GELU stays the activation unless `act` says otherwise."""

    architecture: str
    width: Annotated[int, Field(ge=4, le=65536)] = Field(64, description="channels of a token")
    depth: SmallCount = Field(2, description="blocks, each of attention and a feed-forward of four times the width")
    heads: SmallCount = Field(4, description="of the attention; they divide the width")
    placement: Placement = Field(
        "pre",
        description="of the layers: pre, x + f(norm(x)), and one after the last block; post, norm(x + f(x)); others: "
        "docs/how-to/transformers.md",
    )
    qk_norm: Option = Field(False, description="the layer at the queries and keys of each head, too")
    residual_scale: Option = Field(False, description="of normformer: learned scales of the feed-forward's residual")
    gpas: Option = Field(False, description="the stream is scaled by a learned gate of each block, its gradient not")
    act: Act = Field("gelu", description="of the feed-forward: gelu, or candidate, the layer there too")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Transformer":
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide the width, {self.width}")
        return self

    @model_validator(mode="after")
    def _options_fit_the_placement(self) -> "Transformer":
        if self.qk_norm and self.placement == "hybrid":
            raise ValueError("qk_norm: true, but placement hybrid has norms of queries and keys already")
        if self.residual_scale and self.placement != "normformer":
            raise ValueError(f"residual_scale: true, but placement is {self.placement}; it is of normformer")
        if self.gpas and self.placement == "ngpt":
            raise ValueError("gpas: true, but the stream of placement ngpt is normalised; expected another placement")
        if (self.qk_norm or self.placement == "hybrid") and self.width == self.heads:
            raise ValueError(f"heads: {self.heads} leave 1 channel to each, of which no norm is left; expected fewer")
        return self


class ViT(Transformer):
    """Vision transformer (arXiv:2010.11929) with fixed sine-cosine positions (arXiv:2205.01580), which fit images of
    any size; these are padded to whole patches."""

    architecture: Literal["vit"]
    patch: Annotated[int, Field(ge=1, le=256)] = Field(4, description="side of a patch, in pixels")
    pool: Literal["token", "mean"] = Field("mean", description="what is classified: a class token, or the tokens' mean")
    dual_patch_norm: Option = Field(False, description="the layer before and after the embedding of the patches, too")
    groups: Groups = 4

    @model_validator(mode="after")
    def _positions_fit_the_width(self) -> "ViT":
        if self.width % 4:
            raise ValueError(f"width: expected a multiple of 4, for sine-cosine positions, got {self.width}")
        return self


class GPT(Transformer):
    """GPT-2 (a decoder) on bytes, with learned positions and causal attention. Its layers see one position each: over
    hw, ghw or chw they would see the bytes that it predicts."""

    architecture: Literal["gpt"]
    scale_embedding: bool = Field(
        False,
        description="embeddings times sqrt(width) (arXiv:1706.03762): layers that do not normalise then see inputs of "
        "about 1, as DyT asks for in language models",
    )
    tied: bool = Field(False, description="the embedding of a byte is also its row of the head")
    groups: ClassVar[int] = 1  # no layer here reduces over groups


TEXT_PROXIES = GPT  # what predicts the next byte; all others classify images
TEXT_ARCHITECTURES = get_args(TEXT_PROXIES.model_fields["architecture"].annotation)  # their names
FORESEEING = frozenset({"hw", "ghw", "chw"})  # index sets over which a layer sees later bytes


class OwnArchitecture(Frozen):
    """A network of a user's own, which a function of `norm_act` makes: docs/bring-your-own.md."""

    architecture: Reference = Field(description="a function as module:name, such as my_networks:resnet18")
    options: Options = Field(default_factory=Given, description="of the function")
    groups: Groups = 4

    @model_validator(mode="after")
    def _can_be_called(self, info: ValidationInfo) -> "OwnArchitecture":
        if may_load(info):
            check_call(self.architecture, "architecture", ("norm_act",), ("num_classes", "in_channels"), self.options)
        return self


def architecture(proxy: Any) -> str | None:
    """The tag of a proxy's type."""
    name = proxy.get("architecture") if isinstance(proxy, dict) else getattr(proxy, "architecture", None)
    return "own" if isinstance(name, str) and ":" in name else name if name is None else str(name)


Proxy = Annotated[
    Annotated[PreactResNet, Tag("preact_resnet")]
    | Annotated[VGG, Tag("vgg")]
    | Annotated[MobileNetV2, Tag("mobilenet_v2")]
    | Annotated[EfficientNet, Tag("efficientnet")]
    | Annotated[ViT, Tag("vit")]
    | Annotated[GPT, Tag("gpt")]
    | Annotated[OwnArchitecture, Tag("own")],
    Discriminator(architecture),
]


def _some_proxy(proxies: dict[str, Any]) -> dict[str, Any]:
    if not proxies:
        raise ValueError("expected at least one")
    if not all(map(str.strip, proxies)):
        raise ValueError("a name is empty")
    return proxies


Proxies = Annotated[dict[Name, Proxy], Field(max_length=100), AfterValidator(_some_proxy)]
