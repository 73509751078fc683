"""The protocol: all that decides an outcome, besides the layer and the seed. Frozen, validated, JSON both ways."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Device = Literal["auto", "cpu", "cuda"]
DType = Literal["float32", "bfloat16"]
JudgedOn = Literal["validation", "test"]  # whose images give the accuracies


class Frozen(BaseModel):
    """Immutable, strict about types, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(Frozen):
    """Images and their fixed split. `embedded` is the 10,000-image part of Fashion-MNIST that evonas ships."""

    source: Literal["embedded", "folder", "CIFAR10", "CIFAR100", "SVHN", "FashionMNIST"] = "embedded"
    path: str | None = Field(None, description="an image folder, or where torchvision keeps its data sets")
    train: Count = 8000
    validation: Count = 1000
    test: Annotated[int, Field(ge=0)] = 1000
    image_size: Annotated[int, Field(ge=4)] | None = Field(None, description="images are resized to this square, once")
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _folder_has_a_path(self) -> "Data":
        if self.source == "folder" and self.path is None:
            raise ValueError("path: missing; an image folder needs one")
        if self.source == "embedded" and self.path is not None:
            raise ValueError(f"path: '{self.path}' is never read; only the sources other than embedded have one")
        return self


class Recipe(Frozen):
    """SGD with Nesterov momentum; weight decay on convolution and linear weights only (in the paper: unknown)."""

    batch_size: Count = 128
    steps: Count = 200
    learning_rate: Positive = 0.1
    momentum: Share = 0.9
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Share = Field(0.0, description="the share of the steps over which the rate rises linearly, before the rest")
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    crop: Annotated[int, Field(ge=4)] | None = Field(None, description="training images are random crops of this size")
    flip: bool = Field(False, description="training images are mirrored with probability 1/2")
    seeds: Count = Field(
        1, description="trainings on each proxy, of which the accuracy is the mean; gates ask the first"
    )


Groups = Annotated[int, Field(ge=2, description="of ghw; lowered at each site until it divides the channels")]


class PreactResNet(Frozen):
    """Pre-activation ResNet (arXiv:1603.05027), 3x3 stem of stride 1; stages after the first halve the image."""

    architecture: Literal["preact_resnet"]
    width: Count = Field(8, description="channels of the first stage; each later stage doubles them")
    blocks: tuple[Count, ...] = Field((1, 1, 1), min_length=1, description="blocks of each stage")
    bottleneck: bool = Field(False, description="1x1-3x3-1x1 blocks of four times the width, as in ResNet-50")
    groups: Groups = 4


class Stage(Frozen):
    """One row of an inverted-bottleneck network: `blocks` blocks, of which the first has the stride."""

    expand: Count
    channels: Count
    blocks: Count
    stride: Literal[1, 2]
    kernel: Literal[3, 5] = 3


