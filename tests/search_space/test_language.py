"""Text <-> Graph: round trips, errors that point, and no execution of anything."""

import pickle
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from tests.conftest import graphs
from tests.search_space import fuzz


@given(graphs())
def test_genotype_round_trips(graph: Graph) -> None:
    assert Graph.parse(str(graph)) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph


@given(graphs())
def test_formula_is_the_canonical_graph(graph: Graph) -> None:
    canonical = graph.canonical()
    assert Graph.parse(graph.formula) == canonical
    assert canonical.canonical() == canonical
    assert canonical.formula == graph.formula
    assert canonical.digest == graph.digest


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("max(x, zero)", "max(x, zero)"),
        ("max(zero, x)", "max(x, zero)"),
        ("x*v1", "v1 * x"),
        ("x - mean_bhw(x)", "x - mean_bhw(x)"),
        ("add(x, neg(mean_bhw(x)))", "x - mean_bhw(x)"),
        ("x - (v1 - v0)", "x - (v1 - v0)"),
        ("(x / v1) / v0", "x / v1 / v0"),
        ("x / (v1 / v0)", "x / (v1 / v0)"),
        ("-(x * v1)", "-(v1 * x)"),
        ("-x * v1", "-(v1 * x)"),
        ("-0.5 * x", "-(0.5 * x)"),
        ("neg(0.5) * x", "-(0.5 * x)"),
        ("x + neg(0.5)", "-0.5 + x"),
        ("tanh(x) * tanh(x)", "n0 = tanh(x)\nn0 * n0"),
        ("a = scalar(0.5)\ntanh(a * x)", "a = scalar(0.5)\ntanh(a * x)"),
        ("tanh(scalar(0.5) * x)", "p0 = scalar(0.5)\ntanh(p0 * x)"),
        ("q = vector(2) * x\np0 = scalar(1)\np0 + q", "p0 = scalar(1)\np1 = vector(2)\np0 + p1 * x"),
        ("dead = exp(x)\nx  # a comment", "x"),
        ("k = 2\nx * k", "2 * x"),
        ("x + y", "x + y"),
    ],
)
def test_formula(text: str, formula: str) -> None:
    graph = Graph.parse(text)
    assert graph.formula == formula
    assert Graph.parse(formula) == graph.canonical()
    assert Graph.parse(str(graph)) == graph


def test_dead_parts_stand_in_the_genotype_only() -> None:
    graph = Graph.parse("a = vector(2)\nk = 3\nn = exp(x)\nm = tanh(n)\nx * x")
    assert str(graph) == "a = vector(2)\nk0 = 3\nn0 = exp(x)\nn1 = tanh(n0)\nx * x"
    assert graph.formula == "x * x"
    assert graph.live_nodes == 1


def test_deep_graphs_print_in_lines_that_parse() -> None:
    text = "x"
    for _ in range(45):
        text = f"tanh({text})"
    graph = Graph.parse(text)
    assert len(graph.formula.splitlines()) > 1
    assert Graph.parse(graph.formula) == graph.canonical()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("x +", "line 1, column"),
        ("x * sigmod(x)", "line 1, column 5: unknown primitive 'sigmod'; did you mean 'sigmoid'"),
        ("x * v2", "column 5: unknown name 'v2'; did you mean 'v"),
        ("max(x)", "max takes 2 arguments, got 1"),
        ("tanh", "is a primitive and needs arguments"),
        ("a = tanh(x)", "the last line is the output"),
        ("x = tanh(x)\nx", "'x' is reserved"),
        ("a = x\na = v1\na", "'a' is named twice"),
        ("weight = scalar(1)\nx * weight", "cannot be the name of a learned parameter"),
        ("n3 = vector(1)\nx * n3", "cannot be the name of a learned parameter"),
        ("a = scalar(x)\na", "expected a number"),
        ("x ** 2", "not part of the language"),
        ("x.data", "not part of the language"),
        ("(lambda: x)()", "not part of the language"),
        ("[x]", "not part of the language"),
        ("__import__('os').system('true')", "not part of the language"),
        ("max(x, zero, key=x)", "not part of the language"),
        ("max(*x)", "max takes 2 arguments"),
        ("x * True", "expected a number"),
        ("x * 1e999", "too large"),
        ("x * 'a'", "expected a number"),
        ("import os\nx", "expected `name = expression`"),
        ("(" * 60 + "x" + ")" * 60, "nested deeper"),
        ("-" * 60 + "x", "nested deeper"),
        ("x" + " + x" * 300, "nested deeper"),
        ("x + x" * 1000, "4000 are allowed"),
        ("x\x00", "null bytes"),
    ],
)
def test_errors_point_and_suggest(text: str, message: str) -> None:
    with pytest.raises(InputError, match="graph text") as caught:
        Graph.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=300) | st.text(alphabet="xyv01()+-*/=., \n#tanhmeabsd_w", max_size=300))
