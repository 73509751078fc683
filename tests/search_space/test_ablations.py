"""Layers with a part removed or replaced."""

import pytest

from evonas.search_space.ablations import Ablation, ablations
from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.screening import CHANGE_MIN, Screening


def found(text: str) -> dict[tuple[str, str], str]:
    return {(each.part, each.becomes): each.graph.formula for each in ablations(Graph.parse(text))}


def test_those_of_a_normalization_by_hand() -> None:
    assert found("max((x - mean_bhw(x)) / std_bhw(x), zero)") == {
        ("mean_bhw(x)", "zero"): "max((x - zero) / std_bhw(x), zero)",
        ("mean_bhw(x)", "mean_chw(x)"): "max((x - mean_chw(x)) / std_bhw(x), zero)",
        ("mean_bhw(x)", "mean_hw(x)"): "max((x - mean_hw(x)) / std_bhw(x), zero)",
        ("mean_bhw(x)", "mean_ghw(x)"): "max((x - mean_ghw(x)) / std_bhw(x), zero)",
        ("-mean_bhw(x)", "mean_bhw(x)"): "max((x + mean_bhw(x)) / std_bhw(x), zero)",
        # `x - mean_bhw(x)` becomes x: as without the mean, above; becomes -mean_bhw(x): no function of x to speak of
        ("std_bhw(x)", "1"): "max(x - mean_bhw(x), zero)",
        ("std_bhw(x)", "std_chw(x)"): "max((x - mean_bhw(x)) / std_chw(x), zero)",
        ("std_bhw(x)", "std_hw(x)"): "max((x - mean_bhw(x)) / std_hw(x), zero)",
        ("std_bhw(x)", "std_ghw(x)"): "max((x - mean_bhw(x)) / std_ghw(x), zero)",
        ("(x - mean_bhw(x)) / std_bhw(x)", "std_bhw(x)"): "max(std_bhw(x), zero)",
        ("max((x - mean_bhw(x)) / std_bhw(x), zero)", "(x - mean_bhw(x)) / std_bhw(x)"): (
            "(x - mean_bhw(x)) / std_bhw(x)"
        ),
    }


def test_a_learned_parameter_stays_as_it_starts_and_each_use_of_a_value_changes() -> None:
    assert found("a = scalar(0.5)\nn = tanh(a * x)\nn + n * n") == {
        ("a = scalar(0.5)\na", "0.5"): "n0 = tanh(0.5 * x)\nn0 + n0 * n0",
        ("a = scalar(0.5)\na * x", "x"): "n0 = tanh(x)\nn0 + n0 * n0",
        ("a = scalar(0.5)\ntanh(a * x)", "a = scalar(0.5)\na * x"): "a = scalar(0.5)\nn0 = a * x\nn0 + n0 * n0",
        ("a = scalar(0.5)\nn0 = tanh(a * x)\nn0 * n0", "a = scalar(0.5)\ntanh(a * x)"): (
            "a = scalar(0.5)\nn0 = tanh(a * x)\nn0 + n0"
        ),
        ("a = scalar(0.5)\nn0 = tanh(a * x)\nn0 + n0 * n0", "a = scalar(0.5)\ntanh(a * x)"): (
            "a = scalar(0.5)\ntanh(a * x)"
        ),
        ("a = scalar(0.5)\nn0 = tanh(a * x)\nn0 + n0 * n0", "a = scalar(0.5)\nn0 = tanh(a * x)\nn0 * n0"): (
            "a = scalar(0.5)\nn0 = tanh(a * x)\nn0 * n0"
        ),
    }


@pytest.mark.parametrize("text", ["x", "x + zero"])
def test_the_identity_has_no_parts(text: str) -> None:
    assert ablations(Graph.parse(text)) == []


def test_dead_nodes_are_no_parts() -> None:
    graph = LAYERS["EvoNorm-S0"].graph
    padded = Graph.parse(f"d = std_hw(x)\nw = exp(d)\n{graph.formula}")
    assert padded.nodes != graph.nodes
    assert ablations(padded) == ablations(graph)


@pytest.mark.parametrize("name", [name for name in LAYERS.graphs if LAYERS[name].inputs == 1])
def test_every_ablation_in_the_catalog_is_another_finite_function_of_x(name: str) -> None:
    graph = LAYERS[name].graph
    changed = ablations(graph)
    screenings = [Screening(each.graph) for each in changed]
    fingerprints = [each.probed.fingerprint for each in [Screening(graph), *screenings]]
    assert len(set(fingerprints)) == len(fingerprints)
    assert all(each.change > CHANGE_MIN and each.largest_value < float("inf") for each in screenings)
    parts = {each.part for each in changed}
    whole = graph.canonical()
    named = {node.op for node in whole.nodes}
    assert all(named.issuperset(node.op for node in Graph.parse(part).nodes) for part in parts)
    assert all(isinstance(each, Ablation) and each.graph == each.graph.canonical() for each in changed)
