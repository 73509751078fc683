"""Images of a user's own: what a function gives for a part of a data set, checked."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from evonas.search_space.errors import InputError
from evonas.search_space.wording import counted
from evonas.workers.calls import called
from evonas.workers.plugins import load
from evonas.workers.protocol import Data

Part = Literal["train", "validation", "test"]
Values = UInt8[np.ndarray, "n c h w"] | Float32[np.ndarray, "n c h w"]


@dataclass(frozen=True, slots=True)
class OwnPart:
    """A part of a data set."""

    images: Values
    labels: Int64[np.ndarray, " n"]

    @property
    def digest(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.images).data).hexdigest()


def own_part(data: Data, part: Part) -> OwnPart | None:
    """The images and labels of a part; None where the function has none. Raises InputError for anything else."""
    return _part(load(data.source), data, part)


@lru_cache(maxsize=2)
def _part(function: Any, data: Data, part: Part) -> OwnPart | None:
    given = called(data.source, function, part, **data.options)
    where = f"data.source: {data.source}: '{part}'"
    if given is None and part != "train":
        return None
    if not isinstance(given, tuple | list) or len(given) != 2:
        wanted = "images and labels" + ("" if part == "train" else ", or None")
        raise InputError(f"{where}: expected {wanted}, got {_kind(given)}")
    images, labels = (np.asarray(each.detach().cpu() if isinstance(each, Tensor) else each) for each in given)
    if images.ndim != 4 or not images.size or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        raise InputError(f"{where}: expected images (n, c, h, w) in uint8 or floating point, got {_kind(images)}")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(f"{where}: expected {counted(len(images), 'label')}, integers from 0 on, got {_kind(labels)}")
    if images.dtype != np.uint8:
        images = images.astype(np.float32, copy=False)
        if not np.isfinite(images).all():
            raise InputError(f"{where}: {(~np.isfinite(images)).sum()} of its values are not finite")
    return OwnPart(images, labels.astype(np.int64, copy=False))


def forget() -> None:
    """Drop the parts that were asked for last, which are kept for whoever asks next."""
    _part.cache_clear()


def check_alike(data: Data, part: Part, other: OwnPart, train: OwnPart) -> None:
    """Raises InputError unless a part has the shape, the type and the classes of the training images."""
    classes = int(train.labels.max()) + 1
    if classes < 2:
        raise InputError(f"data.source: {data.source}: expected at least 2 classes, found 1")
    if other.images.shape[1:] != train.images.shape[1:] or other.images.dtype != train.images.dtype:
        got, wanted = _kind(other.images), _kind(train.images)
        raise InputError(f"data.source: {data.source}: '{part}': {got}, but the training images are {wanted}")
    if other.labels.max() >= classes:
        most = f"those of the training images end at {classes - 1}"
        raise InputError(f"data.source: {data.source}: '{part}': label {other.labels.max()}, but {most}")


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__ + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
