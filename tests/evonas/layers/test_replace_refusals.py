"""Norms and models that `evonas.replace` leaves or refuses, and how its table tells them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import evonas
from evonas.search_space.errors import InputError
from tests.evonas.layers.hosts import CHANNELS, Network, norm, residual
from tests.search_space.tensors import normal

LAYER = "max(x, -1000) - 3"  # an activation by its form, x - 3 in fact
X = normal(2, CHANNELS, 3, 2)


@pytest.mark.parametrize("freeze", [evonas.freeze, timm.layers.freeze_batch_norm_2d])
def test_a_frozen_norm_is_left(freeze: Callable[[nn.Module], nn.Module]) -> None:
    row = evonas.replacements(nn.Sequential(freeze(norm()), nn.ReLU()), LAYER).rows[0]
    assert row.becomes == "left: it is frozen"


def test_a_norm_inside_a_layer_of_torch_is_left() -> None:
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2), nn.BatchNorm2d(4), nn.ReLU())
    shown = {row.site: row.becomes for row in evonas.replacements(model, LAYER).rows if row.norm}
    assert shown == {
        "0.norm1": "left: it is inside TransformerEncoderLayer, which is traced as a whole",
        "0.norm2": "left: it is inside TransformerEncoderLayer, which is traced as a whole",
        "1": "-3 + max(-1000, x)",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "EvoNorm-BO"}, "did you mean 'EvoNorm-B"),
        ({"layer": "x * sigmoid(y)"}, "a layer of two inputs, x and y, cannot take the place of a norm"),
        ({"layer": "BN-ReLU", "num_groups": 4}, "unknown option 'num_groups'"),
        ({"layer": "BN-ReLU", "channel_dim": -1}, "channel_dim: every site has its own"),
        (
            {"layer": "BN-ReLU", "without_activation": "kept"},
            "without_activation: unknown value 'kept'; did you mean 'keep'",
        ),
    ],
)
def test_bad_arguments_are_refused_before_anything_changes(arguments: dict[str, Any], message: str) -> None:
    model = Network(residual)
    for function in (evonas.replace, evonas.replacements):
        with pytest.raises(InputError, match=message):
            function(model, **arguments)
    assert isinstance(model.norm, nn.BatchNorm2d)


def test_a_model_without_norms_is_refused() -> None:
    with pytest.raises(InputError, match="Linear has no norm to replace"):
        evonas.replace(nn.Linear(2, 2), "BN-ReLU")


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        (lambda a: a * torch.sigmoid(a), "affine; followed by sigmoid and mul, which is no activation of torch"),
        (lambda a: 0.5 * a * (1 + torch.erf(a)), "affine; followed by mul and erf, which is no activation of torch"),
        (lambda a: torch.clamp(a, min=0), "affine; followed by clamp"),
        (lambda a: a + 1, "affine; followed by add"),
        (lambda a: a * torch.tanh(F.softplus(a)), "left: its output goes to softplus and mul"),
    ],
)
def test_a_norm_whose_activation_is_not_found_says_what_follows_it(
    written: Callable[[Tensor], Tensor], becomes: str
) -> None:
    model = Network(lambda self, x: self.act(self.other(written(self.norm(x)))))
    rows = {row.site: row.becomes for row in evonas.replacements(model, LAYER).rows}
    assert rows["norm"].startswith(becomes)
    assert rows.get("softplus()", "stays: norm is left") == "stays: norm is left"


@pytest.mark.parametrize(
    "function",
    [
        lambda model: evonas.replace(model, LAYER),
        lambda model: evonas.replacements(model, LAYER),
        evonas.synchronize,
        evonas.freeze,
        lambda model: evonas.update_moments([X], model),
    ],
)
@pytest.mark.parametrize("model", [None, nn.BatchNorm2d, [X], "resnet18"])
def test_what_is_no_model_is_one_line(function: Callable[[Any], Any], model: Any) -> None:
    with pytest.raises(InputError, match=r"expected a model, a torch.nn.Module, got "):
        function(model)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (evonas.layer("BN-ReLU", 4), {}, "expected what makes a layer: a name, a text, a class or a function"),
        ("x * sigmoid(y)", {}, "a layer of two inputs, x and y"),
        ("EvoNorm-S0", {"groups": 0}, "groups: expected an integer of at least 1, got 0"),
        ("OnlineNorm", {"eps": -1.0}, "eps: "),
    ],
)
def test_what_no_network_can_take_is_refused_when_it_is_named(
    layer: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evonas.norm_layer(layer, **options)
    with pytest.raises(InputError, match=message):
        evonas.replace(Network(residual), layer, **options)


def test_the_table() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), norm(), nn.ReLU(), nn.Flatten(), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)
    )
    table = evonas.replacements(model, "BN-ReLU")
    assert repr(table).splitlines() == [
        "site  norm            activation  becomes",
        "1     BatchNorm2d(4)  ReLU        BN-ReLU; the same function",
        "5                     GELU        stays: follows Linear, no norm",
        "6                     Linear      stays: the classifier",
        "1 pair and 0 norms replaced, 0 norms left",
    ]
    assert table._repr_html_().count("<tr>") == 4


@pytest.mark.parametrize("layer", ["x / rms_c(x)", "GroupNorm"])
def test_a_norm_that_torch_computes_itself_is_left(layer: str) -> None:
    """In evaluation without gradients nn.TransformerEncoderLayer reads the norm's weights, and calls no forward."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    plan = evonas.replacements(nn.Sequential(nn.Linear(8, 8), encoder, nn.LayerNorm(8)), layer)
    becomes = {row.site: row.becomes for row in plan.rows if row.norm}
    assert becomes["1.norm1"].startswith("left: TransformerEncoderLayer computes it itself")
    assert becomes["1.norm2"] == becomes["1.norm1"]
    assert not becomes["2"].startswith("left")


