"""A layer by its name, or by its text."""

import pytest

from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import NamedGraph, named_graph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_a_name_is_its_row(name: str) -> None:
    assert named_graph(name) == NamedGraph(name, LAYERS[name].graph)
    assert named_graph(name).is_known


@pytest.mark.parametrize(
    "text", ["x * v1 / std_hw(x)", "a = scalar(0.5)\ndead = exp(x)\ntanh(a * x)", "x  # EvoNorm#1"]
)
def test_a_text_is_named_by_its_formula_which_is_the_same_layer(text: str) -> None:
    named = named_graph(text)
    assert named == NamedGraph(Graph.parse(text).formula, Graph.parse(text))
    assert named_graph(named.name).graph.digest == Graph.parse(text).digest
    assert not named.is_known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EvoNorm-S00", "unknown layer 'EvoNorm-S00'; did you mean 'EvoNorm-S0'"),
        ("x-qqqq", "'x-qqqq' is neither a known layer nor a graph .*line 1, column 3: unknown name 'qqqq'"),
        ("x / stdhw(x)", "line 1, column 5: unknown primitive 'stdhw'; did you mean 'std_hw'"),
        ("PRepBN", "PRepBN is no graph"),
        ("QKNorm", "QKNorm is no layer that can be built here"),
        ("", "empty"),
    ],
)
def test_what_is_neither_is_bad_input(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        named_graph(text)


def test_a_graph_of_two_inputs_is_no_layer_of_the_proxies() -> None:
    with pytest.raises(InputError, match="takes two inputs, x and y"):
        named_graph("x + y").of_one_input()
    assert named_graph("n = x + y\ntanh(x)").of_one_input().graph.live_nodes == 1  # y is dead
