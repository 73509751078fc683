"""Data: what is read, how it is split, and what is never read."""

import os
import urllib.error
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError

from evonas.search_space.errors import InputError
from evonas.workers import data
from evonas.workers.data import load, open_source, split, split_digest
from evonas.workers.protocol import Data

COLOURS = {"apple": (200, 30, 30), "berry": (20, 40, 220), "cherry": (90, 10, 60)}


@pytest.fixture(autouse=True)
def _nothing_cached() -> Iterator[None]:
    data._load.cache_clear()
    yield
    data._load.cache_clear()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of all images that are read."""
    seen: list[int] = []
    opened = data.open_source

    def open_and_listen(asked: Data) -> data.Source:
        source = opened(asked)

        def read(indices: np.ndarray) -> np.ndarray:
            seen.extend(int(index) for index in indices)
            return source.read(indices)

        return replace(source, read=read)

    monkeypatch.setattr(data, "open_source", open_and_listen)
    return seen


def one_line(data_: Data) -> str:
    with pytest.raises(InputError) as caught:
        load(data_)
    message = str(caught.value)
    assert "\n" not in message
    return message


def paint(folder: Path, per_class: int = 4, size: tuple[int, int] = (8, 8), classes: int = 3) -> Path:
    """Images of one colour a class, in <folder>/<class>/<number>.png."""
    for name, colour in list(COLOURS.items())[:classes]:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            Image.new("RGB", size, colour).save(folder / name / f"{number}.png")
    return folder


# --------------------------------------------------------------------------- the embedded set


def test_embedded_set_has_ten_thousand_images_of_ten_classes() -> None:
    source = open_source(Data())
    assert (len(source.labels), source.classes, source.channels) == (10_000, 10, 1)
    assert np.bincount(source.labels).tolist() == [1000] * 10  # as in the published set
    images = source.read(np.arange(10_000))
    assert images.shape == (10_000, 28, 28, 1)
    assert images.dtype == np.uint8
    assert len(np.unique(images.reshape(10_000, -1), axis=0)) > 9_990


def test_embedded_parts_have_the_sizes_asked() -> None:
    images = load(Data(train=700, validation=120, test=1000, image_size=14))
    assert images.train.images.shape == (700, 1, 14, 14)
    assert images.validation.images.shape == (120, 1, 14, 14)
    assert images.train.labels.shape == (700,)
    assert images.validation.labels.shape == (120,)
    assert images.train.images.dtype == torch.uint8
    assert (images.classes, images.channels) == (10, 1)
    assert set(images.train.labels.tolist()) == set(range(10))


def test_parts_are_disjoint_and_leave_the_test_images_out() -> None:
    whole = Data(train=8000, validation=1000, test=1000)
    train, validation = split(whole, open_source(whole))
    sealed = set(range(10_000)) - set(train) - set(validation)
    assert (len(set(train)), len(set(validation)), len(sealed)) == (8000, 1000, 1000)
    for smaller in (Data(train=500, validation=300), Data(train=1, validation=8999), Data(train=8999, validation=1)):
        parts = split(smaller, open_source(smaller))
        assert not sealed & set(np.concatenate(parts))
        assert len(set(np.concatenate(parts))) == smaller.train + smaller.validation


def test_split_is_fixed_by_split_seed() -> None:
    def parts(seed: int) -> list[list[int]]:
        asked = Data(train=5, validation=3, split_seed=seed)
        return [part.tolist() for part in split(asked, open_source(asked))]

    assert (
        parts(0) == parts(0) == [[9394, 898, 2398, 5906, 2343], [8225, 5506, 6451]]
    )  # for good: recorded runs rely on it
    assert parts(0) != parts(1)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_split_seed_that_numpy_does_not_take_is_refused(seed: int) -> None:
    with pytest.raises(ValidationError, match="split_seed"):
        Data(split_seed=seed)


def test_load_answers_the_images_of_the_split() -> None:
    asked = Data(train=20, validation=10)
    source = open_source(asked)
    images = load(asked)
    for part, indices in zip((images.train, images.validation), split(asked, source), strict=True):
        assert torch.equal(part.images, torch.from_numpy(source.read(indices)).permute(0, 3, 1, 2))
        assert part.labels.tolist() == source.labels[indices].tolist()


@pytest.mark.parametrize(
    ("train", "validation", "test", "message"),
    [
        (9000, 1000, 1, "data: 9000 + 1000 + 1 images wanted for the split, 10000 found"),
        (10_001, 1, 0, "data: 10001 + 1 + 0 images wanted for the split, 10000 found"),
    ],
)
def test_too_large_a_split_is_one_line(train: int, validation: int, test: int, message: str) -> None:
    assert one_line(Data(train=train, validation=validation, test=test)) == message


def test_a_split_may_use_every_image() -> None:
    parts = split(Data(train=9000, validation=1000, test=0), open_source(Data()))
    assert sorted(np.concatenate(parts).tolist()) == list(range(10_000))


def test_load_reads_no_test_image(reads: list[int]) -> None:
    asked = Data(train=8000, validation=1000, test=1000)
    load(asked)
    train, validation = split(asked, open_source(asked))
    assert sorted(reads) == sorted([*train.tolist(), *validation.tolist()])  # each once, and no other


def test_training_images_are_normalised_by_their_own_moments() -> None:
    images = load(Data(train=500, validation=50, image_size=8))
    values = images.normalise(images.train.images)
    assert float(values.mean()) == pytest.approx(0, abs=1e-4)
    assert float(values.std()) == pytest.approx(1, abs=1e-4)
    assert float(images.normalise(images.validation.images).mean()) != pytest.approx(0, abs=1e-4)


def test_smaller_images_are_averages_of_the_large() -> None:
    """Antialiased, not a selection of pixels."""
    large, small = load(Data(train=200, validation=10)), load(Data(train=200, validation=10, image_size=7))
    pooled = torch.nn.functional.avg_pool2d(large.train.images.float(), 4)
    selected = torch.nn.functional.avg_pool2d(large.train.images.float()[:, :, 1:-1, 1:-1], 2, stride=4)
    shown = small.train.images.float()
    assert float((pooled - shown).abs().mean()) < 0.7 * float((selected - shown).abs().mean())
    assert torch.equal(large.train.labels, small.train.labels)


# --------------------------------------------------------------------------- image folders


@pytest.mark.parametrize("inside", ["train", "."])
def test_folder_gives_each_image_its_class(tmp_path: Path, inside: str) -> None:
    paint(tmp_path / inside)
    images = load(Data(source="folder", path=str(tmp_path), train=8, validation=3, test=1))
    assert (images.classes, images.channels) == (3, 3)
    for part in (images.train, images.validation):
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            assert image.shape == (3, 8, 8)
            assert tuple(image[:, 0, 0].tolist()) == list(COLOURS.values())[label]


def test_folder_with_a_test_part_trains_on_all_of_its_train_part(tmp_path: Path) -> None:
    paint(tmp_path / "train")
    for name in COLOURS:
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "0.png").write_bytes(b"whoever reads this fails")
    images = load(Data(source="folder", path=str(tmp_path), train=9, validation=3, test=1000))
    assert len(images.train.labels) + len(images.validation.labels) == 12


def test_folder_without_a_test_part_sets_test_images_aside(tmp_path: Path, reads: list[int]) -> None:
    paint(tmp_path / "train")
    asked = {"source": "folder", "path": str(tmp_path), "train": 6, "validation": 3}
    assert one_line(Data(**asked, test=4)) == "data: 6 + 3 + 4 images wanted for the split, 12 found"
    assert not reads
    load(Data(**asked, test=3))
    assert len(set(reads)) == len(reads) == 9


def test_a_test_folder_beside_the_classes_is_not_a_class(tmp_path: Path) -> None:
    """<path>/<class> and <path>/test: either sealed or refused, never trained on."""
    paint(tmp_path)
    paint(tmp_path / "test")
    try:
        images = load(Data(source="folder", path=str(tmp_path), train=8, validation=3, test=1))
    except InputError:
        return
    assert images.classes == 3


@pytest.mark.parametrize("size", [(16, 16), (12, 10), (5, 4)])
def test_folder_images_are_resized(tmp_path: Path, size: tuple[int, int]) -> None:
    paint(tmp_path, size=size)
    images = load(Data(source="folder", path=str(tmp_path), train=8, validation=3, test=1, image_size=8))
    assert images.train.images.shape == (8, 3, 8, 8)
    for image, label in zip(images.train.images, images.train.labels.tolist(), strict=True):
        assert image.float().std((1, 2)).tolist() == [0, 0, 0]
        assert tuple(image[:, 0, 0].tolist()) == list(COLOURS.values())[label]


def test_folder_images_are_resized_by_area(tmp_path: Path) -> None:
    paint(tmp_path, size=(16, 16))
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, 1::2] = 200
    for path in tmp_path.rglob("*.png"):
        Image.fromarray(stripes).save(path)
    images = load(Data(source="folder", path=str(tmp_path), train=8, validation=3, test=1, image_size=8))
    assert set(images.train.images.flatten().tolist()) == {100}


@pytest.mark.parametrize("odd", range(4))
def test_images_of_differing_sizes_want_an_image_size(tmp_path: Path, odd: int) -> None:
    """Whichever part the odd image falls in: 3 training images and 1 validation image."""
    paint(tmp_path, per_class=2, classes=2)
    path = sorted(tmp_path.rglob("*.png"))[odd]
    Image.new("RGB", (9, 8)).save(path)
    asked = {"source": "folder", "path": str(tmp_path), "train": 3, "validation": 1, "test": 0}
    message = one_line(Data(**asked))
    assert message.startswith("data.image_size: missing; '")
    assert ".png' has another size than the first image" in message
    assert load(Data(**asked, image_size=8)).train.images.shape == (3, 3, 8, 8)


def test_folder_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    message = one_line(Data(source="folder", path=str(path)))
    assert message == f"data.path: no folder '{path}'; expected <path>/train/<class>/<image>"


def test_folder_without_classes(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    message = one_line(Data(source="folder", path=str(tmp_path)))
    assert message.startswith(f"data.path: '{tmp_path}': ")
    assert "class folder" in message


def test_folder_with_an_empty_class(tmp_path: Path) -> None:
    paint(tmp_path)
    (tmp_path / "durian").mkdir()
    message = one_line(Data(source="folder", path=str(tmp_path)))
    assert message.startswith(f"data.path: '{tmp_path}': ")
    assert "durian" in message


def test_folder_with_one_class(tmp_path: Path) -> None:
    paint(tmp_path, classes=1)
    message = one_line(Data(source="folder", path=str(tmp_path), train=2, validation=1, test=1))
    assert message == f"data.path: '{tmp_path}': expected at least 2 folders of classes, found 1"


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    paint(tmp_path)
    (tmp_path / "berry" / "2.png").write_bytes(b"no image")
    message = one_line(Data(source="folder", path=str(tmp_path), train=9, validation=3, test=0))
    assert str(tmp_path / "berry" / "2.png") in message


# --------------------------------------------------------------------------- torchvision's sets


class Downloaded:
    """What torchvision gives for CIFAR-10 and Fashion-MNIST; it remembers which part was asked for."""

    parts: tuple[bool, ...] = ()
    classes = ("a", "b", "c")

    def __init__(self, shape: tuple[int, ...], as_tensor: bool) -> None:
        values = np.arange(30 * int(np.prod(shape))).reshape(30, *shape).astype(np.uint8)
        self.data: Any = torch.from_numpy(values) if as_tensor else values
        targets = [number % 3 for number in range(30)]
        self.targets: Any = torch.tensor(targets) if as_tensor else targets


@pytest.mark.parametrize(
    ("name", "shape", "as_tensor"), [("CIFAR10", (32, 32, 3), False), ("FashionMNIST", (28, 28), True)]
)
def test_torchvision_sets_are_read_without_their_test_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: Any, shape: tuple[int, ...], as_tensor: bool
) -> None:
    asked: list[tuple[str, bool]] = []

    def dataset(root: str, train: bool, download: bool) -> Downloaded:
        asked.append((root, train))
        return Downloaded(shape, as_tensor)

    monkeypatch.setattr(torchvision.datasets, name, dataset)
    images = load(Data(source=name, path=str(tmp_path), train=20, validation=10, test=1000))
    assert asked == [(str(tmp_path), True)]
    channels = shape[2] if len(shape) == 3 else 1
    assert images.train.images.shape == (20, channels, *shape[:2])
    assert images.classes == 3
    assert sorted([*images.train.labels.tolist(), *images.validation.labels.tolist()]) == sorted([0, 1, 2] * 10)


def test_svhn_is_read_from_its_own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its images lie "h w c n" in a MATLAB file, and its digit 0 has the label 10."""
    values = np.arange(32 * 32 * 3 * 40).reshape(32, 32, 3, 40).astype(np.uint8)
    labels = np.arange(40) % 10 + 1
    scipy.io.savemat(tmp_path / "train_32x32.mat", {"X": values, "y": labels[:, None]})
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.SVHN, "download", lambda self: None)
    asked = Data(source="SVHN", path=str(tmp_path), train=30, validation=10)
    images, source = load(asked), open_source(asked)
    assert images.train.images.shape == (30, 3, 32, 32)
    assert images.classes == 10
    assert source.has_test_part
    indices, _ = split(asked, source)
    assert torch.equal(images.train.images[0], torch.from_numpy(values[:, :, :, indices[0]]).permute(2, 0, 1))
    assert images.train.labels[0] == labels[indices[0]] % 10


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        RuntimeError("Dataset not found or corrupted.\nYou can use download=True to download it"),
        ConnectionResetError(),  # errors may come without a text
    ],
)
def test_a_set_that_is_absent_and_cannot_be_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def dataset(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", dataset)
    message = one_line(Data(source="CIFAR10", path=str(tmp_path)))
    assert message.startswith(f"data.source: CIFAR10 is not in '{tmp_path}' and cannot be downloaded (")


# --------------------------------------------------------------------------- the split's digest


def test_the_digest_tells_splits_apart() -> None:
    base = Data(train=20, validation=10)
    digests = {split_digest(each) for each in (base, Data(train=21, validation=10), Data(train=20, validation=11))}
    assert len(digests) == 3
    assert split_digest(Data(train=20, validation=10, split_seed=1)) not in digests
    assert split_digest(base) in digests
    assert split_digest(Data(train=20, validation=10, image_size=14)) == split_digest(base)  # the same images


def test_the_digest_sees_another_file(tmp_path: Path) -> None:
    paint(tmp_path)
    asked = Data(source="folder", path=str(tmp_path), train=6, validation=3, test=0)
    before = split_digest(asked)
    assert split_digest(asked) == before
    (tmp_path / "apple" / "0.png").rename(tmp_path / "apple" / "0a.png")
    assert split_digest(asked) != before


def test_images_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Data] = []
    original: Callable[[Data], data.Source] = data.open_source

    def open_and_count(asked: Data) -> data.Source:
        opened.append(asked)
        return original(asked)

    monkeypatch.setattr(data, "open_source", open_and_count)
    assert load(Data(train=20, validation=10), "cpu") is load(Data(train=20, validation=10), "cpu")
    assert len(opened) == 1