def _some_stage(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if not stages:
        raise ValueError("expected at least one stage, or null for the paper's table")
    return stages


Stages = Annotated[tuple[Stage, ...], AfterValidator(_some_stage)]


class MobileNetV2(Frozen):
    """MobileNetV2 (arXiv:1801.04381); `stages: null` is the paper's table with its first two strides 2 set to 1."""

    architecture: Literal["mobilenet_v2"]
    width: Positive = Field(1.0, description="multiplies all channels, rounded to multiples of 8")
    stages: Stages | None = None
    groups: Groups = 4


class EfficientNet(Frozen):
    """EfficientNet (arXiv:1905.11946) with squeeze and excitation; `stages: null` is B0, two strides 2 set to 1."""

    architecture: Literal["efficientnet"]
    width: Positive = Field(1.0, description="multiplies all channels, rounded to multiples of 8")
    stages: Stages | None = None
    groups: Groups = 4


Proxy = Annotated[PreactResNet | MobileNetV2 | EfficientNet, Field(discriminator="architecture")]


class DependsOnX(Frozen):
    """The output changes when x does; seen without training."""

    gate: Literal["depends_on_x"] = "depends_on_x"


class Finite(Frozen):
    """Output and gradient of the layer alone are finite on input of several scales, and at one position a channel; seen
    without training."""

    gate: Literal["finite"] = "finite"


class Signal(Frozen):
    """At its initial weights every proxy tells images apart: the logits' standard deviation over a batch."""

    gate: Literal["signal"] = "signal"
    logits_std_min: Positive = 1e-3  # ours: known layers that train have at least 5e-3
    batch: Annotated[int, Field(ge=2)] = 32  # training images


class Gradient(Frozen):
    """At its initial weights the gradient of the loss is of a size that training can use, on every proxy: the norm over
    the convolutions' weights."""

    gate: Literal["gradient"] = "gradient"
    norm_min: Positive = 1e-3  # ours: layers that train have 5e-3 to 3
    norm_max: Positive = 1e4  # sqrt(sqrt(x)) trains, with 1e3
    batch: Count = 32  # training images

    @model_validator(mode="after")
    def _some_range(self) -> "Gradient":
        if self.norm_min >= self.norm_max:
            raise ValueError(f"norm_min: {self.norm_min:g} is not below norm_max, {self.norm_max:g}")
        return self


class Fit(Frozen):
    """Every proxy learns one batch: trained again and again on the same few images, at the recipe's full rate, its loss
    falls to a share of that of guessing, ln(classes). What is measured is the first loss that does, or the least."""

    gate: Literal["fit"] = "fit"
    steps: Count = 10
    max_share: Positive = 0.9  # ours: which batch it is matters much, so a config sets it over several split seeds
    batch: Count = 32  # training images


class Loss(Frozen):
    """The training loss after a few steps, on every proxy: its mean over the last ten of them, as a share of the loss
    of guessing, ln(classes)."""

    gate: Literal["loss"] = "loss"
    steps: Count = 40
    max_share: Positive = 1.0  # ours: slow starters such as GN-ReLU have 0.99 at step 40 of a rate of 0.1


class Quality(Frozen):
    """Validation accuracy after a few steps, on every proxy: of BN-ReLU's, or absolute (the paper: 20 %)."""

    gate: Literal["quality"] = "quality"
    steps: Count = 100
    of_baseline: Share | None = None
    min_accuracy: Share | None = None

    @model_validator(mode="after")
    def _one_threshold(self) -> "Quality":
        if (self.of_baseline is None) == (self.min_accuracy is None):
            raise ValueError("expected one of of_baseline and min_accuracy")
        return self


class Stability(Frozen):
    """The largest gradient norm on the way up the gradient of the gradient norm, on every proxy."""

    gate: Literal["stability"] = "stability"
    steps: Count = 100  # arXiv:2004.02967 (remembered)
    gradient_norm_max: Positive = 1e8  # arXiv:2004.02967 (remembered)
    step_size: Positive = 0.1  # of the weights' norm; ours, the paper's is unknown
    batch: Count = 32  # training images; ours, the paper's is unknown


class Rung(Frozen):
    """The validation accuracy at a step, mean over proxies, is in the best `keep` of the earlier candidates' there:
    asynchronous successive halving with stopping (arXiv:1810.05934). The driver puts the threshold into the job."""

    gate: Literal["rung"] = "rung"
    steps: Count
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    after: Count = Field(10, description="candidates that reach the rung before it stops any")


Gate = Annotated[
    DependsOnX | Finite | Signal | Gradient | Fit | Loss | Quality | Stability | Rung, Field(discriminator="gate")
]
SCREENING = (DependsOnX, Finite)  # the gates that the driver asks before any worker


class Execution(Frozen):
    """How the training runs. It changes bits, so it is part of the protocol."""

    compile_from_steps: Count | Literal["never"] = Field(
        "never",
        description="compile the layer to train so many steps at a stretch: from one gate to the next, or the end",
    )
    channels_last: bool = False
    dtype: DType = "float32"


class Protocol(Frozen):
    """Everything but the layer and the seed."""

    data: Data
    recipe: Recipe
    proxies: dict[str, Proxy]
    gates: tuple[Gate, ...]
    execution: Execution

    @field_validator("proxies")
    @classmethod
    def _some_proxy(cls, proxies: dict[str, Proxy]) -> dict[str, Proxy]:
        if not proxies:
            raise ValueError("expected at least one proxy")
        if "" in proxies:
            raise ValueError("a proxy's name is empty")
        return proxies


class BaselinePoint(Frozen):
    """BN-ReLU's validation accuracy on a proxy after so many steps: what `of_baseline` refers to."""

    proxy: str
    step: int
    accuracy: float


class RungThreshold(Frozen):
    """The mean accuracy below which a candidate is stopped after so many steps."""

    steps: int
    accuracy: float


class Job(Frozen):
    """What a worker gets: an outcome is a function of this alone. Without `baseline`, `of_baseline` only measures; so
    does a rung without its threshold. Only `evonas validate` sends jobs that open the test images."""

    graph: str
    protocol: Protocol
    seed: int
    judged_on: JudgedOn = "validation"
    baseline: tuple[BaselinePoint, ...] = ()
    rungs: tuple[RungThreshold, ...] = ()
