"""All single edits of a layer, each once: what one step of the operators that enumerate can reach."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from evonas.search_space.graph import Graph
from evonas.search_space.mutation import OPERATORS, Subject
from evonas.search_space.screening import CHANGE_MIN, Screening
from evonas.search_space.space import Space


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A layer one edit away, in canonical form, and the first operator of the table that makes it."""

    operator: str
    graph: Graph


def neighbours(graph: Graph, space: Space) -> dict[str, Neighbour]:
    """Every single edit of a layer that is another layer by its canonical form, once each, by digest. Dead nodes are
    not asked. The paper's operator and `cross` are left out: what they reach, the others reach, or need a mate for."""
    subject = Subject(graph.canonical(), space)
    found: dict[str, Neighbour] = {}
    for operator in OPERATORS.values():
        for edit in subject.edits(operator):
            child = subject.child(edit)
            if child is not None and child.digest != graph.digest:
                found.setdefault(child.digest, Neighbour(operator.name, child))
    return found


def distinct(graph: Graph, edits: Iterable[Neighbour]) -> dict[str, Neighbour]:
    """Those that are finite functions of x other than the layer's own, each function once, by fingerprint."""
    own = Screening(graph).probed.fingerprint
    found: dict[str, Neighbour] = {}
    for each in edits:
        screening = Screening(each.graph)
        fingerprint = screening.probed.fingerprint
        if fingerprint == own or fingerprint in found:
            continue
        if screening.change > CHANGE_MIN and math.isfinite(screening.largest_value):
            found[fingerprint] = each
    return found
