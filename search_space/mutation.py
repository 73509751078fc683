"""The paper's mutation: one node gets a new operation and new inputs."""

from dataclasses import replace
from random import Random

from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.sampling import random_node
from evonas.search_space.space import Space


def mutate(graph: Graph, space: Space, rng: Random, times: int = 1) -> Graph:
    """A uniformly chosen node draws a new op and new inputs, both uniform (arXiv:2004.02967, section 4; remembered);
    and so on, `times` times.

    The draw may repeat the old node, and about half of all draws on a known layer change only dead nodes: that neutral
    drift is part of the method. Raises InputError for a graph that has no node.
    """
    if not graph.nodes:
        raise InputError("a graph without nodes cannot be mutated")
    nodes = list(graph.nodes)
    for _ in range(times):
        place = rng.randrange(len(nodes))
        nodes[place] = random_node(space, rng, len(graph.leaves) + place)
    return replace(graph, nodes=tuple(nodes))
