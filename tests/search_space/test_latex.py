"""LaTeX of graphs: known layers letter by letter, and read back by a reader of textbook notation."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex, latex_as_it_stands
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.space import Space
from tests.conftest import graphs
from tests.search_space.graphs import EVERY_OP, woven_graphs

KNOWN = {
    "BN-ReLU": r"\max\left(\frac{x - \mu_{bhw}\left(x\right)}{s_{bhw}\left(x\right)}, 0\right)",
    "EvoNorm-B0": r"\frac{x}{\max\left(s_{bhw}\left(x\right), v_1 \cdot x + s_{hw}\left(x\right)\right)}",
    "EvoNorm-S0": r"\frac{x \cdot \sigma\left(v_1 \cdot x\right)}{s_{ghw}\left(x\right)}",
    "BN-SiLU": r"""\begin{aligned}
n_0 &= \frac{x - \mu_{bhw}\left(x\right)}{s_{bhw}\left(x\right)} \\
& n_0 \cdot \sigma\left(n_0\right)
\end{aligned}""",
}
WRITTEN = {
    "v1 * (x + v0)": r"v_1 \cdot \left(x + v_0\right)",
    "v1 * x + v0": r"v_1 \cdot x + v_0",
    "x + (y + v1)": r"x + \left(y + v_1\right)",
    "-(x * v1)": r"-x \cdot v_1",
    "(-x) * v1": r"\left(-x\right) \cdot v_1",
    "x / (y / v1)": r"\frac{x}{\frac{y}{v_1}}",
    "x / y / v1": r"\frac{\frac{x}{y}}{v_1}",
    "(x + y) - (v1 - v0)": r"x + y - \left(v_1 - v_0\right)",
    "-(x + y)": r"-\left(x + y\right)",
    "--x": r"-\left(-x\right)",
    "square(-x)": r"\left(-x\right)^2",
    "-square(x)": r"-x^2",
    "square(square(x))": r"\left(x^2\right)^2",
    "exp(x + y)": r"e^{x + y}",
    "square(exp(x))": r"\left(e^{x}\right)^2",
    "v1 * x / std_hw(x)": r"\frac{v_1 \cdot x}{s_{hw}\left(x\right)}",
    "square(abs(x))": r"\left|x\right|^2",
    "sqrt(x)": r"\operatorname{sgn}\left(x\right) \sqrt{\left|x\right| + \varepsilon}",
    "log(x)": r"\operatorname{sgn}\left(x\right) \ln\left(\left|x\right| + \varepsilon\right)",
    "x - 1e-05": r"x - 10^{-5}",
    "-2.5e-07 * x": r"\left(-2.5 \times 10^{-7}\right) \cdot x",
    "-0.5 * x": r"\left(-0.5\right) \cdot x",
    "neg(0.5)": r"-\left(0.5\right)",
    "2e+20 * x": r"2 \times 10^{20} \cdot x",
    "a = scalar(0.5)\ntanh(a * x)": r"\tanh\left(a \cdot x\right)",
    "alpha_one = vector(1)\nalpha_one + x": r"\mathit{alpha\_one} + x",
    "w12 = vector(1)\nw12 * x": r"w_{12} \cdot x",
    "sqrt(x + y)": r"""\begin{aligned}
