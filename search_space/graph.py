"""A graph: the genotype of a layer, as immutable data. Its text is the language of `search_space.language`."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from search_space.primitives import PRIMITIVES

LANGUAGE_VERSION = 1
NODES_MAX = 100  # a layer of more nodes is a network
NUMBER_MAX = 3e38  # float32 holds it
LINE_HEIGHT_MAX = 12  # the formula names an intermediate value rather than nest deeper


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that the graph is given: an input tensor, a number, or a learned parameter that starts at `value`."""

    kind: str  # "input", "number", "vector" (C,) or "scalar" ()
    name: str  # of an input or a parameter, its state_dict key; "" for a number
    value: float = 0.0

    @property
    def learned(self) -> bool:
        return self.kind in ("vector", "scalar")


BASE_LEAVES = (
    Leaf("input", "x"),
    Leaf("input", "y"),
    Leaf("number", "zero", 0.0),
    Leaf("vector", "v0", 0.0),
    Leaf("vector", "v1", 1.0),
)
_RANKS = {
    "number": 0,
    "scalar": 0,
    "vector": 0,
    "input": 1,
}  # so that formulas read `v1 * x`, `x * f(x)`, `max(f(x), zero)`


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive applied to earlier values; values are numbered leaves first."""

    op: str
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Leaves, then nodes in topological order; `output` is the index of the value that the layer computes.

    The five named leaves (x, y, zero, v0, v1) come first in every graph, then learned parameters, then numbers in
    ascending order. Raises ValueError when a node is malformed. Pickles as its text.
    """

    leaves: tuple[Leaf, ...]
    nodes: tuple[Node, ...]
    output: int

    def __post_init__(self) -> None:
        if self.leaves[: len(BASE_LEAVES)] != BASE_LEAVES:
            raise ValueError("a graph's first leaves are x, y, zero, v0, v1")
        numbers = [leaf.value for leaf in self.leaves[len(BASE_LEAVES) :] if leaf.kind == "number"]
        kinds = [leaf.kind == "number" for leaf in self.leaves[len(BASE_LEAVES) :]]
        if numbers != sorted(set(numbers)) or kinds != sorted(kinds):
            raise ValueError("a graph's other leaves are its parameters, then its numbers, ascending and once each")
        if not all(abs(leaf.value) <= NUMBER_MAX for leaf in self.leaves):
            raise ValueError(f"numbers and initial values are finite, at most {NUMBER_MAX:g}")
        names = [leaf.name for leaf in self.leaves if leaf.learned]
        if len(names) != len(set(names)):
            raise ValueError(f"two learned parameters have one name: {names}")
        if len(self.nodes) > NODES_MAX:
            raise ValueError(f"{len(self.nodes)} nodes; at most {NODES_MAX} are allowed")
        for index, node in enumerate(self.nodes, start=len(self.leaves)):
            row = PRIMITIVES.get(node.op)
            if row is None:
                raise ValueError(f"unknown primitive '{node.op}'")
            if len(node.inputs) != row.arity or not all(0 <= i < index for i in node.inputs):
                raise ValueError(f"value {index}: {node.op} takes {row.arity} earlier values, got {node.inputs}")
        if not 0 <= self.output < len(self.leaves) + len(self.nodes):
            raise ValueError(f"output {self.output} is not a value of the graph")

    @classmethod
    def parse(cls, text: str) -> "Graph":
        """Read a graph in evonas' language; raises InputError (a ValueError) that points at the column."""
        from search_space.language import parse

        return parse(text)

    def __str__(self) -> str:
        """The whole genotype, dead nodes included, one node a line: `Graph.parse(str(g)) == g`."""
        from search_space.language import print_genotype

        return print_genotype(self)

    @cached_property
    def formula(self) -> str:
        """The live canonical expression: `Graph.parse(g.formula) == g.canonical()`."""
        from search_space.language import print_formula

        return print_formula(self.canonical())

    def __reduce__(self) -> tuple[Callable[[str], "Graph"], tuple[str]]:
        return Graph.parse, (str(self),)

    @cached_property
    def digest(self) -> str:
        """Key of the canonical text: graphs with equal digests train bit-identically."""
        return hashlib.sha256(f"{LANGUAGE_VERSION}\n{self.formula}".encode()).hexdigest()[:32]

    def node(self, index: int) -> Node | None:
        """The node behind a value, None for a leaf."""
        return self.nodes[index - len(self.leaves)] if index >= len(self.leaves) else None

    @cached_property
    def live(self) -> frozenset[int]:
        """The values that the output depends on, itself included."""
        reached: set[int] = set()
        waiting = [self.output]
        while waiting:
            index = waiting.pop()
            if index not in reached:
                reached.add(index)
                node = self.node(index)
                waiting.extend(node.inputs if node else ())
        return frozenset(reached)

    @property
    def live_nodes(self) -> int:
        return sum(index >= len(self.leaves) for index in self.live)

    def canonical(self) -> "Graph":
        """The live part in one standard order: equal subexpressions merged, commutative inputs sorted."""
        return self._canonical

    @cached_property
    def _canonical(self) -> "Graph":
        keys: dict[int, tuple[int, int, str, float, str]] = {}  # by value: rank, height, name, number, structure
        merged: dict[int, int] = {}  # value -> the first value of the same structure
        first: dict[str, int] = {}
        ordered: dict[int, tuple[int, ...]] = {}  # the inputs of each merged node, in standard order
        for index in sorted(self.live):
            node = self.node(index)
            if node is None:
                leaf = self.leaves[index]
                rank = 3 if leaf.name == "zero" else _RANKS[leaf.kind]
                structure = f"{leaf.kind} {leaf.name} {leaf.value!r}"
                keys[index] = (rank, 0, leaf.name, leaf.value, structure)
                merged[index] = index
                continue
            inputs = tuple(merged[i] for i in node.inputs)
            if PRIMITIVES[node.op].commutative:
                inputs = tuple(sorted(inputs, key=keys.__getitem__))
            structure = hashlib.sha256(" ".join([node.op, *(keys[i][4] for i in inputs)]).encode()).hexdigest()
            height = 1 + max(keys[i][1] for i in inputs)
            merged[index] = first.setdefault(structure, index)
            keys[index] = (2, height, node.op, 0.0, structure)
            ordered[merged[index]] = inputs
        parameters = sorted(
            (leaf for i, leaf in enumerate(self.leaves) if i in self.live and self._extra_parameter(i)),
            key=lambda leaf: leaf.name,
        )
        numbers = [
            leaf for i, leaf in enumerate(self.leaves) if i in self.live and i >= len(BASE_LEAVES) and not leaf.learned
        ]
        leaves = (*BASE_LEAVES, *parameters, *numbers)
        places = {i: leaves.index(self.leaves[i]) for i in self.live if i < len(self.leaves)}
        nodes: list[Node] = []
        for index in _schedule(ordered, merged[self.output]):
            op = self.nodes[index - len(self.leaves)].op
            places[index] = len(leaves) + len(nodes)
            nodes.append(Node(op, tuple(places[i] for i in ordered[index])))
        return Graph(leaves, tuple(nodes), places[merged[self.output]])

    def _extra_parameter(self, index: int) -> bool:
        return index >= len(BASE_LEAVES) and self.leaves[index].learned


