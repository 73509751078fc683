"""The key of how a layer starts to train."""

import pytest

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.start import start


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("x / std_bhw(x)", "x / max(std_bhw(x), tanh(v0))"),  # std > 0 = tanh(v0), which gets no gradient
        ("x / std_bhw(x)", "x / (std_bhw(x) + v1 * zero)"),
        ("x * sigmoid(x)", "x * max(v0, sigmoid(x))"),
        ("tanh(x) + v0", "a = vector(0)\ntanh(x) + a"),  # under another name
        ("tanh(x) + v0", "tanh(x) + (v0 + zero)"),
        ("max(x, zero)", "max(x, zero) + zero"),
    ],
)
def test_a_part_without_effect_leaves_the_start_as_it_is(text: str, copy: str) -> None:
    assert Graph.parse(text).digest != Graph.parse(copy).digest
    assert start(text) == start(copy)


@pytest.mark.parametrize(
    "other",
    [
        "x / std_hw(x)",
        "2 * x / std_bhw(x)",
        "-x / std_bhw(x)",
        "x / max(std_bhw(x), 0.1)",  # where x is small
        "x / max(std_bhw(x), mean_bhw(x))",  # where x is far from 0
        "x / max(std_bhw(x), -mean_bhw(x))",
        "x / std_bhw(x) + v0",  # equal outputs, and a parameter that moves
        "v1 * x / std_bhw(x)",
        "x / (v1 * std_bhw(x))",  # as the one before, with other gradients
        "x / std_bhw(x) + zero * x * v1 + v0",
    ],
)
def test_another_layer_starts_otherwise(other: str) -> None:
    assert start(other) != start("x / std_bhw(x)")


def test_the_layers_of_the_catalog_start_each_in_its_own_way() -> None:
    graphs = {name: graph for name, graph in LAYERS.graphs.items() if LAYERS[name].inputs == 1}
    keys: dict[str, list[str]] = {}
    for name, graph in graphs.items():
        keys.setdefault(start(str(graph)), []).append(name)
    assert [names for names in keys.values() if len(names) > 1] == []


def test_the_text_and_the_formula_have_one_start() -> None:
    graph = LAYERS["EvoNorm-B0"].graph
    assert start(str(graph)) == start(graph.formula)
