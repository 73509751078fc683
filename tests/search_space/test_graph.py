"""Identity: the digest against networkx's isomorphism; what a graph refuses; its live part."""

import copy
import pickle
from itertools import combinations
from random import Random

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import categorical_multiedge_match, categorical_node_match
from torch import Tensor, nn

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import BASE_LEAVES, NODES_MAX, Graph, Leaf, Node
from evonas.search_space.lowering import NormAct, running_moments
from evonas.search_space.mutation import redraw
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.sampling import random_graph
from evonas.search_space.space import Space
from tests.conftest import graphs
from tests.search_space.graphs import EVERY_OP, graph_of, normal, rewritten, term_of, twin, woven_graphs

X, ZERO, V0, V1 = 0, 2, 3, 4  # places of the leaves
FIRST = len(BASE_LEAVES)
SMALL = Space(3, ("add", "div", "tanh"), ("mean",), ("hw",), ("x", "v1"))


# --------------------------------------------------------------------------- the oracle


def live_values(graph: Graph) -> list[int]:
    every = nx.DiGraph()
    every.add_node(graph.output)
    for index, node in enumerate(graph.nodes, start=len(graph.leaves)):
        every.add_edges_from((i, index) for i in node.inputs)
    return sorted(nx.ancestors(every, graph.output) | {graph.output})


def live_dag(graph: Graph) -> nx.MultiDiGraph:
    """One vertex a class of equal subexpressions, an edge an input; only non-commutative edges know their position.

    The graph is first rewritten by the rules of tests.search_space.graphs, which share no code with the product. Equal
    subexpressions are found by refining a partition, starting from one class for all values.
    """
    graph = graph_of(normal(term_of(graph)))
    live = live_values(graph)

    def signature(index: int, classes: dict[int, int]) -> tuple[object, ...]:
        node = graph.node(index)
        if node is None:
            return ("leaf", graph.leaves[index])
        inputs = [classes[i] for i in node.inputs]
        return (node.op, *(sorted(inputs) if PRIMITIVES[node.op].commutative else inputs))

    classes, count = dict.fromkeys(live, 0), 0
    while len(set(classes.values())) != count:
        count = len(set(classes.values()))
        numbers: dict[tuple[object, ...], int] = {}
        classes = {index: numbers.setdefault(signature(index, classes), len(numbers)) for index in live}
    dag = nx.MultiDiGraph()
    for index in live:
        if classes[index] in dag:
            continue
        node = graph.node(index)
        dag.add_node(classes[index], label=(node.op if node else graph.leaves[index]))
        for position, i in enumerate(node.inputs if node else ()):
            slot = "any" if node and PRIMITIVES[node.op].commutative else position
            dag.add_edge(classes[i], classes[index], slot=slot)
    for index in list(dag.nodes):
        dag.nodes[index]["output"] = index == classes[graph.output]
    return dag


def isomorphic(first: nx.MultiDiGraph, second: nx.MultiDiGraph) -> bool:
    same: bool = nx.is_isomorphic(
        first,
        second,
        node_match=categorical_node_match(["label", "output"], [None, None]),
        edge_match=categorical_multiedge_match("slot", None),
    )
    return same


# --------------------------------------------------------------------------- the digest


def test_digests_are_equal_exactly_for_isomorphic_graphs() -> None:
    drawn = [random_graph(SMALL, Random(seed)) for seed in range(80)]
    dags = [live_dag(graph) for graph in drawn]
    equal = different = 0
    for i, j in combinations(range(len(drawn)), 2):
        same = isomorphic(dags[i], dags[j])
        assert (drawn[i].digest == drawn[j].digest) == same, f"{drawn[i].formula} | {drawn[j].formula}"
        equal += same
        different += not same
    assert equal > 20
    assert different > 20


@given(woven_graphs() | graphs(), st.integers(0, 2**32))
def test_a_twin_has_the_digest_and_the_canonical_graph(graph: Graph, seed: int) -> None:
    other = twin(graph, Random(seed))
    assert isomorphic(live_dag(graph), live_dag(other))
    assert other.digest == graph.digest
    assert other.canonical() == graph.canonical()
    assert other.formula == graph.formula


