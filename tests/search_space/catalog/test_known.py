"""Which known layer a graph repeats, by its function."""

import pytest

from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.known import Known, known
from evonas.search_space.fingerprint import probe
from evonas.search_space.graph import Graph

ONE_INPUT = [name for name, graph in LAYERS.graphs.items() if not graph.takes_y]


def of(text: str) -> Known:
    return known(probe(Graph.parse(text)))


@pytest.mark.parametrize("name", ONE_INPUT)
def test_every_known_layer_is_known_by_its_own_name(name: str) -> None:
    assert of(LAYERS[name].text) == Known(same_as=name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x / max(v1 * x + std_hw(x), std_bhw(x) + zero)", Known(same_as="EvoNorm-B0")),  # written otherwise
        ("tanh(x) * 3 - 0.5", Known(affine_of="tanh")),
        ("-tanh(x)", Known(affine_of="tanh")),
        ("max(x / std_bhw(x), mean_bhw(x) / std_bhw(x))", Known(affine_of="BN-ReLU")),  # + mean / std of each channel
        ("tanh(2 * x)", Known()),
        ("max((x - mean_bhw(x)) / std_bhw(x), v0)", Known()),  # BN-ReLU until v0 moves
    ],
)
def test_a_graph_repeats_a_known_layer(text: str, expected: Known) -> None:
    assert of(text) == expected
