"""The catalog against timm's own classes: trained for steps, evaluated, and what the backward keeps in memory."""

import pytest
import timm.layers
import torch
from torch import Tensor, nn

from evonas.search_space.catalog import LAYERS
from evonas.search_space.lowering import NormAct
from tests.search_space.tensors import normal

CHANNELS, GROUPS = 64, 8
EVONORMS = ["EvoNorm-B0", "EvoNorm-B1", "EvoNorm-B2", "EvoNorm-S0", "EvoNorm-S1", "EvoNorm-S2"]
NAMES = {"v": "v1", "running_var": "running_0"}  # in timm -> here


def theirs(name: str, groups: int = GROUPS) -> nn.Module:
    made: type[nn.Module] = getattr(timm.layers, name.replace("EvoNorm-", "EvoNorm2d"))
    options = {"eps": 1e-5} | ({"groups": groups} if "-S" in name else {})
    return made(CHANNELS, **options)


def ours(name: str, groups: int = GROUPS) -> NormAct:
    return NormAct(LAYERS[name].graph, CHANNELS, groups=groups, unbiased_running_var=True)


@pytest.mark.parametrize("name", EVONORMS)
def test_an_evonorm_trains_as_timms(name: str) -> None:
    layer, twin = ours(name).double(), theirs(name).double()
    for seed, (key, parameter) in enumerate(twin.named_parameters()):
        with torch.no_grad():
            parameter += 0.3 * normal(CHANNELS, seed=seed)
            layer.get_parameter(NAMES.get(key, key)).copy_(parameter)
    for step in range(4):
        for each in (layer, twin):
            each.train(step < 3)
        x = normal(4, CHANNELS, 5, 3, seed=10 + step).requires_grad_()
        slope = normal(4, CHANNELS, 5, 3, seed=20 + step)
        output, expected = layer(x), twin(x)
        # timm computes its variances in float32, also of doubles
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
        keys, learned = zip(*twin.named_parameters(), strict=True)
        own = [layer.get_parameter(NAMES.get(key, key)) for key in keys]
        gradients = torch.autograd.grad((output * slope).sum(), [x, *own])
        wanted = torch.autograd.grad((expected * slope).sum(), [x, *learned])
        torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-4)
    for key, buffer in twin.named_buffers():
        torch.testing.assert_close(layer.get_buffer(NAMES[key]), buffer, rtol=1e-6, atol=1e-6)
    assert len(list(layer.buffers())) == len(list(twin.buffers()))


@pytest.mark.parametrize("name", EVONORMS)
def test_without_the_activation_timms_is_the_affine_too(name: str) -> None:
    layer = NormAct(LAYERS[name].graph, CHANNELS, apply_act=False)
    twin = getattr(timm.layers, name.replace("EvoNorm-", "EvoNorm2d"))(CHANNELS, apply_act=False)
    x = normal(2, CHANNELS, 3, 3, seed=0).float()
    torch.testing.assert_close(layer(x), twin(x))


def test_frn_tlu_is_timms_where_the_affine_starts() -> None:
    layer, twin = NormAct(LAYERS["FRN+TLU"].graph, CHANNELS), timm.layers.FilterResponseNormTlu2d(CHANNELS)
    with torch.no_grad():
        twin.tau += normal(CHANNELS, seed=1).float()
        layer.get_parameter("v0").copy_(twin.tau)
    x = normal(4, CHANNELS, 5, 3, seed=0).float()
    torch.testing.assert_close(layer(x), twin(x))


@pytest.mark.parametrize(("name", "twin"), [("LayerNorm", "LayerNorm2d"), ("RMSNorm", "RmsNorm2d")])
def test_a_norm_over_channels_is_timms(name: str, twin: str) -> None:
    x = normal(4, CHANNELS, 5, 3, seed=0).float()
    expected = getattr(timm.layers, twin)(CHANNELS, eps=1e-5)(x)
    torch.testing.assert_close(NormAct(LAYERS[name].graph, CHANNELS)(x), expected)


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Of the storages that the forward pass keeps for the backward, each counted once."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(x)
    assert output.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("name", [name for name in LAYERS.graphs if LAYERS[name].inputs == 1])
def test_without_upcast_the_backward_keeps_no_more(name: str) -> None:
    x = normal(8, CHANNELS, 7, 7, seed=0).to(torch.bfloat16).requires_grad_()
    narrow, wide = (
        saved_bytes(NormAct(LAYERS[name].graph, CHANNELS, groups=GROUPS, upcast=upcast), x) for upcast in (False, True)
    )
    assert narrow <= wide


@pytest.mark.parametrize("size", [7, 16])
@pytest.mark.parametrize(
    ("name", "dtype", "upcast", "kept", "kept_by_timm"),
    [
        ("EvoNorm-S0", torch.float32, True, 16, 20),
        ("EvoNorm-B0", torch.float32, True, 16, 16),
        ("EvoNorm-S0", torch.bfloat16, True, 16, 14),  # timm's is float32 in its statistics alone
        ("EvoNorm-B0", torch.bfloat16, True, 16, 16),
        ("EvoNorm-S0", torch.bfloat16, False, 12, 14),
        ("EvoNorm-B0", torch.bfloat16, False, 12, 16),
    ],
)
def test_the_backward_keeps_so_many_bytes_for_each_element_of_x(
    name: str, dtype: torch.dtype, upcast: bool, kept: int, kept_by_timm: int, size: int
) -> None:
    """And beside them a few numbers for each channel of a sample."""
    x = normal(8, CHANNELS, size, size, seed=0).to(dtype).requires_grad_()
    layer = NormAct(LAYERS[name].graph, CHANNELS, groups=GROUPS, upcast=upcast)
    numbers = 4 * 8 * CHANNELS  # bytes of one float32 for each channel of a sample
    assert kept * x.numel() <= saved_bytes(layer, x) <= kept * x.numel() + 4 * numbers
    assert kept_by_timm * x.numel() <= saved_bytes(theirs(name), x) <= kept_by_timm * x.numel() + 4 * numbers