def named_values(inputs: dict[int, tuple[int, ...]]) -> set[int]:
    """The nodes that a formula gives a name: those used twice, and those that would nest too deep."""
    uses: dict[int, int] = {}
    for each in inputs.values():
        for i in each:
            uses[i] = uses.get(i, 0) + 1
    named: set[int] = set()
    height: dict[int, int] = {}
    for index in sorted(inputs):
        height[index] = 1 + max((height.get(i, 0) for i in inputs[index] if i not in named), default=0)
        if uses.get(index, 0) > 1 or height[index] >= LINE_HEIGHT_MAX:
            named.add(index)
    return named


def _schedule(inputs: dict[int, tuple[int, ...]], output: int) -> Iterator[int]:
    """The nodes in the order in which the formula's text mentions them: named values line by line, each depth first."""
    named = named_values(inputs)
    done: set[int] = set()

    def lines(index: int) -> Iterator[int]:
        """The named values that this line needs before it, then its own nodes."""
        yield from needed(index)
        yield from own(index)

    def needed(index: int) -> Iterator[int]:
        for i in inputs[index]:
            if i in inputs and i not in done:
                yield from lines(i) if i in named else needed(i)

    def own(index: int) -> Iterator[int]:
        for i in inputs[index]:
            if i in inputs and i not in done:
                yield from own(i)
        done.add(index)
        yield index

    if output in inputs:
        yield from lines(output)
