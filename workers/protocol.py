"""The protocol: everything but the layer and the seed that decides an outcome. Frozen, validated, JSON both ways."""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, model_validator

from evonas.workers.calls import check_call
from evonas.workers.frozen import Count, Frozen, Given, Options, Positive, Share, SmallCount, Text
from evonas.workers.gates import AnyGate
from evonas.workers.own_primitives import OwnPrimitive
from evonas.workers.plugins import LOADS, Own, Plugins, check, is_own, kind_of, may_load
from evonas.workers.proxies import TEXT_PROXIES, Proxies

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


class Corpus(Frozen):
    """Text and its fixed split by position, for networks such as `gpt`, which learn to predict the next byte.
    `embedded` is Moby-Dick, which evonas ships."""

    source: Literal["embedded", "folder"] = Field("embedded", description="embedded, or the files *.txt of a folder")
    path: Text | None = Field(None, description="the folder; its files are read in the order of their names")
    train: Count = Field(1_000_000, description="bytes to train with: the first")
    validation: Count = Field(40_000, description="bytes that fitness is measured on: those after them")
    test: Annotated[int, Field(ge=0, le=10**9)] = Field(
        100_000, description="bytes set aside, the last, which `evonas validate` alone opens"
    )
    context: Annotated[int, Field(ge=2, le=65536)] = Field(64, description="bytes of an example")

    @model_validator(mode="after")
    def _fits(self) -> "Corpus":
        if (self.source == "folder") != (self.path is not None):
            raise ValueError(
                "path: missing; a folder of text files needs one"
                if self.path is None
                else f"path: '{self.path}' is never read; only the source folder has one"
            )
        for part, least in (("train", 3), ("validation", 1), *([("test", 1)] if self.test else [])):
            needed, got = least * self.context + 1, getattr(self, part)
            if got < needed:
                raise ValueError(
                    f"{part}: expected at least {needed} bytes with a context of {self.context}, got {got}"
                )
        return self


class Recipe(Frozen):
    """SGD with Nesterov momentum, or AdamW; weight decay on convolution and linear weights only (in the paper:
    unknown)."""

    batch_size: Count = Field(128, description="images or texts of a step; all that train where those are fewer")
    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd",
        exclude_if=lambda optimizer: optimizer == "sgd",  # as below: dumps of runs from before stay as they were
        description="sgd, or adamw (arXiv:1711.05101), whose weight decay is not part of the gradient",
    )
    steps: Count = Field(200, description="the full budget of a candidate on each proxy")
    learning_rate: Positive = Field(0.1, description="the highest rate")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.9, description="of SGD, in Nesterov's form; of AdamW beta1"
    )
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.95, exclude_if=lambda beta2: beta2 == 0.95, description="of AdamW; GPT-3's (arXiv:2005.14165; remembered)"
    )
    clip: Positive | None = Field(
        None, exclude_if=lambda clip: clip is None, description="largest norm of a step's gradient; null: any"
    )
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


def is_default_text(text: Corpus) -> bool:
    return text == Corpus()


class Protocol(Frozen):
    """Everything but the layer and the seed."""

    data: Data
    recipe: Recipe
    proxies: Proxies
    gates: tuple[AnyGate, ...]
    execution: Execution
    plugins: Plugins = Field(default_factory=dict, exclude_if=_is_empty)
    primitives: tuple[OwnPrimitive, ...] = Field((), max_length=100, exclude_if=_is_empty)
    text: Corpus = Field(default_factory=Corpus, exclude_if=is_default_text)

    def data_of(self, proxy: str) -> Data | Corpus:
        """The data that a proxy is trained with."""
        return self.text if isinstance(self.proxies[proxy], TEXT_PROXIES) else self.data

    @property
    def used_data(self) -> tuple[Data | Corpus, ...]:
        """The data of its proxies, each once."""
        return tuple(dict.fromkeys(map(self.data_of, self.proxies)))

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
