"""Moments, statistics of all processes and frozen layers in a model of evonas' layers, exported ones and BatchNorms."""

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

import evonas
from evonas.layers.source import layer_source
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from tests.search_space.tensors import normal

CHANNELS = 4
BATCHES = [normal(n, CHANNELS, 3, 2, seed=n) + n for n in (2, 5, 3)]  # of unequal sizes and means


@pytest.fixture(scope="module")
def exported() -> Iterator[Any]:
    """The class of an exported file, as a module that pickle can import."""
    module = ModuleType("exported_layer")
    exec(layer_source(LAYERS["BN-ReLU"].graph), module.__dict__)
    sys.modules["exported_layer"] = module
    yield module.__dict__["EvolvedLayer"]
    del sys.modules["exported_layer"]


@pytest.fixture
def model(exported: Any) -> nn.Module:
    """Layers that each see the batch itself, in float64. Their running moments, where they have a mean, are named as
    torch's: of a graph `running_0` and `running_1`."""
    layers = {
        "graph": evonas.layer("BN-ReLU", CHANNELS, momentum=0.3),
        "square": evonas.layer("x / rms_bhw(x)", CHANNELS),
        "exported": exported(CHANNELS),
        "torch": nn.BatchNorm2d(CHANNELS, momentum=None),
        "timm": timm.layers.BatchNormAct2d(CHANNELS),
        "module": evonas.layer("BCN", CHANNELS),
    }
    return Parallel(layers).double()