@given(woven_graphs() | graphs(), st.integers(0, 2**32))
def test_a_mutant_has_the_digest_exactly_if_it_is_isomorphic(graph: Graph, seed: int) -> None:
    mutant = redraw(graph, EVERY_OP, Random(seed))
    assert (mutant.digest == graph.digest) == isomorphic(live_dag(graph), live_dag(mutant))


@given(woven_graphs() | graphs(), st.integers(0, 2**32))
def test_exact_rewrites_keep_the_digest(graph: Graph, seed: int) -> None:
    graph = Graph(graph.leaves, graph.nodes[:8], min(graph.output, len(graph.leaves) + 7))
    other = rewritten(graph, Random(seed))
    assert other.digest == graph.digest, f"{graph.formula} | {other}"
    assert other.canonical() == graph.canonical()


def bits(graph: Graph, dtype: torch.dtype) -> list[Tensor]:
    """What the graph computes as it stands, not its canonical form: output and gradient, in training and evaluation."""
    layer = NormAct(Graph.parse("x"), 8, groups=4).to(dtype)
    layer.genotype, layer._live, layer._running = graph, graph.live, running_moments(graph)
    for leaf in graph.leaves:
        if leaf.learned:
            shape = (8,) if leaf.kind == "vector" else (1,)
            layer.register_parameter(leaf.name, nn.Parameter(torch.full(shape, leaf.value, dtype=dtype)))
    for name, start in running_moments(graph).values():
        layer.register_buffer(name, torch.full((8,), start, dtype=dtype))
    generator = torch.Generator().manual_seed(0)
    found: list[Tensor] = []
    for training in (True, False):
        x = torch.randn(3, 8, 2, 3, generator=generator, dtype=dtype)
        x[0, 0], x[1, 1, 0, 0], x[1, 2, 0, 0] = 0.0, 1e-30, -0.0
        x.requires_grad_()
        value = layer.train(training)(x)
        (gradient,) = torch.autograd.grad(value.sum(), x, allow_unused=True, materialize_grads=True)
        found += [value.detach(), gradient + 0.0]  # nothing depends on the sign of a gradient's zero
    return found


