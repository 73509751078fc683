"""Training: what it depends on, its optimizer, its images, and its early validation."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.fx import GraphModule

from evonas.search_space.lowering import NormAct
from evonas.workers import training
from evonas.workers.data import Images, Split
from evonas.workers.outcome import Point
from evonas.workers.protocol import Recipe
from evonas.workers.training import Diverged, Training, _batches, build_model, crop, learning_rate
from tests.workers.conftest import graph, images, protocol

SUB_WINDOWS = [(8, 8, 5), (7, 9, 4), (6, 11, 6), (5, 5, 4)]


def start(text: str = "BN-ReLU", proxy: str = "resnet", seed: int = 0, **changes: dict[str, object]) -> Training:
    chosen = protocol(**changes)
    return Training(graph(text), chosen, proxy, images(chosen), seed)


def batches(training_: Training, count: int) -> list[tuple[Tensor, Tensor]]:
    return [next(training_.batches) for _ in range(count)]


def same(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    return all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


def weights(model: nn.Module) -> list[Tensor]:
    """Of convolutions and the classifier, which every layer's network has."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def equal(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def numbered(n: int, height: int, width: int) -> Tensor:
    """Images "n 3 h w" in which every pixel is another triple: its place, and its image's number in two bytes."""
    place = torch.arange(height * width).view(1, height, width).expand(n, -1, -1)
    number = torch.arange(n).view(n, 1, 1).expand(-1, height, width)
    return torch.stack([place, number % 256, number // 256], dim=1).to(torch.uint8)


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
    given = [id(each) for group in started.optimizer.param_groups for each in group["params"]]
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


# --------------------------------------------------------------------------- crops and mirrors


def shown(whole: Tensor, **recipe: Any) -> tuple[Tensor, Tensor]:
    """The images of one epoch as they are, and as training sees them."""
    split, one = Split(whole, torch.arange(len(whole))), torch.ones(1, 3, 1, 1)
    chosen = Recipe(batch_size=len(whole), **recipe)
    batch, labels = next(_batches(Images(split, split, len(whole), one, one), chosen, torch.Generator().manual_seed(0)))
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


# --------------------------------------------------------------------------- validation


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
    all_images = started.images
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

    monkeypatch.setattr(training.F, "cross_entropy", listen)
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
    split = started.images.validation
    with torch.no_grad():
        correct = (plain(started.images.normalise(split.images)).argmax(1) == split.labels).sum()
    assert len(split.labels) == 1203
    assert point.accuracy * 1203 == pytest.approx(int(correct), abs=1.01)  # as above


# --------------------------------------------------------------------------- execution


def test_channels_last_trains_the_same_network() -> None:
    plain, last = start(), start(execution={"channels_last": True})
    strided = [each for each in weights(last.model) if each.ndim == 4 and min(each.shape[1:]) > 1]
    assert strided
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in strided)
    assert equal(plain.model, last.model)
    plain.run(3)
    last.run(3)
    for a, b in zip(weights(plain.model), weights(last.model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert 0 <= last.validate().accuracy <= 1


def test_bfloat16_convolves_in_half_precision_and_keeps_full_weights() -> None:
    started = start(execution={"dtype": "bfloat16"})
    dtypes: set[torch.dtype] = set()
    for module in started.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, given, output: dtypes.add(output.dtype))
    started.run(6)
    point = started.validate()
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in started.model.parameters()} == {torch.float32}
    assert math.isfinite(point.loss)
    plain = start()
    plain.run(6)
    assert point.loss == pytest.approx(plain.validate().loss, rel=0.05)


@pytest.mark.parametrize(
    ("from_steps", "stretches"), [("never", [0, 0, 0]), (7, [0, 0, 0]), (4, [0, 0, 1]), (3, [0, 0, 1]), (1, [1, 1, 1])]
)
def test_layers_are_compiled_once_a_stretch_has_the_steps_asked(
    monkeypatch: pytest.MonkeyPatch, from_steps: int | str, stretches: list[int]
) -> None:
    seen: list[NormAct] = []
    monkeypatch.setattr(NormAct, "compile", lambda self, dynamic: seen.append(self))
    started = start(recipe={"steps": 7}, execution={"compile_from_steps": from_steps})
    layers = [module for module in started.model.modules() if isinstance(module, NormAct)]
    for until, times in zip((1, 3, 7), stretches, strict=True):
        started.run(until)
        assert seen == layers * times


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # that dynamo reads
@pytest.mark.parametrize("dynamic", [False, True])
def test_every_site_is_compiled_for_training_and_none_for_validation(
    monkeypatch: pytest.MonkeyPatch, dynamic: bool
) -> None:
    """Of more sites than torch compiles of one code by default; the moments' momentum changes from batch to batch."""
    compiled: list[GraphModule] = []

    def compiler(traced: GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        compiled.append(traced)
        return traced.forward

    original = NormAct.compile
    monkeypatch.setattr(NormAct, "compile", lambda self, **_: original(self, backend=compiler, dynamic=dynamic))
    deep = protocol(execution={"compile_from_steps": 1})
    wide = deep.proxies["resnet"].model_copy(update={"blocks": (1,) * 3, "width": 4})
    many = {f"p{n}": wide.model_copy(update={"width": 4 + 4 * n}) for n in range(4)}
    asked = deep.model_copy(update={"proxies": many})
    try:
        sites = 0
        for proxy in many:
            training_ = Training(graph("BN-ReLU"), asked, proxy, images(asked), 0)
            training_.run(1)
            sites += len({layer.num_features for layer in training_.model.modules() if isinstance(layer, NormAct)})
            before = len(compiled)
            training_.validate()
            assert len(compiled) == before
        assert sites > 8
        assert len(compiled) <= 2 if dynamic else len(compiled) >= sites  # one serves all widths and sizes
    finally:
        torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:.*cache.*:UserWarning")
@pytest.mark.parametrize("name", ["EvoNorm-B0", "EvoNorm-S0"])
def test_a_compiled_training_is_the_eager_one_but_for_rounding(name: str) -> None:
    """With what a run compiles: one kernel for sites of several widths and sizes."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("torch finds no C++ compiler")
    losses = []
    for least in ("never", 1):
        asked = protocol(recipe={"steps": 4, "learning_rate": 0.01}, execution={"compile_from_steps": least})
        training_ = Training(graph(name), asked, "resnet", images(asked), 0)
        try:
            training_.run(4)
        finally:
            torch.compiler.reset()
        losses.append(training_.losses)
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_network_meets_images_in_the_protocols_memory_format(channels_last: bool) -> None:
    """Also those that were cropped, which are neither."""
    asked = protocol(recipe={"crop": 6}, execution={"channels_last": channels_last})
    grey = images(asked)
    train = Split(grey.train.images.repeat(1, 3, 1, 1), grey.train.labels)
    started = Training(graph("BN-ReLU"), asked, "resnet", replace(grey, train=train), 0)
    met: list[Tensor] = []
    started.model.register_forward_pre_hook(lambda _, inputs: met.append(inputs[0]))
    started.run(1)
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    assert met[0].shape[-1] == 6
    assert met[0].is_contiguous(memory_format=wanted)


# --------------------------------------------------------------------------- shapes in types


def test_shapes_in_types_are_checked_while_tests_run() -> None:
    images = numbered(4, 5, 5)
    with pytest.raises(TypeCheckError, match="'rows'"):
        crop(images, torch.zeros(3, 1, dtype=torch.long), torch.zeros(4, 1, dtype=torch.long), 2)
    with pytest.raises(TypeCheckError, match="'images'"):
        crop(images.float(), torch.zeros(4, 1, dtype=torch.long), torch.zeros(4, 1, dtype=torch.long), 2)
    with pytest.raises(TypeCheckError, match="'labels'"):
        Split(images, torch.arange(3))
