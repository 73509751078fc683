"""A layer takes the place of norms and activations, and of nothing else."""

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import evonas
from evonas.search_space.errors import InputError
from evonas.search_space.lowering import NormAct
from tests.evonas.layers.exported_class import exported_class
from tests.evonas.layers.hosts import CHANNELS, HOSTS, Network, norm, residual
from tests.search_space.tensors import normal

LAYER = "max(x, -1000) - 3"  # an activation by its form, x - 3 in fact
X = normal(2, CHANNELS, 3, 2)
KINDS = {"pair": "-3 + max(-1000, x)", "alone": "affine", "left": "left: "}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("training", [False, True])
def test_what_a_network_computes_afterwards(name: str, training: bool) -> None:
    host = HOSTS[name]
    model = host.make().double().train(training)
    before, untouched = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    table = evonas.replacements(model, LAYER, without_activation="norm")
    torch.testing.assert_close(model.state_dict(), untouched, rtol=0, atol=0)
    shown = {row.site: row.becomes for row in table.rows if row.norm}
    assert list(shown) == list(host.becomes)
    for site, kind in host.becomes.items():
        assert shown[site].startswith(KINDS[kind]), shown
    if set(host.becomes.values()) == {"left"}:
        with pytest.raises(InputError, match="has no norm to replace: "):
            evonas.replace(model, LAYER, without_activation="norm")
    else:
        assert evonas.replace(model, LAYER, without_activation="norm") is model
        made = {name for name, each in model.named_modules() if isinstance(each, NormAct)}
        assert made == {site for site, kind in host.becomes.items() if kind != "left"}
    torch.manual_seed(0)
    after = model(X)
    torch.manual_seed(0)
    torch.testing.assert_close(after, host.computes(X) if host.computes else before(X))
    assert type(model).__name__ == type(before).__name__
    assert isinstance(model, type(before))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), lambda x: copy.deepcopy(copy.deepcopy(x))]
)
def test_a_rewritten_network_can_be_copied(copied: Callable[[Any], Any]) -> None:
    model = evonas.replace(Network(residual).double(), LAYER)
    twin = copied(model)
    assert torch.equal(twin(X), model(X))
    assert isinstance(twin, Network)
    with torch.no_grad():
        twin.norm.bias += 1
    assert not torch.equal(twin(X), model(X))


def test_a_rewritten_network_compiles_and_is_exported() -> None:
    torch.compiler.reset()
    model = evonas.replace(Network(residual).double(), "EvoNorm-B0").train()
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), model(X))
    torch.testing.assert_close(twin.state_dict(), model.state_dict())
    free = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}
    program = torch.export.export(model.eval(), (X,), dynamic_shapes=(free,))
    torch.testing.assert_close(program.module()(X[:1, :, :2]), model(X[:1, :, :2]))


def test_a_rewritten_network_keeps_its_state_dict_hooks_and_methods() -> None:
    class Host(Network):
        def name(self) -> str:
            return "host"

    model: Any = Host(residual).double()
    keys, calls = [*model.state_dict()], list[str]()
    model.register_forward_hook(lambda *_: calls.append("hook"))
    evonas.replace(model, LAYER)(X)
    assert calls == ["hook"]
    assert model.name() == "host"
    assert isinstance(model, Host)
    assert {key for key in model.state_dict() if "running" not in key} == {
        key for key in keys if key.endswith(("weight", "bias"))
    }


def test_a_network_can_be_replaced_in_two_steps() -> None:
    """The second one counts the activations of the original forward, as the first does."""

    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.act(net.norm(x))
        return net.act(net.act(net.group(y)) + x)

    model = Network(forward, group=nn.GroupNorm(2, CHANNELS), other=nn.Identity()).double()
    evonas.freeze(model)
    evonas.replace(model, LAYER)
    assert isinstance(model.group, NormAct)
    model.norm = norm().double()  # as if the first step had left it
    evonas.replace(model, LAYER)
    for copied in (model, copy.deepcopy(model)):
        torch.testing.assert_close(copied(X), torch.relu(X - 6 + X))


