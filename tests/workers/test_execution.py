"""Execution: memory formats, half precision and compilation train the same network."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from evonas.search_space.lowering import NormAct
from evonas.workers.data import Split
from evonas.workers.training import Training
from tests.workers.conftest import graph, images, protocol
from tests.workers.training_cases import equal, start, weights


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
