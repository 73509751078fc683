"""A layer in the hands of torch.export, torch.jit, torch.fx, torch.func and FSDP."""

import io
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.distributed.fsdp import fully_shard
from torchvision.models.feature_extraction import create_feature_extractor

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from tests.search_space.layers import layer_of
from tests.search_space.tensors import normal

CHANNELS = 8
ONE_INPUT = [name for name in LAYERS.graphs if LAYERS[name].inputs == 1]
SOME = ["BN-ReLU", "EvoNorm-B0", "EvoNorm-S0", "LayerNorm", "DyT"]  # batch, instance, group, position, a scalar
TORCHS_OWN = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning", "ignore:.torch.jit.:FutureWarning")


@pytest.mark.parametrize("name", SOME)
def test_a_layer_in_training_mode_is_exported_saved_and_loaded(name: str) -> None:
    x = normal(4, CHANNELS, 3, 5)
    stream = io.BytesIO()
    torch.export.save(torch.export.export(layer_of(name), (x,)), stream)
    stream.seek(0)
    loaded, layer = torch.export.load(stream).module(), layer_of(name)
    torch.testing.assert_close(loaded(x), layer(x))
    torch.testing.assert_close(dict(loaded.named_buffers()), dict(layer.named_buffers()))


@TORCHS_OWN
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", SOME)
def test_a_traced_layer_is_saved_and_loaded(name: str, training: bool) -> None:
    x = normal(4, CHANNELS, 3, 5)
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(layer_of(name).train(training), x, check_trace=False), stream)
    stream.seek(0)
    torch.testing.assert_close(torch.jit.load(stream)(x), layer_of(name).train(training)(x))


@pytest.mark.parametrize("name", ["graph", "code", "_c"])
def test_a_layer_has_no_name_by_which_torch_knows_a_script(name: str) -> None:
    """torch.onnx.export(..., dynamo=False) takes what has `graph` for a script."""
    assert not hasattr(layer_of("EvoNorm-B0"), name)
    with pytest.raises(ValueError, match="cannot be the name of a learned parameter"):
        Graph.parse("graph = scalar(1)\nx * graph")


@TORCHS_OWN
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ONE_INPUT)
def test_a_tangent_passes_forward(name: str, training: bool) -> None:
    x, tangent = normal(4, CHANNELS, 3, 5), normal(4, CHANNELS, 3, 5, seed=1)
    with forward_ad.dual_level():
        output = layer_of(name).train(training)(forward_ad.make_dual(x, tangent))
        result = forward_ad.unpack_dual(output).tangent
    layer = layer_of(name).train(training)
    _, expected = torch.autograd.functional.jvp(layer, x, tangent)  # by two backward passes
    torch.testing.assert_close(result, expected)


@TORCHS_OWN
@pytest.mark.parametrize("name", SOME)
def test_functions_of_torch_func_agree(name: str) -> None:
    layer, x = layer_of(name).eval(), normal(2, CHANNELS, 2, 2)

    def summed(x: Tensor) -> Tensor:
        return layer(x).sum((1, 2, 3))

    torch.testing.assert_close(torch.func.jacfwd(summed)(x), torch.func.jacrev(summed)(x))
    each = torch.func.vmap(lambda sample: layer(sample[None])[0])(x)
    torch.testing.assert_close(each, torch.cat([layer(sample[None]) for sample in x]))


@pytest.mark.parametrize("name", SOME)
def test_a_feature_extractor_takes_a_layer_for_a_leaf(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), layer_of(name), nn.Conv2d(CHANNELS, 4, 1)).double().eval()
    x = normal(2, 3, 5, 5)
    torch.testing.assert_close(create_feature_extractor(model, {"1": "act"})(x)["act"], model[:2](x))
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))


def test_learned_scalars_are_sharded(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        model, x = layer_of("DyT"), normal(4, CHANNELS, 3)
        expected = layer_of("DyT")(x)
        fully_shard(model, mesh=mesh)
        torch.testing.assert_close(model(x), expected)
        model(x).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_a_state_whose_scalars_have_no_axes_is_loaded() -> None:
    """As files of 0.1 had them."""
    model = nn.Sequential(NormAct(Graph.parse("a = scalar(0.5)\ntanh(a * x)"), 3))
    state = {"0.weight": torch.ones(3), "0.bias": torch.zeros(3), "0.a": torch.tensor(0.25)}
    model.load_state_dict(state)
    assert model[0].get_parameter("a").tolist() == [0.25]
    assert state["0.a"].ndim == 0
