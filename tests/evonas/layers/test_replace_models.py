"""Networks of torchvision and timm with other layers: found, replaced, trained, compiled, exported."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import evonas
from evonas.search_space.lowering import NormAct

BN_RELU6 = "a = (x - mean_bhw(x)) / std_bhw(x)\n-max(-max(a, zero), -6)"
LN = "(x - mean_c(x)) / std_c(x)"


@dataclass(frozen=True)
class Case:
    """A network, what it has (pairs, norms without activation, activations after no norm), and the layer that computes
    what its own do."""

    library: Any
    pairs: int
    alone: int
    stays: int
    same: str
    options: dict[str, Any]


CASES = {
    "resnet18": Case(torchvision.models.get_model, 9, 11, 8, "BN-ReLU", {}),
    "resnet50": Case(torchvision.models.get_model, 33, 20, 16, "BN-ReLU", {}),
    "mobilenet_v2": Case(torchvision.models.get_model, 35, 17, 0, BN_RELU6, {"without_activation": "keep"}),
    "efficientnet_b0": Case(torchvision.models.get_model, 33, 16, 16, "BN-SiLU", {}),
    "vgg11_bn": Case(torchvision.models.get_model, 8, 0, 0, "BN-ReLU", {}),
    "resnetv2_50": Case(timm.create_model, 49, 0, 0, "BN-ReLU", {}),
    "convnext_tiny": Case(timm.create_model, 0, 23, 18, LN, {}),
    "regnetz_b16": Case(timm.create_model, 46, 22, 22, "BN-SiLU", {}),
    "vit_tiny_patch16_224": Case(timm.create_model, 0, 25, 12, LN, {}),
}
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(name: str) -> nn.Module:
    """The network with parameters and moments that no initialisation has, in evaluation; 512 weights as VGG's head."""
    options = {"img_size": 32} if name.startswith("vit") else {}
    with torch.device("meta"):
        model: Any = CASES[name].library(name, num_classes=10, **options)
        if name == "vgg11_bn":
            model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 10)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in model.named_parameters():
            value.normal_(generator=generator)
            value.div_(value[0].numel() ** 0.5) if value.ndim > 1 else value.mul_(0.3).add_(key.endswith("weight"))
        for value in model.buffers():
            value.uniform_(0.5, 1.5, generator=generator) if value.is_floating_point() else value.zero_()
    return model.eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", CASES)
