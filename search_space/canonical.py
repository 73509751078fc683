"""The canonical form: one graph for all that differ by order, by repetition, or by an exact rewrite.

The rewrites give the same values bit for bit: a sign moves out of products and quotients and is lost in even
functions; `-(-a)`, `max(a, a)`, `a * 1`, `a / 1`, `|f|` of an f >= 0 and `|a|` under an even function go away; `-(2)`
is the number -2 and 0 is `zero`. Each follows from a field of the primitive's row. Gradients are the same but for the
order in which terms are added, and where a value is not a number. Only the sign of a zero may differ: of 0 and -0
torch.maximum chooses either, whatever their order. Rewrites that are exact in real numbers alone (associativity,
`a + 0`) are left to the fingerprint. The names of learned parameters are part of a graph, as keys of its state_dict.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.structure import BASE_LEAVES, NODES_MAX, Leaf, Node, Structure

G = TypeVar("G", bound=Structure)

LINE_HEIGHT_MAX = 12  # the formula names an intermediate value rather than nest deeper
_ZERO = next(leaf for leaf in BASE_LEAVES if leaf.name == "zero")
_RANKS = {"number": 0, "scalar": 0, "vector": 0, "input": 1}  # so that formulas read `v1 * x`, `x * f(x)`
_RANK_OF_NODES, _RANK_OF_ZERO = 2, 3  # and `max(f(x), zero)`


def canonical(graph: G) -> G:
    """The canonical form. Moving a sign can add a node; where that would be one too many, signs stay where they are."""
    return assemble(dict(enumerate((*graph.leaves, *graph.nodes))), graph.output, type(graph)) or graph


def assemble(values: Mapping[int, Leaf | Node], output: int, kind: type[G]) -> G | None:
    """The canonical graph of values that are numbered in any order; None where it would have too many nodes. They may
    hold more than the output needs, but no circle."""
    order = _inputs_first(values, output)
    return _built(values, order, kind, move_signs=True) or _built(values, order, kind, move_signs=False)


def _built(values: Mapping[int, Leaf | Node], order: list[int], kind: type[G], *, move_signs: bool) -> G | None:
    builder = _Builder(move_signs)
    built: dict[int, int] = {}
    for index in order:
        what = values[index]
        if isinstance(what, Leaf):
            built[index] = builder.leaf(what)
        else:
            built[index] = builder.node(what.op, tuple(built[i] for i in what.inputs))
    return builder.graph(built[order[-1]], kind)


def _inputs_first(values: Mapping[int, Leaf | Node], output: int) -> list[int]:
    """The values that `output` depends on, each after its inputs."""
    order: dict[int, None] = {}
    waiting = [(output, False)]
    while waiting:
        index, inputs_done = waiting.pop()
        if index in order:
            continue
        what = values[index]
        if inputs_done or isinstance(what, Leaf):
            order[index] = None
        else:
            waiting.append((index, True))
            waiting.extend((i, False) for i in what.inputs)
    return list(order)


@dataclass
class _Builder:
    """Values by number, each structure once and rewritten as it is added; a value's inputs have lower numbers."""

    move_signs: bool
    what: list[Leaf | Node] = field(default_factory=list)
    keys: list[tuple[int, int, str, float, str]] = field(default_factory=list)  # rank, height, name, number, structure
    numbers: dict[str, int] = field(default_factory=dict)  # structure -> value

    def leaf(self, leaf: Leaf) -> int:
        if leaf.kind == "number" and leaf.value == 0.0:
            leaf = _ZERO
        rank = _RANK_OF_ZERO if leaf.name == "zero" else _RANKS[leaf.kind]
        structure = f"{leaf.kind} {leaf.name} {leaf.value!r}"
        return self._value(leaf, (rank, 0, leaf.name, leaf.value, structure))

    def node(self, op: str, inputs: tuple[int, ...]) -> int:
        """The number of an operation on values; a rewrite may give a simpler value."""
        row = PRIMITIVES[op]
        if op == "neg":
            return self._negative(inputs[0])
        if row.sign == "lost" and self.move_signs:
            inputs = tuple(self._unsigned(i, row.ignores_abs) for i in inputs)
        elif row.sign == "out" and self.move_signs:
            positive = tuple(self._unsigned(i, False) for i in inputs)
            if sum(a != b for a, b in zip(positive, inputs, strict=True)) % 2:
                return self._negative(self.node(op, positive))
            inputs = positive
        if row.idempotent and inputs[0] == inputs[1]:
            return inputs[0]
        if row.unit is not None:
            if self._is_number(inputs[1], row.unit):
                return inputs[0]
            if row.commutative and self._is_number(inputs[0], row.unit):
                return inputs[1]
        if op == "abs" and self._nonnegative(inputs[0]):
            return inputs[0]
        if row.commutative:
            inputs = tuple(sorted(inputs, key=self.keys.__getitem__))
        structure = hashlib.sha256(" ".join([op, *(self.keys[i][4] for i in inputs)]).encode()).hexdigest()
        height = 1 + max(self.keys[i][1] for i in inputs)
        return self._value(Node(op, inputs), (_RANK_OF_NODES, height, op, 0.0, structure))

    def _value(self, what: Leaf | Node, key: tuple[int, int, str, float, str]) -> int:
        number = self.numbers.setdefault(key[4], len(self.what))
        if number == len(self.what):
            self.what.append(what)
            self.keys.append(key)
        return number

    def _negative(self, a: int) -> int:
        what = self.what[a]
        if isinstance(what, Node) and what.op == "neg":
            return what.inputs[0]
        if isinstance(what, Leaf) and what.kind == "number" and what.value != 0.0:
            return self.leaf(replace(what, value=-what.value))
        structure = hashlib.sha256(f"neg {self.keys[a][4]}".encode()).hexdigest()
        return self._value(Node("neg", (a,)), (_RANK_OF_NODES, 1 + self.keys[a][1], "neg", 0.0, structure))

    def _unsigned(self, a: int, without_abs: bool) -> int:
        """The value without its last neg or a number's minus, and `without_abs` also without its last abs."""
        what = self.what[a]
        if isinstance(what, Leaf):
            return self._negative(a) if what.kind == "number" and what.value < 0.0 else a
        if what.op == "neg" or (without_abs and what.op == "abs"):
            return self._unsigned(what.inputs[0], without_abs)
        return a

    def _is_number(self, a: int, value: float) -> bool:
        what = self.what[a]
        return isinstance(what, Leaf) and what.kind == "number" and what.value == value

    def _nonnegative(self, a: int) -> bool:
        what = self.what[a]
        if isinstance(what, Leaf):
            return what.kind == "number" and what.value >= 0.0
        return PRIMITIVES[what.op].nonnegative

    def graph(self, output: int, kind: type[G]) -> G | None:
        inputs: dict[int, tuple[int, ...]] = {}
        leaves: set[int] = set()
        waiting = [output]
        while waiting:
            what = self.what[index := waiting.pop()]
            if isinstance(what, Leaf):
                leaves.add(index)
            elif index not in inputs:
                inputs[index] = what.inputs
                waiting.extend(what.inputs)
        if len(inputs) > NODES_MAX:
            return None
        extras = [leaf for i in leaves if isinstance(leaf := self.what[i], Leaf) and leaf not in BASE_LEAVES]
        extras.sort(key=lambda leaf: (not leaf.learned, leaf.name, leaf.value))
        all_leaves = (*BASE_LEAVES, *extras) if extras else BASE_LEAVES
        places = {i: all_leaves.index(leaf) for i in leaves if isinstance(leaf := self.what[i], Leaf)}
        nodes: list[Node] = []
        for index in _schedule({i: inputs[i] for i in sorted(inputs)}, output):
            what = self.what[index]
            assert isinstance(what, Node)
            places[index] = len(all_leaves) + len(nodes)
            nodes.append(Node(what.op, tuple(places[i] for i in what.inputs)))
        return kind(all_leaves, tuple(nodes), places[output])


def named_values(inputs: dict[int, tuple[int, ...]]) -> set[int]:
    """The nodes that a formula names: those used twice, and those that would nest too deep."""
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
    """The nodes in the order of the formula's text: named values line by line, each line depth first."""
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
