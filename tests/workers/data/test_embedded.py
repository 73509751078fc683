"""The embedded set: its parts, what is never read, and the digest of a split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from evonas.workers import data
from evonas.workers.data import load, open_source, split, split_digest
from evonas.workers.protocol import Data
from tests.workers.data.cases import one_line, paint

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
    assert (images.classes, images.features) == (10, 1)
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