@given(woven_graphs(Space(8, index_sets=EVERY_OP.index_sets)), st.integers(0, 2**32))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_rewrites_change_no_bit(dtype: torch.dtype, graph: Graph, seed: int) -> None:
    written = graph_of(term_of(graph))
    if written.takes_y:
        return
    first = bits(written, dtype)
    for other in (graph_of(normal(term_of(graph))), rewritten(graph, Random(seed)), graph.canonical()):
        for a, b in zip(first[::2], bits(other, dtype)[::2], strict=True):  # gradients: below, where nothing is merged
            assert same_bits(a, b), f"{graph.formula} | {other}"


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Every NaN counts as one."""
    a, b = a.nan_to_num(7.0, torch.inf, -torch.inf), b.nan_to_num(7.0, torch.inf, -torch.inf)
    return torch.equal(a, b) and torch.equal(a.signbit(), b.signbit())


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("-(-x)", "x"),
        ("-x / -v1", "x / v1"),
        ("-x * v1", "-(v1 * x)"),
        ("x * -2", "-(2 * x)"),
        ("v1 * (x * -2)", "-(v1 * (2 * x))"),
        ("x - (-2)", "2 + x"),
        ("neg(2) + x", "-2 + x"),
        ("square(-x)", "square(x)"),
        ("std_hw(-abs(x))", "std_hw(abs(x))"),
        ("rms_hw(-abs(x))", "rms_hw(x)"),
        ("abs(sigmoid(x))", "sigmoid(x)"),
        ("abs(-2)", "2"),
        ("max(x * v1, v1 * x)", "v1 * x"),
        ("1 * x / 1", "x"),
        ("-1 * x", "-x"),
        ("neg(0)", "-zero"),  # -0.0, whose reciprocal is another
        ("abs(square(x))", "abs(square(x))"),  # the gradient at 1e-30 differs
        ("x + 0", "x + zero"),  # so does the zero of -0.0
        ("max(0, x)", "max(x, zero)"),
        ("mean_hw(-x)", "mean_hw(-x)"),
        ("tanh(-x)", "tanh(-x)"),
        ("-v1 - x", "-v1 - x"),
    ],
)
def test_rewrites(text: str, formula: str) -> None:
    graph, rewritten = Graph.parse(text), Graph.parse(formula)
    assert graph.formula == formula
    for dtype in (torch.float32, torch.float64):
        for a, b in zip(bits(graph, dtype), bits(rewritten, dtype), strict=True):
            assert same_bits(a, b)


@pytest.mark.parametrize(
    "lines",
    [
        ["a0 = tanh(x * -2)", *(f"a{i} = tanh(a{i - 1} * -2)" for i in range(1, 50)), "a49"],
        ["m = -x", "a0 = sigmoid(x * m)", *(f"a{i} = sigmoid(a{i - 1} * m)" for i in range(1, 49)), "a48"],
    ],
)
def test_a_canonical_graph_has_no_more_nodes_than_a_graph_may_have(lines: list[str]) -> None:
    graph = Graph.parse("\n".join(lines))
    canonical = graph.canonical()
    assert canonical == canonical.canonical()
    assert Graph.parse(graph.formula) == canonical
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    assert NormAct(graph, 4)(x).isfinite().all()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x / v1", "v1 / x"),
        ("x - v1", "v1 - x"),
        ("x", "-x"),
        ("v0 * x", "v1 * x"),
        ("2 * x", "3 * x"),
        ("a = scalar(1)\na * x", "a = vector(1)\na * x"),
        ("a = scalar(1)\na * x", "a = scalar(2)\na * x"),
        ("a = scalar(1)\na * x", "b = scalar(1)\nb * x"),  # the state_dict differs
        ("x + y", "x + x"),
        ("x * (v1 * x)", "v1 * (x * x)"),  # associativity changes bits
        ("(x + v1) / exp(x + v0)", "(x + v0) / exp(x + v1)"),
        ("std_hw(x)", "std_chw(x)"),
    ],
)
def test_digests_differ(first: str, second: str) -> None:
    assert Graph.parse(first).digest != Graph.parse(second).digest


def test_a_digest_is_a_short_key_that_survives_the_process() -> None:
    digest = Graph.parse("max(x, zero)").digest
    assert len(digest) == 32
    assert digest == Graph.parse("dead = exp(x)\nmax(zero, x)").digest
    assert len({graph.digest for graph in LAYERS.graphs.values()}) == len(LAYERS.graphs)


# --------------------------------------------------------------------------- data


@given(woven_graphs() | graphs())
def test_live_is_what_the_output_depends_on(graph: Graph) -> None:
    assert graph.live == set(live_values(graph))
    assert graph.live_nodes == sum(index >= len(graph.leaves) for index in live_values(graph))


@given(woven_graphs() | graphs())
def test_the_canonical_graph_is_all_live_and_merged(graph: Graph) -> None:
    canonical = graph.canonical()
    dag = live_dag(graph)
    assert (
        canonical.live_nodes == len(canonical.nodes) == sum(isinstance(label, str) for _, label in dag.nodes("label"))
    )
    assert isomorphic(live_dag(canonical), dag)
    assert canonical.canonical() == canonical
    extras = range(len(BASE_LEAVES), len(canonical.leaves))
    assert all(index in canonical.live for index in extras)


@given(woven_graphs() | graphs())
def test_graphs_are_values(graph: Graph) -> None:
    same = Graph(graph.leaves, graph.nodes, graph.output)
    assert same == graph
    assert hash(same) == hash(graph)
    for clone in (pickle.loads(pickle.dumps(graph)), copy.deepcopy(graph), Graph.parse(str(graph))):
        assert clone == graph


@pytest.mark.parametrize("op", ["sigmoid", "mean_bhw"])
def test_the_largest_graph_of_a_space_round_trips(op: str) -> None:
    nodes = tuple(Node(op, (FIRST + i - 1 if i else X,)) for i in range(NODES_MAX))
    graph = Graph(BASE_LEAVES, nodes, FIRST + NODES_MAX - 1)
    assert Graph.parse(str(graph)) == graph
    assert Graph.parse(graph.formula) == graph.canonical()


def test_a_long_chain_of_shared_values_has_a_formula() -> None:
    nodes = tuple(Node("mul", (FIRST + i - 1,) * 2 if i else (X, X)) for i in range(NODES_MAX))
    graph = Graph(BASE_LEAVES, nodes, FIRST + NODES_MAX - 1)
    assert Graph.parse(graph.formula) == graph.canonical()


NUMBERS = (*BASE_LEAVES, Leaf("number", "", -1.0), Leaf("number", "", 2.0))


@pytest.mark.parametrize(
    ("leaves", "nodes", "output", "message"),
    [
        ((), (), 0, "first leaves are x, y, zero, v0, v1"),
        (BASE_LEAVES[1:], (), 0, "first leaves are x, y, zero, v0, v1"),
        (BASE_LEAVES[::-1], (), 0, "first leaves are x, y, zero, v0, v1"),
        ((*BASE_LEAVES, *NUMBERS[:4:-1]), (), 0, "ascending and once each"),
        ((*BASE_LEAVES, NUMBERS[5], NUMBERS[5]), (), 0, "ascending and once each"),
        ((*NUMBERS, Leaf("scalar", "a")), (), 0, "its parameters, then its numbers"),
        ((*BASE_LEAVES, Leaf("number", "", float("nan"))), (), 0, "numbers and initial values are finite"),
        ((*BASE_LEAVES, Leaf("number", "", float("inf"))), (), 0, "numbers and initial values are finite"),
        ((*BASE_LEAVES, Leaf("scalar", "a"), Leaf("vector", "a")), (), 0, "two learned parameters have one name"),
        ((*BASE_LEAVES, Leaf("scalar", "v1")), (), 0, "two learned parameters have one name"),
        (BASE_LEAVES, (Node("relu", (X,)),), FIRST, "unknown primitive 'relu'"),
        (BASE_LEAVES, (Node("add", (X,)),), FIRST, "add takes 2 earlier values"),
        (BASE_LEAVES, (Node("tanh", (X, X)),), FIRST, "tanh takes 1 earlier value"),
        (BASE_LEAVES, (Node("tanh", ()),), FIRST, "tanh takes 1 earlier value"),
        (BASE_LEAVES, (Node("tanh", (FIRST,)),), FIRST, "value 5: tanh takes 1 earlier value"),
        (BASE_LEAVES, (Node("tanh", (FIRST + 1,)), Node("tanh", (X,))), FIRST, "value 5: tanh takes 1 earlier value"),
        (BASE_LEAVES, (Node("tanh", (-1,)),), FIRST, "value 5: tanh takes 1 earlier value"),
        (BASE_LEAVES, (Node("tanh", (X,)),), FIRST + 1, "output 6 is not a value"),
        (BASE_LEAVES, (), -1, "output -1 is not a value"),
        (BASE_LEAVES, (Node("tanh", (X,)),) * (NODES_MAX + 1), FIRST, f"at most {NODES_MAX} are allowed"),
    ],
)
def test_malformed_graphs_fail_at_construction(
    leaves: tuple[Leaf, ...], nodes: tuple[Node, ...], output: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(leaves, nodes, output)


def test_node_finds_what_is_behind_a_value() -> None:
    graph = Graph(BASE_LEAVES, (Node("mul", (X, V1)), Node("max", (FIRST, ZERO))), FIRST + 1)
    assert graph.node(V0) is None
    assert graph.node(FIRST) == Node("mul", (X, V1))
    assert graph.node(FIRST + 1) == Node("max", (FIRST, ZERO))
    assert graph.formula == "max(v1 * x, zero)"
