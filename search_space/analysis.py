"""Dependences of each value of a graph, derived from its structure: what decides it, and which axes it varies over."""

from functools import lru_cache
from typing import NamedTuple

from evonas.search_space.graph import Graph, Leaf
from evonas.search_space.primitives import PRIMITIVES

_REDUCED = {"bhw": {"b", "hw"}, "chw": {"c", "hw"}, "hw": {"hw"}, "ghw": {"hw"}, "c": {"c"}}
_ALL = frozenset({"b", "c", "hw"})


class Dependence(NamedTuple):
    """The dependences of one value.

    axes: of "b", "c" and "hw", those that it varies over.
    on_x, on_y, on_batch: whether x, y, and the other examples of the batch decide it.
    parameters: the learned parameters that decide it.
    """

    axes: frozenset[str]
    on_x: bool
    on_y: bool
    on_batch: bool
    parameters: frozenset[str]


def analyse(graph: Graph) -> tuple[Dependence, ...]:
    """The dependences of every value. A std over axes that its input does not vary over is the constant sqrt(eps)."""
    values = [_of_leaf(leaf) for leaf in graph.leaves]
    for node in graph.nodes:
        values.append(_of_node(node.op, tuple([values[i] for i in node.inputs])))
    return tuple(values)


def index_sets(graph: Graph) -> frozenset[str]:
    """The index sets over which live nodes reduce."""
    canonical = graph.canonical()
    rows = [PRIMITIVES[node.op] for node in canonical.nodes]
    return frozenset(row.reduces for row in rows if row.reduces)


@lru_cache(maxsize=4096)
def _of_leaf(leaf: Leaf) -> Dependence:
    axes = {"input": _ALL, "vector": frozenset({"c"})}.get(leaf.kind, frozenset[str]())
    return Dependence(axes, leaf.name == "x", leaf.name == "y", False, frozenset({leaf.name} if leaf.learned else ()))


@lru_cache(maxsize=65536)
def _of_node(op: str, inputs: tuple[Dependence, ...]) -> Dependence:
    axes = frozenset[str]().union(*(each.axes for each in inputs))
    parameters = frozenset[str]().union(*(each.parameters for each in inputs))
    on_x = any(each.on_x for each in inputs)
    on_y = any(each.on_y for each in inputs)
    on_batch = any(each.on_batch for each in inputs)
    row = PRIMITIVES[op]
    if reduces := row.reduces:
        if row.centred and not axes & _within(reduces):
            return Dependence(frozenset(), False, False, False, frozenset())
        on_batch |= reduces == "bhw" and "b" in axes
        axes -= _REDUCED[reduces]
    return Dependence(axes, on_x, on_y, on_batch, parameters)


def _within(index_set: str) -> set[str]:
    """The axes that keep an aggregation's input from being constant where it varies over one of them."""
    return _REDUCED[index_set] | ({"c"} if index_set == "ghw" else set())


def depends_on_x(graph: Graph) -> bool:
    """Whether x can reach the output. The probe sees where it cancels (`x * zero`)."""
    return analyse(graph)[graph.output].on_x


def batch_dependent(graph: Graph) -> bool:
    """Whether the output for one example depends on the other examples of its batch (the paper's B series)."""
    return analyse(graph)[graph.output].on_batch


def is_affine(graph: Graph) -> bool:
    """Whether the output is affine in x where the statistics are held: a norm that no activation follows."""
    degrees = [int(leaf.kind == "input") for leaf in graph.leaves]  # 0: constant, 1: affine, 2: neither
    for node in graph.nodes:
        degrees.append(_degree(node.op, [degrees[i] for i in node.inputs]))
    return degrees[graph.output] < 2


def _degree(op: str, inputs: list[int]) -> int:
    if PRIMITIVES[op].reduces or not any(inputs):
        return 0
    match op:
        case "add" | "neg":
            return max(inputs)
        case "mul":
            return min(2, sum(inputs))
        case "div" if not inputs[1]:
            return inputs[0]
    return 2
