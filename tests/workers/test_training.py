"""Trainings: what they depend on, and when they diverge."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from evonas.workers import training
from evonas.workers.data import Split
from evonas.workers.task import crop
from evonas.workers.training import Diverged, Training, build_model
from tests.workers.conftest import graph, images, protocol
from tests.workers.training_cases import batches, equal, numbered, same, start, weights

# --------------------------------------------------------------------------- a paired comparison


@pytest.mark.parametrize("proxy", ["resnet", "mobilenet"])
def test_initial_weights_and_batches_are_the_same_for_every_layer(proxy: str) -> None:
    first, second = start("BN-ReLU", proxy), start("EvoNorm-S0", proxy)
    assert equal(first.model, second.model)
    assert same(batches(first, 40), batches(second, 40))  # more than an epoch


def test_initial_weights_and_batches_differ_between_seeds() -> None:
    first, second = start(seed=0), start(seed=1)
    assert not equal(first.model, second.model)
    assert not same(batches(first, 1), batches(second, 1))


def test_initial_weights_and_batches_differ_between_proxies_of_one_architecture() -> None:
    chosen = protocol(proxies=("resnet",))
    twins = chosen.model_copy(update={"proxies": {"one": chosen.proxies["resnet"], "two": chosen.proxies["resnet"]}})
    first, second = (Training(graph("BN-ReLU"), twins, proxy, images(twins), 0) for proxy in ("one", "two"))
    assert not equal(first.model, second.model)
    assert not same(batches(first, 1), batches(second, 1))


def test_initial_weights_depend_on_no_global_state() -> None:
    chosen = protocol()

    def build(global_seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            return build_model(graph("BN-ReLU"), chosen, "resnet", images(chosen), 0)

    assert equal(build(1), build(2))


def test_the_whole_training_is_the_same_twice() -> None:
    first, second = start(), start()
    first.run(5)
    second.run(5)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert first.validate() == second.validate()


def test_a_training_in_parts_is_the_training_in_one() -> None:
    whole, parts = start(recipe={"schedule": "cosine"}), start(recipe={"schedule": "cosine"})
    whole.run(6)
    for until in (1, 3, 3, 6):
        parts.run(until)
        parts.validate()  # recomputes moments, and must not disturb weights or batch order
    assert whole.step == parts.step == 6
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True))
    assert same(batches(whole, 20), batches(parts, 20))
    final, repeated = whole.validate(), parts.validate()
    assert (final.accuracy, final.step) == (repeated.accuracy, repeated.step)


def test_an_epoch_shows_no_image_twice() -> None:
    started = start(recipe={"batch_size": 100})  # of 256 images: 2 batches an epoch
    everything = images(protocol()).train.images
    for _ in range(3):
        seen = torch.cat([each for each, _ in batches(started, 2)]).flatten(1)
        distinct = {tuple(row.tolist()) for row in seen}
        assert len(distinct) == 200
        assert distinct <= {tuple(row.tolist()) for row in everything.flatten(1)}


def test_labels_stay_with_their_images() -> None:
    split = images(protocol()).train
    label_of = {tuple(image.flatten().tolist()): label for image, label in zip(split.images, split.labels, strict=True)}
    for shown, labels in batches(start(), 20):
        for image, label in zip(shown, labels, strict=True):
            assert label_of[tuple(image.flatten().tolist())] == label


def test_a_batch_larger_than_the_data_is_all_of_the_data() -> None:
    started = start(recipe={"batch_size": 1000, "steps": 2})
    assert [len(labels) for _, labels in batches(started, 2)] == [256, 256]


# --------------------------------------------------------------------------- divergence


def test_divergence_is_raised_at_a_check() -> None:
    started = start("x * x", recipe={"learning_rate": 1e6, "steps": 100})
    with pytest.raises(Diverged) as caught:
        started.run(100)
    assert caught.value.step == started.step
    assert started.step in (*training.EARLY_LOSS_CHECKS, training.LOSS_CHECK_EVERY)


def test_divergence_is_seen_at_the_first_step() -> None:
    with pytest.raises(Diverged) as caught:
        start("exp(exp(x))").run(3)
    assert caught.value.step == 1


def test_divergence_is_seen_at_the_end_of_a_run() -> None:
    started = start("BN-ReLU", recipe={"steps": 100})
    started.run(12)
    with torch.no_grad():
        weights(started.model)[-1].fill_(math.inf)
    with pytest.raises(Diverged) as caught:
        started.run(14)
    assert caught.value.step == 14


def test_a_finite_training_does_not_diverge() -> None:
    started = start("BN-ReLU", recipe={"steps": 20})
    started.run(20)
    assert started.step == 20


# --------------------------------------------------------------------------- shapes in types


def test_shapes_in_types_are_checked_while_tests_run() -> None:
    images = numbered(4, 5, 5)
    with pytest.raises(TypeCheckError, match="'rows'"):
        crop(images, torch.zeros(3, 1, dtype=torch.long), torch.zeros(4, 1, dtype=torch.long), 2)
    with pytest.raises(TypeCheckError, match="'images'"):
        crop(images.to(torch.int32), torch.zeros(4, 1, dtype=torch.long), torch.zeros(4, 1, dtype=torch.long), 2)
    with pytest.raises(TypeCheckError, match="'labels'"):
        Split(images, torch.arange(3))
