"""Graph -> text: the whole genotype, or the live canonical formula. search_space.language reads both."""

from collections.abc import Callable

from evonas.search_space.canonical import named_values
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.structure import BASE_LEAVES, NODES_MAX, Leaf, Node, Structure

_LEVELS = {"add": 1, "mul": 2, "div": 2, "neg": 3}  # how tightly the operators bind; 4 is a name or a call


def print_genotype(graph: Structure) -> str:
    """Every node, dead ones included, one a line."""
    names = _leaf_texts(graph)
    lines = _definitions(graph)
    lines += [f"{name} = {_number(leaf.value)}" for name, leaf in _dead_numbers(graph)]
    first = len(graph.leaves)
    texts = [*names, *(f"n{i}" for i in range(len(graph.nodes)))]
    for i, node in enumerate(graph.nodes):
        expression = _write(node, [(texts[j], 4) for j in node.inputs], [_is_number(graph, j) for j in node.inputs])[0]
        is_last = graph.output == first + i == first + len(graph.nodes) - 1
        lines.append(expression if is_last else f"n{i} = {expression}")
    if graph.output != first + len(graph.nodes) - 1 or not graph.nodes:
        lines.append(texts[graph.output])
    return "\n".join(lines)


def print_formula(canonical: Structure, width: int | None = None) -> str:
    """The expression of a canonical graph; values used twice, deep ones, and with `width` what would make a line longer
    than that, get a line of their own."""
    lines = formula_lines(canonical, width=width)
    return "\n".join([*_definitions(canonical), *(f"{name} = {line}" if name else line for name, line in lines)])


def formula_lines(
    canonical: Structure,
    write_call: Callable[[Node, int, list[str]], str] | None = None,
    leaf_texts: list[str] | None = None,
    width: int | None = None,
) -> list[tuple[str, str]]:
    """(name, expression) of each line, the last with no name.

    For exported source, `write_call(node, index, operands)` writes the operations that are no operator, and
    `leaf_texts` are other texts for the leaves, numbers included. `width` is the most letters of a line.
    """
    first = len(canonical.leaves)
    inputs = {first + i: node.inputs for i, node in enumerate(canonical.nodes)}
    named = named_values(inputs)
    texts = [(text, 4) for text in leaf_texts or _leaf_texts(canonical)]
    lines: list[tuple[str, str]] = []
    waiting: list[int] = []  # values that no line has yet

    def name_value(index: int) -> None:
        name = f"n{len(lines)}"
        lines.append((name, texts[index][0]))
        texts[index] = (name, 4)
        named.add(index)

    def write_node(node: Node, index: int) -> tuple[str, int]:
        operands = [texts[i] for i in node.inputs]
        subtracted = None
        if (
            node.op == "add"
            and (right := canonical.node(node.inputs[1]))
            and right.op == "neg"
            and node.inputs[1] not in named
        ):
            subtracted = texts[right.inputs[0]]
        if write_call and not PRIMITIVES[node.op].operator:
            return write_call(node, index, [text for text, _ in operands]), 4
        if subtracted:
            return f"{_bracket(operands[0], 1)} - {_bracket(subtracted, 2)}", 1
        return _write(node, operands, [not leaf_texts and _is_number(canonical, i) for i in node.inputs])

    for index in inputs:
        node = canonical.nodes[index - first]
        texts.append(write_node(node, index))
        for i in sorted({i for i in node.inputs if i in inputs} - named):
            if width and len(f"n{len(lines)} = {texts[index][0]}") > width:
                for earlier in [each for each in waiting if each <= i]:  # the order decides the bits of gradients
                    name_value(earlier)
                    waiting.remove(earlier)
                texts[index] = write_node(node, index)
        waiting = [each for each in waiting if each not in node.inputs]
        if index in named and index != canonical.output:
            name_value(index)
        else:
            waiting.append(index)
    return [*lines, ("", texts[canonical.output][0])]


def _write(node: Node, operands: list[tuple[str, int]], numbers: list[bool]) -> tuple[str, int]:
    operator = PRIMITIVES[node.op].operator
    if node.op == "neg" and numbers[0]:
        operator = None  # `-0.5` is a number, `neg(0.5)` a node
    if operator is None:
        return f"{node.op}({', '.join(text for text, _ in operands)})", 4
    level = _LEVELS[node.op]
    if len(operands) == 1:
        return f"{operator}{_bracket(operands[0], level)}", level
    return f"{_bracket(operands[0], level)} {operator} {_bracket(operands[1], level + 1)}", level


def _bracket(operand: tuple[str, int], level: int) -> str:
    text, own = operand
    return text if own >= level else f"({text})"


def _is_number(graph: Structure, index: int) -> bool:
    return index < len(graph.leaves) and graph.leaves[index].kind == "number" and not graph.leaves[index].name


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e6 else repr(value)


def _leaf_texts(graph: Structure) -> list[str]:
    return [leaf.name or _number(leaf.value) for leaf in graph.leaves]


def _definitions(graph: Structure) -> list[str]:
    extras = graph.leaves[len(BASE_LEAVES) :]
    return [f"{leaf.name} = {leaf.kind}({_number(leaf.value)})" for leaf in extras if leaf.learned]


def _dead_numbers(graph: Structure) -> list[tuple[str, Leaf]]:
    used = {i for node in graph.nodes for i in node.inputs} | {graph.output}
    taken = {leaf.name for leaf in graph.leaves}
    dead = [
        graph.leaves[i] for i in range(len(BASE_LEAVES), len(graph.leaves)) if _is_number(graph, i) and i not in used
    ]
    free = (name for i in range(NODES_MAX * 100) if (name := f"k{i}") not in taken)
    return list(zip(free, dead, strict=False))