def test_a_forward_that_was_set_on_the_module_is_left() -> None:
    model: Any = Network(residual)
    model.forward = functools.partial(Network.forward, model)
    rows = evonas.replacements(nn.Sequential(model), LAYER, without_activation="norm").rows
    assert rows[0].becomes == "left: its activation cannot be left out: its forward is no method of its class"


def test_a_traced_network_is_changed_in_its_graph() -> None:
    model = torch.fx.symbolic_trace(Network(residual).double())
    evonas.replace(model, LAYER)
    for copied in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(copied(X), torch.relu(X - 3 + X))


# --------------------------------------------------------------------------- what is carried over

LN = "(x - mean_c(x)) / std_c(x)"
IN = "(x - mean_hw(x)) / std_hw(x)"
INSIDE = "a = (x - mean_bhw(x)) / std_bhw(x)\nmax(v1 * a + v0, zero)"
SAME: dict[str, tuple[nn.Module, str]] = {
    "BatchNorm and ReLU": (nn.Sequential(nn.BatchNorm2d(CHANNELS, eps=1e-2), nn.ReLU()), "BN-ReLU"),
    "with v0 and v1": (nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()), INSIDE),
    "without affine": (nn.Sequential(nn.BatchNorm2d(CHANNELS, affine=False), nn.ReLU()), "BN-ReLU"),
    "BatchNorm and SiLU": (nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.SiLU()), "BN-SiLU"),
    "BatchNorm and LeakyReLU": (nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.LeakyReLU(0.2)), "BN-LeakyReLU"),
    "BatchNorm alone": (nn.Sequential(nn.BatchNorm2d(CHANNELS)), "BatchNorm"),
    "with a learned slope": (nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.PReLU()), "BN-PReLU"),
    "GroupNorm and ReLU": (nn.Sequential(nn.GroupNorm(2, CHANNELS), nn.ReLU()), "GN-ReLU"),
    "InstanceNorm": (nn.Sequential(nn.InstanceNorm2d(CHANNELS, affine=True), nn.ReLU()), f"max({IN}, zero)"),
    "LayerNorm, channels first": (nn.Sequential(timm.layers.LayerNorm2d(CHANNELS)), LN),
    "timm's BatchNormAct2d": (nn.Sequential(timm.layers.BatchNormAct2d(CHANNELS)), "BN-ReLU"),
    "timm's GroupNormAct": (nn.Sequential(timm.layers.GroupNormAct(CHANNELS, 2)), "GN-ReLU"),
    "timm's LayerNormAct2d": (nn.Sequential(timm.layers.LayerNormAct2d(CHANNELS)), f"max({LN}, zero)"),
}


