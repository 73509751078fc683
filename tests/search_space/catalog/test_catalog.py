"""The catalog: its rows, and its baselines against torch's own modules. test_catalog_oracles.py has every graph."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from evonas.search_space.analysis import batch_dependent
from evonas.search_space.catalog import LAYERS, Catalog, GraphLayer, KnownLayer, ListedLayer, ModuleLayer
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from tests.search_space.layers import layer_of
from tests.search_space.tensors import standard_normal as normal

CHANNELS, GROUPS = 8, 4
SHAPE = (5, CHANNELS, 4, 3)


def trained(name: str) -> NormAct:
    """A layer whose parameters are no longer where they started."""
    layer = layer_of(name)
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters(), start=100):
            parameter.add_(0.5 * normal(*parameter.shape, seed=seed))
    return layer


def gradients(output: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Of one weighted sum of the output, so that no gradient is hidden by symmetry."""
    return list(torch.autograd.grad((output * normal(*output.shape, seed=7)).sum(), inputs))


class AffineLast(nn.Module):
    """normalise without affine -> activate -> weight, bias: where the paper puts them."""

    def __init__(self, norm: nn.Module, activation: Callable[[Tensor], Tensor], layer: NormAct) -> None:
        super().__init__()
        self.norm = norm
        self.activation = activation
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(x)) * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def torch_twin(name: str, layer: NormAct) -> AffineLast:
    norms: Mapping[str, nn.Module] = {
        "BN-ReLU": nn.BatchNorm2d(CHANNELS, momentum=0.1, affine=False),
        "BN-SiLU": nn.BatchNorm2d(CHANNELS, momentum=0.1, affine=False),
        "GN-ReLU": nn.GroupNorm(GROUPS, CHANNELS, affine=False),
        "ReLU": nn.Identity(),
    }
    activation = nn.functional.silu if name == "BN-SiLU" else nn.functional.relu
    return AffineLast(norms[name], activation, layer).double()


TORCH_ROWS = ("BN-ReLU", "BN-SiLU", "GN-ReLU", "ReLU")


@pytest.mark.parametrize("name", TORCH_ROWS)
def test_a_row_trains_as_torchs_own_module(name: str) -> None:
    layer = trained(name)
    twin = torch_twin(name, layer)
    for seed in range(3):
        x = (2 * normal(*SHAPE, seed=seed) + 0.5).requires_grad_()
        output, expected = layer(x), twin(x)
        torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-10)
        ours = gradients(output, x, layer.weight, layer.bias)
        theirs = gradients(expected, x, twin.weight, twin.bias)
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["BN-ReLU", "BN-SiLU"])
def test_running_moments_are_batch_norms_with_the_biased_variance(name: str) -> None:
    layer = trained(name)
    twin = torch_twin(name, layer)
    for seed in range(4):
        x = 2 * normal(*SHAPE, seed=seed) + 0.5
        layer(x)
        twin(x)
    mean, variance = (layer.get_buffer(f"running_{k}") for k in (0, 1))
    n = SHAPE[0] * SHAPE[2] * SHAPE[3]
    start = 0.9**4  # what is left of the 1 that the variance starts at
    theirs = twin.norm.state_dict()
    torch.testing.assert_close(mean, theirs["running_mean"], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close((variance - start) * n / (n - 1), theirs["running_var"] - start, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TORCH_ROWS)
def test_a_row_evaluates_as_torchs_own_module(name: str) -> None:
    layer = trained(name)
    layer(2 * normal(*SHAPE) + 0.5)
    twin = torch_twin(name, layer)
    if name.startswith("BN"):
        running = {"running_mean": layer.get_buffer("running_0"), "running_var": layer.get_buffer("running_1")}
        twin.norm.load_state_dict(running, strict=False)
    x = normal(*SHAPE, seed=9).requires_grad_()
    output, expected = layer.eval()(x), twin.eval()(x)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-10)
    ours = gradients(output, x, layer.weight, layer.bias)
    torch.testing.assert_close(ours, gradients(expected, x, twin.weight, twin.bias), rtol=1e-8, atol=1e-9)


