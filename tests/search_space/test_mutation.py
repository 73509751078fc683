"""The paper's redraw: one node changes at most; every place, operation and input is drawn; the draw may change nothing.

The other operators: test_edits.py.
"""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import BASE_LEAVES, Graph
from evonas.search_space.mutation import mutate, redraw
from evonas.search_space.sampling import random_graph
from evonas.search_space.space import PAPER_LEAVES, Space
from tests.conftest import graphs

FIRST = len(BASE_LEAVES)
NAMES = [leaf.name for leaf in BASE_LEAVES]
PARENT = random_graph(Space(), Random(1))
DRAWS = 3000


def mutants(parent: Graph, space: Space, draws: int = DRAWS) -> list[Graph]:
    rng = Random(0)
    return [redraw(parent, space, rng) for _ in range(draws)]


def changed(parent: Graph, child: Graph) -> list[int]:
    return [i for i, (a, b) in enumerate(zip(parent.nodes, child.nodes, strict=True)) if a != b]


@given(graphs(), st.integers(0, 2**32))
def test_at_most_one_node_changes_and_nothing_else(parent: Graph, seed: int) -> None:
    child = redraw(parent, Space(), Random(seed))
    assert len(changed(parent, child)) <= 1
    assert (child.leaves, child.output) == (parent.leaves, parent.output)


@given(graphs(), st.integers(0, 2**32), st.integers(1, 4))
def test_several_mutations_are_single_ones_in_a_row(parent: Graph, seed: int, times: int) -> None:
    rng, child = Random(seed), parent
    for _ in range(times):
        child = redraw(child, Space(), rng)
    assert mutate(parent, Space(), Random(seed), times) == (child, ("redraw",) * times)


@given(graphs(), st.integers(0, 2**32))
def test_a_mutation_is_a_function_of_the_random_state(parent: Graph, seed: int) -> None:
    before = str(parent)
    assert redraw(parent, Space(), Random(seed)) == redraw(parent, Space(), Random(seed))
    assert str(parent) == before


def test_every_place_is_drawn_with_equal_chance() -> None:
    places = Counter(place for child in mutants(PARENT, Space()) for place in changed(PARENT, child))
    expected = sum(places.values()) / len(PARENT.nodes)
    assert set(places) == set(range(len(PARENT.nodes)))
    assert all(abs(count - expected) < 6 * expected**0.5 for count in places.values())


def test_every_op_is_drawn_at_every_place() -> None:
    seen = {(place, child.nodes[place].op) for child in mutants(PARENT, Space()) for place in range(len(child.nodes))}
    assert seen == {(place, op) for place in range(len(PARENT.nodes)) for op in Space().ops}


def test_every_earlier_value_is_drawn_as_input() -> None:
    leaves = {NAMES.index(name) for name in PAPER_LEAVES}
    seen: dict[int, set[int]] = {}
    for child in mutants(PARENT, Space()):
        for place in changed(PARENT, child):
            seen.setdefault(place, set()).update(child.nodes[place].inputs)
    assert seen == {place: leaves | set(range(FIRST, FIRST + place)) for place in range(len(PARENT.nodes))}


def test_only_what_the_space_allows_is_drawn() -> None:
    space = Space(primitives=("mul", "tanh"), aggregations=("rms",), index_sets=("hw",), leaves=("x",))
    for child in mutants(PARENT, space, 500):
        for place in changed(PARENT, child):
            assert child.nodes[place].op in space.ops
            assert all(i == NAMES.index("x") or i >= FIRST for i in child.nodes[place].inputs)


def test_a_mutation_may_be_nothing() -> None:
    parent = Graph.parse("tanh(x)")
    space = Space(primitives=("tanh", "exp"), aggregations=(), leaves=("x",))
    assert {child.formula for child in mutants(parent, space, 50)} == {"tanh(x)", "exp(x)"}


def test_live_and_dead_nodes_both_change() -> None:
    outcomes = Counter(child.digest == PARENT.digest for child in mutants(PARENT, Space()))
    assert outcomes[True] > 0
    assert outcomes[False] > 0


def test_a_graphs_own_leaves_stay_and_are_drawn() -> None:
    parent = Graph.parse("alpha = scalar(0.5)\ntanh(alpha * x) + 3")
    own = range(FIRST, len(parent.leaves))
    children = mutants(parent, Space(), 500)
    drawn = {i for child in children for place in changed(parent, child) for i in child.nodes[place].inputs}
    assert all(child.leaves == parent.leaves for child in children)
    assert set(own) <= drawn


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_known_layers_can_be_mutated(name: str) -> None:
    parent = LAYERS[name].graph
    assert len({child.digest for child in mutants(parent, Space(), 50)}) > 1


def test_a_graph_without_nodes_cannot_be_mutated() -> None:
    with pytest.raises(InputError, match="without nodes"):
        redraw(Graph.parse("x"), Space(), Random(0))
