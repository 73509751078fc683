"""More graphs for the tests: denser than random ones, pairs that must count as one, and rewriting written anew."""

from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st

from evonas.search_space.graph import BASE_LEAVES, Graph, Leaf, Node
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.sampling import random_node
from evonas.search_space.space import Space

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


# --------------------------------------------------------------------------- exact rewrites, as rules on terms

Term = tuple[Any, ...]  # ("leaf", Leaf) or (op, *terms)
EVEN = {"abs", "square", *(f"{f}_{s}" for f in ("rms", "std") for s in EVERY_OP.index_sets)}
OF_ABS = {"abs", "square", *(f"rms_{s}" for s in EVERY_OP.index_sets)}
NONNEGATIVE = {"exp", "sigmoid", "abs", *(f"{f}_{s}" for f in ("rms", "std") for s in EVERY_OP.index_sets)}


def number(value: float) -> Term:
    return ("leaf", Leaf("number", "", value))


def value_of(term: Term) -> float | None:
    return term[1].value if term[0] == "leaf" and term[1].kind == "number" else None


def once(term: Term) -> Term | None:
    """One rewrite at the root, or None; written from the rules' text, not from the primitives' table."""
    match term:
        case ("neg", ("neg", a)):
            return a  # type: ignore[no-any-return]
        case ("max", a, b) if a == b:
            return a  # type: ignore[no-any-return]
        case ("neg", a) if value_of(a):
            return number(-value_of(a))  # type: ignore[operator]
        case ("mul" | "div" as op, ("neg", a), b):
            return ("neg", (op, a, b))
        case ("mul" | "div" as op, a, ("neg", b)):
            return ("neg", (op, a, b))
        case ("mul" | "div" as op, a, b) if (value_of(a) or 0.0) < 0:
            return ("neg", (op, number(-value_of(a)), b))  # type: ignore[operator]
        case ("mul" | "div" as op, a, b) if (value_of(b) or 0.0) < 0:
            return ("neg", (op, a, number(-value_of(b))))  # type: ignore[operator]
        case ("mul", a, b) if value_of(a) == 1:
            return b  # type: ignore[no-any-return]
        case ("mul" | "div", a, b) if value_of(b) == 1:
            return a  # type: ignore[no-any-return]
        case (op, ("neg", a)) if op in EVEN:
            return (op, a)
        case (op, a) if op in EVEN and (value_of(a) or 0.0) < 0:
            return (op, number(-value_of(a)))  # type: ignore[operator]
        case (op, ("abs", a)) if op in OF_ABS:
            return (op, a)
        case ("abs", a) if a[0] in NONNEGATIVE or (value_of(a) is not None and value_of(a) >= 0):  # type: ignore[operator]
            return a  # type: ignore[no-any-return]
    return None


@cache
def normal(term: Term) -> Term:
    """The term to which no rule applies any more."""
    if term[0] == "leaf":
        return term
    inputs = [normal(each) for each in term[1:]]
    if PRIMITIVES[term[0]].commutative:
        inputs.sort(key=repr)
    term = (term[0], *inputs)
    simpler = once(term)
    return term if simpler is None else normal(simpler)


def term_of(graph: Graph) -> Term:
    terms: list[Term] = [("leaf", leaf) for leaf in graph.leaves]
    for node in graph.nodes:
        terms.append((node.op, *(terms[i] for i in node.inputs)))
    return terms[graph.output]


def graph_of(term: Term) -> Graph:
    """A graph of the term, equal subterms once."""
    leaves: list[Leaf] = []
    order: list[Term] = []

    def walk(term: Term) -> None:
        if term[0] == "leaf":
            leaves.append(term[1])
        elif term not in order:
            for each in term[1:]:
                walk(each)
            order.append(term)

    walk(term)
    extras = sorted({*leaves} - {*BASE_LEAVES}, key=lambda leaf: (leaf.kind == "number", leaf.value, leaf.name))
    values = (*BASE_LEAVES, *extras)
    place = {("leaf", leaf): i for i, leaf in enumerate(values)} | {t: len(values) + i for i, t in enumerate(order)}
    return Graph(values, tuple(Node(t[0], tuple(place[each] for each in t[1:])) for t in order), place[term])


def rewritten(graph: Graph, rng: Random) -> Graph:
    """The same function to the last bit, written otherwise: rules applied backwards at random places."""

    def lengthen(term: Term) -> Term:
        if term[0] != "leaf":
            term = (term[0], *map(lengthen, term[1:]))
        op, draw = term[0], rng.random()
        if op in ("mul", "div") and draw < 0.4:
            signs = rng.choice([("neg", (op, ("neg", term[1]), term[2])), (op, ("neg", term[1]), ("neg", term[2]))])
            return signs if rng.random() < 0.5 else ("neg", (op, term[1], ("neg", term[2])))
        if op in EVEN and draw < 0.4:
            return (op, ("neg", term[1]))
        if op in OF_ABS and draw < 0.7:
            return (op, ("abs", term[1]))
        if op in NONNEGATIVE and draw < 0.6:
            return ("abs", term)
        if draw < 0.1:
            return ("neg", ("neg", term))
        if draw < 0.15:
            return ("max", term, term)
        if draw < 0.2:
            return rng.choice([("mul", number(1.0), term), ("div", term, number(1.0))])
        return term

    return graph_of(lengthen(term_of(graph)))
