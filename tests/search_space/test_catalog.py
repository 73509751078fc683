"""Known layers against torch's own modules, and against the papers' formulas written here once more."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from search_space.analysis import batch_dependent
from search_space.catalog import catalog
from search_space.errors import InputError
from search_space.graph import Graph
from search_space.lowering import NormAct

CHANNELS, GROUPS, EPS = 8, 4, 1e-5
SHAPE = (5, CHANNELS, 4, 3)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer_of(name: str) -> NormAct:
    """A layer whose parameters are no longer where they started."""
    layer = NormAct(catalog[name].graph, CHANNELS, groups=GROUPS).double()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters(), start=100):
            parameter.add_(0.5 * normal(*parameter.shape, seed=seed))
    return layer


def gradients(output: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Of one weighted sum of the output, so that no gradient is hidden by symmetry."""
    return list(torch.autograd.grad((output * normal(*output.shape, seed=7)).sum(), inputs))


def affine(layer: NormAct) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}


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
    layer = layer_of(name)
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
    layer = layer_of(name)
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
    layer = layer_of(name)
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


# --------------------------------------------------------------------------- EvoNorm, arXiv:2004.02967


def spread(parameter: Tensor) -> Tensor:
    return parameter.reshape(1, CHANNELS, 1, 1)


def evonorm_b0(x: Tensor, p: Mapping[str, Tensor], variance: Tensor | None = None) -> Tensor:
    """x / max(sqrt(batch variance + eps), v1 x + sqrt(instance variance + eps)) * weight + bias."""
    if variance is None:
        variance = torch.var(x, dim=(0, 2, 3), unbiased=False)
    instance = torch.var(x, dim=(2, 3), unbiased=False).reshape(x.shape[0], CHANNELS, 1, 1)
    denominator = torch.maximum((spread(variance) + EPS) ** 0.5, spread(p["v1"]) * x + (instance + EPS) ** 0.5)
    return x / denominator * spread(p["weight"]) + spread(p["bias"])


def evonorm_s0(x: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    """x sigmoid(v1 x) / sqrt(group variance + eps) * weight + bias."""
    groups = x.reshape(x.shape[0], GROUPS, -1)
    variance = torch.var(groups, dim=2, unbiased=False).repeat_interleave(CHANNELS // GROUPS, dim=1)
    numerator = x / (1 + torch.exp(-spread(p["v1"]) * x))
    return numerator / (variance.reshape(x.shape[0], CHANNELS, 1, 1) + EPS) ** 0.5 * spread(p["weight"]) + spread(
        p["bias"]
    )


def assert_same(layer: NormAct, formula: Callable[[Tensor, Mapping[str, Tensor]], Tensor], x: Tensor) -> None:
    """Values, and gradients to x and to every parameter."""
    x = x.clone().requires_grad_()
    names, parameters = zip(*layer.named_parameters(), strict=True)
    copies = {name: value.requires_grad_() for name, value in affine(layer).items()}
    output, expected = layer(x), formula(x, copies)
    assert set(names) == {"weight", "bias", "v1"}
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-11)
    ours, theirs = gradients(output, x, *parameters), gradients(expected, x, *(copies[name] for name in names))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_evonorm_b0_trains_as_its_formula() -> None:
    layer = layer_of("EvoNorm-B0")
    for seed in range(3):
        assert_same(layer, evonorm_b0, 1.5 * normal(*SHAPE, seed=seed) + 0.3)


def test_evonorm_b0_evaluates_with_the_running_variance() -> None:
    layer = layer_of("EvoNorm-B0")
    running = torch.ones(CHANNELS, dtype=torch.float64)
    for seed in range(3):
        x = 1.5 * normal(*SHAPE, seed=seed) + 0.3
        layer(x)
        running = 0.9 * running + 0.1 * torch.var(x, dim=(0, 2, 3), unbiased=False)
    layer.eval()
    assert_same(layer, lambda x, p: evonorm_b0(x, p, running), normal(*SHAPE, seed=9))


@pytest.mark.parametrize("training", [True, False])
def test_evonorm_s0_is_its_formula(training: bool) -> None:
    layer = layer_of("EvoNorm-S0").train(training)
    assert list(layer.buffers()) == []
    assert_same(layer, evonorm_s0, 1.5 * normal(*SHAPE) + 0.3)


# --------------------------------------------------------------------------- the catalog as a mapping


@pytest.mark.parametrize("name", catalog)
def test_batch_layers_are_batch_dependent_and_no_others(name: str) -> None:
    expected = name.startswith(("BN-", "EvoNorm-B"))
    assert batch_dependent(catalog[name].graph) == expected
    layer = layer_of(name)
    x, other = normal(*SHAPE), normal(*SHAPE, seed=1)
    other[0] = x[0]
    assert torch.equal(layer(x)[0], layer(other)[0]) == (not expected)


def test_the_baselines_are_there() -> None:
    assert {"BN-ReLU", "GN-ReLU", "BN-SiLU", "ReLU", "EvoNorm-B0", "EvoNorm-S0"} <= set(catalog)
    assert len(catalog) == len(list(catalog))


@pytest.mark.parametrize("name", catalog)
def test_a_row_is_a_graph_with_its_source(name: str) -> None:
    row = catalog[name]
    assert row.name == name
    assert name in catalog
    assert Graph.parse(row.text) == row.graph
    assert row.source
    assert row.year >= 2000


def test_no_two_rows_are_one_layer() -> None:
    digests = sorted(row.graph.digest for row in catalog.values())
    assert all(first != second for first, second in pairwise(digests))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("bn-relu", "BN-ReLU"), ("EvoNorm-S1", "EvoNorm-S0"), ("BN-SiLu", "BN-SiLU"), ("GNReLU", "GN-ReLU")],
)
def test_an_unknown_name_names_the_nearest(name: str, nearest: str) -> None:
    assert name not in catalog
    with pytest.raises(InputError, match=f"unknown layer '{name}'; did you mean '{nearest}'"):
        catalog[name]


def test_a_name_near_nothing_lists_the_catalog() -> None:
    with pytest.raises(InputError, match="expected one of BN-ReLU, ") as caught:
        catalog["qqqqqqqq"]
    assert all(name in str(caught.value) for name in catalog)


def test_get_has_a_default_as_in_any_mapping() -> None:
    assert catalog.get("no such layer") is None