# --------------------------------------------------------------------------- graphs


BATCH = ("BN-second-moment", "BatchNorm", "RepBN", "L1-BN", "L1-BN-Wu")
STACKS = ("BN-ReLU", "BN-SiLU", "BN-LeakyReLU", "BN-PReLU", "GN-ReLU", "GN-SiLU", "GN-LeakyReLU")
BATCH_DEPENDENT = {
    *BATCH,
    *(name for name in STACKS if name.startswith("BN")),
    "EvoNorm-B0",
    "EvoNorm-B1",
    "EvoNorm-B2",
}


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_batch_layers_are_batch_dependent_and_no_others(name: str) -> None:
    expected = name in BATCH_DEPENDENT
    assert batch_dependent(LAYERS[name].graph) == expected == LAYERS[name].batch_dependent
    layer = trained(name)
    (x, y), (other, others) = ([normal(*SHAPE, seed=seed + k) for k in range(2)] for seed in (0, 5))
    other[0], others[0] = x[0], y[0]
    second = LAYERS[name].inputs - 1
    assert torch.equal(layer(x, *[y][:second])[0], layer(other, *[others][:second])[0]) == (not expected)


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_a_graph_is_its_text_with_its_parameters(name: str) -> None:
    row = LAYERS[name]
    assert Graph.parse(row.text) == row.graph == LAYERS.graphs[name]
    layer = NormAct(row.graph, CHANNELS)
    learned = {each.name: (each.kind == "vector", each.value) for each in row.parameters}
    found = {
        name: (each.shape == (CHANNELS,), round(each.flatten()[0].item(), 6)) for name, each in layer.named_parameters()
    }
    assert learned == found


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "ReLU": nn.functional.relu,
    "SiLU": nn.functional.silu,
    "LeakyReLU": partial(nn.functional.leaky_relu, negative_slope=0.2),
    "PReLU": partial(nn.functional.prelu, weight=torch.tensor(0.25)),  # where its slopes start
    "FRN+TLU": nn.functional.relu,  # tau starts at 0
}


@pytest.mark.parametrize("name", [*STACKS, "FRN+TLU"])
def test_the_norm_of_a_row_is_what_its_activation_sees(name: str) -> None:
    row = LAYERS[name]
    assert isinstance(row, GraphLayer)
    norm, whole = (layer_of(text, dtype=torch.float32) for text in (row.norm, row.text))
    activation = ACTIVATIONS.get(name, ACTIVATIONS.get(name[3:], torch.tanh))
    x = normal(*SHAPE).float()
    torch.testing.assert_close(whole(x), activation(norm(x)))


def test_discovered_layers_and_activations_have_no_norm_and_norms_are_all_norm() -> None:
    norms = {row.name: row.norm for row in LAYERS.values() if isinstance(row, GraphLayer)}
    without = {name for name, norm in norms.items() if not norm}
    assert without == {"ReLU", "SiLU", "GELU", "GELU-tanh", "tanh", "SELU"} | {
        n for n in LAYERS if n.startswith("EvoNorm")
    }
    parts = {name for name, norm in norms.items() if norm not in ("", LAYERS[name].text)}
    assert parts == {*STACKS, "FRN+TLU"}


def test_a_second_input_is_counted() -> None:
    two = {"nGPT", "MsgNorm", "FAdaIN", "TD-LN", "CrossNorm"}
    assert {name: LAYERS[name].inputs for name in LAYERS.graphs} == {n: 1 + (n in two) for n in LAYERS.graphs}


def test_no_two_rows_are_one_layer() -> None:
    digests = sorted(graph.digest for graph in LAYERS.graphs.values())
    assert all(first != second for first, second in pairwise(digests))


# --------------------------------------------------------------------------- rows


SURVEY = range(1, 39)  # the numbers of its layers
MODULES = {
    "PowerNorm": "PowerNorm",
    "UnifiedNorm": "UnifiedNorm",
    "OnlineNorm": "OnlineNorm",
    "EstBN": "EstBN",
    "BCN": "BatchChannelNorm",
    "PRepBN": "PRepBN",
}