def test_any_text_is_a_graph_or_a_clear_error(text: str) -> None:
    try:
        graph = Graph.parse(text)
    except InputError:
        return
    assert Graph.parse(str(graph)) == graph


def test_ten_thousand_fuzzed_texts_are_graphs_or_clear_errors(tmp_path: Path) -> None:
    """How long they take: tests/benchmarks/fuzz.py."""
    canary = tmp_path / "canary"
    seen: Counter[tuple[str, str]] = Counter()
    for kind, text in fuzz.texts(str(canary)):
        try:
            graph = Graph.parse(text)
        except InputError as error:
            seen[kind, "error"] += 1
            assert "graph text" in str(error)
            assert "\n" not in str(error)
            assert len(str(error)) < 1000
        else:
            seen[kind, "graph"] += 1
            assert Graph.parse(str(graph)) == graph
    assert not canary.exists()
    assert seen.total() == fuzz.COUNT
    assert all(seen[kind, "graph"] >= 50 for kind in ("mutated", "spliced", "deep")), seen
    assert all(seen[kind, "error"] >= 500 for kind, _ in seen), seen


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("  x * sigmod(x)", "line 1, column 7:"),
        ("a = tanh(x)\n\t a + sigmod(x)", "line 2, column 7:"),
        ("é = tanh(x)\né * é + sigmod(x)", "line 2, column 9:"),
        ("max(x,\n    sigmod(x))", "line 2, column 5:"),
        ("   x + * x", "line 1, column 8:"),
    ],
)
def test_a_column_is_that_of_the_text_as_written(text: str, place: str) -> None:
    with pytest.raises(InputError, match=place):
        Graph.parse(text)


@pytest.mark.parametrize("number", ["1e39", "-1e300", "9" * 400])
def test_numbers_beyond_single_precision_are_refused(number: str) -> None:
    with pytest.raises(InputError, match="number is too large"):
        Graph.parse(f"x * {number}")
    with pytest.raises(InputError, match="number is too large"):
        Graph.parse(f"a = scalar({number})\nx * a")


@pytest.mark.parametrize(
    "name", ["self", "genotype", "mean", "k6", "n0", "running_1", "forward", "over", "lambda_", "_a"]
)
def test_names_that_a_layer_or_its_source_needs_are_refused(name: str) -> None:
    if name == "lambda_":
        assert Graph.parse(f"{name} = scalar(1)\nx * {name}").formula.startswith(name)
        return
    with pytest.raises(InputError, match="cannot be the name of a learned parameter"):
        Graph.parse(f"{name} = scalar(1)\nx * {name}")


def test_a_text_whose_genotype_would_be_too_long_is_refused() -> None:
    name = "long" * 60
    text = f"{name} = vector(1)\nb = {name}\n" + "\n".join(f"m{i} = b * b" for i in range(90)) + "\nx * b"
    with pytest.raises(InputError, match="one node a line"):
        Graph.parse(text)
