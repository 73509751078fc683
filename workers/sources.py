"""Data sets before decoding: the shipped images, folders of images, those of torchvision, and a user's own."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from evonas.search_space.errors import InputError, first_line
from evonas.workers.own_data import OwnPart, Part, check_alike, own_part
from evonas.workers.protocol import Data

Indices = Int64[np.ndarray, " n"]
Pixels = UInt8[np.ndarray, "n h w c"] | Float32[np.ndarray, "n h w c"]
TORCHVISION_FOLDER = "data"  # where its data sets are kept unless the config says otherwise


@dataclass(frozen=True, slots=True)
class Source:
    """A data set before decoding: `read` gives the images of some indices."""

    labels: Int64[np.ndarray, " n"]
    classes: int
    channels: int
    has_test_part: bool
    read: Callable[[Indices], Pixels]
    names: tuple[str, ...] = ()  # file names, if each image is a file
    names_of_classes: tuple[str, ...] = ()
    validation: "Source | None" = None  # images that a source sets aside itself


def folder_of(data: Data) -> Path:
    """The folder of images, or of torchvision's data sets. Raises InputError for a `~` that is nobody's home."""
    try:
        return Path(data.path or TORCHVISION_FOLDER).expanduser()
    except RuntimeError as error:
        raise InputError(f"data.path: '{data.path}': {first_line(error)}") from None


def embedded() -> tuple[UInt8[np.ndarray, "n h w"], Int64[np.ndarray, " n"]]:
    folder = files("evonas.workers") / "fashion_mnist"
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8).astype(np.int64),
    )


def image_folder(path: Path, image_size: int | None, test: bool) -> Source:
    """<path>/train/<class>/*, where <path>/test is the sealed part, or <path>/<class>/*."""
    if not path.is_dir():
        raise InputError(f"data.path: no folder '{path}'; expected <path>/train/<class>/<image>")
    has_parts = (path / "train").is_dir()
    if not has_parts and (path / "test").is_dir():
        raise InputError(f"data.path: '{path}' has a folder test, but no folder train; the test images are never read")
    from torchvision import datasets  # seconds, which the commands that read a database do not wait for

    try:
        folder = datasets.ImageFolder(str(path / ("test" if test else "train") if has_parts else path))
    except FileNotFoundError as error:
        raise InputError(f"data.path: '{path}': {first_line(error)}") from None
    if len(folder.classes) < 2:
        raise InputError(f"data.path: '{path}': expected at least 2 folders of classes, found {len(folder.classes)}")

    shape: tuple[int, ...] | None = None  # the first image's

    def read(indices: Indices) -> Pixels:
        nonlocal shape
        arrays = []
        for index in indices:
            where = folder.samples[index][0]
            try:
                image = folder.loader(where)
            except OSError as error:
                raise InputError(f"data.path: '{where}' cannot be read ({first_line(error)})") from None
            if image_size and image.size != (image_size, image_size):
                image = image.resize((image_size, image_size), resample=4)  # 4: area average
            arrays.append(np.asarray(image, np.uint8))
            shape = shape or arrays[-1].shape
            if arrays[-1].shape != shape:
                raise InputError(f"data.image_size: missing; '{where}' has another size than the first image")
        return np.stack(arrays)

    names = tuple(str(Path(name).relative_to(folder.root)) for name, _ in folder.samples)
    labels = np.asarray(folder.targets, np.int64)
    classes = tuple(folder.classes)
    return Source(labels, len(classes), 3, (path / "test").is_dir(), read, names, classes)


def torchvision_set(name: str, path: Path, test: bool) -> Source:
    from torchvision import datasets

    part: dict[str, Any] = {"split": "test" if test else "train"} if name == "SVHN" else {"train": not test}
    try:
        dataset = getattr(datasets, name)(str(path), download=True, **part)
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
        raise InputError(f"data.source: {name} is not in '{path}' and cannot be downloaded ({reason})") from None
    images = np.asarray(dataset.data)
    if name == "SVHN":  # "n c h w"
        images = images.transpose(0, 2, 3, 1)
    images = images[..., None] if images.ndim == 3 else images
    labels = np.asarray(dataset.labels if name == "SVHN" else dataset.targets, np.int64)
    return Source(labels, len(np.unique(labels)), images.shape[-1], True, lambda indices: images[indices])


def own_set(data: Data, part: Part) -> Source:
    """The test part is asked for where it is opened alone: `data.test` of 0 says that there is one."""
    train = _known_part(data, "train")
    chosen = train if part == "train" else _known_part(data, part)
    check_alike(data, part, chosen, train)
    aside = own_part(data, "validation") if part == "train" else None
    if aside:
        check_alike(data, "validation", aside, train)
    classes = int(train.labels.max()) + 1
    validation = _of_part(aside, classes) if aside else None
    return replace(_of_part(chosen, classes), has_test_part=data.test == 0, validation=validation)


def _known_part(data: Data, part: Part) -> OwnPart:
    found = own_part(data, part)
    if found is None:
        raise InputError(f"data.source: {data.source}: '{part}': None; with data.test of 0, expected test images")
    return found


def _of_part(part: OwnPart, classes: int) -> Source:
    pixels = part.images.transpose(0, 2, 3, 1)
    return Source(part.labels, classes, pixels.shape[-1], False, lambda indices: pixels[indices], (part.digest,))
