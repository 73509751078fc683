"""docs/how-to/networks.md: its examples run, and its limits hold."""

import pickle
import re
import sys
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from torch import nn

import evonas
from evonas.layers.source import layer_source
from evonas.run import Run
from evonas.search_space.catalog import LAYERS
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "how-to" / "networks.md").read_text(encoding="utf-8")
MAKING, REPLACING, WHOLE_MODELS, *FACTORIES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names after the examples of `norm_layer`, whose networks lie on the meta device."""
    module = ModuleType("layer")
    exec(layer_source(LAYERS["EvoNorm-S0"].graph), module.__dict__)
    monkeypatch.setitem(sys.modules, "layer", module)
    monkeypatch.setitem(sys.modules, "mine", mine := ModuleType("mine"))
    mine.__dict__["evonas"] = evonas
    assert len(FACTORIES) == 2
    with torch.device("meta"):
        for block in FACTORIES:
            exec(block, mine.__dict__)
    return mine.__dict__


def test_the_examples_run_and_a_function_of_ones_own_is_pickled(names: dict[str, Any]) -> None:
    again = pickle.loads(pickle.dumps(names["model"]))
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in names["model"].named_parameters()]
    with pytest.raises(AttributeError, match="pickle"):
        pickle.dumps(timm.create_model("test_resnet", norm_layer=names["made"], device="meta"))


@pytest.mark.parametrize("network", ["test_vit", "test_resnet"])
def test_a_bare_class_fits_where_the_activation_is_apart(network: str, names: dict[str, Any]) -> None:
    bare: Any = names["EvolvedLayer"]
    if network == "test_vit":
        timm.create_model(network, norm_layer=bare, device="meta")
    with pytest.raises(AssertionError, match="No equivalent"):
        timm.create_model("resnetv2_50", norm_layer=bare, device="meta")


def test_a_transformer_has_its_channels_last() -> None:
    x = torch.zeros(1, 3, 160, 160)
    right, wrong = ({"norm_layer": evonas.norm_layer("DyT", channel_dim=axis)} for axis in (-1, 1))
    assert timm.create_model("test_vit", num_classes=2, **right)(x).shape == (1, 2)
    with pytest.raises(ValueError, match="channels at axis 1, got shape"):
        timm.create_model("test_vit", num_classes=2, **wrong)(x)


@pytest.mark.filterwarnings("ignore:.torch.jit.:FutureWarning", "ignore:.torch.jit.:DeprecationWarning")
@pytest.mark.parametrize("make", [lambda: evonas.layer("BN-ReLU", 4), lambda: nn.BatchNorm2d(4)])
def test_jvp_refuses_running_moments_in_training_as_torchs_own_do(make: Any) -> None:
    x = torch.ones(2, 4, 3, 3)
    with pytest.raises(RuntimeError, match=r"in-place|inplace"):
        torch.func.jvp(make(), (x,), (x,))
    torch.func.jvp(make().eval(), (x,), (x,))


@pytest.mark.parametrize(("name", "works"), [("EvoNorm-B0", True), ("EvoNorm-S0", True), ("PowerNorm", False)])
def test_double_backward(name: str, works: bool) -> None:
    layer, x = evonas.layer(name, 4), torch.randn(2, 4, 3, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    if works:
        assert torch.autograd.grad(slope.square().sum(), x)[0].isfinite().all()
    else:
        with pytest.raises(RuntimeError, match="once_differentiable"):
            slope.square().sum().backward()


def test_the_examples_of_ones_own_network_run() -> None:
    names: dict[str, Any] = {}
    with torch.device("meta"):
        exec(REPLACING, names)
    assert "has no norm to replace: it is a layer of evonas" in evonas.replacements(names["model"], "DyT").summary
    assert type(names["vit"].norm).__name__ == "NormAct"
    x = torch.randn(2, 4, 3, 3)
    model = nn.Sequential(evonas.layer("BN-ReLU", 4), nn.BatchNorm2d(4))
    names |= {"loader": [(x, 0)], "model": model}
    exec(WHOLE_MODELS, names)
    torch.testing.assert_close(model[0].get_buffer("running_0"), x.mean((0, 2, 3)))
    assert isinstance(names["model"][1], nn.SyncBatchNorm)
    assert not names["model"].train()[0].training


def test_a_layer_is_made_of_a_text_a_name_and_a_run(calm: Run) -> None:
    names: dict[str, Any] = {}
    exec(MAKING.replace("results/quickstart-000", str(calm.folder)), names)
    layer = names["layer"]
    assert layer(torch.randn(2, 3, 3, 64)).shape == (2, 3, 3, 64)
