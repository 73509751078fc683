"""Bad options and bad inputs are one clear line: in layers of a graph, in reference modules, in exported classes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import evonas
from evonas.search_space.catalog import LAYERS
from tests.evonas.layers.exported_class import exported_class

MODULES = [name for name, row in LAYERS.items() if row.kind == "module"]


EXPORTED = {name: exported_class(LAYERS[name].graph) for name in ("EvoNorm-S0", "EvoNorm-B0")}


def fault(make: Callable[[], object]) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (8, {"eps": 1e40}, r"eps: expected a number above 0, got 1e+40, which float32 lacks"),
        (8, {"eps": 1e-50}, "eps: expected a number above 0, got 1e-50, which float32 lacks"),
        (8, {"eps": True}, "eps: expected a number above 0, got True"),
        (8, {"eps": None}, "eps: expected a number above 0, got None"),
        (8, {"eps": "1e-5"}, "eps: expected a number above 0, got '1e-5'"),
        (8, {"eps": math.inf}, "eps: expected a number above 0, got inf, which float32 lacks"),
        (8, {"eps": 2**2000}, f"eps: expected a number above 0, got {f'{2**2000!r:.80}'}, which float32 lacks"),
        (8, {"momentum": True}, "momentum: expected 0 to 1, got True"),
        (8, {"momentum": "a"}, "momentum: expected 0 to 1, got 'a'"),
        ("4", {}, "num_features: expected an integer of at least 1, got '4'"),
        (True, {}, "num_features: expected an integer of at least 1, got True"),
        (10**30, {}, f"num_features: expected an integer of at most 2147483647, got {10**30}"),
        (8, {"groups": "4"}, "groups: expected an integer of at least 1, got '4'"),
        (8, {"groups": None}, "groups: expected an integer of at least 1, got None"),
        (8, {"channel_dim": 0}, "channel_dim: expected 1 or -1 (axis 0 is the batch), got 0"),
        (8, {"channel_dim": "1"}, "channel_dim: expected an integer, got '1'"),
        (8, {"dtype": "float64"}, "dtype: expected a floating-point type such as torch.float32, got 'float64'"),
        (8, {"dtype": float}, "dtype: expected a floating-point type such as torch.float32, got <class 'float'>"),
        (
            8,
            {"dtype": torch.float8_e4m3fn},
            "dtype: expected a floating-point type such as torch.float32, got torch.float8_e4m3fn",
        ),
    ],
)
@pytest.mark.parametrize("name", ["EvoNorm-S0", *MODULES])
def test_a_layer_refuses_a_bad_option(name: str, features: Any, options: dict[str, Any], message: str) -> None:
    if "momentum" in options and name == "OnlineNorm":  # it has two decays instead
        options, message = {"forward_decay": options["momentum"]}, message.replace("momentum", "forward_decay")
    assert fault(lambda: evonas.layer(name, features, **options)) == message


@pytest.mark.parametrize("name", ["EvoNorm-S0", *MODULES])
def test_a_device_that_torch_lacks_is_one_line(name: str) -> None:
    message = fault(lambda: evonas.layer(name, 8, device="nope"))
    assert message.startswith("device: torch cannot use 'nope' here (Expected one of cpu, cuda")
    assert fault(lambda: evonas.layer(name, 8, device=3.5)).startswith("device: torch cannot use 3.5 here")


@pytest.mark.parametrize(
    ("features", "options", "named", "got"),
    [
        (8, {"eps": 1e40}, "eps", "1e+40"),
        (8, {"eps": 1e-50}, "eps", "1e-50"),
        (8, {"eps": 0}, "eps", "0"),
        (8, {"eps": math.nan}, "eps", "nan"),
        (8, {"eps": True}, "eps", "True"),
        (8, {"eps": "1e-5"}, "eps", "'1e-5'"),
        (8, {"eps": None}, "eps", "None"),
        ("4", {}, "num_features", "'4'"),
        (0, {}, "num_features", "0"),
        (-1, {}, "num_features", "-1"),
        (None, {}, "num_features", "None"),
    ],
)
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_class_refuses_a_bad_number(
    name: str, features: Any, options: dict[str, Any], named: str, got: str
) -> None:
    message = fault(lambda: EXPORTED[name](features, **options))
    assert message == f"{named}: expected a number above 0, got {got}"


@pytest.mark.parametrize("momentum", [-0.1, 1.1, True, "a", None])
def test_an_exported_class_refuses_a_bad_momentum(momentum: Any) -> None:
    message = fault(lambda: EXPORTED["EvoNorm-B0"](8, momentum=momentum))
    assert message == f"momentum: expected 0 to 1, got {momentum!r}"
    assert fault(lambda: EXPORTED["EvoNorm-S0"](8, groups=0)) == "groups: expected a number above 0, got 0"


@pytest.mark.parametrize("axis", [0, True, "a", 1.5, None])
def test_an_exported_class_refuses_a_bad_axis_of_channels(axis: Any) -> None:
    """With 0 it took the batch for channels."""
    message = fault(lambda: EXPORTED["EvoNorm-B0"](8, channel_dim=axis))
    assert message == f"channel_dim: expected 1 or -1, got {axis!r}"


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: evonas.layer("EvoNorm-S0", np.int64(8), groups=np.int64(4), eps=np.float32(1e-3), **options),
        lambda **options: evonas.layer("PowerNorm", np.int64(8), momentum=np.float32(0.5), **options),
        lambda **options: EXPORTED["EvoNorm-S0"](np.int64(8), groups=np.int64(4), eps=np.float32(1e-3), **options),
    ],
)
@pytest.mark.parametrize(
    ("shape", "channel_dim", "fits"),
    [
        ((2, 8, 3), 1, True),
        ((2, 3, 8), -1, True),
        ((2, 3, 8, 5), 2, True),
        ((2, 7, 3), 1, False),
        ((2, 8, 3), -1, False),
        ((2, 8, 4, 4), 7, False),
        ((2, 8, 4, 4), -5, False),
        ((8, 8), -2, False),  # the batch's
        ((8,), -1, False),
    ],
)
def test_an_input_whose_channels_do_not_fit_is_the_same_line_everywhere(
    make: Callable[..., nn.Module], shape: tuple[int, ...], channel_dim: int, fits: bool
) -> None:
    layer, x = make(channel_dim=channel_dim), torch.ones(shape)
    if fits:
        assert layer(x).shape == shape
    else:
        assert fault(lambda: layer(x)) == f"expected 8 channels at axis {channel_dim}, got shape {shape}"


@pytest.mark.parametrize("groups", [3, 4, 5, 32])
def test_groups_that_do_not_divide_are_lowered_until_they_do(groups: int) -> None:
    """The official rule: 7 channels have 1 group, unless 7 groups are asked for."""
    expected = 7 if groups >= 7 else 1
    assert evonas.layer("EvoNorm-S0", 7, groups=groups).groups == expected
    assert EXPORTED["EvoNorm-S0"](7, groups=groups).groups == expected
