"""Text -> graph. The language is a small subset of Python, read with `ast` and a white list; nothing is evaluated.

    x * sigmoid(v1 * x) / std_ghw(x)                       # EvoNorm-S0

    a = scalar(0.5)                                        # DyT: a learned scalar, used by name
    tanh(a * x)

The last line is the output, other lines name values. Leaves: x, y, zero, v0, v1, numbers, `scalar(a)`, `vector(a)`.
"""

import ast
import keyword
import math
import re
import warnings
from dataclasses import dataclass, field
from typing import TypeVar

from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.layer import Layer
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.printing import print_genotype
from evonas.search_space.structure import BASE_LEAVES, NODES_MAX, NUMBER_MAX, Leaf, Node, Structure
from evonas.search_space.wording import counted

G = TypeVar("G", bound=Structure)

LENGTH_MAX = 4_000  # characters
NESTING_MAX = 50

_LEAF_NAMES = {leaf.name: index for index, leaf in enumerate(BASE_LEAVES)}
_PARAMETERS = ("scalar", "vector")
_BINARY: dict[type[ast.operator], str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_LAYER_NAMES = {*dir(Layer(1)), "genotype", "self", "torch", "mean", "rms", "std"}  # also of its exported source
_LAYER_NAMES |= {"graph"}  # torch.onnx.export takes a module with this attribute for a script
_PRINTED_NAME = re.compile(r"(n|k|running_)\d+")  # what formulas, exported source and buffers are named


def parse(text: str, kind: type[G]) -> G:
    """Read a graph. Raises InputError with the line and column, what stands there, and the nearest valid name."""
    if len(text) > LENGTH_MAX:
        raise InputError(f"graph text: {len(text)} characters; at most {LENGTH_MAX} are allowed")
    _check_nesting(text)
    lines = text.splitlines()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about Python that the white list refuses anyway
            module = ast.parse("\n".join(line.strip() for line in lines))
    except SyntaxError as error:
        line, column = error.lineno or 1, error.offset or 1
        column += _indent(lines, line)
        raise InputError(f"graph text, line {line}, column {column}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"graph text: cannot be read ({error or type(error).__name__})") from None
    if not module.body:
        raise InputError("graph text: empty; expected an expression such as max(x, zero)")
    return _Reader(lines).read(module, kind)


def _indent(lines: list[str], number: int) -> int:
    """Leading whitespace of line `number` (1-based), stripped before parsing."""
    line = lines[number - 1] if number <= len(lines) else ""
    return len(line) - len(line.lstrip())


def _check_nesting(text: str) -> None:
    depth = 0
    for column, character in enumerate(text, start=1):
        depth += (character in "([{") - (character in ")]}")
        if depth > NESTING_MAX:
            raise InputError(f"graph text, character {column}: nested deeper than {NESTING_MAX}")


def _quoted(name: str) -> str:
    return f"'{name}'" if len(name) <= 60 else f"'{name[:40]}...'"


@dataclass
class _Reader:
    """Builds a graph from `ast` nodes; meanwhile a leaf stands for itself, and a node is its position in `nodes`."""

    lines: list[str]
    written: set[str] = field(default_factory=set)  # every name in the text
    names: dict[str, "Leaf | int"] = field(default_factory=dict)
    parameters: list[Leaf] = field(default_factory=list)
    numbers: set[float] = field(default_factory=set)
    nodes: list[tuple[str, tuple["Leaf | int", ...]]] = field(default_factory=list)

    def read(self, module: ast.Module, kind: type[G]) -> G:
        *assignments, last = module.body
        self.written = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
        for statement in assignments:
            self._assign(statement)
        if not isinstance(last, ast.Expr):
            raise self._fail(last, "the last line is the output; expected an expression")
        output = self._value(last.value, 0)
        leaves = (*BASE_LEAVES, *self.parameters, *(Leaf("number", "", number) for number in sorted(self.numbers)))
        places = {leaf: index for index, leaf in enumerate(leaves)}

        def place(value: Leaf | int) -> int:
            return len(leaves) + value if isinstance(value, int) else places[value]

        nodes = tuple(Node(op, tuple(place(value) for value in inputs)) for op, inputs in self.nodes)
        try:
            graph = kind(leaves, nodes, place(output))
        except ValueError as error:
            raise InputError(f"graph text: {error}") from None
        if len(print_genotype(graph)) > LENGTH_MAX:
            raise InputError(f"graph text: one node a line, it has more than {LENGTH_MAX} characters")
        return graph

    def _fail(self, node: ast.expr | ast.stmt, message: str) -> InputError:
        before = self.lines[node.lineno - 1].strip().encode()[: node.col_offset].decode()  # ast counts bytes
        column = _indent(self.lines, node.lineno) + len(before) + 1
        return InputError(f"graph text, line {node.lineno}, column {column}: {message}")

    def _assign(self, statement: ast.stmt) -> None:
        if not (
            isinstance(statement, ast.Assign)
            and len(statement.targets) == 1
            and isinstance(statement.targets[0], ast.Name)
        ):
            raise self._fail(statement, "expected `name = expression` before the last line")
        name = statement.targets[0].id
        if name in _LEAF_NAMES or name in PRIMITIVES or name in _PARAMETERS:
            raise self._fail(statement, f"{_quoted(name)} is reserved; choose another name")
        if name in self.names:
            raise self._fail(statement, f"{_quoted(name)} is named twice")
        call = statement.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in _PARAMETERS:
            self.names[name] = self._parameter(call, name)
        else:
            self.names[name] = self._value(call, 0)

    def _value(self, node: ast.expr, depth: int) -> Leaf | int:
        if depth > NESTING_MAX:
            raise self._fail(node, f"nested deeper than {NESTING_MAX}; name an intermediate value")
        match node:
            case ast.Name(id=name):
                if name in self.names:
                    return self.names[name]
                if name in _LEAF_NAMES:
                    return BASE_LEAVES[_LEAF_NAMES[name]]
                hint = (
                    " is a primitive and needs arguments"
                    if name in PRIMITIVES
                    else did_you_mean(name, [*_LEAF_NAMES, *self.names])
                )
                raise self._fail(node, f"unknown name {_quoted(name)}{hint}")
            case ast.Constant() | ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
                return self._number(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._node(node, "neg", self._value(operand, depth + 1))
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _BINARY:
                op = _BINARY[type(operator)]
                a = self._value(left, depth + 1)
                b = self._value(right, depth + 1)
                return (
                    self._node(node, "add", a, self._node(node, "neg", b))
                    if op == "sub"
                    else self._node(node, op, a, b)
                )
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                if name in _PARAMETERS:
                    return self._parameter(node, self._free_name())
                if name not in PRIMITIVES:
                    raise self._fail(
                        node, f"unknown primitive {_quoted(name)}{did_you_mean(name, [*PRIMITIVES, *_PARAMETERS])}"
                    )
                arity = PRIMITIVES[name].arity
                if len(arguments) != arity:
                    raise self._fail(node, f"{name} takes {counted(arity, 'argument')}, got {len(arguments)}")
                return self._node(node, name, *(self._value(argument, depth + 1) for argument in arguments))
            case _:
                syntax = type(getattr(node, "op", node)).__name__  # `Pow` says more than `BinOp`
                raise self._fail(
                    node,
                    f"{syntax} is not part of the language; expected names, numbers, + - * / and calls of primitives",
                )

    def _node(self, at: ast.expr, op: str, *inputs: Leaf | int) -> int:
        if len(self.nodes) >= NODES_MAX:
            raise self._fail(at, f"more than {NODES_MAX} nodes")
        self.nodes.append((op, inputs))
        return len(self.nodes) - 1

    def _number(self, node: ast.expr) -> Leaf:
        constant, sign = (node.operand, -1.0) if isinstance(node, ast.UnaryOp) else (node, 1.0)
        value = constant.value if isinstance(constant, ast.Constant) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            written = repr(value)[:40] if isinstance(constant, ast.Constant) else type(constant).__name__
            raise self._fail(node, f"expected a number, got {written}")
        try:
            number = sign * float(value)
        except OverflowError:
            number = math.inf
        if abs(number) > NUMBER_MAX:
            raise self._fail(node, f"the number is too large; at most {NUMBER_MAX:g} is allowed")
        number += 0.0  # -0.0 is 0
        self.numbers.add(number)
        return Leaf("number", "", number)

    def _parameter(self, call: ast.Call, name: str) -> Leaf:
        assert isinstance(call.func, ast.Name)
        if name in _LAYER_NAMES or _PRINTED_NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("_"):
            raise self._fail(call, f"{_quoted(name)} cannot be the name of a learned parameter; choose another")
        if len(call.args) != 1 or call.keywords:
            raise self._fail(call, f"{call.func.id} takes 1 number, its initial value")
        number = self._literal(call.args[0])
        leaf = Leaf(call.func.id, name, number)
        self.parameters.append(leaf)
        return leaf

    def _literal(self, node: ast.expr) -> float:
        before = set(self.numbers)
        leaf = self._number(node)
        self.numbers = before
        return leaf.value

    def _free_name(self) -> str:
        taken = {leaf.name for leaf in self.parameters} | self.written
        return next(name for i in range(LENGTH_MAX) if (name := f"p{i}") not in taken)