k_0 &= x + y \\
& \operatorname{sgn}\left(k_0\right) \sqrt{\left|k_0\right| + \varepsilon}
\end{aligned}""",
}

BEYOND_ASCII = {
    "λ = scalar(1)\nβ12 = vector(0)\nλ * x + β12": r"\lambda \cdot x + \beta_{12}",
    "largeur_élevée = scalar(1)\nlargeur_élevée * x": r"\textit{largeur\_élevée} \cdot x",
    "Δ_x = scalar(1)\nΔ_x * x": r"\textit{$\Delta$\_x} \cdot x",
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_layers_letter_by_letter(name: str) -> None:
    assert latex(LAYERS[name].graph) == KNOWN[name]


@pytest.mark.parametrize("text", WRITTEN)
def test_brackets_stand_where_they_must_and_nowhere_else(text: str) -> None:
    assert latex_as_it_stands(Graph.parse(text)) == WRITTEN[text]


@pytest.mark.parametrize("text", BEYOND_ASCII)
def test_letters_beyond_ascii_are_ones_that_latex_has(text: str) -> None:
    assert latex_as_it_stands(Graph.parse(text)) == BEYOND_ASCII[text]


def test_the_live_canonical_graph_is_written() -> None:
    assert latex(Graph.parse("dead = exp(x)\nx * v1")) == r"v_1 \cdot x"


def test_nested_roots_do_not_double_the_text() -> None:
    graph = Graph.parse("sqrt(" * 40 + "x" + ")" * 40)
    assert len(latex(graph)) < 40 * 120


# --------------------------------------------------------------------------- read back

CLOSE, BAR = r"\right)", r"\right|"
FUNCTIONS = {
    r"\sigma": "sigmoid",
    r"\tanh": "tanh",
    r"\operatorname{erf}": "erf",
    r"\mu": "mean",
    "r": "rms",
    "s": "std",
}


@dataclass
class Reader:
    r"""Reads LaTeX as a textbook means it (-a b is -(a b)), and writes evonas' language."""

    tokens: list[str]

    def sum(self) -> str:
        text = f"(-{self.product()})" if self.take("-") else self.product()
        while self.next in ("+", "-"):
            text = f"({text} {self.take()} {self.product()})"
        return text

    def product(self) -> str:
        text = self.power()
        while self.take(r"\cdot"):
            text = f"({text} * {self.power()})"
        return text

    def power(self) -> str:
        base = self.term()
        return f"square({base})" if self.take("^2") else base

    def term(self) -> str:
        token = self.take()
        if token == r"\left(":
            return f"({self.until(CLOSE)})"
        if token == r"\left|":
            return f"abs({self.until(BAR)})"
        if token == r"\frac{":
            top = self.until("}")
            self.expect("{")
            return f"({top} / {self.until('}')})"
        if token == r"\max\left(":
            return f"max({self.until(',')}, {self.until(CLOSE)})"
        if token == r"e^{":
            return f"exp({self.until('}')})"
        if token == r"\operatorname{sgn}\left(":
            return self.signed()
        called = re.fullmatch(r"(\\operatorname\{erf\}|\\?[a-z]+)(?:_\{([a-z]+)\})?\\left\(", token)
        if called:
            return f"{FUNCTIONS[called[1]]}{'_' if called[2] else ''}{called[2] or ''}({self.until(CLOSE)})"
        return self.symbol(token)

    def symbol(self, token: str) -> str:
        if token.startswith(r"\mathit{"):
            return token.removeprefix(r"\mathit{").removesuffix("}").replace(r"\_", "_")
        power = re.fullmatch(r"(?:([\d.]+) \\times )?10\^\{(-?\d+)\}", token)
        if power:
            return repr(float(f"{power[1] or 1}e{power[2]}"))
        assert re.fullmatch(r"[a-zA-Z](_\d|_\{\d\d+\})?|[\d.]+", token), token
        return "zero" if token == "0" else re.sub(r"[_{}]", "", token)

    def signed(self) -> str:
        """sgn(a) sqrt(|a| + eps), or sgn(a) ln(|a| + eps)."""
        inner = self.until(CLOSE)
        name = {r"\sqrt{": "sqrt", r"\ln\left(": "log"}[self.take()]
        self.expect(r"\left|")
        assert self.until(BAR) == inner
        self.expect("+")
        self.expect(r"\varepsilon")
        self.expect("}" if name == "sqrt" else CLOSE)
        return f"{name}({inner})"

    @property
    def next(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, wanted: str | None = None) -> str:
        return self.tokens.pop(0) if wanted in (None, self.next) else ""

    def expect(self, token: str) -> None:
        assert self.take(token), (token, self.tokens[:5])

    def until(self, end: str) -> str:
        text = self.sum()
        self.expect(end)
        return text


