"""Images on a device, and their fixed split. The test images stay sealed until a job's `judged_on` opens them."""

import gzip
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from evonas.search_space.errors import InputError
from evonas.workers.protocol import Data, JudgedOn

Indices = Int64[np.ndarray, " n"]
Pixels = UInt8[np.ndarray, "n h w c"]


@dataclass(frozen=True, slots=True)
class Split:
    """Images with their labels."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]

    def to(self, device: str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True)
class Images:
    """The training images of a data set, those that judge, and the training images' moments per channel."""

    train: Split
    validation: Split  # or the test images, where a job is judged on these
    classes: int
    mean: Float32[Tensor, "1 c 1 1"]
    std: Float32[Tensor, "1 c 1 1"]

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    def normalise(self, images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Each channel of the training images to mean 0 and standard deviation 1."""
        return (images.float() - self.mean) / self.std


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


def load(data: Data, device: str = "cpu", judged_on: JudgedOn = "validation") -> Images:
    """Read, split and resize, once a process. Raises InputError where the data are absent, damaged or too few; memory
    that runs out, or a GPU that fails, raises as it does elsewhere."""
    return _load(data, device, judged_on)  # one key for one meaning: a cache tells a default from the same one given


def count_classes(data: Data) -> int:
    """The number of classes, without reading an image. Raises InputError where the data are absent or damaged."""
    with _readable():
        return open_source(data).classes


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what a library raises into an InputError of one line."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders, archives and downloads raise what cannot be listed
        raise InputError(f"data: cannot be read ({type(error).__name__}: {_first_line(error)})") from error


@lru_cache(maxsize=1)
def _load(data: Data, device: str, judged_on: JudgedOn) -> Images:
    with _readable():
        source = open_source(data)
        indices, validation = split(data, source)
        train = _decoded(data, source, indices)
        judging = _decoded(data, *((source, validation) if judged_on == "validation" else _test(data, source)))
    train, judging = train.to(device), judging.to(device)
    values = train.images.float()
    mean, std = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True)
    return Images(train, judging, source.classes, mean, std.clamp_min(1e-3))


def _decoded(data: Data, source: Source, indices: Indices) -> Split:
    images = torch.from_numpy(source.read(indices)).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(source.labels[indices]).long()
    return Split(_resize(images, data.image_size), labels)


def _test(data: Data, source: Source) -> tuple[Source, Indices]:
    """The source and the indices of the test images: the source's own test part, or what the split set aside."""
    if not source.has_test_part:
        if not data.test:
            raise InputError("data.test: 0; no test images were set aside")
        return source, _order(data, source)[-data.test :]
    sealed = open_source(data, test=True)
    if sealed.names_of_classes != source.names_of_classes:
        raise InputError("data: the classes of the test images are not those of the training images")
    return sealed, np.arange(len(sealed.labels))


def split(data: Data, source: Source) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " validation"]]:
    """Indices of the training and validation images: a permutation fixed by `split_seed`. Where the source has no test
    part of its own, the last `test` images of the permutation are set aside."""
    total = data.train + data.validation + (0 if source.has_test_part else data.test)
    if total > len(source.labels):
        parts = f"{data.train} + {data.validation}" + ("" if source.has_test_part else f" + {data.test}")
        raise InputError(f"data: {parts} images wanted for the split, {len(source.labels)} found")
    order = _order(data, source)
    return order[: data.train], order[data.train : data.train + data.validation]


def _order(data: Data, source: Source) -> Indices:
    return np.random.RandomState(data.split_seed).permutation(len(source.labels))  # a stream that numpy keeps for good


def has_test_images_of(judged: Data, searched: Data) -> bool:
    """Whether test images of `judged` are among the images that train or validate in `searched`; False for an image
    folder that is not there."""
    if (judged.source, searched.source) == ("FashionMNIST", "embedded"):
        return True  # the shipped images are its test part
    if judged.source != searched.source or judged.source not in ("embedded", "folder"):
        return False
    if judged.source == "folder":
        folder = folder_of(judged)
        if not folder.is_dir() or folder.resolve() != folder_of(searched).resolve():
            return False
    with _readable():
        source = open_source(judged)
    if source.has_test_part or not judged.test:
        return False
    used = _order(searched, source)[: searched.train + searched.validation]
    return bool(np.isin(_order(judged, source)[-judged.test :], used).any())


NATIVE_SIZES = {"embedded": 28, "FashionMNIST": 28, "CIFAR10": 32, "CIFAR100": 32, "SVHN": 32}  # of square images
TORCHVISION_FOLDER = "data"  # where its data sets are kept unless the config says otherwise


def split_digest(data: Data) -> str:
    """Identifies which images are trained with and which validate: 16 hexadecimal digits of the labels, the names of
    the files and the split's indices. Raises InputError where the data are absent or too few."""
    with _readable():
        source = open_source(data)
    digest = hashlib.sha256("\n".join(source.names).encode("utf-8", "surrogateescape"))
    for part in (source.labels, *split(data, source)):
        digest.update(np.array([len(part), *part], np.int64).tobytes())
    return digest.hexdigest()[:16]


def open_source(data: Data, *, test: bool = False) -> Source:
    """Find the data set, or its own test part. Raises InputError where it is absent and cannot be
    downloaded."""
    match data.source:
        case "embedded":
            images, labels = _embedded()
            return Source(labels, 10, 1, False, lambda indices: images[indices, :, :, None])
        case "folder":
            return _folder(folder_of(data), data.image_size, test)
        case name:
            return _torchvision(name, folder_of(data), test)


def folder_of(data: Data) -> Path:
    """The folder of images, or of torchvision's data sets. Raises InputError for a `~` that is nobody's home."""
    try:
        return Path(data.path or TORCHVISION_FOLDER).expanduser()
    except RuntimeError as error:
        raise InputError(f"data.path: '{data.path}': {_first_line(error)}") from None


def _embedded() -> tuple[UInt8[np.ndarray, "n h w"], Int64[np.ndarray, " n"]]:
    folder = files("evonas.workers") / "fashion_mnist"
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8).astype(np.int64),
    )


def _folder(path: Path, image_size: int | None, test: bool) -> Source:
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
        raise InputError(f"data.path: '{path}': {str(error).splitlines()[0]}") from None
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
                raise InputError(f"data.path: '{where}' cannot be read ({_first_line(error)})") from None
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


def _torchvision(name: str, path: Path, test: bool) -> Source:
    from torchvision import datasets

    part: dict[str, Any] = {"split": "test" if test else "train"} if name == "SVHN" else {"train": not test}
    try:
        dataset = getattr(datasets, name)(str(path), download=True, **part)
    except (OSError, RuntimeError) as error:
        reason = _first_line(error)
        raise InputError(f"data.source: {name} is not in '{path}' and cannot be downloaded ({reason})") from None
    images = np.asarray(dataset.data)
    if name == "SVHN":  # "n c h w"
        images = images.transpose(0, 2, 3, 1)
    images = images[..., None] if images.ndim == 3 else images
    labels = np.asarray(dataset.labels if name == "SVHN" else dataset.targets, np.int64)
    return Source(labels, len(np.unique(labels)), images.shape[-1], True, lambda indices: images[indices])


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _resize(images: UInt8[Tensor, "n c _ _"], size: int | None) -> UInt8[Tensor, "n c _ _"]:
    if size is None or images.shape[-2:] == (size, size):
        return images
    resized = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