class Parallel(nn.Module):
    """The sum of its layers."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([layer(x) for layer in self.layers.values()]).sum(0)


def average(moment: Callable[[Tensor], Tensor]) -> Tensor:
    """The plain mean over the batches, each of the same weight."""
    return torch.stack([moment(batch.transpose(0, 1).flatten(1)) for batch in BATCHES]).mean(0)


MEAN, VARIANCE = average(lambda rows: rows.mean(1)), average(lambda rows: rows.var(1, correction=0))
UNBIASED, SQUARE = average(lambda rows: rows.var(1)), average(lambda rows: rows.square().mean(1))
EXPECTED = {
    "graph": {"running_0": MEAN, "running_1": VARIANCE},
    "square": {"running_0": SQUARE},
    "exported": {"running_0": MEAN, "running_1": VARIANCE},
    **{name: {"running_mean": MEAN, "running_var": UNBIASED} for name in ("torch", "timm", "module")},
}


# --------------------------------------------------------------------------- running moments


@pytest.mark.parametrize("wrapped", [lambda x: x, lambda x: (x, 0), lambda x: [x]])
def test_update_moments_is_the_plain_average_over_the_loader(model: nn.Module, wrapped: Callable[..., Any]) -> None:
    for buffer in model.buffers():
        buffer.fill_(torch.nan if buffer.is_floating_point() else 7)  # nothing of before may stay
    evonas.update_moments(map(wrapped, BATCHES), model)
    for name, moments in EXPECTED.items():
        for buffer, expected in moments.items():
            torch.testing.assert_close(model.get_buffer(f"layers.{name}.{buffer}"), expected)
    assert model.get_buffer("layers.torch.num_batches_tracked") == len(BATCHES)


def test_update_moments_does_to_batch_norms_what_torch_does() -> None:
    one = nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.BatchNorm2d(CHANNELS, momentum=0.2)).double()
    other = copy.deepcopy(one)
    update_bn(BATCHES, one)
    evonas.update_moments(BATCHES, other)
    torch.testing.assert_close(other.state_dict(), one.state_dict())


def test_a_layer_that_is_called_twice_averages_its_calls() -> None:
    layer = evonas.layer("x - mean_bhw(x)", CHANNELS, dtype=torch.float64)
    evonas.update_moments(BATCHES, nn.Sequential(layer, layer))
    torch.testing.assert_close(layer.get_buffer("running_0"), MEAN / 2)  # the second call sees no mean


def test_update_moments_keeps_momentum_modes_and_parameters(model: nn.Module) -> None:
    model.get_submodule("layers.square").eval()
    parameters = {name: value.clone() for name, value in model.named_parameters()}
    momenta, modes = ([getattr(m, n, None) for m in model.modules()] for n in ("momentum", "training"))
    evonas.update_moments(BATCHES, model)
    assert [getattr(each, "momentum", None) for each in model.modules()] == momenta
    assert [each.training for each in model.modules()] == modes
    assert not any(each._forward_pre_hooks for each in model.modules())
    torch.testing.assert_close(dict(model.named_parameters()), parameters, rtol=0, atol=0)


def test_a_compiled_model_is_updated_too(model: nn.Module) -> None:
    evonas.update_moments(BATCHES, torch.compile(model, backend="aot_eager"))
    torch.testing.assert_close(model.get_buffer("layers.graph.running_0"), MEAN)


def test_an_empty_loader_is_refused(model: nn.Module) -> None:
    with pytest.raises(InputError, match="update_moments: the loader has no batch"):
        evonas.update_moments([], model)
    evonas.update_moments([], nn.ReLU())  # nothing to average


@pytest.mark.parametrize("name", ["PowerNorm", "OnlineNorm", "EstBN", "PRepBN", "UnifiedNorm"])
def test_a_state_that_is_no_average_is_refused_before_anything_changes(name: str) -> None:
    model = nn.Sequential(nn.BatchNorm2d(CHANNELS), evonas.layer(name, CHANNELS)).double()
    with pytest.raises(InputError, match=rf"1 \({name}\) has a state that is no plain average over batches"):
        evonas.update_moments(BATCHES, model)
    assert model.get_buffer("0.running_mean").unique().tolist() == [0]


# --------------------------------------------------------------------------- AveragedModel


def test_an_averaged_model_without_buffers_needs_update_moments(model: nn.Module) -> None:
    averaged = AveragedModel(model)
    model(BATCHES[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(2)
    averaged.update_parameters(model)  # the first time it copies parameters, and always buffers
    assert torch.equal(averaged.get_buffer("module.layers.graph.running_0"), model.get_buffer("layers.graph.running_0"))
    evonas.update_moments(BATCHES, averaged)
    torch.testing.assert_close(averaged.get_buffer("module.layers.graph.running_0"), MEAN)
    torch.testing.assert_close(averaged.get_parameter("module.layers.graph.weight"), torch.full((4,), 3.0).double())


def test_an_averaged_model_with_buffers_averages_the_running_moments(model: nn.Module) -> None:
    averaged = AveragedModel(model, use_buffers=True)
    expected = []
    for batch in BATCHES:
        model(batch)
        averaged.update_parameters(model)
        expected.append(model.get_buffer("layers.graph.running_1").clone())
    torch.testing.assert_close(averaged.get_buffer("module.layers.graph.running_1"), torch.stack(expected).mean(0))


# --------------------------------------------------------------------------- statistics of all processes


def test_synchronize_reaches_layers_and_batch_norms(model: nn.Module) -> None:
    del model.get_submodule("layers").exported, model.get_submodule("layers").module
    state = {name: value.clone() for name, value in model.state_dict().items()}
    shared = model.get_submodule("layers.torch")
    model.register_module("again", shared)
    assert evonas.synchronize(model) is model
    assert {each.synchronized for each in model.modules() if isinstance(each, evonas.search_space.layer.Layer)} == {
        True
    }
    kinds = {name: type(each).__name__ for name, each in model.named_modules(remove_duplicate=False)}
    assert kinds["layers.torch"] == kinds["again"] == "SyncBatchNorm"
    assert kinds["layers.timm"] == "SyncBatchNormAct"  # which keeps its activation
    assert model.get_submodule("again") is model.get_submodule("layers.torch")
    torch.testing.assert_close({name: model.state_dict()[name] for name in state}, state)
    assert isinstance(evonas.synchronize(nn.BatchNorm2d(CHANNELS)), nn.SyncBatchNorm)


@pytest.mark.parametrize("name", ["exported", "module"])
def test_what_cannot_be_synchronized_is_refused_before_anything_changes(model: nn.Module, name: str) -> None:
    other = {"exported": "module", "module": "exported"}[name]
    delattr(model.get_submodule("layers"), other)
    with pytest.raises(InputError, match=rf"layers\.{name} \(.*\) has the batch statistics of one process alone"):
        evonas.synchronize(model)
    assert type(model.get_submodule("layers.torch")) is nn.BatchNorm2d
    assert not model.get_submodule("layers.graph").synchronized


def test_a_batch_norm_with_a_forward_of_its_own_is_refused() -> None:
    class Doubled(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    with pytest.raises(InputError, match=r"0 \(Doubled\) has the batch statistics of one process alone"):
        evonas.synchronize(nn.Sequential(Doubled(CHANNELS)))


def test_all_sums_are_taken_over_the_given_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        group, asked = torch.distributed.new_group([0]), []
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda total, group: asked.append(group))
        layer = evonas.synchronize(evonas.layer("BN-ReLU", CHANNELS, unbiased_running_var=True), group)
        layer(BATCHES[0].float().requires_grad_()).square().sum().backward()
        assert len(asked) == 7  # mean, variance twice, count; backward: each but the count
        assert set(asked) == {group}
    finally:
        torch.distributed.destroy_process_group()


# --------------------------------------------------------------------------- frozen


@pytest.mark.parametrize("copied", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_frozen_models_moments_and_affine_stay(model: nn.Module, copied: Callable[[nn.Module], nn.Module]) -> None:
    model.register_module("head", nn.Conv2d(CHANNELS, 2, 1).double())
    evonas.freeze(model)
    frozen = copied(model).train()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    optimizer = torch.optim.SGD(frozen.parameters(), 1.0, weight_decay=0.1)
    for batch in BATCHES:
        frozen.train()(batch)
        frozen.get_submodule("head")(frozen(batch)).square().mean().backward()
        optimizer.step()
    evonas.update_moments(BATCHES, frozen)
    moved = [name for name, value in frozen.state_dict().items() if not torch.equal(value, before[name])]
    assert moved == ["head.weight", "head.bias"]
    assert isinstance(frozen.get_submodule("layers.torch"), nn.BatchNorm2d)
    assert frozen.training


def test_a_frozen_layer_is_the_layer_in_evaluation(model: nn.Module) -> None:
    model(BATCHES[0])
    expected = copy.deepcopy(model).eval()(BATCHES[1])
    assert torch.equal(evonas.freeze(evonas.freeze(model)).train()(BATCHES[1]), expected)


def test_freezing_and_synchronizing_leave_each_other_alone(model: nn.Module) -> None:
    evonas.synchronize(evonas.freeze(model))
    assert not any(isinstance(each, nn.SyncBatchNorm) for each in model.modules())


def test_a_frozen_model_compiles_and_is_exported(model: nn.Module) -> None:
    torch.compiler.reset()
    evonas.freeze(model).train()
    expected = model(BATCHES[0])
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(BATCHES[0]), expected)
    torch.testing.assert_close(torch.export.export(model, (BATCHES[0],)).module()(BATCHES[0]), expected)
