"""How far a layer starts to train from others."""

import math

import pytest
import torch

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.start import Starts, output_distance


def distance(one: str, *others: str) -> float:
    starts = Starts()
    for each in others:
        starts.add(each)
    return starts.distance(one)


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("x / std_bhw(x)", "x / max(std_bhw(x), tanh(v0))"),  # std > 0 = tanh(v0), which gets no gradient
        ("x / std_bhw(x)", "x / (std_bhw(x) + v1 * zero)"),
        ("x * sigmoid(x)", "x * max(v0, sigmoid(x))"),
        ("tanh(x) + v0", "a = vector(0)\ntanh(x) + a"),  # under another name
        ("tanh(x) + v0", "tanh(x) + (v0 + zero)"),
        ("max(x, zero)", "max(x, zero) + zero"),
        ("tanh(x)", "tanh(x) + 0.5 * v0"),  # trains as the layer's bias
        ("tanh(x)", "v1 * tanh(x)"),  # as its weight
    ],
)
def test_a_part_without_effect_leaves_the_start_as_it_is(text: str, copy: str) -> None:
    assert Graph.parse(text).digest != Graph.parse(copy).digest
    assert distance(text, copy) == distance(copy, text) == 0.0


@pytest.mark.parametrize(
    "other",
    [
        "x / std_hw(x)",
        "2 * x / std_bhw(x)",
        "-x / std_bhw(x)",
        "x / max(std_bhw(x), 0.1)",  # where x is small
        "x / max(std_bhw(x), mean_bhw(x))",  # where x is far from 0
        "x / max(std_bhw(x), -mean_bhw(x))",
        "x / (std_bhw(x) + v0)",  # equal outputs, and a parameter that moves
        "max(x / std_bhw(x), v0 * x)",
    ],
)
def test_another_layer_starts_otherwise(other: str) -> None:
    assert distance(other, "x / std_bhw(x)") >= 0.5


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("x", "1.25 * x", 0.2),  # of outputs and of gradients alike
        ("x", "-x", 2.0),
        ("x", "x + 10000", 1.0),
        ("x", "zero", 1.0),
        ("zero", "zero", 0.0),
        ("x", "x + abs(x) * v0", math.inf),  # nothing there learns by as many parameters
        ("tanh(rms_chw(1) * x)", "tanh(x)", 1e-5),  # rms_chw(1) is the root of 1 + 1e-5
    ],
)
def test_the_distance_is_the_largest_difference_as_a_share(one: str, other: str, expected: float) -> None:
    assert distance(one, other) == pytest.approx(expected, rel=0.01, abs=3e-5)


def test_the_nearest_counts_and_what_is_added_later_too() -> None:
    starts = Starts()
    assert starts.distance("x") == math.inf
    for factor, expected in ((2, 0.5), (4, 0.5), (1.25, 0.2)):
        starts.add(f"{factor} * x")
        assert starts.distance("x") == pytest.approx(expected)


def test_outputs_that_overflow_are_far_from_those_that_do_not() -> None:
    assert distance("exp(exp(x + 10))", "x") == 1.0
    assert distance("exp(exp(x + 10))", "exp(exp(x + 10))") == 0.0


def test_the_text_and_the_formula_have_one_start() -> None:
    graph = LAYERS["EvoNorm-B0"].graph
    assert distance(str(graph), graph.formula) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("x", "3 - 2 * x", 2.0),  # standardised, the negative: its difference is twice the values
        ("x", "v0 + 5 * x", 0.0),
        ("x / std_bhw(x)", "x", 0.0),
        ("x", "1 * zero", 1.0),
        ("zero", "v1", 0.0),
    ],
)
def test_the_distance_of_outputs_leaves_out_an_affine_of_each_channel(one: str, other: str, expected: float) -> None:
    assert output_distance(one, other) == pytest.approx(expected, abs=1e-5)


def test_the_distance_of_outputs_is_that_of_their_correlation() -> None:
    """Values of mean 0 and variance 1 have the mean square difference 2 (1 - correlation)."""
    torch.manual_seed(0)
    x = torch.randn(1 << 20, dtype=torch.float64)
    relu, silu = x.relu(), x * x.sigmoid()
    expected = (2 * (1 - torch.corrcoef(torch.stack([relu, silu]))[0, 1])).sqrt()
    found = output_distance(str(LAYERS["BN-ReLU"].graph), str(LAYERS["BN-SiLU"].graph))
    assert found == pytest.approx(float(expected), rel=0.2)  # the largest of four samples of 16 a channel