def test_every_row_of_the_survey_is_there() -> None:
    assert {row.survey_number for row in LAYERS.values()} == {None, *SURVEY}


def test_the_baselines_are_there() -> None:
    plain = {"ReLU", "SiLU", "GELU", "GELU-tanh", "tanh", "Derf", "GroupNorm", "FRN+TLU", "BN-second-moment"}
    assert plain | {*STACKS} == {row.name for row in LAYERS.values() if row.survey_number is None}
    assert {f"EvoNorm-{series}{k}" for series in "BS" for k in range(3)} <= set(LAYERS.graphs)
    assert len(LAYERS) == len(list(LAYERS))


@pytest.mark.parametrize("name", LAYERS)
def test_a_row_is_a_graph_or_a_module_or_has_its_reason(name: str) -> None:
    row = LAYERS[name]
    assert row.name == name
    assert name in LAYERS
    assert type(row) is {"graph": GraphLayer, "module": ModuleLayer, "listed": ListedLayer}[row.kind]
    assert (name in LAYERS.graphs) == (row.kind == "graph")
    assert row.text
    assert "\n" not in row.note + row.source + row.paper
    if isinstance(row, ListedLayer):
        assert row.reason
        assert "\n" not in row.reason
        assert not row.reason.endswith(".")
    assert row.label in ("verified", "remembered")
    assert row.source
    assert row.paper
    assert "…" not in row.paper
    assert 1990 <= row.year <= 2026


def test_what_no_code_showed_says_so() -> None:
    remembered = {row.survey_number for row in LAYERS.values() if row.label == "remembered"}
    assert remembered == {None, 2, 13, 14, 27, 30, 31, 35, 36}


def test_the_modules_are_the_reference_ones() -> None:
    assert {row.name: row.module for row in LAYERS.values() if isinstance(row, ModuleLayer)} == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_whether_it_depends_on_the_batch(name: str) -> None:
    row = LAYERS[name]
    assert isinstance(row, ModuleLayer)
    layer = row.module_class(CHANNELS)
    assert layer(normal(*SHAPE).float()).shape == SHAPE
    assert isinstance(row.batch_dependent, bool)
    assert row.batch_dependent == layer.batch_dependent
    assert row.inputs == 1
    assert [each.name for each in row.parameters] == [name for name, _ in layer.named_parameters()]


@pytest.mark.parametrize("name", ["SPADE", "PCA-whitening"])
def test_a_listed_row_is_no_layer(name: str) -> None:
    row = LAYERS[name]
    assert row.batch_dependent is None
    assert row.parameters == ()
    assert row.inputs == 0
    with pytest.raises(InputError, match=f"{name} is no layer that can be built here: .*(convolution|covariance)"):
        _ = row.graph


def test_a_module_is_no_graph() -> None:
    with pytest.raises(InputError, match=r"is no graph; .* evonas\.search_space\.catalog\.modules\.PowerNorm"):
        _ = LAYERS["PowerNorm"].graph


# --------------------------------------------------------------------------- the mapping


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("bn-relu", "BN-ReLU"), ("EvoNorm-S3", "EvoNorm-S2"), ("BN-SiLu", "BN-SiLU"), ("GNReLU", "GN-ReLU")],
)
def test_an_unknown_name_names_the_nearest(name: str, nearest: str) -> None:
    assert name not in LAYERS
    with pytest.raises(InputError, match=f"unknown layer '{name}'; did you mean '{nearest}'"):
        LAYERS[name]


def test_a_name_near_nothing_lists_the_catalog() -> None:
    with pytest.raises(InputError, match="expected one of ABNN, ") as caught:
        LAYERS["qqqqqqqq"]
    assert all(name in str(caught.value) for name in LAYERS)


def test_get_has_a_default_as_in_any_mapping() -> None:
    assert LAYERS.get("no such layer") is None


def test_a_name_is_given_once() -> None:
    row: KnownLayer = LAYERS["ReLU"]
    with pytest.raises(ValueError, match="two known layers have one name"):
        Catalog((row, row))
