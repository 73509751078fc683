"""Chance is tested by draws: every draw is allowed, every required outcome is seen. And what a space refuses."""

from collections import Counter
from random import Random

import pytest

from evonas.search_space.analysis import depends_on_x
from evonas.search_space.errors import InputError
from evonas.search_space.graph import BASE_LEAVES, NODES_MAX, Graph
from evonas.search_space.mutation import mutate
from evonas.search_space.primitives import ELEMENTWISE, PRIMITIVES
from evonas.search_space.sampling import random_dependent_graph, random_graph
from evonas.search_space.space import PAPER_INDEX_SETS, PAPER_LEAVES, PAPER_PRIMITIVES, Space

DRAWS = 400
FIRST = len(BASE_LEAVES)
NAMES = [leaf.name for leaf in BASE_LEAVES]
RESTRICTED = Space(4, ("mul", "exp"), ("std",), ("hw", "c"), ("x", "v1"))


BEYOND = Space(leaves=("x", "y", "v0", "0.5", "-2", "scalar(0.5)", "vector(0.9)", "alpha = scalar(0.1)"))


def draws(space: Space) -> list[Graph]:
    rng = Random(0)
    return [random_graph(space, rng) for _ in range(DRAWS)]


def used_leaves(graph: Graph) -> set[str]:
    return {graph.leaves[i].name for node in graph.nodes for i in node.inputs if i < FIRST}


@pytest.mark.parametrize(
    ("space", "ops", "leaves"),
    [
        (
            Space(),
            {*PAPER_PRIMITIVES, *(f"{m}_{s}" for m in ("mean", "rms", "std") for s in PAPER_INDEX_SETS)},
            PAPER_LEAVES,
        ),
        (RESTRICTED, {"mul", "exp", "std_hw", "std_c"}, ("x", "v1")),
        (Space(index_sets=("c",)), {*PAPER_PRIMITIVES, "mean_c", "rms_c", "std_c"}, PAPER_LEAVES),
        (Space(aggregations=()), set(PAPER_PRIMITIVES), PAPER_LEAVES),
        (Space(primitives=(), aggregations=("rms",), index_sets=("ghw",)), {"rms_ghw"}, PAPER_LEAVES),
        (Space(leaves=("x",)), {*Space().ops}, ("x",)),
    ],
)
def test_exactly_the_ops_and_leaves_of_the_space_are_drawn(
    space: Space, ops: set[str], leaves: tuple[str, ...]
) -> None:
    seen = draws(space)
    assert {node.op for graph in seen for node in graph.nodes} == ops == set(space.ops)
    assert set().union(*map(used_leaves, seen)) == set(leaves)


@pytest.mark.parametrize("nodes", [1, 2, 10, NODES_MAX])
def test_a_draw_has_the_nodes_of_the_space_and_the_last_is_the_output(nodes: int) -> None:
    rng = Random(0)
    for _ in range(20):
        graph = random_graph(Space(nodes), rng)
        assert len(graph.nodes) == nodes
        assert graph.output == FIRST + nodes - 1
        assert graph.leaves == BASE_LEAVES


def test_every_input_of_a_node_is_drawn() -> None:
    seen: dict[tuple[int, int], set[int]] = {}
    for graph in draws(Space(4)):
        for place, node in enumerate(graph.nodes, start=FIRST):
            for position, i in enumerate(node.inputs):
                seen.setdefault((place, position), set()).add(i)
    leaves = {NAMES.index(name) for name in PAPER_LEAVES}
    assert seen == {(FIRST + i, k): leaves | set(range(FIRST, FIRST + i)) for i in range(4) for k in (0, 1)}


def test_ops_are_drawn_with_equal_chance() -> None:
    ops = [node.op for graph in draws(Space()) for node in graph.nodes]
    expected = len(ops) / len(Space().ops)
    spread = expected**0.5
    assert all(abs(ops.count(op) - expected) < 5 * spread for op in Space().ops)


def test_the_two_inputs_are_drawn_apart() -> None:
    pairs = {node.inputs for graph in draws(Space(1, ("add",), ())) for node in graph.nodes}
    leaves = [NAMES.index(name) for name in PAPER_LEAVES]
    assert pairs == {(a, b) for a in leaves for b in leaves}


def test_a_draw_is_a_function_of_the_random_state() -> None:
    assert [random_graph(Space(), Random(3)) for _ in range(2)] == [random_graph(Space(), Random(3))] * 2
    assert len({random_graph(Space(), Random(seed)) for seed in range(50)}) == 50


