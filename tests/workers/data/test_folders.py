"""Image folders: classes, parts, sizes, and what is none."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evonas.search_space.errors import InputError
from evonas.workers.data import count_classes, load, split_digest
from evonas.workers.protocol import Data
from tests.workers.data.cases import COLOURS, one_line, paint


@pytest.mark.parametrize("inside", ["train", "."])
def test_folder_gives_each_image_its_class(tmp_path: Path, inside: str) -> None:
    paint(tmp_path / inside)
    images = load(Data(source="folder", path=str(tmp_path), train=8, validation=3, test=1))
    assert (images.classes, images.features) == (3, 3)
    for part in (images.train, images.validation):
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            assert image.shape == (3, 8, 8)
            assert tuple(image[:, 0, 0].tolist()) == list(COLOURS.values())[label]


def test_classes_are_counted_without_reading_an_image(tmp_path: Path, reads: list[int]) -> None:
    paint(tmp_path, classes=2)
    assert count_classes(Data(source="folder", path=str(tmp_path))) == 2
    assert count_classes(Data(source="embedded")) == 10
    assert not reads
    with pytest.raises(InputError, match="no folder"):
        count_classes(Data(source="folder", path=str(tmp_path / "nowhere")))


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