def test_the_function_of_its_own_layers_changes_no_logit(name: str) -> None:
    case, model = CASES[name], network(name)
    with torch.no_grad():
        logits = model(X)
    table = evonas.replacements(model, case.same, **case.options)
    becomes = [row.becomes for row in table.rows]
    keep = case.alone if case.options else 0
    assert sum("the same function" in each for each in becomes) == case.pairs + case.alone - keep
    if case.same == LN:  # which has no activation, and takes none away
        assert table.summary.endswith("everything else stays")
    else:
        assert sum(each == "stays: the classifier" for each in becomes) == 1
        assert sum("no norm" in each for each in becomes) == case.stays
    assert sum("left" in each for each in becomes) == keep
    weights = {key: value for key, value in model.state_dict().items() if value.ndim > 1}
    assert evonas.replace(model, case.same, **case.options) is model
    torch.testing.assert_close({key: model.state_dict()[key] for key in weights}, weights, rtol=0, atol=0)
    assert sum(isinstance(each, NormAct) for each in model.modules()) == case.pairs + case.alone - keep
    with torch.no_grad():
        torch.testing.assert_close(model(X), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_another_layer_takes_the_place_of_all_norms(name: str) -> None:
    case, model = CASES[name], network(name)
    part: Any = "norm" if case.pairs else "layer"
    evonas.replace(model, "EvoNorm-S0", groups=8, without_activation=part)
    made = [each for each in model.modules() if isinstance(each, NormAct)]
    whole = [each for each in made if each.apply_act]
    assert len(made) == case.pairs + case.alone
    assert len(whole) == (case.pairs or case.alone)
    assert not any(isinstance(each, nn.modules.batchnorm._BatchNorm | nn.LayerNorm) for each in model.modules())
    with torch.no_grad():
        assert model(X).isfinite().all()


def test_the_activations_and_the_last_layer_of_a_classifier_stay() -> None:
    with torch.device("meta"):
        table = evonas.replacements(torchvision.models.vgg11_bn(), "EvoNorm-B0")
    assert [(row.site, row.activation, row.becomes) for row in table.rows if not row.norm] == [
        ("classifier.1", "ReLU", "stays: follows Linear, no norm"),
        ("classifier.4", "ReLU", "stays: follows Linear, no norm"),
        ("classifier.6", "Linear", "stays: the classifier"),
    ]


# --------------------------------------------------------------------------- long

OTHERS = {  # functions, shared modules, branches, untraceable forwards, arguments that decide: -> norms that are left
    "tv densenet121": 0,
    "tv googlenet": 2,  # of its auxiliary heads, which evaluation does not call
    "tv inception_v3": 2,
    "tv shufflenet_v2_x0_5": 0,
    "tv mnasnet0_5": 0,
    "timm dla34": 6,
    "timm hrnet_w18": 0,
    "timm nasnetalarge": 44,
    "timm res2net50_14w_8s": 0,
    "timm resnest14d": 0,
    "timm repvgg_a0": 0,
    "timm convnextv2_atto": 12,  # GlobalResponseNorm
    "timm mvitv2_tiny": 0,
    "timm swin_tiny_patch4_window7_224": 0,
}
TRANSFORMERS = ("convnextv2", "mvitv2", "swin")


@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_the_function_of_its_own_layers_changes_no_logit_elsewhere(name: str) -> None:
    library, architecture = name.split()
    options = {"init_weights": True} if architecture in ("googlenet", "inception_v3") else {}  # else they warn
    model: Any = {"tv": torchvision.models.get_model, "timm": timm.create_model}[library](architecture, **options)
    last = architecture.startswith(TRANSFORMERS)
    for each in model.eval().modules():
        if isinstance(each, nn.BatchNorm2d | nn.LayerNorm):
            each.weight.data.uniform_(0.5, 1.5)
            each.bias.data.normal_(0, 0.2)
    x = torch.randn(2, 3, *[{"inception_v3": 299}.get(architecture, 224 if last else 96)] * 2)
    layer = LN if last else "BN-ReLU"
    becomes = [row.becomes for row in evonas.replacements(model, layer).rows if row.norm]
    assert sum(each.startswith("left") for each in becomes) == OTHERS[name]
    assert all("the same function" in each for each in becomes if not each.startswith("left"))
    with torch.no_grad():
        logits = model(x)
        torch.testing.assert_close(
            evonas.replace(model, layer)(x), logits, rtol=1e-5, atol=1e-5 * logits.abs().max().item()
        )


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_a_replaced_network_trains_compiles_and_is_exported(name: str) -> None:
    """EvoNorm-B0 keeps running moments; where the channels are last, a sample's own layer does instead."""
    torch.compiler.reset()
    options = {"img_size": 32} if name.startswith("vit") else {}
    torch.manual_seed(0)
    model = network(name) if name == "vgg11_bn" else CASES[name].library(name, num_classes=2, **options)
    if CASES[name].pairs:
        evonas.replace(model, "EvoNorm-B0")
    else:
        evonas.replace(model, "x * sigmoid(v1 * x) / std_c(x)", without_activation="layer")
    x = torch.randn(8, 3, 64, 64) if not options else torch.randn(8, 3, 32, 32)
    target = torch.arange(8) % 2
    optimizer = torch.optim.SGD(model.parameters(), 0.005, momentum=0.9)
    losses = []
    for _ in range(6):
        loss = nn.functional.cross_entropy(model.train()(x), target)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert min(losses[1:]) < losses[0]
    evonas.update_moments([x], model)
    model.eval()
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(copy.deepcopy(model), backend="aot_eager")
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)
        program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
        torch.testing.assert_close(program.module()(x[:3]), expected[:3], rtol=1e-4, atol=1e-4)
