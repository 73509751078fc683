"""The structure of a graph: leaves, nodes, and which of them the output depends on."""

from dataclasses import dataclass
from functools import cached_property

from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.wording import counted

NODES_MAX = 100  # a layer of more nodes is a network
NUMBER_MAX = 3e38  # float32 holds it


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value given to the graph: an input tensor, a number, or a learned parameter that starts at `value`."""

    kind: str  # "input", "number", "vector" (C,) or "scalar" ()
    name: str  # input's name or parameter's state_dict key; "" for a number
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
SECOND = next(i for i, leaf in enumerate(BASE_LEAVES) if leaf.name == "y")


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive applied to earlier values; values are numbered leaves first."""

    op: str
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Structure:
    """Values numbered from 0: leaves, then nodes in topological order; `output` is the value that the layer computes.

    The five named leaves (x, y, zero, v0, v1) come first in every graph, then learned parameters, then numbers in
    ascending order. Raises ValueError when a node is malformed.
    """

    leaves: tuple[Leaf, ...]
    nodes: tuple[Node, ...]
    output: int

    def __post_init__(self) -> None:
        if self.leaves is not BASE_LEAVES:
            self._check_leaves()
        if len(self.nodes) > NODES_MAX:
            raise ValueError(f"{counted(len(self.nodes), 'node')}; at most {NODES_MAX} are allowed")
        for index, node in enumerate(self.nodes, start=len(self.leaves)):
            row = PRIMITIVES.get(node.op)
            if row is None:
                raise ValueError(f"unknown primitive '{node.op}'")
            inputs = node.inputs
            if len(inputs) != row.arity or not 0 <= inputs[0] < index or not 0 <= inputs[-1] < index:
                raise ValueError(f"value {index}: {node.op} takes {counted(row.arity, 'earlier value')}, got {inputs}")
        if not 0 <= self.output < len(self.leaves) + len(self.nodes):
            raise ValueError(f"output {self.output} is not a value of the graph")

    def _check_leaves(self) -> None:
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
    def takes_y(self) -> bool:
        """Whether the output depends on the second input."""
        return SECOND in self.live

    @property
    def live_nodes(self) -> int:
        return sum(index >= len(self.leaves) for index in self.live)
