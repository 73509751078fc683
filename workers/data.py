"""Images on a device, and their fixed split. The test images stay sealed until a job's `judged_on` opens them."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from evonas.search_space.errors import InputError, first_line
from evonas.workers import own_data, plugins
from evonas.workers.protocol import Corpus, Data, JudgedOn, Protocol
from evonas.workers.sources import (
    Indices,
    Source,
    embedded,
    folder_of,
    image_folder,
    own_set,
    torchvision_set,
)
from evonas.workers.task import BYTES, Images, Split, Task
from evonas.workers.text import has_test_bytes_of, load_text, text_digest

Resized = UInt8[Tensor, "n c _ _"] | Float32[Tensor, "n c _ _"]


def load_tasks(protocol: Protocol, device: str = "cpu", judged_on: JudgedOn = "validation") -> dict[str, Task]:
    """The task of each proxy. Raises as `load` does."""

    def task(of: Data | Corpus) -> Task:
        return load_text(of, device, judged_on) if isinstance(of, Corpus) else load(of, device, judged_on)

    return {proxy: task(protocol.data_of(proxy)) for proxy in protocol.proxies}


def first_tasks(protocol: Protocol, count: int) -> dict[str, Task]:
    """The task of each proxy, for a trial: of images so many alone. Raises as `load` does."""

    def task(of: Data | Corpus) -> Task:
        return load_text(of) if isinstance(of, Corpus) else first_images(of, count)

    tasks = {each: task(each) for each in protocol.used_data}
    return {proxy: tasks[protocol.data_of(proxy)] for proxy in protocol.proxies}


def load(data: Data, device: str = "cpu", judged_on: JudgedOn = "validation") -> Images:
    """Read, split and resize, once a process. Raises InputError where the data are absent, damaged or too few; memory
    that runs out, or a GPU that fails, raises as it does elsewhere."""
    own = plugins.load(data.source) if data.is_own else None  # another one after its module changed
    return _load(
        data, device, judged_on, own
    )  # one key for one meaning: a cache tells a default from the same one given


def count_classes(data: Data | Corpus) -> int:
    """The number of classes, without reading an image. Raises InputError where the data are absent or damaged."""
    if isinstance(data, Corpus):
        return BYTES
    with _readable():
        return open_source(data).classes


def first_images(data: Data, count: int) -> Images:
    """So many training images, which train and judge. Raises as `load` does."""
    with _readable():
        source = open_source(data)
        few = _decoded(data, source, split(data, source)[0][:count])
    return _images(few, few, source.classes)


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what a library raises into an InputError of one line."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders, archives and downloads raise what cannot be listed
        raise InputError(f"data: cannot be read ({type(error).__name__}: {first_line(error)})") from error


@lru_cache(maxsize=1)
def _load(data: Data, device: str, judged_on: JudgedOn, own: Any) -> Images:
    with _readable():
        source = open_source(data)
        indices, others = split(data, source)
        train, validation = _decoded(data, source, indices), (source.validation or source, others)
        judging = _decoded(data, *(validation if judged_on == "validation" else _test(data, source)))
    if data.is_own:
        own_data.forget()
    return _images(train.to(device), judging.to(device), source.classes)


def _images(train: Split, judging: Split, classes: int) -> Images:
    values = train.images.float()
    mean, std = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True)
    is_own = train.images.dtype != torch.uint8  # in units of its own, perhaps tiny ones
    return Images(train, judging, classes, mean, torch.where(std > 0, std, 1.0) if is_own else std.clamp_min(1e-3))


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
    part of its own, the last `test` images of the permutation are set aside. Those of a validation part of its own are
    the first of another permutation."""
    parts = [data.train, *([] if source.validation else [data.validation])]
    wanted = [*parts, *([] if source.has_test_part else [data.test])]
    if sum(wanted) > len(source.labels):
        raise InputError(
            f"data: {' + '.join(map(str, wanted))} images wanted for the split, {len(source.labels)} found"
        )
    order = _order(data, source)
    if source.validation is None:
        return order[: data.train], order[data.train : data.train + data.validation]
    if data.validation > len(source.validation.labels):
        raise InputError(f"data.validation: {data.validation} images wanted, {len(source.validation.labels)} found")
    return order[: data.train], _order(data, source.validation)[: data.validation]


def _order(data: Data, source: Source) -> Indices:
    return np.random.RandomState(data.split_seed).permutation(len(source.labels))  # a stream that numpy keeps for good


def has_test_part_of(judged: Data | Corpus, searched: Data | Corpus) -> bool:
    """Whether some of what `judged` tests with is among what trains or validates in `searched`; False for an image
    folder that is not there."""
    if isinstance(judged, Corpus) or isinstance(searched, Corpus):
        if not isinstance(judged, Corpus) or not isinstance(searched, Corpus):
            return False
        return has_test_bytes_of(judged, searched)
    if (judged.source, searched.source) == ("FashionMNIST", "embedded"):
        return True  # the shipped images are its test part
    if judged.source != searched.source or not (judged.source in ("embedded", "folder") or judged.is_own):
        return False
    if judged.options != searched.options:
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


def split_digest(data: Data | Corpus) -> str:
    """Identifies which images are trained with and which validate: 16 hexadecimal digits of the labels, the names of
    the files and the split's indices; of a text those of its bytes. Raises InputError where the data are absent or too
    few."""
    if isinstance(data, Corpus):
        return text_digest(data)
    with _readable():
        source = open_source(data)
    digest = hashlib.sha256("\n".join(source.names).encode("utf-8", "surrogateescape"))
    validation = source.validation or source
    for part in (source.labels, *split(data, source), *([validation.labels] if validation is not source else [])):
        digest.update(np.array([len(part), *part], np.int64).tobytes())
    return digest.hexdigest()[:16]


def digest_of(several: Iterable[Data | Corpus]) -> str:
    """The digests of the splits of a protocol's data."""
    return " ".join(map(split_digest, several))


def open_source(data: Data, *, test: bool = False) -> Source:
    """Find the data set, or its own test part. Raises InputError where it is absent and cannot be
    downloaded."""
    match data.source:
        case "embedded":
            images, labels = embedded()
            return Source(labels, 10, 1, False, lambda indices: images[indices, :, :, None])
        case "folder":
            return image_folder(folder_of(data), data.image_size, test)
        case _ if data.is_own:
            return own_set(data, "test" if test else "train")
        case name:
            return torchvision_set(name, folder_of(data), test)


def _resize(images: Resized, size: int | None) -> Resized:
    if size is None or images.shape[-2:] == (size, size):
        return images
    resized = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    if images.dtype != torch.uint8:
        return resized
    return resized.round().clamp(0, 255).to(torch.uint8)
