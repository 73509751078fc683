"""Whether a graph computes what a known layer computes, by the keys of its function."""

from dataclasses import dataclass
from functools import cache

from evonas.search_space.catalog import LAYERS
from evonas.search_space.fingerprint import Probed, probe
from evonas.search_space.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class Known:
    """The known layer that a graph repeats; at most one of the two is there.

    same_as: its name, where the functions are equal.
    affine_of: its name, where they are equal up to a scale and a shift of each channel. The `weight` and `bias` of a
        layer absorb these, but training starts elsewhere: accuracies may differ.
    """

    same_as: str | None = None
    affine_of: str | None = None


def known(probed: Probed) -> Known:
    """The catalog's graph of the same fingerprint, or else of the same family, up to the sign; of several the first."""
    fingerprints, families = _keys()
    if name := fingerprints.get(probed.fingerprint):
        return Known(same_as=name)
    return Known(affine_of=families.get(probed.family))


@cache
def _keys() -> tuple[dict[str, str], dict[str, str]]:
    """Fingerprints and families of the catalog's graphs of one input, each with a name; computed once, in a moment."""
    fingerprints: dict[str, str] = {}
    families: dict[str, str] = {}
    for name, graph in LAYERS.graphs.items():
        if not graph.takes_y:
            probed = probe(graph)
            fingerprints.setdefault(probed.fingerprint, name)
            for family in (probed.family, probe(_negative(graph)).family):
                families.setdefault(family, name)
    return fingerprints, families


def _negative(graph: Graph) -> Graph:
    nodes = (*graph.nodes, Node("neg", (graph.output,)))
    return Graph(graph.leaves, nodes, len(graph.leaves) + len(graph.nodes))