TOKEN = re.compile(
    r"\s*(\\operatorname\{(?:sgn|erf)\}\\left\(|\\(?:max|sigma|tanh|ln)\\left\(|(?:\\mu|r|s)_\{[a-z]+\}\\left\(|\\left.|\\right."
    r"|\\frac\{|\\sqrt\{|\\cdot|\\varepsilon|\\mathit\{(?:[^{}\\]|\\_)+\}|(?:[\d.]+ \\times )?10\^\{-?\d+\}|e\^\{|\^2"
    r"|[a-zA-Z](?:_\d|_\{\d+\})?|\d+(?:\.\d+)?|[-+,{}])"
)


def read(text: str) -> str:
    r"""The text that the LaTeX of one expression means; a number with its minus is read as in the language."""
    tokens, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        assert match, text[place:]
        tokens.append(match[1])
        place = match.end()
    reader = Reader(tokens)
    result = reader.sum()
    assert reader.tokens == []
    # -(0.5) is a node, -0.5 a number: the bracket that `sum` sets tells them apart
    return re.sub(r"\(-\((\d[\d.e+-]*)\)\)", r"neg(\1)", result)


def read_back(text: str, graph: Graph) -> Graph:
    lines = text.splitlines()
    if lines[0] == r"\begin{aligned}":
        assert lines[-1] == r"\end{aligned}"
        lines = [*lines[1:-2], lines[-2].removeprefix("& ")]
    parameters = [leaf for leaf in graph.leaves if leaf.learned and leaf.name not in ("v0", "v1")]
    program = [f"{leaf.name} = {leaf.kind}({leaf.value!r})" for leaf in parameters]
    for line in lines[:-1]:
        name, _, expression = line.removesuffix(r" \\").partition(" &= ")
        program.append(f"{re.sub(r'[_{}]', '', name)} = {read(expression)}")
    return Graph.parse("\n".join([*program, read(lines[-1])]))


def braces_balance(text: str) -> bool:
    depth = 0
    for character in text.replace(r"\_", ""):
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0 and text.count(r"\left") == text.count(r"\right")


GRAPHS = graphs(EVERY_OP)


@given(GRAPHS | woven_graphs() | woven_graphs(Space(nodes=60)))
def test_latex_of_any_graph_balances_and_means_the_graph(graph: Graph) -> None:
    text = latex(graph)
    assert braces_balance(text)
    assert read_back(text, graph.canonical()).digest == graph.digest


@pytest.mark.parametrize("text", [*WRITTEN, *map(str, LAYERS.graphs.values())])
def test_what_is_written_means_the_graph(text: str) -> None:
    graph = Graph.parse(text)
    assert read_back(latex(graph), graph).digest == graph.digest
    if graph.live_nodes == len(graph.nodes):
        assert read_back(latex_as_it_stands(graph), graph).digest == graph.digest


def test_the_reader_can_tell_a_missing_bracket() -> None:
    graph = Graph.parse("v1 * (x + v0)")
    wrong = latex(graph).replace(r"\left(", "").replace(r"\right)", "")
    assert read_back(wrong, graph).digest != graph.digest


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_primitive_renders(name: str, render: Callable[[str], None]) -> None:
    row = PRIMITIVES[name]
    render(latex(Graph.parse(f"{name}({', '.join(['x', 'v1'][: row.arity])})")))


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_every_formula_of_the_catalog_renders(name: str, render: Callable[[str], None]) -> None:
    render(latex(LAYERS[name].graph))


def test_a_formula_that_is_no_latex_does_not_render(render: Callable[[str], None]) -> None:
    with pytest.raises(ValueError, match="frac"):
        render(r"\frac{x")


@pytest.fixture
def render() -> Callable[[str], None]:
    """matplotlib's typesetter, each line of an `aligned` block by itself."""
    from matplotlib.mathtext import MathTextParser

    parser: MathTextParser = MathTextParser("path")

    def run(text: str) -> None:
        for line in text.splitlines():
            if "{aligned}" not in line:
                width = parser.parse(f"${line.removesuffix(chr(92) * 2).replace('&', '')}$")[0]
                assert width > 0

    return run
