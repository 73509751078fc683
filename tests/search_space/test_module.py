"""A layer as a torch module: its options, compiled, exported, synchronised, in other memory formats."""

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from tests.search_space import synchronized_process
from tests.search_space.layers import layer_of as double_layer_of
from tests.search_space.tensors import normal as double_normal

CHANNELS, GROUPS = 8, 4
ONE_INPUT = [name for name in LAYERS.graphs if LAYERS[name].inputs == 1]
SOME = ["BN-ReLU", "EvoNorm-B0", "EvoNorm-S0", "LayerNorm"]  # batch, batch and instance, group, position
SOME_OR_ALL = [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in ONE_INPUT]

layer_of = partial(double_layer_of, dtype=torch.float32)
normal = partial(double_normal, dtype=torch.float32)


def twins(name: str, **options: Any) -> tuple[NormAct, NormAct]:
    """Two layers with equal and unusual parameters."""
    one, other = layer_of(name, **options), layer_of(name, **options)
    with torch.no_grad():
        for seed, parameter in enumerate(one.parameters()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    other.load_state_dict(one.state_dict())
    return one, other


def assert_equal_training(one: nn.Module, other: nn.Module, inputs: list[Tensor], rtol: float = 1e-4) -> None:
    """Outputs, gradients and running moments of a step for each input, then an evaluation."""
    for k, x in enumerate([*inputs, inputs[0]]):
        for layer in (one, other):
            layer.train(k < len(inputs))
        outputs, gradients = [], []
        for layer in (one, other):
            given = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
            output = layer(given)
            outputs.append(output)
            learned = [given, *dict(sorted(layer.named_parameters())).values()]
            gradients.append(torch.autograd.grad((output * output.detach().cos()).sum(), learned))
        torch.testing.assert_close(outputs[0], outputs[1], rtol=rtol, atol=1e-5)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=rtol, atol=1e-4)
    buffers, others = dict(one.named_buffers()), dict(other.named_buffers())
    torch.testing.assert_close(list(buffers.values()), list(others.values()))


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize("shape", [(4, CHANNELS, 3, 5), (6, CHANNELS), (4, CHANNELS, 7), (2, CHANNELS, 2, 3, 4)])
def test_the_unbiased_running_variance_is_torchs(shape: tuple[int, ...]) -> None:
    layer = layer_of("BN-ReLU", unbiased_running_var=True)
    theirs = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)](CHANNELS)
    for seed in range(3):
        x = normal(*shape, seed=seed)
        torch.testing.assert_close(layer(x), theirs(x).relu())
    torch.testing.assert_close(layer.get_buffer("running_0"), theirs.running_mean)
    torch.testing.assert_close(layer.get_buffer("running_1"), theirs.running_var)


def test_the_unbiased_variance_of_one_value_is_0() -> None:
    layer = NormAct(Graph.parse("x / std_bhw(x)"), 3, unbiased_running_var=True, momentum=1)
    assert layer(normal(1, 3, 1, 1)).isfinite().all()
    assert layer.get_buffer("running_0").tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ONE_INPUT)
def test_without_the_activation_the_affine_is_left(name: str) -> None:
    layer = layer_of(name, apply_act=False)
    assert set(layer.state_dict()) == {"weight", "bias"}
    assert "apply_act=False" in repr(layer)
    layer.load_state_dict({"weight": torch.arange(8.0), "bias": torch.full((8,), -2.0)})
    x = normal(2, CHANNELS, 3)
    torch.testing.assert_close(layer(x), x * torch.arange(8.0).view(-1, 1) - 2)


# --------------------------------------------------------------------------- memory formats


@pytest.mark.parametrize("name", SOME)
def test_the_channels_last_format_changes_no_result(name: str) -> None:
    one, other = twins(name)
    inputs = [normal(4, CHANNELS, 5, 3, seed=seed) for seed in range(2)]
    for x in inputs:
        strided = x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(other(strided), one(x))
        assert other(strided).is_contiguous(memory_format=torch.channels_last)
        one(x)
    torch.testing.assert_close(dict(one.named_buffers()), dict(other.named_buffers()))


@pytest.mark.parametrize("name", SOME)
def test_a_strided_view_is_as_good_as_its_copy(name: str) -> None:
    one, other = twins(name)
    whole = normal(8, CHANNELS, 10, 6)
    torch.testing.assert_close(one(whole[::2, :, 1::3]), other(whole[::2, :, 1::3].contiguous()))


# --------------------------------------------------------------------------- compiled and exported


@pytest.mark.parametrize("name", SOME_OR_ALL)
def test_a_layer_compiles_without_a_graph_break(name: str) -> None:
    torch.compiler.reset()
    one, other = twins(name)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    assert_equal_training(one, compiled, [normal(4, CHANNELS, 5, 3, seed=seed) for seed in range(2)])


