"""Random graphs, drawn as the paper draws them."""

from random import Random

from evonas.search_space.analysis import depends_on_x
from evonas.search_space.errors import InputError
from evonas.search_space.graph import BASE_LEAVES, Graph, Leaf, Node
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.space import Space
from evonas.search_space.wording import counted


def random_graph(space: Space, rng: Random) -> Graph:
    """A graph of `space.nodes` nodes: each op uniform, each input uniform over the earlier values; the last node is the
    output (arXiv:2004.02967, section 3; remembered)."""
    end = len(space.graph_leaves) + space.nodes
    nodes = tuple([random_node(space, rng, index) for index in range(len(space.graph_leaves), end)])
    return Graph(space.graph_leaves, nodes, end - 1)


def random_dependent_graph(space: Space, rng: Random) -> Graph:
    """A `random_graph` drawn until its output depends on x by analysis: the uniform distribution, conditioned on that.

    In the paper's space 30 % pass. Of 20,000 such graphs 23 % had one live node, 34 % two, 23 % three, 12 % four and
    7 % more; of 20,000 graphs of `random_graph` 28, 35, 22, 10 and 5 % (tests/benchmarks/identity.py prints both).
    Every space has such graphs: the last node may always take x.
    """
    while not depends_on_x(graph := random_graph(space, rng)):
        pass
    return graph


def random_node(space: Space, rng: Random, index: int) -> Node:
    """A node for place `index`: its inputs are the space's leaves, the graph's own other leaves, and earlier nodes."""
    op = rng.choice(space.ops)
    values = (*space.leaf_indices, *range(len(BASE_LEAVES), index))
    return Node(op, tuple([rng.choice(values) for _ in range(PRIMITIVES[op].arity)]))


def pad(graph: Graph, space: Space, rng: Random) -> Graph:
    """The same function as a graph of the space's size and with its leaves: its live part after random dead nodes,
    material for mutations.

    Raises InputError where the canonical graph has more nodes than the space, or an op that the space lacks.
    """
    live = graph.canonical()
    missing = sorted({node.op for node in live.nodes} - set(space.ops))
    if missing:
        raise InputError(f"'{live.formula}' uses {', '.join(missing)}, which the space lacks")
    dead = space.nodes - len(live.nodes)
    if dead < 0:
        raise InputError(f"'{live.formula}' has {counted(len(live.nodes), 'node')}, the space {space.nodes}")
    leaves = live.leaves if space.graph_leaves == BASE_LEAVES else _united(live.leaves, space.graph_leaves)
    first = len(leaves)
    places = [leaves.index(leaf) for leaf in live.leaves] + [first + dead + i for i in range(len(live.nodes))]
    nodes = [random_node(space, rng, first + place) for place in range(dead)]
    nodes += [Node(n.op, tuple([places[i] for i in n.inputs])) for n in live.nodes]
    return Graph(leaves, tuple(nodes), places[live.output])


def _united(leaves: tuple[Leaf, ...], others: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
    """Leaves in the order of a graph's; of two parameters with one name that of `leaves` stays."""
    names = {leaf.name for leaf in leaves if leaf.learned}
    added = [leaf for leaf in others if leaf not in leaves and leaf.name not in names]
    extras = [*leaves[len(BASE_LEAVES) :], *added]
    return (*BASE_LEAVES, *sorted(extras, key=lambda leaf: (not leaf.learned, 0.0 if leaf.learned else leaf.value)))
