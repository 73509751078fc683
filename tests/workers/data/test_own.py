"""Images of a user's own: parts, splits, types, and what is said of bad ones."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evonas.search_space.errors import InputError
from evonas.workers import data, own_data, plugins
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import Data, Execution, Job, Protocol, Recipe
from evonas.workers.proxies import PreactResNet

MODULE = """\
import numpy as np

asked = []


def images(part, channels=2, parts=("train", "validation", "test")):
    asked.append(part)
    if part not in parts:
        return None
    n = {"train": 30, "validation": 8, "test": 6}[part]
    labels = np.arange(n) % 3
    pixels = np.zeros((n, channels, 6, 10)) + labels[:, None, None, None] + 0.01 * np.arange(n)[:, None, None, None]
    return 1e-5 * pixels, labels
"""


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[list[str]]:
    """The parts that the function of `my_images` was asked for."""
    (tmp_path / "my_images.py").write_text(MODULE)
    plugins.look_in([tmp_path])
    yield plugins.load("my_images:asked")
    plugins.look_in([])
    plugins._imported.clear()
    own_data.forget()
    sys.modules.pop("my_images", None)


def own(train: int = 20, validation: int = 5, test: int = 0, **options: Any) -> Data:
    return Data(source="my_images:images", train=train, validation=validation, test=test, options=options)


def test_parts_of_its_own_are_used_and_the_test_part_stays_sealed(asked: list[str]) -> None:
    images = data.load(own())
    assert set(asked) == {"train", "validation"}
    assert (images.classes, images.features) == (3, 2)
    assert images.train.images.shape == (20, 2, 6, 10)
    assert images.train.images.dtype == torch.float32
    of_validation = {round(1e-5 * (n % 3 + 0.01 * n), 9) for n in range(8)}
    assert {round(float(each), 9) for each in images.validation.images[:, 0, 0, 0]} <= of_validation
    assert len(images.validation.labels) == 5
    x = images.normalise(images.train.images)  # however small its units are
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(2), atol=1e-4)
    assert torch.allclose(x.std((0, 2, 3)), torch.ones(2), atol=1e-4)

    judged = data.load(own(), judged_on="test")
    assert asked.count("test") == 1
    assert len(judged.validation.labels) == 6
    assert torch.equal(judged.train.images, images.train.images)


def test_parts_that_it_lacks_are_set_aside(asked: list[str]) -> None:
    chosen = own(train=20, validation=5, test=5, parts=["train"])
    images, judged = data.load(chosen), data.load(chosen, judged_on="test")
    assert "test" not in asked
    pixels = [
        float(each)
        for split in (images.train, images.validation, judged.validation)
        for each in split.images[:, 0, 0, 0]
    ]
    assert len(pixels) == len(set(pixels)) == 30  # every image once
    with pytest.raises(InputError, match="data: 20 \\+ 6 \\+ 5 images wanted for the split, 30 found"):
        data.load(own(train=20, validation=6, test=5, parts=["train"]))
    with pytest.raises(InputError, match=r"data\.validation: 9 images wanted, 8 found"):
        data.load(own(validation=9))
    with pytest.raises(InputError, match=r"'test': None; with data\.test of 0, expected test images"):
        data.load(own(parts=["train"]), judged_on="test")


def test_the_split_is_that_of_pixels_labels_and_options(asked: list[str], tmp_path: Path) -> None:
    digests = [
        data.split_digest(each) for each in (own(), own(channels=3), own(validation=6), own(parts=["train"]), own())
    ]
    assert len(set(digests)) == 4
    assert digests[0] == digests[-1]
    (tmp_path / "my_images.py").write_text(MODULE.replace("1e-5 *", "2e-5 *"))
    plugins.look_in([tmp_path])
    assert data.split_digest(own()) != digests[0]
    assert float(data.load(own()).train.images.max()) > 2.5e-5


@pytest.mark.parametrize(
    ("judged", "searched", "expected"),
    [
        (own(test=5, parts=["train"]), own(test=5, parts=["train"]), False),
        (own(test=25, parts=["train"], train=2, validation=3), own(test=5, parts=["train"]), True),
        (own(), own(), False),
        (own(channels=3), own(), False),
        (own(), Data(), False),
    ],
)
def test_a_test_image_is_found_among_those_of_a_search(
    asked: list[str], judged: Data, searched: Data, expected: bool
) -> None:
    assert data.has_test_part_of(judged, searched) is expected


@pytest.mark.parametrize("kind", ["gray", "wide", "float"])
def test_a_network_trains_on_any_shape(asked: list[str], tmp_path: Path, kind: str) -> None:
    given = {
        "gray": "np.uint8(40 * pixels[:, :1])",
        "wide": "np.uint8(40 * pixels)",
        "float": "pixels.astype(np.float16)",
    }
    text = MODULE.replace("1e-5 * pixels", given[kind]).replace("* np.arange(n)", "* np.random.RandomState(0).rand(n)")
    (tmp_path / "my_images.py").write_text(text)
    plugins.look_in([tmp_path])
    protocol = Protocol(
        data=own(),
        recipe=Recipe(batch_size=10, steps=12, crop=5, flip=True, learning_rate=0.05),
        proxies={"small": PreactResNet(architecture="preact_resnet", blocks=(1,))},
        gates=(),
        execution=Execution(),
    )
    outcome = evaluate(Job(graph="max(x / std_bhw(x), zero)", protocol=protocol, seed=0)).outcome
    assert isinstance(outcome, Fitness)
    assert outcome.accuracy["small"] == 1.0  # each class has a brightness of its own


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("None", "'train': expected images and labels, got NoneType"),
        ("(pixels,)", "'train': expected images and labels, got tuple of 1"),
        ("(pixels[0], labels)", "expected images (n, c, h, w) in uint8 or floating point, got float64 (2, 6, 10)"),
        (
            "(pixels.astype(int), labels)",
            "expected images (n, c, h, w) in uint8 or floating point, got int64 (30, 2, 6, 10)",
        ),
        (
            "(pixels[:0], labels[:0])",
            "expected images (n, c, h, w) in uint8 or floating point, got float64 (0, 2, 6, 10)",
        ),
        ("(pixels, labels[1:])", "expected 30 labels, integers from 0 on, got int64 (29,)"),
        ("(pixels, labels / 2)", "expected 30 labels, integers from 0 on, got float64 (30,)"),
        ("(pixels, labels - 1)", "expected 30 labels, integers from 0 on, got int64 (30,)"),
        ("(np.where(pixels > 2, np.nan, pixels), labels)", "'train': 1200 of its values are not finite"),
        ("(pixels, 0 * labels)", "expected at least 2 classes, found 1"),
        (
            "(pixels[:, :1] if part == 'train' else pixels, labels)",
            "'validation': float32 (8, 2, 6, 10), but the training",
        ),
        ("(pixels, labels + (part != 'train'))", "'validation': label 3, but those of the training images end at 2"),
        ("(pixels, labels.missing)", "my_images:images: failed at {folder}/my_images.py:13: AttributeError: "),
    ],
)
def test_errors_are_one_line(asked: list[str], tmp_path: Path, given: str, message: str) -> None:
    (tmp_path / "my_images.py").write_text(MODULE.replace("1e-5 * pixels, labels", given))
    plugins.look_in([tmp_path])
    with pytest.raises(InputError) as caught:
        data.split_digest(own())
    assert "\n" not in str(caught.value)
    assert message.format(folder=tmp_path) in str(caught.value)


def test_an_array_and_a_tensor_are_alike(asked: list[str], tmp_path: Path) -> None:
    before = data.load(own())
    text = MODULE.replace("import numpy as np\n", "import numpy as np\nimport torch\n")
    (tmp_path / "my_images.py").write_text(
        text.replace("1e-5 * pixels, labels", "torch.tensor(1e-5 * pixels), torch.tensor(labels)")
    )
    plugins.look_in([tmp_path])
    after = data.load(own())
    assert np.array_equal(before.train.images, after.train.images)
