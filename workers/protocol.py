"""The protocol: everything but the layer and the seed that decides an outcome. Frozen, validated, JSON both ways."""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from evonas.workers.calls import check_call
from evonas.workers.frozen import Count, Frozen, Given, Name, Options, Positive, Share, SmallCount, Text
from evonas.workers.gates import AnyGate
from evonas.workers.own_primitives import OwnPrimitive
from evonas.workers.plugins import LOADS, Own, Plugins, Reference, check, is_own, kind_of, may_load

Device = Literal["auto", "cpu", "cuda"]
DType = Literal["float32", "bfloat16"]
JudgedOn = Literal["validation", "test"]  # whose images give the accuracies
Size = Annotated[int, Field(ge=4, le=4096)]  # of a square image


Known = Literal["embedded", "folder", "CIFAR10", "CIFAR100", "SVHN", "FashionMNIST"]
Source = Annotated[Annotated[Known, Tag("known")] | Own, Discriminator(kind_of)]


class Data(Frozen):
    """Images and their fixed split. `embedded` is the 10,000-image part of Fashion-MNIST that evonas ships;
    `module:name` is a function of a user's own: docs/bring-your-own.md."""

    source: Source = Field("embedded", description="embedded, folder, a data set of torchvision, or module:name")
    path: Text | None = Field(None, description="an image folder, or where torchvision keeps its data sets")
    train: Count = Field(8000, description="images to train with")
    validation: Count = Field(1000, description="images that fitness is measured on")
    test: Annotated[int, Field(ge=0, le=10**9)] = Field(
        1000, description="images set aside, which `evonas validate` alone opens; 0: the source has its own"
    )
    image_size: Size | None = Field(None, description="images are resized to this square, once")
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(0, description="draws which images are which")
    options: Options = Field(
        default_factory=Given,
        exclude_if=lambda options: not options,  # dumps of runs from before it stay as they were
        description="of the function that is the source",
    )

    @property
    def is_own(self) -> bool:
        """Whether a function of a user's own gives the images."""
        return is_own(self.source)

    @model_validator(mode="after")
    def _folder_has_a_path(self) -> "Data":
        if self.source == "folder" and self.path is None:
            raise ValueError("path: missing; an image folder needs one")
        if (self.source == "embedded" or self.is_own) and self.path is not None:
            raise ValueError(f"path: '{self.path}' is never read; only the sources other than {self.source} have one")
        if self.options and not self.is_own:
            raise ValueError(f"options: {self.source} has none; expected a source such as my_data:images")
        return self

    @model_validator(mode="after")
    def _can_be_called(self, info: ValidationInfo) -> "Data":
        if self.is_own and may_load(info):
            check_call(self.source, "source", ("part",), (), self.options)
        return self


class Recipe(Frozen):
    """SGD with Nesterov momentum; weight decay on convolution and linear weights only (in the paper: unknown)."""

    batch_size: Count = Field(128, description="images of a step; all that train where those are fewer")
    steps: Count = Field(200, description="the full budget of a candidate on each proxy")
    learning_rate: Positive = Field(0.1, description="the highest rate")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.9, description="of SGD, in Nesterov's form")
    schedule: Literal["constant", "cosine"] = Field("constant", description="cosine: the rate falls to 0")
    warmup: Share = Field(0.0, description="the share of the steps over which the rate rises linearly, before the rest")
    weight_decay: Annotated[float, Field(ge=0.0, le=1e38)] = Field(
        1e-4, description="of convolution and linear weights; no layer's parameters decay"
    )
    crop: Size | None = Field(None, description="training images are random crops of this size")
    flip: bool = Field(False, description="training images are mirrored with probability 1/2")
    seeds: SmallCount = Field(
        1, description="trainings on each proxy, of which the accuracy is the mean; gates ask the first"
    )


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


class Execution(Frozen):
    """How the training runs. Part of the protocol, since it changes bits."""

    compile_from_steps: Count | Literal["never"] = Field(
        "never",
        description="compile the layer to train so many steps at a stretch: from one gate to the next, or the end",
    )
    channels_last: bool = Field(False, description="keep images and weights with the channels last in memory")
    dtype: DType = Field("float32", description="bfloat16: convolutions under autocast; statistics stay float32")
    cuda_graphs: bool = Field(
        False,
        exclude_if=lambda asked: not asked,  # dumps of runs from before it stay as they were
        description="capture a training step once and replay it; needs a GPU",
    )


def _is_empty(values: Any) -> bool:
    return not values


class Protocol(Frozen):
    """Everything but the layer and the seed."""

    data: Data
    recipe: Recipe
    proxies: Proxies
    gates: tuple[AnyGate, ...]
    execution: Execution
    plugins: Plugins = Field(default_factory=dict, exclude_if=_is_empty)
    primitives: tuple[OwnPrimitive, ...] = Field((), max_length=100, exclude_if=_is_empty)

    def __reduce__(self) -> tuple[Callable[[str], "Protocol"], tuple[str]]:
        """As JSON: whoever unpickles it may not have run the modules of its gates yet."""
        return Protocol.model_validate_json, (self.model_dump_json(),)

    def loaded(self) -> "Protocol":
        """This protocol, its modules run. Raises InputError where their source is another than the run's."""
        if not self.plugins:
            return self
        check(self.plugins)
        return _loaded(self.model_dump_json())

    def ungated(self, **recipe: int) -> "Protocol":
        """This protocol without gates: a layer is trained whatever they say. `recipe` replaces fields of the recipe."""
        return self.with_recipe(**recipe).model_copy(update={"gates": ()})

    def with_recipe(self, **recipe: int) -> "Protocol":
        """This protocol with other fields of the recipe."""
        return self.model_copy(update={"recipe": self.recipe.model_copy(update=recipe)})


@lru_cache(maxsize=8)
def _loaded(protocol: str) -> Protocol:
    return Protocol.model_validate_json(protocol, context={LOADS: True})


class BaselinePoint(Frozen):
    """BN-ReLU's validation accuracy on a proxy after so many steps."""

    proxy: str
    step: int
    accuracy: float


class Threshold(Frozen):
    """The threshold of a ranked gate after so many steps, derived from earlier candidates' measurements."""

    gate: str
    steps: int
    value: float


class Job(Frozen):
    """A worker's input. The outcome is a function of it alone.

    A gate that compares with BN-ReLU or with earlier candidates only measures where `baseline` or `thresholds` have no
    entry for it. `evonas validate` alone sends jobs that are judged on the test images.
    """

    graph: str
    protocol: Protocol
    seed: int
    judged_on: JudgedOn = "validation"
    baseline: tuple[BaselinePoint, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
