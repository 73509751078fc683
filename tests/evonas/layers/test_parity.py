"""The parity gate: its measure against hand arithmetic, and what it lets pass and refuses."""

import math

import pytest
import torch
from torch import Tensor

import evonas
from evonas.layers.fragility import fragility
from evonas.layers.parity import Comparison, Parity, error
from evonas.layers.trials import LAYOUTS, RUNNERS, Trial, in_eager, in_layout, trial_inputs
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph

ULP = 2.0**-23  # of float32 at 1


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --------------------------------------------------------------------------- the measure


@pytest.mark.parametrize(
    ("result", "exact", "ulp"),
    [
        ([1.0, -1.0], [1.0, -1.0], 0.0),
        ([1 + 3 * ULP, 1.0], [1.0, 1.0], 3.0),
        ([2 + 2 * ULP, 2.0], [2.0, 2.0], 1.0),  # an ulp of 2
        ([1.0, 3 * ULP], [1.0, 0.0], 3 * math.sqrt(2)),  # a small value beside a large one: of the rms, sqrt(1/2)
        ([math.inf, 1.0], [1e39, 1.0], 0.0),  # float32 has no more
        ([math.nan, 1.0], [math.nan, 1.0], 0.0),
        ([math.nan, 1.0], [1.0, 1.0], math.inf),
        ([1.0, 1.0], [math.nan, 1.0], math.inf),
    ],
)
def test_the_error_in_ulp(result: list[float], exact: list[float], ulp: float) -> None:
    measured = error(tensor(*result).float(), tensor(*exact), tensor(*exact))
    assert measured == pytest.approx(ulp, rel=1e-3)


def test_the_ulp_is_that_of_the_results_type() -> None:
    assert error(torch.tensor([1 + 2.0**-7]).bfloat16(), tensor(1.0), tensor(1.0)) == 1
    assert error(torch.tensor([1 + 2.0**-10]).half(), tensor(1.0), tensor(1.0)) == 1
    assert error(torch.tensor([2.0**-24]).half(), tensor(0.0), tensor(0.0)) == 1  # the smallest number


def test_what_a_rounded_input_changes_is_no_error() -> None:
    """A constant less its mean is 0. Whatever rounding leaves of it is as small as the last place of x."""
    assert error(tensor(3 * ULP, 0.0).float(), tensor(0.0, 0.0), tensor(ULP, -ULP)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x", 1.0), ("square(x)", math.sqrt(5)), ("x / 3", math.sqrt(3)), ("neg(neg(x)) * 1", 1.0)],
)
def test_fragility_is_the_root_of_the_squared_roundings(text: str, expected: float) -> None:
    """x is rounded once, and every node: of x^2 (1 + 2 u) (1 + u) that is sqrt(2^2 + 1^2)."""
    assert fragility(Graph.parse(text)) == pytest.approx(expected, rel=0.05)


def test_fragility_tells_cancellation() -> None:
    """The error of 1,000 + x is that of 1,000; x has an rms of 1 to 2."""
    assert 500 < fragility(Graph.parse("(x + 1000) - 1000")) < 2000
    assert fragility(Graph.parse("1 / (1 - sigmoid(3 * x))")) > 1e6
    assert math.isnan(fragility(Graph.parse("x * 0")))
    assert all(fragility(graph) < 5 for graph in evonas.catalog.graphs.values())


def test_a_format_may_have_8_ulp_or_4_times_eagers() -> None:
    trial = Trial("float32", "NCHW", "3e4", False)
    rows = [Comparison(trial, "forward", *each) for each in ((0.5, {"onnx": 8.0}), (3.0, {"onnx": 12.0}))]
    worse = [Comparison(trial, "forward", *each) for each in ((0.5, {"onnx": 8.1}), (3.0, {"onnx": 12.1}))]
    assert not Parity(tuple(rows), ("onnx",), None).refusal("onnx")
    measured = Parity((*rows, *worse), ("onnx",), None)
    assert measured.refusals("onnx") == worse
    assert measured.refusal("onnx") == (
        "onnx: 8.1 ulp forward in float32 on '3e4', NCHW, where eager has 0.5 and at most 8.0 are allowed; "
        "refused in 2 of 4 comparisons"
    )


# --------------------------------------------------------------------------- layers