# --------------------------------------------------------------------------- what libraries raise


@pytest.mark.parametrize(
    "raised", [EOFError(), KeyError("data"), ValueError("a\nb"), zlib.error("x" * 5000), RuntimeError("no")]
)
def test_what_a_library_raises_is_one_short_line(monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    def broken(*_: Any, **__: Any) -> data.Source:
        raise raised

    monkeypatch.setattr(data, "_embedded", broken)
    for ask in (load, split_digest):
        with pytest.raises(InputError) as caught:
            ask(Data(train=10, validation=10, test=0))
        assert str(caught.value).startswith(f"data: cannot be read ({type(raised).__name__}: ")
        assert len(str(caught.value)) < 300
        assert "\n" not in str(caught.value)


def test_memory_that_runs_out_is_the_machines_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the evaluation is tried again."""

    def broken() -> None:
        raise MemoryError

    monkeypatch.setattr(data, "_embedded", broken)
    with pytest.raises(MemoryError):
        load(Data(train=10, validation=10, test=0))


@pytest.mark.parametrize("path", ["~no-such-user-of-this-machine/images", "x" * 300])
def test_a_folder_that_cannot_be_is_one_line(path: str) -> None:
    for ask in (one_line, split_digest_line):
        assert ask(Data(source="folder", path=path)).startswith("data")


def split_digest_line(asked: Data) -> str:
    with pytest.raises(InputError) as caught:
        split_digest(asked)
    return str(caught.value)


def test_a_file_whose_name_is_no_text_is_an_image_too(tmp_path: Path) -> None:
    paint(tmp_path)
    Path(tmp_path, "apple", "0.png").rename(os.fsdecode(bytes(tmp_path) + b"/apple/\xff.png"))
    assert len(split_digest(Data(source="folder", path=str(tmp_path), train=6, validation=3, test=3))) == 16
