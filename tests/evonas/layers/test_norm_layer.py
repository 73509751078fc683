"""`norm_layer=` of timm and torchvision: catalog names, texts, exported classes."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import evonas
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from tests.evonas.layers.exported_class import exported_class

TEXT = "x * sigmoid(v1 * x) / std_ghw(x)"


GRAPH = Graph.parse(TEXT)
KINDS: dict[str, Any] = {"name": "EvoNorm-B0", "text": TEXT, "graph": GRAPH, "class": exported_class(GRAPH, groups=4)}
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def layers_in(model: nn.Module) -> list[nn.Module]:
    return [each for each in model.modules() if isinstance(each, NormAct) or type(each).__name__ == "EvolvedLayer"]


# resnet18 has a norm and an activation, the others a norm with one; each hands over other arguments
@pytest.mark.parametrize("network", ["resnet18", "test_resnet", "test_efficientnet", "test_byobnet"])
@pytest.mark.parametrize("kind", KINDS)
def test_timm_takes_it(kind: str, network: str) -> None:
    model = timm.create_model(network, norm_layer=evonas.norm_layer(KINDS[kind], eps=1e-4), num_classes=2)
    assert len(layers_in(model)) >= 5
    assert {each.eps for each in layers_in(model)} == {1e-4}
    if network != "test_byobnet":  # whose attention has a norm of its own
        assert not any(isinstance(each, nn.BatchNorm2d) for each in model.modules())
    model.eval()(X).sum().backward()
    assert all(each.get_parameter("weight").grad is not None for each in layers_in(model))


@pytest.mark.parametrize("kind", KINDS)
def test_timm_hands_over_device_and_type(kind: str) -> None:
    made = evonas.norm_layer(KINDS[kind])
    model = timm.create_model("test_resnet", norm_layer=made, device="meta", dtype=torch.bfloat16)
    values = [value for each in layers_in(model) for value in (*each.parameters(), *each.buffers())]
    assert {(value.device.type, value.dtype) for value in values} == {("meta", torch.bfloat16)}


@pytest.mark.parametrize("kind", KINDS)
def test_torchvision_takes_it(kind: str) -> None:
    model = torchvision.models.resnet18(norm_layer=evonas.norm_layer(KINDS[kind]), num_classes=2)
    assert len(layers_in(model)) == 20
    assert model.eval()(X).isfinite().all()


def test_torchvision_takes_a_partial_and_a_class() -> None:
    for made in (functools.partial(evonas.layer, "EvoNorm-B0"), KINDS["class"]):
        assert len(layers_in(torchvision.models.resnet18(norm_layer=made, num_classes=2))) == 20


def test_timm_takes_a_class() -> None:
    assert len(layers_in(timm.create_model("resnet18", norm_layer=KINDS["class"], num_classes=2))) == 20


def test_without_the_activation_the_norm_remains() -> None:
    made = evonas.norm_layer("BN-SiLU")
    assert torch.equal(made(3)(X), evonas.layer("BN-SiLU", 3)(X))
    assert torch.equal(made(3, apply_act=False, inplace=True)(X), evonas.layer("BN-SiLU", 3, apply_act=False)(X))


@pytest.mark.parametrize("name", [name for name, row in LAYERS.items() if row.kind == "module"][:1])
def test_a_reference_module_is_a_norm_layer_too(name: str) -> None:
    assert evonas.norm_layer(name)(8).get_parameter("weight").shape == (8,)


def test_what_is_no_layer_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="unknown option 'num_groups'"):
        evonas.norm_layer(TEXT, num_groups=4)
    with pytest.raises(InputError, match="did you mean 'EvoNorm-B"):
        evonas.norm_layer("EvoNorm-BO")
    with pytest.raises(InputError, match="unknown option 'drop_layer'"):  # a dropout that would silently be lost
        evonas.norm_layer(TEXT)(8, drop_layer=nn.Dropout)


def test_a_layer_in_the_place_of_a_norm_layer_names_norm_layer() -> None:
    with pytest.raises(evonas.InputError, match=r"num_features is missing; .* is evonas\.norm_layer"):
        timm.create_model("test_resnet", norm_layer=functools.partial(evonas.layer, TEXT), device="meta")
    with pytest.raises(evonas.InputError, match=r"unknown option 'inplace'; .* is evonas\.norm_layer"):
        evonas.layer(TEXT, 8, inplace=True)


@pytest.mark.parametrize("text", ["v1", "3", "y * v1", "x - x", "x * zero", "std_hw(mean_hw(x))"])
def test_a_layer_that_hides_its_input_has_no_place_in_a_network_and_no_file(text: str, tmp_path: Path) -> None:
    graph, model = Graph.parse(text), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    doors: tuple[Callable[[Any], object], ...] = (
        lambda layer: evonas.layer(layer, 4),
        lambda layer: evonas.norm_layer(layer),
        lambda layer: evonas.replace(model, layer),
        lambda layer: evonas.replacements(model, layer, without_activation="affine"),
        lambda layer: evonas.export(layer, tmp_path / "layer.py"),
        lambda layer: evonas.export(layer, tmp_path / "layer.pt2", "program", num_features=4),
        lambda layer: evonas.export_package(["x", layer], tmp_path / "layers", compiled=False),
    )
    for layer in (text, graph):
        for door in doors:
            with pytest.raises(InputError) as refused:
                door(layer)
            assert (
                str(refused.value)
                == f"{graph.formula}: the output does not change with x, which makes any network useless"
            )
    with pytest.raises(InputError, match="does not change with x"):
        evonas.export(NormAct(graph, 4).eval(), tmp_path / "layer.pt2", "program")
    assert isinstance(model[0], nn.BatchNorm2d)
    assert not list(tmp_path.iterdir())


def test_a_search_tries_such_a_layer_in_a_network_that_it_was_put_into() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    assert isinstance(evonas.replace(model, lambda n, **options: NormAct(Graph.parse("v1"), n, **options))[0], NormAct)
