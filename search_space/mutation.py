"""Edits of graphs: one table of operators, each drawn at random, or enumerated.

The paper's operator redraws a node, live or dead. The others act on live nodes. What they add may take any value of
the genotype as its input, so that dead nodes are material. Their child is canonical, filled up with fresh dead nodes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from random import Random

from evonas.search_space.canonical import assemble
from evonas.search_space.errors import InputError
from evonas.search_space.graph import BASE_LEAVES, NUMBER_MAX, Graph, Leaf, Node
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.sampling import pad, random_node
from evonas.search_space.space import Space

TRIES = 8  # draws of one operator, of which some have more nodes than the space
PAPER = {"redraw": 1.0}  # arXiv:2004.02967, section 4 (remembered)

Edit = tuple[Mapping[int, Leaf | Node], int]  # values that are changed or new, by number; the output
_OUTPUT = -1  # in a use of a value: it is the layer's output
_Use = tuple[int, int]  # node, and which of its inputs


@dataclass(frozen=True)
class Subject:
    """A graph under edit: its values, and the leaves of the space that it lacks, by number; a second parent."""

    graph: Graph
    space: Space
    mate: Graph | None = None
    values: dict[int, Leaf | Node] = field(init=False)
    live: list[int] = field(init=False)  # live nodes
    sources: list[int] = field(init=False)  # values that a node may take: leaves, live and dead nodes
    uses: dict[int, list[_Use]] = field(init=False)  # of a value, by live nodes and the output
    _needs: dict[int, int] = field(init=False)  # of a node: the values it depends on, itself too, as a bit mask
    _ops: frozenset[str] = field(init=False)  # of the space and the two parents
    _edits: dict[str, list[Edit]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        graph, space = self.graph, self.space
        values: dict[int, Leaf | Node] = dict(enumerate((*graph.leaves, *graph.nodes)))
        names = {leaf.name for leaf in graph.leaves if leaf.learned}
        for leaf in space.graph_leaves:
            if leaf not in graph.leaves and leaf.name not in names:
                values[len(values)] = leaf
        taken = [i for i, what in values.items() if isinstance(what, Node) or what not in BASE_LEAVES]
        uses: dict[int, list[_Use]] = {graph.output: [(_OUTPUT, 0)]}
        needs: dict[int, int] = {}
        for index, node in enumerate(graph.nodes, len(graph.leaves)):
            needs[index] = 1 << index
            for place, i in enumerate(node.inputs):
                needs[index] |= needs.get(i, 0)
                if index in graph.live:
                    uses.setdefault(i, []).append((index, place))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "live", sorted(i for i in graph.live if i >= len(graph.leaves)))
        object.__setattr__(self, "sources", [*space.leaf_indices, *taken])
        object.__setattr__(self, "uses", uses)
        object.__setattr__(self, "_needs", needs)
        own = (node.op for parent in (graph, self.mate) if parent for node in parent.nodes)
        object.__setattr__(self, "_ops", frozenset((*space.ops, *own)))

    def edits(self, operator: "Operator") -> list[Edit]:
        """All edits of an operator that enumerates."""
        if operator.name not in self._edits:
            self._edits[operator.name] = list(operator.edits(self)) if operator.edits else []
        return self._edits[operator.name]

    def node(self, index: int) -> Node:
        node = self.values[index]
        assert isinstance(node, Node)
        return node

    def sources_of(self, nodes: Sequence[int]) -> list[int]:
        """The values that depend on none of these nodes: an input for any of them."""
        mask = sum(1 << i for i in set(nodes) if i != _OUTPUT)
        return [i for i in self.sources if not self._needs.get(i, 0) & mask]

    def rewired(self, uses: Sequence[_Use], to: int, new: Mapping[int, Leaf | Node]) -> Edit:
        """The edit that gives these uses the value `to`."""
        changed, output = dict(new), self.graph.output
        for index, place in uses:
            if index == _OUTPUT:
                output = to
                continue
            node = changed.get(index, self.values[index])
            assert isinstance(node, Node)
            changed[index] = Node(node.op, _with(node.inputs, place, to))
        return changed, output

    def child(self, edit: Edit) -> Graph | None:
        """The canonical graph after an edit; None where it has more nodes than the space, or where a sign that moved
        became a `neg`, which the space lacks."""
        changed, output = edit
        graph = assemble({**self.values, **changed}, output, Graph)
        if graph is None or len(graph.nodes) > self.space.nodes:
            return None
        return graph if self._ops.issuperset(node.op for node in graph.nodes) else None


def _op(of: Subject) -> Iterator[Edit]:
    """Another op on the same inputs."""
    for index in of.live:
        node = of.node(index)
        for op in of.space.ops:
            if op != node.op and PRIMITIVES[op].arity == len(node.inputs):
                yield {index: Node(op, node.inputs)}, of.graph.output


def _input(of: Subject) -> Iterator[Edit]:
    """Another value as one input."""
    for index in of.live:
        node = of.node(index)
        for place, old in enumerate(node.inputs):
            for new in of.sources_of([index]):
                if new != old:
                    yield {index: Node(node.op, _with(node.inputs, place, new))}, of.graph.output


def _insert(of: Subject) -> Iterator[Edit]:
    """A new node on one use of a value, or on all its uses."""
    new = len(of.values)
    for value, uses in of.uses.items():
        for site in [*([use] for use in uses), uses] if len(uses) > 1 else [uses]:
            others = of.sources_of([index for index, _ in site])
            for op in of.space.ops:
                for inputs in _inputs_of(op, value, others):
                    yield of.rewired(site, new, {new: Node(op, inputs)})


def _inputs_of(op: str, value: int, others: Sequence[int]) -> Iterator[tuple[int, ...]]:
    if PRIMITIVES[op].arity == 1:
        yield (value,)
        return
    for other in others:
        yield value, other
        if other != value and not PRIMITIVES[op].commutative:
            yield other, value


def _delete(of: Subject) -> Iterator[Edit]:
    """A node gives way to one of its inputs."""
    for index in of.live:
        for value in dict.fromkeys(of.node(index).inputs):
            yield of.rewired(of.uses[index], value, {})


def _swap(of: Subject) -> Iterator[Edit]:
    """The two inputs of a node, where their order counts."""
    for index in of.live:
        node = of.node(index)
        if not PRIMITIVES[node.op].commutative and len(set(node.inputs)) > 1:
            yield {index: Node(node.op, node.inputs[::-1])}, of.graph.output


def _cross(of: Subject) -> Iterator[Edit]:
    """A live node, or an input such as x, gives way to a live node of the mate, with all that it depends on: of `f(x)`
    and `g(x)` come `f(g(x))`, `g(x)`, and their parts."""
    if of.mate is None:
        return
    mate = _renamed(of.mate.canonical(), of.values.values())
    first = len(of.values)
    donated: dict[int, Leaf | Node] = dict(enumerate(mate.leaves, first))
    for index, node in enumerate(mate.nodes, first + len(mate.leaves)):
        donated[index] = Node(node.op, tuple(first + i for i in node.inputs))
    for value, uses in of.uses.items():
        what = of.values[value]
        if isinstance(what, Node) or what.kind == "input":
            for root in list(donated)[len(mate.leaves) :]:
                yield of.rewired(uses, root, donated)


def _renamed(mate: Graph, others: Iterable[Leaf | Node]) -> Graph:
    """`mate` with new names for the learned parameters that the other parent starts elsewhere."""
    mine = {what.name: what for what in others if isinstance(what, Leaf) and what.learned}
    names = {*mine, *(leaf.name for leaf in mate.leaves)}
    leaves = list(mate.leaves)
    for place, leaf in enumerate(leaves):
        if leaf.learned and mine.get(leaf.name, leaf) != leaf:
            name = next(name for n in count(2) if (name := f"{leaf.name}_{n}") not in names)
            names.add(name)
            leaves[place] = replace(leaf, name=name)
    return replace(mate, leaves=tuple(leaves))


def _value(of: Subject) -> Iterator[Edit]:
    """A number, or the initial value of a parameter, doubled, halved, negated, or one more or less."""
    for index in sorted(of.graph.live):
        leaf = of.values[index]
        if isinstance(leaf, Leaf) and leaf.kind != "input" and leaf not in BASE_LEAVES:
            a = leaf.value
            for value in dict.fromkeys((2 * a, a / 2, -a, a + 1, a - 1)):
                if value != a and abs(value) <= NUMBER_MAX:
                    yield {index: replace(leaf, value=value)}, of.graph.output


@dataclass(frozen=True, slots=True)
class Operator:
    """A row of the table: all edits that it can make of a graph, each equally probable."""

    name: str
    edits: Callable[[Subject], Iterator[Edit]] | None  # None: `redraw`, which draws where the others enumerate
    help: str


OPERATORS = {
    each.name: each
    for each in (
        Operator("redraw", None, "the paper's: a node, live or dead, draws a new op and new inputs"),
        Operator("op", _op, "a node draws another op for the same inputs"),
        Operator("input", _input, "a node draws another value as one input"),
        Operator("insert", _insert, "a new node on one use of a value, or on all its uses"),
        Operator("delete", _delete, "a node gives way to one of its inputs"),
        Operator("swap", _swap, "the two inputs of a division"),
        Operator("cross", _cross, "a node, or an input, gives way to a part of another parent"),
        Operator("value", _value, "a number or an initial value is doubled, halved, negated, one more or less"),
    )
}


def mutate(
    graph: Graph,
    space: Space,
    rng: Random,
    times: int = 1,
    operators: Mapping[str, float] = PAPER,
    mate: Graph | None = None,
) -> tuple[Graph, tuple[str, ...]]:
    """`times` edits in a row, each by an operator that is drawn by weight; and the names of the operators.

    An operator that finds nothing to edit, or whose drawn edits have too many nodes, leaves the turn to another; where
    none has an edit the graph stays as it is. Raises InputError where `redraw` meets a graph that has no node.
    """
    made: list[str] = []
    for _ in range(times):
        left = {name: weight for name, weight in operators.items() if weight > 0}
        while left:
            name = rng.choices(list(left), list(left.values()))[0] if len(left) > 1 else next(iter(left))
            del left[name]
            child = redraw(graph, space, rng) if name == "redraw" else _drawn(OPERATORS[name], graph, space, rng, mate)
            if child is not None:
                graph = child
                made.append(name)
                break
    return graph, tuple(made)


def redraw(graph: Graph, space: Space, rng: Random) -> Graph:
    """A uniformly chosen node draws a new op and new inputs, both uniform (arXiv:2004.02967, section 4; remembered).

    The draw may repeat the old node, and about half of all draws on a known layer change only dead nodes: that neutral
    drift is part of the method. Raises InputError for a graph that has no node.
    """
    if not graph.nodes:
        raise InputError("a graph without nodes cannot be mutated")
    place = rng.randrange(len(graph.nodes))
    node = random_node(space, rng, len(graph.leaves) + place)
    return replace(graph, nodes=(*graph.nodes[:place], node, *graph.nodes[place + 1 :]))


def _drawn(operator: Operator, graph: Graph, space: Space, rng: Random, mate: Graph | None) -> Graph | None:
    subject = _subject(graph, space, mate if operator.edits is _cross else None)
    edits = subject.edits(operator)
    for _ in range(TRIES if edits else 0):
        child = subject.child(rng.choice(edits))
        if child is not None:
            return pad(child, space, rng)
    return None


@lru_cache(maxsize=64)  # children of a pool share parents
def _subject(graph: Graph, space: Space, mate: Graph | None) -> Subject:
    return Subject(graph, space, mate)


def _with(inputs: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*inputs[:place], value, *inputs[place + 1 :])