def set_generic(model: nn.Module) -> nn.Module:
    """Parameters and moments that no initialisation has."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and value.numel() > 1:  # but a slope
            drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value.copy_(drawn.exp() if name.endswith("var") else drawn)
    return model


@pytest.mark.parametrize("name", SAME)
def test_the_same_function_stays_in_value_and_moments(name: str) -> None:
    host, layer = SAME[name]
    model = set_generic(copy.deepcopy(host).double())
    twin = copy.deepcopy(model)
    assert "the same function" in evonas.replacements(twin, layer).rows[0].becomes
    evonas.replace(twin, layer, unbiased_running_var=True)
    for training in (False, True, False):  # the second time with moments that a training step has moved
        torch.testing.assert_close(twin.train(training)(X), model.train(training)(X))


@pytest.mark.parametrize(
    ("host", "layer"),
    [
        (nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.LeakyReLU(0.1)), "BN-LeakyReLU"),  # another slope
        (nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()), "BN-SiLU"),
        (nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()), "EvoNorm-B0"),
        (nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()), "GN-ReLU"),
    ],
)
def test_another_function_takes_the_affine_and_what_moments_it_can(host: nn.Module, layer: str) -> None:
    model = set_generic(copy.deepcopy(host).double())
    old: Any = model[0]
    table = evonas.replacements(model, layer)
    assert "the same function" not in table.rows[0].becomes
    new = evonas.replace(model, layer)[0]
    assert torch.equal(new.weight, old.weight)
    assert torch.equal(new.bias, old.bias)
    if layer == "EvoNorm-B0":
        assert torch.equal(new.running_0, old.running_var)
    assert "its moments start anew" not in table.rows[0].becomes


def test_a_mean_square_is_carried_over_and_what_is_no_moment_of_x_starts_anew() -> None:
    model = set_generic(nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()))
    old: Any = model[0]
    new = evonas.replace(copy.deepcopy(model), "x / rms_bhw(x)")[0]
    torch.testing.assert_close(new.running_0, old.running_var + old.running_mean**2)
    assert "its moments start anew" in evonas.replacements(model, "x / rms_bhw(tanh(x))").rows[0].becomes
    assert evonas.replace(model, "x / rms_bhw(tanh(x))")[0].running_0.tolist() == [1.0] * CHANNELS


@pytest.mark.parametrize(
    ("host", "shape"),
    [
        (nn.LayerNorm(CHANNELS, eps=1e-3), (2, 5, CHANNELS)),
        (nn.LayerNorm(CHANNELS, bias=False), (2, 3, 5, CHANNELS)),
        (nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.LayerNorm(CHANNELS)), (2, CHANNELS)),
    ],
)
def test_a_layer_norm_has_its_channels_last(host: nn.Module, shape: tuple[int, ...]) -> None:
    model, x = set_generic(copy.deepcopy(host).double()), normal(*shape)
    expected = model(x)
    assert "the same function; channels last" in evonas.replacements(model, LN).rows[0].becomes
    torch.testing.assert_close(evonas.replace(model, LN)(x), expected)


def test_synchronized_norms_are_compared_as_those_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    one = nn.SyncBatchNorm(CHANNELS, process_group=object())  # which cannot be copied
    other = timm.layers.convert_sync_batchnorm(timm.layers.BatchNormAct2d(CHANNELS))
    model = nn.Sequential(one, nn.ReLU(), other)
    rows = evonas.replacements(model, "BN-ReLU").rows
    assert [(row.activation, row.becomes) for row in rows] == [
        ("ReLU", "BN-ReLU; the same function"),
        ("ReLU, its own", "BN-ReLU; the same function"),
    ]


def test_what_scales_with_its_input_is_no_norm_and_timms_evonorms_are() -> None:
    model = nn.Sequential(
        timm.layers.grn.GlobalResponseNorm(CHANNELS), nn.ReLU(), timm.layers.EvoNorm2dS0(CHANNELS, groups=2)
    )
    rows = evonas.replacements(model, LAYER).rows
    assert [row.becomes for row in rows if row.norm] == ["left: its output grows with its input", "-3 + max(-1000, x)"]


def test_eps_momentum_groups_and_synchronization_are_the_sites_unless_they_are_given() -> None:
    model = nn.Sequential(nn.SyncBatchNorm(8, eps=0.25, momentum=0.5), nn.ReLU(), nn.GroupNorm(4, 8), nn.ReLU())
    one, _, two, _ = evonas.replace(copy.deepcopy(model), "EvoNorm-S0")
    assert (one.eps, one.momentum, one.synchronized, two.groups, two.eps) == (0.25, 0.5, True, 4, 1e-5)
    one, _, two, _ = evonas.replace(model, "EvoNorm-S0", groups=2, eps=1e-3, momentum=0.1)
    assert (one.eps, one.momentum, one.groups, two.groups, two.eps) == (1e-3, 0.1, 2, 2, 1e-3)


def test_a_layer_has_the_sites_type_and_mode() -> None:
    model = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()).bfloat16().eval()
    made = evonas.replace(model, "EvoNorm-B0")[0]
    assert not made.training
    assert {value.dtype for value in made.state_dict().values()} == {torch.bfloat16}
    with torch.device("meta"):
        model = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
    assert {value.device.type for value in evonas.replace(model, "BN-ReLU").state_dict().values()} == {"meta"}


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("choice", "layer", "kind"),
    [
        (None, "BN-SiLU", "(x - mean_bhw(x)) / std_bhw(x)"),
        ("norm", "BN-SiLU", "(x - mean_bhw(x)) / std_bhw(x)"),
        ("norm", "EvoNorm-B0", "affine"),
        (None, "EvoNorm-B0", "affine"),
        ("affine", "BN-SiLU", "affine"),
        ("layer", "EvoNorm-B0", "x / max"),
        ("keep", "EvoNorm-B0", "BatchNorm2d"),
    ],
)
def test_a_norm_without_activation_becomes_what_is_chosen(choice: Any, layer: str, kind: str) -> None:
    model: Any = evonas.replace(Network(residual), layer, without_activation=choice)
    other = model.other
    if kind == "affine":
        assert dict(other.named_buffers()) == {}
        assert torch.equal(other(X.float()), X.float())
    else:
        shown = other.genotype.formula if isinstance(other, NormAct) else type(other).__name__
        assert shown.startswith(kind)


@pytest.mark.parametrize("layer", ["GroupNorm", "DyT", "x / rms_c(x)", "(x - mean_hw(x)) / std_hw(x)", "PowerNorm"])
@pytest.mark.parametrize("choice", [None, "norm", "layer"])
def test_a_layer_without_activation_takes_the_place_of_norms_alone(layer: str, choice: Any) -> None:
    """Whatever follows them: an activation, a gate, several users; and where no forward can be traced."""

    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.norm(x)
        assert y.sum() < 1e9
        return net.act(y) * torch.sigmoid(net.other(x)) + y

    model: Any = evonas.replace(Network(forward).double().eval(), layer, without_activation=choice)
    made = evonas.layer(layer, CHANNELS, dtype=torch.float64).eval()
    y = made(X)
    torch.testing.assert_close(model(X), torch.relu(y) * torch.sigmoid(y) + y)
    assert isinstance(model.act, nn.ReLU)


def test_a_layer_without_activation_leaves_a_norm_that_has_its_own() -> None:
    rows = evonas.replacements(nn.Sequential(timm.layers.BatchNormAct2d(CHANNELS)), "GroupNorm").rows
    assert [(row.activation, row.becomes) for row in rows] == [
        ("ReLU, its own", "left: its own activation would be lost")
    ]
    with pytest.raises(InputError, match="'keep' is for layers with an activation"):
        evonas.replace(Network(residual), "GroupNorm", without_activation="keep")


@pytest.mark.parametrize("layer", ["EvoNorm-S0", "tanh(x)", exported_class(evonas.catalog["DyT"].graph)])
def test_a_network_is_not_left_without_any_norm_unasked(layer: Any) -> None:
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with pytest.raises(InputError, match=r"no norm of Sequential has .* \(followed by the output\); without"):
        evonas.replace(model, layer)
    plan = evonas.replacements(model, layer)  # shows each norm all the same
    assert plan.summary.startswith("Refused: no norm of Sequential has an activation")
    assert [(row.site, row.becomes) for row in plan.rows if row.norm] == [
        ("1", "affine; followed by the output; channels last")
    ]
    assert evonas.replace(copy.deepcopy(model), layer, without_activation="layer")[1].apply_act
    assert not evonas.replace(model, layer, without_activation="affine")[1].apply_act


def test_a_graph_is_a_layer_too() -> None:
    model: Any = evonas.replace(Network(residual), evonas.Graph.parse("x * sigmoid(x)"))
    assert model.norm.genotype.formula == "x * sigmoid(x)"


def test_a_network_without_parameters_gets_torchs_defaults() -> None:
    model: Any = evonas.replace(nn.Sequential(nn.InstanceNorm2d(CHANNELS), nn.ReLU()), "EvoNorm-S0")
    assert (model[0].weight.dtype, model[0].weight.device.type) == (torch.float32, "cpu")


def test_an_exported_class_is_a_layer_too() -> None:
    kind: Any = exported_class(evonas.catalog["EvoNorm-B0"].graph)
    model: Any = evonas.replace(Network(residual).double(), kind, eps=1e-3)
    named: Any = evonas.replace(Network(residual).double(), "EvoNorm-B0", eps=1e-3)
    assert type(model.norm) is type(model.other) is kind
    assert model.norm.eps == 1e-3
    torch.testing.assert_close(model(X), named(X))
    assert "left: it is a layer of evonas" in evonas.replacements(model, "EvoNorm-B0").rows[0].becomes