@pytest.mark.parametrize("layer", ["x / rms_c(x)", "EvoNorm-S0"])
def test_a_container_of_torch_is_no_obstacle_but_what_it_computes_itself_is_left(layer: str) -> None:
    layers = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layers, 1, norm=nn.LayerNorm(8))
    becomes = {row.site: row.becomes for row in evonas.replacements(encoder, layer, without_activation="layer").rows}
    assert "left: " in becomes["layers.0.norm1"]
    assert "left: " not in becomes["norm"]


def test_a_network_in_data_parallel_is_replaced() -> None:
    net = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), norm(), nn.ReLU(), nn.Conv2d(CHANNELS, 2, 1)).double().eval()
    before = net(X)
    wrapped = evonas.replace(nn.DataParallel(net), "BN-ReLU")
    assert isinstance(wrapped, nn.DataParallel)
    assert torch.allclose(net(X), before)
    assert [type(each).__name__ for each in net] == ["Conv2d", "NormAct", "Identity", "Conv2d"]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: torch.jit.script(nn.Sequential(norm(), nn.ReLU())), "the model: expected a module before torch.jit"),
        (lambda: nn.Sequential(nn.LazyBatchNorm2d(), nn.ReLU()), "0: expected a module with its sizes; call the model"),
    ],
)
def test_what_cannot_be_exchanged_is_one_line(model: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evonas.replacements(model(), "BN-ReLU")


@pytest.mark.parametrize("layer", ["BN-ReLU", "EvoNorm-B0"])
def test_a_norm_that_is_not_trained_gives_way_to_a_layer_that_is_not(layer: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), norm(), nn.ReLU(), nn.Conv2d(CHANNELS, 2, 1))
    model.requires_grad_(False)
    model[3].requires_grad_(True)
    evonas.replace(model, layer)
    assert [name for name, each in model.named_parameters() if each.requires_grad] == ["3.weight", "3.bias"]


@pytest.mark.parametrize(("momentum", "words"), [(0.1, "the same function"), (None, "the same function until its")])
def test_the_table_tells_whether_moments_move_alike(momentum: float | None, words: str) -> None:
    model = nn.Sequential(nn.BatchNorm2d(CHANNELS, momentum=momentum), nn.ReLU()).double()
    twin = copy.deepcopy(model)
    assert words in evonas.replacements(model, "BN-ReLU").rows[0].becomes
    evonas.replace(twin, "BN-ReLU")
    for seed in range(5):
        x = 3 + normal(2, CHANNELS, 3, 2, seed=seed)
        model.train()(x), twin.train()(x)
    assert torch.allclose(model.eval()(X), twin.eval()(X)) == (momentum is not None)


def test_a_batchnorm_is_a_norm_whatever_its_class_is_called() -> None:
    class Batch2(nn.BatchNorm2d):
        pass

    convolution = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, CHANNELS, 1))
    table = evonas.replacements(nn.Sequential(convolution, Batch2(CHANNELS), nn.ReLU(), nn.Flatten()), "BN-ReLU")
    assert [(row.site, row.norm) for row in table.rows if row.norm] == [("1", f"Batch2({CHANNELS})")]
    assert table.rows[0].becomes == "BN-ReLU; the same function"


def test_a_dropout_between_norm_and_activation_is_seen_as_a_function_too() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return nn.functional.relu(nn.functional.dropout(net.norm(x), 0.5, net.training))

    table = evonas.replacements(Network(forward), "EvoNorm-B0", without_activation="norm")
    assert table.rows[0].site == "norm"
    assert table.rows[0].becomes == "left: dropout stands before its activation"


def test_a_layer_before_a_norm_is_no_classifier() -> None:
    model = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), nn.BatchNorm2d(CHANNELS, affine=False), nn.ReLU())
    assert [row.site for row in evonas.replacements(model, "BN-ReLU").rows] == ["1"]
