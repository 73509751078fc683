"""A layer with one of its parts removed or replaced: what to train in order to see which parts matter."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from evonas.search_space.canonical import assemble
from evonas.search_space.graph import Graph, Leaf, Node
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.screening import CHANGE_MIN, Screening
from evonas.search_space.space import PAPER_INDEX_SETS


@dataclass(frozen=True, slots=True)
class Ablation:
    """A layer in which a part, a live node or a learned parameter, gave way to something else.

    part, becomes: formulas, such as `max(x, zero)` and `x`.
    """

    part: str
    becomes: str
    graph: Graph


def ablations(graph: Graph) -> list[Ablation]:
    """The layers that differ from `graph`, of one input, in one part, in the order of its values, each function once.

    A node gives way to each of its inputs. A statistic instead gives way to what it is of normalised input, 0 for a
    mean and 1 for rms and std, and to itself over each other index set. A learned parameter stays as it starts. What is
    no finite function of x, or the function of `graph` still, is left out.
    """
    whole = graph.canonical()
    seen = {Screening(whole).probed.fingerprint}
    found = []
    for each in _changed(whole):
        screening = Screening(each.graph)
        if screening.probed.fingerprint in seen:
            continue
        seen.add(screening.probed.fingerprint)
        if screening.change > CHANGE_MIN and math.isfinite(screening.largest_value):
            found.append(each)
    return found


def _changed(graph: Graph) -> Iterator[Ablation]:
    values: dict[int, Leaf | Node] = dict(enumerate((*graph.leaves, *graph.nodes)))
    new = len(values)
    for index in sorted(graph.live):
        for instead in _instead(values[index]):
            target = instead if isinstance(instead, int) else new
            values[new] = values[index] if isinstance(instead, int) else instead
            moved = {
                number: Node(node.op, tuple(target if i == index else i for i in node.inputs))
                for number, node in enumerate(graph.nodes, len(graph.leaves))
            }
            output = target if index == graph.output else graph.output
            child = assemble({**values, **moved}, output, Graph)
            part, becomes = (assemble(values, each, Graph) for each in (index, target))
            if child and part and becomes:
                yield Ablation(part.formula, becomes.formula, child)


def _instead(what: Leaf | Node) -> Iterator[int | Leaf | Node]:
    """What a value may give way to: another value, a number, or a new node."""
    if isinstance(what, Leaf):
        if what.learned:
            yield Leaf("number", "", what.value)
        return
    row = PRIMITIVES[what.op]
    if row.reduces is None:
        yield from dict.fromkeys(what.inputs)
        return
    yield Leaf("number", "", 1.0 if row.rooted else 0.0)
    name = what.op.removesuffix(f"_{row.reduces}")
    yield from (Node(f"{name}_{axes}", what.inputs) for axes in PAPER_INDEX_SETS if axes != row.reduces)
