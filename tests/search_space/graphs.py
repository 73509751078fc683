"""More graphs for the tests: denser than random ones, and pairs that must count as one."""

from random import Random

from hypothesis import strategies as st

from search_space.graph import BASE_LEAVES, Graph, Leaf, Node
from search_space.primitives import PRIMITIVES
from search_space.sampling import random_node
from search_space.space import Space

EVERY_OP = Space(index_sets=("bhw", "chw", "hw", "ghw", "c"))
LEAVES = (
    *BASE_LEAVES,
    Leaf("scalar", "alpha", 0.5),
    Leaf("vector", "beta", -2.0),
    Leaf("number", "", -1.5),
    Leaf("number", "", 3.0),
)


def woven(rng: Random, space: Space = EVERY_OP, leaves: tuple[Leaf, ...] = LEAVES) -> Graph:
    """A graph whose nodes mostly feed the next one: of a uniform graph's ten nodes only two or three are live."""
    nodes: list[Node] = []
    for index in range(len(leaves), len(leaves) + space.nodes):
        node = random_node(space, rng, index)
        if nodes and rng.random() < 0.8:
            inputs = [index - 1, *node.inputs[1:]]
            rng.shuffle(inputs)
            node = Node(node.op, tuple(inputs))
        nodes.append(node)
    return Graph(leaves, tuple(nodes), len(leaves) + space.nodes - 1)


def woven_graphs(space: Space = EVERY_OP) -> st.SearchStrategy[Graph]:
    return st.integers(0, 2**32).map(lambda seed: woven(Random(seed), space))


def twin(graph: Graph, rng: Random) -> Graph:
    """The same graph with dead nodes, commutative inputs swapped, and shared subexpressions computed twice."""
    place = list(range(len(graph.leaves)))  # old value -> new value
    nodes: list[Node] = []

    def append(node: Node) -> int:
        nodes.append(node)
        return len(graph.leaves) + len(nodes) - 1

    for node in graph.nodes:
        if rng.random() < 0.3:
            append(random_node(Space(), rng, len(graph.leaves) + len(nodes)))
        inputs = [place[i] for i in node.inputs]
        for position, i in enumerate(inputs):
            if i >= len(graph.leaves) and rng.random() < 0.3:
                inputs[position] = append(nodes[i - len(graph.leaves)])
        if PRIMITIVES[node.op].commutative and rng.random() < 0.5:
            inputs.reverse()
        place.append(append(Node(node.op, tuple(inputs))))
    if rng.random() < 0.3:
        append(random_node(Space(), rng, len(graph.leaves) + len(nodes)))
    return Graph(graph.leaves, tuple(nodes), place[graph.output])
