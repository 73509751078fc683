"""What each value of a graph depends on and varies over, without running anything."""

from dataclasses import dataclass

from search_space.graph import Graph
from search_space.primitives import PRIMITIVES

_REDUCED = {"bhw": {"b", "hw"}, "chw": {"c", "hw"}, "hw": {"hw"}, "ghw": {"hw"}, "c": {"c"}}


@dataclass(frozen=True, slots=True)
class Dependence:
    """Of one value: the axes ("b", "c", "hw") that it varies over; whether x, and the rest of the batch, decide it."""

    axes: frozenset[str]
    on_x: bool
    on_batch: bool


def analyse(graph: Graph) -> tuple[Dependence, ...]:
    """The dependences of every value. A std over axes that its input does not vary over is the constant sqrt(eps)."""
    of_leaf = {"input": frozenset({"b", "c", "hw"}), "vector": frozenset({"c"})}
    known = [Dependence(of_leaf.get(leaf.kind, frozenset()), leaf.name == "x", False) for leaf in graph.leaves]
    for node in graph.nodes:
        inputs = [known[i] for i in node.inputs]
        axes = frozenset[str]().union(*(each.axes for each in inputs))
        on_x = any(each.on_x for each in inputs)
        on_batch = any(each.on_batch for each in inputs)
        reduces = PRIMITIVES[node.op].reduces
        if reduces:
            within = _REDUCED[reduces] | ({"c"} if reduces == "ghw" else set())
            if node.op.startswith("std_") and not axes & within:
                axes, on_x, on_batch = frozenset(), False, False
            on_batch |= reduces == "bhw" and "b" in axes
            axes -= _REDUCED[reduces]
        known.append(Dependence(axes, on_x, on_batch))
    return tuple(known)


def depends_on_x(graph: Graph) -> bool:
    """Whether x can reach the output; numbers that cancel (`x * zero`) are for the probe to see."""
    return analyse(graph)[graph.output].on_x


def batch_dependent(graph: Graph) -> bool:
    """Whether the output for one example depends on the other examples of its batch (the paper's B series)."""
    return analyse(graph)[graph.output].on_batch
