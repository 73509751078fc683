"""A layer as a Python file that imports torch alone: the primitives' own source, and the graph's own text."""

import inspect
from pathlib import Path

from evonas.search_space import layer, moments
from evonas.search_space.graph import Graph, Node
from evonas.search_space.language import formula_lines
from evonas.search_space.lowering import running_moments
from evonas.search_space.primitives import EPS, PRIMITIVES

_FILE = '''"""{title}

{formula}

{about}

    >>> layer = EvolvedLayer(64)          # for (N, 64, ...); channel_dim=-1 for (N, ..., 64)
    >>> layer(torch.randn(8, 64, 32, 32)).shape
    torch.Size([8, 64, 32, 32])
"""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

EPS = {eps!r}
{moments}


{functions}


class EvolvedLayer(Layer):
    """y = weight * graph(x) + bias, with graph(x) =

    {indented_formula}
    """

    def __init__(self, num_features: int, *, groups: int = {groups}, **options: Any) -> None:
        super().__init__(num_features, groups=groups, **options)
{parameters}
    def transform(self, x: Tensor{second}) -> Tensor:
{body}
'''

_SOURCE = inspect.getsource(moments)
_LAYER = inspect.getsource(layer)


def layer_source(graph: Graph, *, title: str = "A layer found by evonas.", about: str = "", groups: int = 32) -> str:
    """The text of a module with the class `EvolvedLayer`, whose state_dict is that of `evonas.layer(graph, ...)`."""
    canonical = graph.canonical()
    running = running_moments(canonical)
    parameters, body, second = [], [], ""
    texts: list[str] = []
    for index, leaf in enumerate(canonical.leaves):
        texts.append(leaf.name or f"k{index}")
        if index not in canonical.live:
            continue
        if leaf.learned:
            shape = "(self.num_features,)" if leaf.kind == "vector" else "()"
            parameters.append(f"self.{leaf.name} = nn.Parameter(self.new_full({shape}, {leaf.value!r}))")
            body.append(f"{leaf.name} = self.per_channel(self.{leaf.name}, x)")
        elif leaf.kind == "number":
            body.append(f"{texts[-1]} = self.number({leaf.value!r}, x)")
        elif leaf.name == "y":
            second = ", y: Tensor"
    for name, start in running.values():
        parameters.append(f'self.register_buffer("{name}", self.new_full((self.num_features,), {start!r}))')

    def aggregation(node: Node, index: int, text: str) -> str:
        row = PRIMITIVES[node.op]
        moment = f", self.{running[index][0]}" if index in running else ""
        return f'{row.fn.__name__}({text}, self.over("{row.reduces}"{moment}))'

    for name, expression in formula_lines(canonical, aggregation, texts):
        body.append(f"{name} = {expression}" if name else f"return {expression}")
    called = [PRIMITIVES[op].fn for op in sorted({node.op for node in canonical.nodes})]
    functions = {fn.__name__: inspect.getsource(fn).strip() for fn in called}
    return _FILE.format(
        title=_escape(title),
        formula=_indent(graph.formula, 4),
        about=_escape(about)
        or "The affine (weight, bias) is part of the layer; so are the running moments, if it has any.",
        eps=EPS,
        functions="\n\n\n".join(functions.values()),
        moments=_SOURCE[_SOURCE.index("HALF =") :] + "\n\n" + _LAYER[_LAYER.index("def whole(") :].rstrip(),
        indented_formula=_indent(graph.formula, 4).strip(),
        groups=groups,
        parameters="".join(f"{' ' * 8}{line}\n" for line in _unless_affine(parameters)),
        second=second,
        body="\n".join(f"        {line}" for line in body),
    )


def write_layer(path: Path, graph: Graph, **options: object) -> None:
    """`layer_source` into a file."""
    path.write_text(layer_source(graph, **options), encoding="utf-8")  # type: ignore[arg-type]


def _unless_affine(parameters: list[str]) -> list[str]:
    return ["if self.apply_act:", *(f"    {line}" for line in parameters)] if parameters else []


def _escape(text: str) -> str:
    """For a docstring."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _indent(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())