@pytest.mark.parametrize("name", ["BN-ReLU", "EvoNorm-B0", "EvoNorm-S0", "LayerNorm", "PowerNorm"])
def test_layers_of_the_catalog_round_little_in_eager(name: str) -> None:
    """On constant, tiny, huge and alternating input as well, forward and backward, in all types."""
    measured = evonas.parity(name, [])
    assert {(each.trial.dtype, each.trial.layout, each.direction) for each in measured.comparisons} == {
        (dtype, layout, direction)
        for dtype in ("float32", "bfloat16", "float16")
        for layout in LAYOUTS
        for direction in ("forward", "backward")
    }
    assert len(measured.comparisons) == 3 * 7 * 2 * 2
    assert max(each.eager for each in measured.comparisons) < 16
    assert max(each.eager for each in measured.comparisons if each.direction == "forward") < 3


@pytest.mark.parametrize("channel_dim", [1, -1])
def test_a_program_is_compared_forward_and_backward(channel_dim: int) -> None:
    measured = evonas.parity("EvoNorm-S0", ["program"], channel_dim=channel_dim)
    assert {(each.direction, *each.errors) for each in measured.comparisons} == {
        ("forward", "program"),
        ("backward", "program"),
    }
    assert not measured.refusals("program")
    assert all(each.errors["program"] <= each.eager + 1 for each in measured.comparisons)
    assert all(len(line) <= 80 for line in repr(measured).splitlines())


def test_a_gradient_whose_terms_cancel_whatever_the_input_is_no_fault() -> None:
    """BatchNorm does not depend on v1: rounding alone is left of its gradient, a sum over the batch."""
    measured = evonas.parity("n0 = x / v1\n(n0 - mean_bhw(n0)) / std_bhw(n0)", [])
    assert max(each.eager for each in measured.comparisons) < 16


def test_upcast_false_shows_what_half_precision_costs() -> None:
    """Squares of 512 overflow float16; the layer that upcasts rounds once."""
    narrow = evonas.layer("square(x) / rms_hw(square(x))", 8, upcast=False)
    wide = evonas.layer("square(x) / rms_hw(square(x))", 8)
    worst = {}
    for name, layer in (("narrow", narrow), ("wide", wide)):
        rows = [each for each in evonas.parity(layer, []).comparisons if each.trial.input == "+-512"]
        worst[name] = max(each.eager for each in rows if each.trial.dtype == "float16" and each.direction == "forward")
    assert worst["wide"] < 1
    assert worst["narrow"] > 1000


def test_a_compiled_layer_is_tried_with_its_gradients() -> None:
    layer = evonas.layer("x * sigmoid(v1 * x) / rms_hw(x)", 4)
    compiled, eager = RUNNERS["compiled"](layer), in_eager(layer)
    (x,) = trial_inputs(layer)["realistic"]
    trial = Trial("float32", LAYOUTS[0], "realistic", True)
    ours, theirs = eager(trial, [x]), compiled(trial, [x])
    assert ours is not None
    assert theirs is not None
    assert list(theirs) == ["output", "input 0", "bias", "v1", "weight"]
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    assert compiled(Trial("float16", LAYOUTS[0], "one pixel", True), [x]) is None  # compiled once, in float32


@pytest.mark.parametrize("axis", [1, -1])
def test_both_orders_of_memory_hold_the_same_values(axis: int) -> None:
    (x,) = trial_inputs(evonas.layer("x", 8, channel_dim=axis))["realistic"]
    first, last = (in_layout(x, axis, layout) for layout in LAYOUTS)
    assert torch.equal(first, last)
    assert first.stride() != last.stride()
    assert last.stride(axis) == 1  # channels are neighbours


def test_bad_arguments_are_one_line() -> None:
    with pytest.raises(InputError, match="unknown format 'onxx'; did you mean 'onnx'"):
        evonas.parity("EvoNorm-S0", ["onxx"])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"^Conv2d is no layer of evonas; export a whole model with torch.export"):
        evonas.parity(torch.nn.Conv2d(3, 4, 1))
    for axis in (2, -2, 3, -3, 10**30):
        with pytest.raises(InputError, match=rf"^channel_dim: expected 1 or -1 in a file and its check, got {axis}$"):
            evonas.parity("EvoNorm-S0", [], channel_dim=axis)
