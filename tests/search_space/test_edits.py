"""Each operator makes the edits that its name says, all of them, and nothing else; by hand arithmetic and by laws."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.mutation import OPERATORS, Subject, mutate
from evonas.search_space.neighbourhood import distinct, neighbours
from evonas.search_space.sampling import pad
from evonas.search_space.space import Space
from tests.conftest import graphs

SMALL = Space(4, ("mul", "div", "neg", "tanh"), ("std",), ("hw",), ("x", "v1"))
EDITS = [name for name, operator in OPERATORS.items() if operator.edits]
BEYOND = Space(leaves=("x", "zero", "0.5", "alpha = scalar(2)"))


def lines(*texts: str) -> Counter[str]:
    """Canonical formulas, each in one line."""
    return Counter("; ".join(Graph.parse(text).formula.splitlines()) for text in texts)


def formulas(name: str, text: str, space: Space = SMALL, mate: str | None = None) -> Counter[str]:
    """The children that an operator can make of a text, as formulas."""
    subject = Subject(Graph.parse(text), space, Graph.parse(mate) if mate else None)
    children = [subject.child(edit) for edit in subject.edits(OPERATORS[name])]
    return lines(*(child.formula for child in children if child))


def test_op() -> None:
    assert formulas("op", "tanh(x)") == lines("-x", "std_hw(x)")
    assert formulas("op", "tanh(x * v1)") == lines("-(v1 * x)", "std_hw(v1 * x)", "tanh(x / v1)")


def test_input() -> None:
    """Every other value that does not depend on the node."""
    assert formulas("input", "tanh(x)") == lines("tanh(v1)")
    assert formulas("input", "x / std_hw(x)") == lines(
        "v1 / std_hw(x)", "std_hw(x) / std_hw(x)", "x / x", "x / v1", "x / std_hw(v1)"
    )


def test_input_takes_dead_nodes() -> None:
    dead = "n0 = tanh(v1)\nn1 = std_hw(n0)\nx / v1"
    assert formulas("input", dead)["x / tanh(v1)"] == 1
    assert formulas("input", dead)["std_hw(tanh(v1)) / v1"] == 1


def test_insert_before_and_after() -> None:
    """`tanh(x)` has two sites, x and the output: each takes neg, tanh, std, and mul and div with every other value."""
    before = ["tanh(-x)", "tanh(tanh(x))", "tanh(std_hw(x))", "tanh(x * x)", "tanh(v1 * x)", "tanh(x / x)"]
    before += ["tanh(x / v1)", "tanh(v1 / x)"]
    after = ["-tanh(x)", "tanh(tanh(x))", "std_hw(tanh(x))", "x * tanh(x)", "v1 * tanh(x)", "x / tanh(x)"]
    after += ["tanh(x) / x", "v1 / tanh(x)", "tanh(x) / v1", "tanh(x) * tanh(x)", "tanh(x) / tanh(x)"]
    assert formulas("insert", "tanh(x)") == lines(*before, *after)


def test_insert_on_all_uses_of_a_value() -> None:
    made = formulas("insert", "x * std_hw(x)")
    for text in ("tanh(x) * std_hw(x)", "x * std_hw(tanh(x))", "tanh(x) * std_hw(tanh(x))", "x * tanh(std_hw(x))"):
        assert made[next(iter(lines(text)))] == 1


def test_delete() -> None:
    assert formulas("delete", "x / std_hw(x)") == lines("x", "std_hw(x)", "x / x")
    assert formulas("delete", "n0 = tanh(x)\nn0 * std_hw(n0)")[Graph.parse("x * std_hw(x)").formula] == 1


def test_swap() -> None:
    assert formulas("swap", "x / std_hw(x)") == lines("std_hw(x) / x")
    assert formulas("swap", "x * std_hw(x)") == Counter()
    assert formulas("swap", "x / x") == Counter()


def test_cross() -> None:
    """For `x / std_hw(x)`: in place of the output, of the one node, and of x in all its uses."""
    made = formulas("cross", "x / std_hw(x)", mate="tanh(v1 * x)")
    whole = ["tanh(v1 * x)", "v1 * x", "x / tanh(v1 * x)", "x / (v1 * x)"]
    assert made == lines(*whole, "a = tanh(v1 * x)\na / std_hw(a)", "a = v1 * x\na / std_hw(a)")
    assert formulas("cross", "x / std_hw(x)") == Counter()


def test_cross_gives_a_parameter_that_starts_elsewhere_another_name() -> None:
    """Each keeps its own start."""
    made = formulas("cross", "a = scalar(1)\ntanh(a * x)", BEYOND, mate="a = scalar(3)\nsigmoid(a * x)")
    assert lines("a_2 = scalar(3)\ntanh(sigmoid(a_2 * x))").keys() <= made.keys()
    same = formulas("cross", "a = scalar(3)\ntanh(a * x)", BEYOND, mate="a = scalar(3)\nsigmoid(a * x)")
    assert not any("a_2" in formula for formula in same)


def test_value() -> None:
    changed = [f"tanh({value} * x)" for value in ("6", "1.5", "-3", "4", "2")]
    assert formulas("value", "tanh(3 * x)", BEYOND) == lines(*changed)
    started = [f"a = scalar({value})\ntanh(a * x)" for value in ("1", "-1")]
    assert formulas("value", "a = scalar(0)\ntanh(a * x)", BEYOND) == lines(*started)
    assert formulas("value", "max(v1 * x, zero)", BEYOND) == Counter()


@given(graphs(), graphs(), st.sampled_from(EDITS), st.integers(0, 2**32))
def test_a_child_has_the_spaces_size_and_ops(parent: Graph, mate: Graph, name: str, seed: int) -> None:
    child, made = mutate(parent, Space(), Random(seed), 1, {name: 1.0}, mate)
    assert len(child.nodes) == 10
    assert {node.op for node in child.nodes} <= set(Space().ops)
    assert Graph.parse(str(child)) == child
    assert (child == parent) == (made == ())
    assert mutate(parent, Space(), Random(seed), 1, {name: 1.0}, mate) == (child, made)


@given(graphs(), st.integers(0, 2**32))
def test_a_single_edit_changes_the_live_nodes_by_one_at_most(parent: Graph, seed: int) -> None:
    """Op, input and swap keep a node's place: what falls away was only its inputs'."""
    live = Graph.parse(parent.formula)
    subject = Subject(live, Space())
    for name in ("op", "swap", "delete", "insert"):
        for edit in subject.edits(OPERATORS[name])[:40]:
            changed, output = edit
            added = [i for i in changed if i not in subject.values]
            assert len(added) == (name == "insert")
            assert (output != live.output) <= (name in ("insert", "delete"))


@pytest.mark.parametrize("name", ["BN-ReLU", "EvoNorm-B0", "EvoNorm-S0"])
def test_neighbours_are_distinct_and_within_reach(name: str) -> None:
    """Each neighbour is drawn by its operators, and what they draw from a layer without dead nodes is a neighbour."""
    layer, space = LAYERS[name].graph.canonical(), Space()
    found = neighbours(layer, space)
    assert layer.digest not in found
    assert len({each.graph.formula for each in found.values()}) == len(found) > 400
    drawn = {mutate(layer, space, Random(seed), 1, {"op": 1, "input": 1, "insert": 2})[0].digest for seed in range(300)}
    assert drawn <= {*found, layer.digest}


def test_neighbours_of_a_layer_by_hand() -> None:
    """All of `tanh(x)` over (neg, tanh; x): op 1, input 0, insert neg and tanh before and after, delete 1."""
    space = Space(3, ("neg", "tanh"), (), (), ("x",))
    made = lines(*(each.graph.formula for each in neighbours(Graph.parse("tanh(x)"), space).values()))
    assert made == lines("-x", "tanh(-x)", "-tanh(x)", "tanh(tanh(x))", "x")


def test_distinct_neighbours_by_hand() -> None:
    """All of `exp(x)` over (neg, tanh, exp; zero, x), without `exp(zero)` and `exp(exp(x))`, which is not finite."""
    space, layer = Space(2, ("neg", "tanh", "exp"), (), (), ("x", "zero")), Graph.parse("exp(x)")
    found = distinct(layer, neighbours(layer, space).values())
    made = {each.graph.formula: each.operator for each in found.values()}
    inserted = ("exp(-x)", "exp(tanh(x))", "-exp(x)", "tanh(exp(x))")
    assert made == {"-x": "op", "tanh(x)": "op", **dict.fromkeys(inserted, "insert"), "x": "delete"}


def test_a_sign_that_moves_needs_a_neg_of_the_space() -> None:
    """`tanh(-0.5 * x)` is `tanh(-(0.5 * x))`, which a space without neg does not hold."""
    space = Space(6, ("mul", "tanh"), (), (), ("x", "0.5"))
    parent = pad(Graph.parse("tanh(0.5 * x)"), space, Random(0))
    made = {mutate(parent, space, Random(seed), 1, {"value": 1})[0].formula for seed in range(60)}
    assert made == {"x * 0", "tanh(x)", "tanh(0.25 * x)", "tanh(1.5 * x)"} - {"x * 0"}


def test_weights() -> None:
    parent = pad(LAYERS["EvoNorm-B0"].graph, Space(), Random(0))
    weights = {"redraw": 1.0, "op": 2.0, "insert": 1.0, "delete": 0.0}
    made = Counter(mutate(parent, Space(), Random(seed), 1, weights)[1] for seed in range(400))
    assert set(made) == {("redraw",), ("op",), ("insert",)}
    assert abs(made["op",] - 200) < 6 * 10


def test_an_operator_without_an_edit_gives_its_turn_away() -> None:
    parent = pad(Graph.parse("tanh(x)"), Space(), Random(0))
    assert {mutate(parent, Space(), Random(s), 1, {"swap": 9, "op": 1})[1] for s in range(20)} == {("op",)}
    assert mutate(parent, Space(), Random(0), 2, {"swap": 1}) == (parent, ())
    full = Space(1)
    assert mutate(Graph.parse("tanh(x)"), full, Random(0), 1, {"insert": 1})[1] == ()


def test_padding_brings_the_leaves_of_the_space() -> None:
    padded = pad(Graph.parse("a = scalar(7)\ntanh(a * x) + 3"), BEYOND, Random(0))
    own = [(leaf.kind, leaf.name, leaf.value) for leaf in padded.leaves[5:]]
    assert own == [("scalar", "a", 7.0), ("scalar", "alpha", 2.0), ("number", "", 0.5), ("number", "", 3.0)]
    assert padded.formula == Graph.parse("a = scalar(7)\ntanh(a * x) + 3").formula
