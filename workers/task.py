"""The task of a proxy: its data on a device, its batches, its loss, and how a validation is scored."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from evonas.search_space.errors import InputError
from evonas.workers.protocol import Recipe

Batch = UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]
Examples = tuple[Tensor, Tensor]  # inputs as they are kept, and targets
VALIDATED = 500  # images at once
POSITIONS = 16384  # of text at once
BYTES = 256


class Part(Protocol):
    """Examples in a fixed order."""

    def __len__(self) -> int: ...

    def __getitem__(self, examples: slice) -> Examples: ...


class Task(ABC):
    """The training examples of a data set and those that judge, and what a network is to make of them.

    Which weights decay and which the stability gate climbs, its network decides: see `step.optimizer_of` and
    `gradients.climbed_weights`.
    """

    classes: int  # a prediction is a probability of each
    train: Part
    validation: Part  # or the test part, where a job is judged on it

    @property
    def guessing(self) -> float:
        """The loss of guessing, ln(classes)."""
        return math.log(self.classes)

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    @abstractmethod
    def features(self) -> int:
        """The size of an input that an architecture depends on: the channels of images, the context of text."""

    @property
    @abstractmethod
    def at_once(self) -> int:
        """The number of examples of a validation that are judged at once."""

    @abstractmethod
    def batches(self, recipe: Recipe, generator: torch.Generator) -> Iterator[Examples]:
        """Endless training batches, the same on every device. Raises InputError for a recipe that does not fit."""

    @abstractmethod
    def input(self, kept: Tensor) -> Tensor:
        """The input of a network, made of inputs as they are kept."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy, in nats."""

    @abstractmethod
    def credit(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The score of a network on some examples, additive over examples; `scored` takes the sum over a part."""

    @abstractmethod
    def scored(self, credit: float) -> float:
        """The fitness of a credit over the part that judges, in [0, 1]; higher is better."""


# --------------------------------------------------------------------------- images -> a class


@dataclass(frozen=True, slots=True)
class Split:
    """Images with their labels."""

    images: Batch
    labels: Int64[Tensor, " n"]

    def to(self, device: str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, examples: slice) -> Examples:
        return self.images[examples], self.labels[examples]


@dataclass(frozen=True, slots=True)
class Images(Task):
    """The class of an image; fitness is the accuracy. With the training images' moments per channel."""

    train: Split
    validation: Split
    classes: int
    mean: Float32[Tensor, "1 c 1 1"]
    std: Float32[Tensor, "1 c 1 1"]

    @property
    def device(self) -> torch.device:
        return self.train.images.device

    @property
    def features(self) -> int:
        return self.train.images.shape[1]

    @property
    def at_once(self) -> int:
        return VALIDATED

    def normalise(self, images: Batch) -> Float32[Tensor, "n c h w"]:
        """Each channel of the training images to mean 0 and standard deviation 1."""
        return (images.float() - self.mean) / self.std

    def input(self, kept: Batch) -> Float32[Tensor, "n c h w"]:
        return self.normalise(kept)

    def loss(self, logits: Float[Tensor, "n classes"], targets: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        return F.cross_entropy(logits, targets)

    def credit(self, logits: Float[Tensor, "n classes"], targets: Int64[Tensor, " n"]) -> Int64[Tensor, ""]:
        """The number of images whose class has the largest logit."""
        return (logits.argmax(1) == targets).sum()

    def scored(self, credit: float) -> float:
        return int(credit) / len(self.validation)

    def batches(self, recipe: Recipe, generator: torch.Generator) -> Iterator[Examples]:
        smallest = min(self.train.images.shape[-2:])
        if recipe.crop and recipe.crop > smallest:
            raise InputError(f"recipe.crop: {recipe.crop} is larger than the images, {smallest}")
        return _batches(self.train, recipe, generator)


def _batches(split: Split, recipe: Recipe, generator: torch.Generator) -> Iterator[Examples]:
    """An epoch's order, crops and mirrorings are drawn at once and lie on the device. An incomplete last batch is
    dropped."""
    device = split.images.device
    count, (height, width) = len(split), split.images.shape[-2:]
    size = min(recipe.batch_size, count)
    while True:
        order = torch.randperm(count, generator=generator).to(device)
        rows = columns = mirrored = None
        if recipe.crop:
            rows = torch.randint(height - recipe.crop + 1, (count, 1), generator=generator).to(device)
            columns = torch.randint(width - recipe.crop + 1, (count, 1), generator=generator).to(device)
        if recipe.flip:
            mirrored = (torch.rand(count, generator=generator) < 0.5).to(device)
        for start in range(0, count - size + 1, size):
            part = slice(start, start + size)
            indices = order[part]
            batch = split.images[indices]
            if recipe.crop and rows is not None and columns is not None:
                batch = crop(batch, rows[part], columns[part], recipe.crop)
            if mirrored is not None:
                batch = torch.where(mirrored[part, None, None, None], batch.flip(3), batch)
            yield batch, split.labels[indices]


def crop(
    images: Batch, rows: Int64[Tensor, "n 1"], columns: Int64[Tensor, "n 1"], size: int
) -> UInt8[Tensor, "n c {size} {size}"] | Float32[Tensor, "n c {size} {size}"]:
    """A square of each image, from its own row and column on."""
    along = torch.arange(size, device=images.device)
    numbers = torch.arange(len(images), device=images.device)[:, None, None]
    pixels = images.permute(0, 2, 3, 1)[numbers, (rows + along)[:, :, None], (columns + along)[:, None, :]]
    return pixels.permute(0, 3, 1, 2)


# --------------------------------------------------------------------------- text -> its next byte


@dataclass(frozen=True, slots=True)
class Windows:
    """A text as windows of `context` bytes, one after the other, each with the bytes that follow its own."""

    text: UInt8[Tensor, " bytes"]
    context: int

    def __len__(self) -> int:
        return (len(self.text) - 1) // self.context

    def __getitem__(self, examples: slice) -> Examples:
        starts = torch.arange(len(self), device=self.text.device)[examples]
        return self.at(starts * self.context)

    def at(self, starts: Int64[Tensor, " n"]) -> tuple[UInt8[Tensor, "n context"], Int64[Tensor, "n context"]]:
        """The windows that begin at some bytes."""
        places = starts[:, None] + torch.arange(self.context + 1, device=starts.device)
        bytes_ = self.text[places]
        return bytes_[:, :-1], bytes_[:, 1:].long()


@dataclass(frozen=True, slots=True)
class Bytes(Task):
    """The next byte of a text; fitness is the geometric mean of the probabilities of the right bytes: 2^-b of b bits
    per byte."""

    train: Windows
    validation: Windows
    classes: int = BYTES

    @property
    def device(self) -> torch.device:
        return self.train.text.device

    @property
    def features(self) -> int:
        return self.train.context

    @property
    def at_once(self) -> int:
        return max(1, POSITIONS // self.train.context)

    def input(self, kept: UInt8[Tensor, "n context"]) -> Int64[Tensor, "n context"]:
        return kept.long()

    def loss(
        self, logits: Float[Tensor, "n context classes"], targets: Int64[Tensor, "n context"]
    ) -> Float[Tensor, ""]:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def credit(
        self, logits: Float[Tensor, "n context classes"], targets: Int64[Tensor, "n context"]
    ) -> Float[Tensor, ""]:
        """The logarithm of the right bytes' probability."""
        losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        return -losses.double().sum()

    def scored(self, credit: float) -> float:
        return math.exp(credit / (len(self.validation) * self.validation.context))

    def batches(self, recipe: Recipe, generator: torch.Generator) -> Iterator[Examples]:
        """Each epoch shows the text once, from a drawn byte on, its windows in a drawn order. An incomplete last batch
        is dropped."""
        part, size = self.train, min(recipe.batch_size, len(self.train) - 1)
        while True:
            first = int(torch.randint(part.context, (1,), generator=generator))
            order = torch.randperm(len(part) - 1, generator=generator).to(self.device)
            for start in range(0, len(order) - size + 1, size):
                yield part.at(first + part.context * order[start : start + size])
