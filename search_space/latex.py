"""Graph -> LaTeX, from the `latex` field of each primitive."""

import re
from collections.abc import Sequence

from evonas.search_space.canonical import canonical, named_values
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.structure import Leaf, Node, Structure

_SUM, _SIGNED, _PRODUCT, _TERM, _SYMBOL, _BRACKETS = range(6)  # how tightly an expression holds together
_LEVELS = {"add": _SUM, "neg": _SIGNED, "mul": _PRODUCT}  # of an expression; every other one is a term
_LEVELS_OF_OPERANDS = {  # of each input
    "add": (_SUM, _PRODUCT),
    "neg": (_PRODUCT,),
    "mul": (_PRODUCT, _TERM),
    "square": (_SYMBOL,),
}

_SMALL = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi"
_LARGE = "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
GREEK = {  # letter -> command
    letter: rf"\{name}"
    for letter, name in zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", f"{_SMALL} omega {_LARGE}".split(), strict=True)
}

Expression = tuple[str, int]  # LaTeX, and how tightly it holds together


def latex(graph: Structure) -> str:
    r"""The live canonical formula as the body of a formula, without dollars.

        x * sigmoid(v1 * x) / std_ghw(x)  ->  \frac{x \cdot \sigma\left(v_1 \cdot x\right)}{s_{ghw}\left(x\right)}

    Values that the text names have lines of their own in an `aligned` block, n_0 = ..., under the text's names. So do,
    as k_0 = ..., those that only LaTeX writes twice: sqrt(a) is sgn(a) sqrt(|a| + eps). The minus is that of textbooks:
    -a b is -(a b). Initial values of learned parameters are not shown.
    """
    return latex_as_it_stands(canonical(graph))


def latex_as_it_stands(graph: Structure) -> str:
    """The LaTeX of a graph without dead nodes, not brought into canonical form."""
    first = len(graph.leaves)
    named = named_values({first + i: node.inputs for i, node in enumerate(graph.nodes)})
    twice = {node.inputs[0] for node in graph.nodes if PRIMITIVES[node.op].latex.count("{0}") > 1}
    written = [_leaf(leaf) for leaf in graph.leaves]
    lines: list[str] = []
    counts = {"n": 0, "k": 0}
    for index, node in enumerate(graph.nodes, start=first):
        expression = _write(graph, node, written, named)
        if index != graph.output and index in named | twice:
            letter = "n" if index in named else "k"
            name = _subscripted(letter, str(counts[letter]))
            counts[letter] += 1
            lines.append(rf"{name} &= {expression[0]} \\")
            expression = (name, _SYMBOL)
        written.append(expression)
    last = written[graph.output][0]
    return "\n".join([r"\begin{aligned}", *lines, f"& {last}", r"\end{aligned}"]) if lines else last


def _write(graph: Structure, node: Node, written: Sequence[Expression], named: set[int]) -> Expression:
    row = PRIMITIVES[node.op]
    operands = [written[i] for i in node.inputs]
    levels = _LEVELS_OF_OPERANDS.get(node.op, (_SUM,) * row.arity)
    last = graph.node(node.inputs[-1])
    if node.op == "add" and last and last.op == "neg" and node.inputs[-1] not in named:
        return f"{operands[0][0]} - {_bracket(written[last.inputs[0]], _PRODUCT)}", _SUM
    if node.op == "neg" and node.inputs[0] < len(graph.leaves) and graph.leaves[node.inputs[0]].value > 0:
        levels = (_BRACKETS,)  # `-0.5` is a number, `-(0.5)` a node
    texts = [_bracket(operand, level) for operand, level in zip(operands, levels, strict=True)]
    otherwise = _SYMBOL if row.latex.startswith(r"\left") else _TERM
    return row.latex.format(*texts, *filter(None, [row.reduces])), _LEVELS.get(node.op, otherwise)


def _bracket(operand: Expression, level: int) -> str:
    text, own = operand
    return text if own >= level else rf"\left({text}\right)"


def _leaf(leaf: Leaf) -> Expression:
    if leaf.kind == "number":
        return _number(leaf.value)
    short = re.fullmatch(rf"([a-zA-Z{''.join(GREEK)}])(\d*)", leaf.name)
    if short:
        return _subscripted(GREEK.get(short[1], short[1]), short[2]), _SYMBOL
    escaped = leaf.name.replace("_", r"\_")
    if not leaf.name.isascii():  # in mathematics pdfLaTeX has no letter with an accent
        return rf"\textit{{{''.join(f'${GREEK[each]}$' if each in GREEK else each for each in escaped)}}}", _SYMBOL
    return rf"\mathit{{{escaped}}}", _SYMBOL


def _number(value: float) -> Expression:
    mantissa, _, exponent = repr(value).removesuffix(".0").partition("e")
    if not exponent:
        return mantissa, _SIGNED if value < 0 else _SYMBOL
    factor = {"1": "", "-1": "-"}.get(mantissa, rf"{mantissa} \times ")
    return f"{factor}10^{{{int(exponent)}}}", _SIGNED if value < 0 else _TERM


def _subscripted(letter: str, digits: str) -> str:
    return letter + (f"_{{{digits}}}" if len(digits) > 1 else f"_{digits}" if digits else "")