def test_leaves_beyond_the_papers_are_drawn_and_live_through_mutation_and_text() -> None:
    seen = draws(BEYOND)
    assert [(leaf.kind, leaf.name, leaf.value) for leaf in BEYOND.graph_leaves[FIRST:]] == [
        ("scalar", "p0", 0.5),
        ("vector", "p1", 0.9),
        ("scalar", "alpha", 0.1),
        ("number", "", -2.0),
        ("number", "", 0.5),
    ]
    allowed = {NAMES.index(name) for name in ("x", "y", "v0")} | set(range(FIRST, len(BEYOND.graph_leaves)))
    taken = {i for graph in seen for node in graph.nodes for i in node.inputs if i < len(BEYOND.graph_leaves)}
    assert taken == allowed
    rng = Random(1)
    for graph in seen[:100]:
        child, _ = mutate(graph, BEYOND, rng, times=5)
        assert child.leaves == BEYOND.graph_leaves
        assert Graph.parse(str(child)) == child
        assert not {NAMES.index("zero"), NAMES.index("v1")} & {i for node in child.nodes for i in node.inputs}


# --------------------------------------------------------------------------- the sampler of what passes the analysis


def test_only_graphs_that_depend_on_x_are_drawn_and_every_one_of_them() -> None:
    """The uniform distribution, conditioned: in a space small enough to count, each allowed graph at its own rate."""
    tiny = Space(2, ("mul", "neg"), ("std",), ("hw",), ("x", "v1"))
    rng = Random(0)
    uniform = Counter(str(random_graph(tiny, rng)) for _ in range(20_000))
    conditioned = Counter(str(random_dependent_graph(tiny, rng)) for _ in range(20_000))
    passing = {text: count for text, count in uniform.items() if depends_on_x(Graph.parse(text))}
    assert set(conditioned) == set(passing) != set(uniform)
    for text, count in passing.items():
        expected = 20_000 * count / sum(passing.values())
        assert abs(conditioned[text] - expected) < 6 * (2 * expected) ** 0.5, text


@pytest.mark.parametrize("space", [Space(1), Space(NODES_MAX), Space(40, (), ("std",), ("hw",), ("x", "v1"))])
def test_the_sampler_ends_in_every_space(space: Space) -> None:
    assert all(depends_on_x(random_dependent_graph(space, Random(seed))) for seed in range(20))


# --------------------------------------------------------------------------- spaces


def test_the_default_is_the_papers_space() -> None:
    space = Space()
    assert space.nodes == 10
    assert space.leaves == ("x", "zero", "v0", "v1")
    assert set(space.index_sets) == {"bhw", "chw", "hw", "ghw"}
    assert len(space.ops) == 12 + 3 * 4


def test_the_order_of_names_changes_no_draw() -> None:
    shuffled = Space(
        primitives=PAPER_PRIMITIVES[::-1], index_sets=PAPER_INDEX_SETS[::-1], aggregations=("std", "rms", "mean")
    )
    assert random_graph(shuffled, Random(5)) == random_graph(Space(), Random(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"primitives": ("sigmod",)}, "primitives: unknown name 'sigmod'; did you mean 'sigmoid'"),
        ({"primitives": ("std_hw",)}, "primitives: unknown name 'std_hw'"),
        ({"aggregations": ("meen",)}, "aggregations: unknown name 'meen'; did you mean 'mean'"),
        ({"index_sets": ("bwh",)}, "index_sets: unknown name 'bwh'; did you mean 'bhw'"),
        ({"leaves": ("x", "v2")}, "leaves: unknown name 'v2'; did you mean 'v"),
        ({"leaves": ("x", "zer")}, "leaves: unknown name 'zer'; did you mean 'zero'"),
        ({"leaves": ("x", "exp(x)")}, "leaves: 'exp(x)' is not a leaf; expected x, a number"),
        ({"leaves": ("x", "scalar(v0)")}, "leaves: 'scalar(v0)': graph text, line 1, column 8: expected a number"),
        ({"leaves": ("x", "weight = scalar(1)")}, "'weight' cannot be the name of a learned parameter"),
        ({"leaves": ("x", "a = scalar(1)", "a = vector(1)")}, "leaves: two learned parameters have one name"),
        ({"leaves": ("x", "0.5", "5e-1")}, "ascending and once each"),
        ({"leaves": ("v1",)}, "leaves: expected x among them, got v1"),
        ({"leaves": ()}, "leaves: expected x among them, got none"),
        ({"leaves": ("x", "x")}, "leaves: a name stands twice in x, x"),
        ({"primitives": ("add", "exp", "add")}, "primitives: a name stands twice"),
        ({"nodes": 0}, f"nodes: expected 1 to {NODES_MAX}, got 0"),
        ({"nodes": NODES_MAX + 1}, f"nodes: expected 1 to {NODES_MAX}, got {NODES_MAX + 1}"),
        ({"primitives": (), "aggregations": ()}, "at least one primitive or aggregation"),
        ({"primitives": (), "index_sets": ()}, "at least one primitive or aggregation"),
    ],
)
def test_a_space_fails_at_construction(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Space(**options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_every_primitive_can_be_in_a_space() -> None:
    assert set(Space(primitives=ELEMENTWISE, index_sets=("bhw", "chw", "hw", "ghw", "c")).ops) == set(PRIMITIVES)