@pytest.mark.parametrize("name", SOME)
def test_options_compile_too(name: str) -> None:
    torch.compiler.reset()
    one, other = twins(name, channel_dim=-1, unbiased_running_var=True, momentum=0.3)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager", dynamic=True)
    assert_equal_training(one, compiled, [normal(n, 5, CHANNELS, seed=n) for n in (4, 6)])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_compiles(copied: Callable[[NormAct], NormAct]) -> None:
    torch.compiler.reset()
    one, other = twins("EvoNorm-B0")
    twin = copied(other)
    assert not any("cached" in name or name == "live" for name in vars(twin.genotype)), "nothing may be at hand already"
    assert_equal_training(one, torch.compile(twin, fullgraph=True, backend="aot_eager"), [normal(4, CHANNELS, 5, 3)])
    assert "live" not in vars(twin.genotype), "dynamo cannot trace the lock of a cached property"


def test_the_layer_that_inductor_compiles_is_the_layer() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("no C++ compiler on this machine")
    torch.compiler.reset()
    one, other = twins("EvoNorm-B0")
    compiled = torch.compile(other, fullgraph=True)
    assert_equal_training(one, compiled, [normal(4, CHANNELS, 5, 3, seed=seed) for seed in range(2)])


@pytest.mark.parametrize("name", SOME_OR_ALL)
def test_a_layer_exports_with_free_batch_and_size(name: str) -> None:
    layer, _ = twins(name)
    layer(normal(4, CHANNELS, 6, 5))
    layer.eval()
    free = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(layer, (normal(4, CHANNELS, 6, 5),), dynamic_shapes=(free,))
    for shape in ((4, CHANNELS, 6, 5), (3, CHANNELS, 7, 2)):
        x = normal(*shape, seed=1)
        torch.testing.assert_close(program.module()(x), layer(x))


# --------------------------------------------------------------------------- synchronised


SYNCHRONIZED: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (LAYERS[name].text, {"groups": GROUPS}) for name in (*SOME, "GN-ReLU", "L1-BN", "BN-second-moment")},
    "unbiased": (LAYERS["BN-ReLU"].text, {"unbiased_running_var": True}),
    "of a value of fewer axes": ("x / (std_bhw(mean_hw(x)) + rms_bhw(v1))", {}),
}


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the processes saw."""
    folder = tmp_path_factory.mktemp("synchronized")
    batches = [normal(6, CHANNELS, 3, 5, seed=seed) for seed in range(2)]
    torch.save({name: (*case, batches) for name, case in SYNCHRONIZED.items()}, folder / "cases.pt")
    command = [sys.executable, "-m", synchronized_process.__name__]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    ranks = range(len(synchronized_process.SHARES))
    processes = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in ranks]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in ranks]


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_processes_that_share_a_batch_train_as_one(name: str, shares: list[dict[str, Any]]) -> None:
    text, options = SYNCHRONIZED[name]
    alone = NormAct(Graph.parse(text), CHANNELS, **options)
    for step in range(2):
        x = normal(6, CHANNELS, 3, 5, seed=step).requires_grad_()
        output = alone(x)
        learned = dict(sorted(alone.named_parameters()))
        gradients = torch.autograd.grad((output * output.detach().cos()).sum(), [x, *learned.values()])
        seen = [share[name][0][step] for share in shares]
        torch.testing.assert_close(torch.cat([each[0] for each in seen]), output.detach())
        torch.testing.assert_close(torch.cat([each[1] for each in seen]), gradients[0], rtol=1e-4, atol=1e-5)
        for k, gradient in enumerate(gradients[1:], start=2):
            torch.testing.assert_close(sum(each[k] for each in seen), gradient, rtol=1e-4, atol=1e-5)
    for share in shares:
        torch.testing.assert_close(share[name][1], dict(alone.named_buffers()))


def test_a_synchronized_layer_compiles_without_a_graph_break(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        torch.compiler.reset()
        one, other = twins("EvoNorm-B0", synchronized=True, unbiased_running_var=True)
        compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
        assert_equal_training(one, compiled, [normal(4, CHANNELS, 5, 3, seed=seed) for seed in range(2)])
    finally:
        torch.distributed.destroy_process_group()


def test_empty_input_moves_no_moment_of_a_synchronized_layer_that_is_alone() -> None:
    layer = layer_of("EvoNorm-B0", synchronized=True)
    assert layer(torch.empty(0, CHANNELS, 2)).shape == (0, CHANNELS, 2)
    assert layer.get_buffer("running_0").tolist() == [1.0] * CHANNELS


@pytest.mark.parametrize("shape", [(8, 1), (4, CHANNELS, 3), (4, 3, 2, 2), (5, CHANNELS, 2, 2)])
def test_a_second_input_has_the_axes_of_the_first(shape: tuple[int, ...]) -> None:
    layer = NormAct(Graph.parse("x + y"), CHANNELS)
    x = normal(4, CHANNELS, 2, 2)
    with pytest.raises(ValueError, match="a second input has the axes of x"):
        layer(x, torch.ones(shape))
    assert layer(x, torch.ones(4, CHANNELS, 1, 1)).shape == x.shape


def test_without_a_process_group_a_synchronized_layer_is_alone() -> None:
    one, other = layer_of("EvoNorm-B0"), layer_of("EvoNorm-B0", synchronized=True)
    x = normal(4, CHANNELS, 3)
    assert torch.equal(one(x), other(x))
