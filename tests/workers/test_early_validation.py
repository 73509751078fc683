"""Validation in the middle of a training: by which moments, and what it leaves alone."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from evonas.search_space.lowering import NormAct
from evonas.workers.outcome import Point
from tests.workers.training_cases import start


@contextmanager
def inputs_of_layers(model: nn.Module) -> Iterator[list[list[Tensor]]]:
    """What each layer is given, pass by pass."""
    layers = [module for module in model.modules() if isinstance(module, NormAct)]
    seen: list[list[Tensor]] = [[] for _ in layers]
    handles = [
        layer.register_forward_pre_hook(lambda module, given, at=at: seen[at].append(given[0].detach().clone()))
        for at, layer in enumerate(layers)
    ]
    yield seen
    for handle in handles:
        handle.remove()


def stored(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Running mean and variance of each BN-ReLU layer."""
    layers = [module for module in model.modules() if isinstance(module, NormAct)]
    return [(layer.running_0, layer.running_1) for layer in layers]


class PlainBNReLU(nn.Module):
    """Batch normalization with given moments, then ReLU: torch alone."""

    def __init__(self, mean: Tensor, variance: Tensor, layer: NormAct) -> None:
        super().__init__()
        self.mean, self.variance, self.weight, self.bias = mean, variance, layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        normal = nn.functional.batch_norm(x, self.mean, self.variance, eps=1e-5).relu()
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


def with_moments(model: nn.Module, moments: list[tuple[Tensor, Tensor]]) -> nn.Module:
    changed = copy.deepcopy(model)
    found = [name for name, module in changed.named_modules() if isinstance(module, NormAct)]
    for name, (mean, variance) in zip(found, moments, strict=True):
        layer = changed.get_submodule(name)
        assert isinstance(layer, NormAct)
        changed.set_submodule(name, PlainBNReLU(mean, variance, layer))
    return changed.eval()


@pytest.mark.parametrize("proxy", ["resnet", "mobilenet"])
@pytest.mark.parametrize("step", [1, 7, 49])
def test_early_validation_uses_plain_averages_of_ten_batches(proxy: str, step: int) -> None:
    started = start(proxy=proxy, recipe={"steps": 60, "batch_size": 16})
    started.run(step)
    copied = copy.deepcopy(started.model).train()
    all_images = started.task
    with torch.no_grad(), inputs_of_layers(copied) as seen:
        for number in range(10):
            copied(all_images.normalise(all_images.train.images[16 * number : 16 * (number + 1)]))
    moments = []
    for given in seen:
        assert len(given) == 10
        means = torch.stack([each.mean((0, 2, 3)) for each in given]).mean(0)
        variances = torch.stack([each.var((0, 2, 3), correction=0) for each in given]).mean(0)
        moments.append((means, variances))
    point = started.validate()
    with torch.no_grad():
        started._recompute_moments()  # as the validation did for itself
    for (mean, variance), (kept_mean, kept_variance) in zip(moments, stored(started.model), strict=True):
        torch.testing.assert_close(kept_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(kept_variance, variance, rtol=1e-4, atol=1e-5)
    plain = with_moments(started.model, stored(started.model))
    with torch.no_grad():
        logits = plain(all_images.normalise(all_images.validation.images))
    correct = (logits.argmax(1) == all_images.validation.labels).float().mean()
    assert (point.proxy, point.step) == (proxy, step)
    assert point.accuracy == pytest.approx(float(correct), abs=0.011)  # an image whose logits tie up to rounding


def test_early_validation_leaves_momentum_weights_and_moments() -> None:
    started = start(data={"train": 64})  # four batches for the moments
    started.run(2)
    before = {name: each.clone() for name, each in started.model.state_dict().items()}
    assert any("running" in name for name in before)
    started.validate()
    layers = [module for module in started.model.modules() if isinstance(module, NormAct)]
    assert {layer.momentum for layer in layers} == {0.1}
    assert all(torch.equal(each, before[name]) for name, each in started.model.state_dict().items())


def test_an_early_look_changes_nothing_that_comes_later() -> None:
    looked, plain = (start("EvoNorm-B0", recipe={"steps": 60}) for _ in range(2))
    looked.run(40)
    looked.validate()
    for each in (looked, plain):
        each.run(60)
    assert all(torch.equal(a, b) for a, b in zip(looked.model.buffers(), plain.model.buffers(), strict=True))
    assert looked.validate().accuracy == plain.validate().accuracy


def test_late_validation_uses_the_moving_moments() -> None:
    started = start(proxies=("resnet",), recipe={"steps": 50, "batch_size": 4})
    with inputs_of_layers(started.model) as seen:
        started.run(50)
    before = [(mean.clone(), variance.clone()) for mean, variance in stored(started.model)]
    for given, (kept_mean, kept_variance) in zip(seen, before, strict=True):
        mean, variance = torch.zeros_like(kept_mean), torch.ones_like(kept_variance)
        for each in given:
            mean = 0.9 * mean + 0.1 * each.mean((0, 2, 3))
            variance = 0.9 * variance + 0.1 * each.var((0, 2, 3), correction=0)
        torch.testing.assert_close(kept_mean, mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(kept_variance, variance, rtol=1e-3, atol=1e-4)
    started.validate()
    for (mean, variance), (kept_mean, kept_variance) in zip(before, stored(started.model), strict=True):
        assert torch.equal(mean, kept_mean)
        assert torch.equal(variance, kept_variance)


def test_loss_of_a_point_is_the_mean_since_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    original = nn.functional.cross_entropy

    def listen(logits: Tensor, labels: Tensor) -> Tensor:
        loss = original(logits, labels)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr("evonas.workers.task.F.cross_entropy", listen)
    started = start()
    points: list[Point] = []
    for until in (2, 6):
        started.run(until)
        points.append(started.validate())
    assert len(losses) == 6
    assert points[0].loss == pytest.approx(sum(losses[:2]) / 2, rel=1e-5)
    assert points[1].loss == pytest.approx(sum(losses[2:]) / 4, rel=1e-5)


def test_validation_judges_every_image() -> None:
    started = start(data={"train": 64, "validation": 1203, "test": 0})
    started.run(1)
    point = started.validate()
    with torch.no_grad():
        started._recompute_moments()
    plain = with_moments(started.model, stored(started.model))
    split = started.task.validation
    with torch.no_grad():
        correct = (plain(started.task.normalise(split.images)).argmax(1) == split.labels).sum()
    assert len(split.labels) == 1203
    assert point.accuracy * 1203 == pytest.approx(int(correct), abs=1.01)  # as above
