"""torchvision's sets, and what libraries raise on the way."""

import urllib.error
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torchvision

from evonas.search_space.errors import InputError
from evonas.workers import data
from evonas.workers.data import load, open_source, split, split_digest
from evonas.workers.protocol import Data
from tests.workers.data.cases import one_line


class Downloaded:
    """What torchvision gives for CIFAR-10 and Fashion-MNIST; it remembers which part was asked for."""

    parts: tuple[bool, ...] = ()
    classes = ("a", "b", "c")

    def __init__(self, shape: tuple[int, ...], as_tensor: bool) -> None:
        values = np.arange(30 * int(np.prod(shape))).reshape(30, *shape).astype(np.uint8)
        self.data: Any = torch.from_numpy(values) if as_tensor else values
        targets = [number % 3 for number in range(30)]
        self.targets: Any = torch.tensor(targets) if as_tensor else targets


# --------------------------------------------------------------------------- torchvision's sets


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


# --------------------------------------------------------------------------- what libraries raise


@pytest.mark.parametrize(
    "raised", [EOFError(), KeyError("data"), ValueError("a\nb"), zlib.error("x" * 5000), RuntimeError("no")]
)
def test_what_a_library_raises_is_one_short_line(monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    def broken(*_: Any, **__: Any) -> data.Source:
        raise raised

    monkeypatch.setattr(data, "embedded", broken)
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

    monkeypatch.setattr(data, "embedded", broken)
    with pytest.raises(MemoryError):
        load(Data(train=10, validation=10, test=0))
