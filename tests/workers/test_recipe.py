"""Recipes: the optimizer, the learning rate, and how images are shown."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from evonas.workers.data import Images, Split
from evonas.workers.protocol import Recipe
from evonas.workers.step import learning_rate
from tests.workers.training_cases import batches, numbered, same, start, weights

# --------------------------------------------------------------------------- the optimizer


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_steps_are_nesterovs_with_decay_on_convolutions_and_linear_weights(momentum: float) -> None:
    """g <- g + decay w; v <- momentum v + g; w <- w - rate (g + momentum v)."""
    decay, steps = 0.5, 4
    recipe = {"momentum": momentum, "weight_decay": decay, "schedule": "cosine", "steps": steps}
    started = start("EvoNorm-S0", "mobilenet", recipe=recipe)
    decayed = {id(weight) for weight in weights(started.model)}
    names = {name for name, parameter in started.model.named_parameters() if id(parameter) not in decayed}
    assert {name.rsplit(".", 1)[-1] for name in names} == {
        "weight",
        "bias",
        "v1",
    }  # the layers' and the classifier's bias
    expected = {name: parameter.detach().clone() for name, parameter in started.model.named_parameters()}
    speed = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step in range(steps):
        before = copy.deepcopy(started.model.state_dict())
        started.run(step + 1)
        rate = started.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        for name, parameter in started.model.named_parameters():
            assert parameter.grad is not None
            slope = parameter.grad + (decay * before[name] if id(parameter) in decayed else 0)
            speed[name] = momentum * speed[name] + slope
            expected[name] = expected[name] - rate * (slope + momentum * speed[name])
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-4, atol=1e-6)


def test_every_parameter_is_trained_once() -> None:
    started = start("EvoNorm-B0", "mobilenet")
    given = [id(each) for group in started.one_step.optimizer.param_groups for each in group["params"]]
    assert sorted(given) == sorted(id(parameter) for parameter in started.model.parameters())


def test_constant_rate() -> None:
    recipe = Recipe(learning_rate=0.3, steps=10, schedule="constant")
    assert [learning_rate(recipe, step) for step in range(10)] == [0.3] * 10


def test_cosine_rate_falls_from_the_rate_towards_0() -> None:
    """arXiv:1608.03983, equation 5, without restarts."""
    recipe = Recipe(learning_rate=0.3, steps=10, schedule="cosine")
    rates = [learning_rate(recipe, step) for step in range(11)]
    assert rates[0] == 0.3
    assert rates[5] == pytest.approx(0.15)
    assert rates[10] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)
    assert all(rate > 0 for rate in rates[:10])


@pytest.mark.parametrize(
    ("schedule", "last"), [("constant", 0.3), ("cosine", 0.3 * 0.5 * (1 + math.cos(math.pi * 5 / 6)))]
)
def test_the_rate_rises_linearly_over_the_warm_up(schedule: str, last: float) -> None:
    recipe = Recipe(learning_rate=0.3, steps=10, schedule=schedule, warmup=0.4)  # type: ignore[arg-type]
    rates = [learning_rate(recipe, step) for step in range(10)]
    assert rates[:5] == pytest.approx([0.075, 0.15, 0.225, 0.3, 0.3])
    assert rates[9] == pytest.approx(last)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_a_warm_up_of_all_steps_ends_at_the_rate() -> None:
    recipe = Recipe(learning_rate=0.3, steps=3, schedule="cosine", warmup=1.0)
    assert [learning_rate(recipe, step) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


SUB_WINDOWS = [(8, 8, 5), (7, 9, 4), (6, 11, 6), (5, 5, 4)]


# --------------------------------------------------------------------------- crops and mirrors


def shown(whole: Tensor, **recipe: Any) -> tuple[Tensor, Tensor]:
    """The images of one epoch as they are, and as training sees them."""
    split, one = Split(whole, torch.arange(len(whole))), torch.ones(1, 3, 1, 1)
    chosen = Recipe(batch_size=len(whole), **recipe)
    batch, labels = next(Images(split, split, len(whole), one, one).batches(chosen, torch.Generator().manual_seed(0)))
    assert sorted(labels.tolist()) == list(range(len(whole)))
    return whole[labels], batch


@pytest.mark.parametrize(("height", "width", "crop"), SUB_WINDOWS)
def test_crops_are_windows_of_their_own_image_at_every_offset(height: int, width: int, crop: int) -> None:
    whole, cropped = shown(numbered(400, height, width), crop=crop)
    assert cropped.shape == (400, 3, crop, crop)
    offsets = set()
    for image, window in zip(whole, cropped, strict=True):
        place = (image[0] == window[0, 0, 0]).nonzero()
        assert len(place) == 1
        row, column = place[0].tolist()
        assert torch.equal(image[:, row : row + crop, column : column + crop], window)  # of its own image
        offsets.add((row, column))
    assert offsets == {(row, column) for row in range(height - crop + 1) for column in range(width - crop + 1)}


def test_mirrors_turn_about_half_of_the_images() -> None:
    whole, mirrored = shown(numbered(200, 4, 6), flip=True)
    turned = 0
    for image, seen in zip(whole, mirrored, strict=True):
        assert torch.equal(seen, image) or torch.equal(seen, image.flip(2))
        turned += not torch.equal(seen, image)
    assert 60 < turned < 140


def test_crop_and_mirror_together() -> None:
    for image, window in zip(*shown(numbered(100, 6, 6), crop=4, flip=True), strict=True):
        windows = [image[:, r : r + 4, c : c + 4] for r in range(3) for c in range(3)]
        assert any(torch.equal(window, each) or torch.equal(window, each.flip(2)) for each in windows)


@pytest.mark.parametrize("recipe", [{}, {"crop": 5}])
def test_without_crop_and_mirror_images_are_shown_as_they_are(recipe: dict[str, int]) -> None:
    assert torch.equal(*shown(numbered(10, 5, 5), **recipe))


def test_every_epoch_is_drawn_anew() -> None:
    started = start(data={"train": 64}, recipe={"batch_size": 16, "crop": 5, "flip": True})
    epochs = [batches(started, 4) for _ in range(2)]
    assert not same(*epochs)
    first, second = (torch.cat([labels for _, labels in epoch]).sort().values for epoch in epochs)
    assert torch.equal(first, second)


def test_training_crops_and_validation_does_not() -> None:
    started = start(recipe={"crop": 5, "flip": True})
    assert batches(started, 1)[0][0].shape == (16, 1, 5, 5)
    sizes: list[tuple[int, ...]] = []
    started.model.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    started.run(2)
    assert set(sizes) == {(5, 5)}
    sizes.clear()
    started.validate()
    assert set(sizes) == {(8, 8)}  # moments included
