"""A layer as a Python file that imports torch alone: the graph's text, and the functions that it calls, verbatim."""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import torch

from evonas.search_space import moments, primitives
from evonas.search_space.analysis import analyse
from evonas.search_space.graph import Graph, Leaf, Node
from evonas.search_space.lowering import running_moments
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.printing import formula_lines

_FILE = '''"""{title}

{formula}

{about}
{note}
"""

{imports}import torch
from torch import Tensor, nn
{constants}

{functions}


class EvolvedLayer(nn.Module):
    """y = weight * graph(x) + bias, for x of shape (N, ..., C, ...) with C = num_features at axis channel_dim."""

{buffers}    def __init__(
        self,
        num_features: int,
        apply_act: bool = True,
        *,
{arguments}
    ) -> None:
        super().__init__()
{settings}

    def forward(self, {inputs}) -> Tensor:
        axis, shape, dtype = self.channel_dim, x.shape, x.dtype
        if x.ndim < 2 or not -x.ndim < axis < x.ndim or shape[axis] != len(self.weight):
            raise ValueError(f"expected {{len(self.weight)}} channels at axis {{axis}}, got shape {{tuple(shape)}}")
{widened}
        if self.apply_act and x.numel():
{body}
        x = x * per_channel(self.weight, x, axis) + per_channel(self.bias, x, axis)
        return x{expanded}.to(dtype)
{aggregations}'''
_NOTE = "apply_act=False leaves weight * x + bias. Half precision is computed in float32, and rounded once."
_BATCH_NOTE = "\nBatch statistics are those of this process; in evaluation, running moments replace them."
_ABOUT = "The affine (weight, bias) is part of the layer; so are the running moments, if it has any."
_IMPORTS = {"Callable": "from collections.abc import Callable", "Any": "from typing import Any"}
_NAMES = ("Tensor", "nn", "axis", "shape", "dtype")  # in `forward`, beside the functions
_GROUPS = "next(n for n in range(min(groups, num_features), 0, -1) if num_features % n == 0)"  # as `Layer` lowers them


def layer_source(graph: Graph, *, title: str = "A layer found by evonas.", about: str = "", groups: int = 32) -> str:
    """The source of a module with the class `EvolvedLayer`, whose state_dict is that of `evonas.layer(graph, ...)`.

    groups: the default of the option `groups`, which the class has if the graph has groups.
    """
    canonical = graph.canonical()
    functions = _with_what_they_use(_called(canonical))
    constants = [source for source in functions.values() if not source.startswith(("def", "class"))]
    used = set().union(*map(_names, functions.values()))
    imports = [line for name, line in _IMPORTS.items() if name in used]
    options = _options(canonical, groups)
    buffers = [name for name, _ in running_moments(canonical).values()]
    inputs = ["x", "y"] if canonical.takes_y else ["x"]
    return _FILE.format(
        title=_escape(title),
        formula=_lines(graph.formula.splitlines(), 4),
        about=_escape(about) or _ABOUT,
        imports="".join(f"{line}\n" for line in [*imports, ""] if imports),
        constants="".join(f"{source}\n" for source in ["", *constants] if constants),
        functions="\n\n\n".join(source for source in functions.values() if source not in constants),
        note=_NOTE + _BATCH_NOTE * bool(buffers),
        buffers="".join(f"    {name}: Tensor\n" for name in buffers) + "\n" * bool(buffers),
        arguments=_lines((f"{name}: {what}," for name, what in options.items()), 8),
        settings=_lines([*_settings(options), *_state(canonical)], 8),
        inputs=", ".join(f"{name}: Tensor" for name in inputs),
        widened=_lines((f"{name} = {name}.to(torch.promote_types({name}.dtype, torch.float32))" for name in inputs), 8),
        expanded=".expand(shape)" * _may_be_smaller(canonical),
        body=_lines(_body(canonical, {*functions, *_NAMES}), 12),
        aggregations="".join(f"{_lines([line], 4)}\n" for line in _aggregations(canonical)),
    )


# --------------------------------------------------------------------------- the functions


def _called(canonical: Graph) -> list[Callable[..., Any]]:
    """The functions that the file calls by name."""
    rows = [PRIMITIVES[node.op] for node in canonical.nodes]
    over = [getattr(moments, f"over_{index_set}") for index_set in sorted({row.reduces for row in rows if row.reduces})]
    own = [row.fn for row in rows if not row.operator and not _is_torchs(row.fn)]
    return [moments.per_channel, *own, *over]


def _is_torchs(fn: Callable[..., Any]) -> bool:
    return getattr(torch, fn.__name__, None) is fn


def _with_what_they_use(functions: Iterable[Callable[..., Any]]) -> dict[str, str]:
    """Name -> source of functions and of everything that they use, each before its users."""
    statements = dict(_statements(moments)) | dict(_statements(primitives))
    needed: dict[str, str] = {}

    def add(name: str) -> None:
        if name in statements and name not in needed:
            source = statements[name]
            for other in sorted(_names(source) - {name}):
                add(other)
            needed[name] = source

    for function in functions:
        add(function.__name__)
    return needed


def _statements(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Name and source of each function, class and constant of a module, with its trailing comment."""
    source = inspect.getsource(module)
    for node in ast.parse(source).body:
        text = "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, text
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, text


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


# --------------------------------------------------------------------------- the class


def _live_leaves(canonical: Graph) -> list[Leaf]:
    return [leaf for index, leaf in enumerate(canonical.leaves) if index in canonical.live]


def _may_be_smaller(canonical: Graph) -> bool:
    """Whether the output may have size 1 along an axis where x has more."""
    output = analyse(canonical)[canonical.output]
    return output.on_y or output.axes != frozenset({"b", "c", "hw"})


def _options(canonical: Graph, groups: int) -> dict[str, str]:
    """Name -> type and default of the options that the graph needs beside num_features and apply_act."""
    rows = [PRIMITIVES[node.op] for node in canonical.nodes]
    options = {"groups": f"int = {groups}"} if any(row.reduces == "ghw" for row in rows) else {}
    options |= {"momentum": "float = 0.1"} if any(row.reduces == "bhw" for row in rows) else {}
    options |= {"eps": "float = 1e-5"} if any(row.rooted for row in rows) else {}
    options["channel_dim"] = "int = 1"
    return options | {"device": "torch.device | str | None = None", "dtype": "torch.dtype | None = None"}


def _settings(options: dict[str, str]) -> list[str]:
    kept = [name for name in options if name in ("momentum", "eps", "channel_dim")]
    positive = ["num_features", *(name for name in options if name in ("groups", "eps"))]
    values = ", ".join(f'"{name}": {name}' for name in positive)
    lines = [
        f"for name, value in {{{values}}}.items():",
        "    if isinstance(value, bool | str | None) or not 1e-37 < value < 1e38:",
        '        raise ValueError(f"{name}: expected a number above 0, got {value!r}")',
    ]
    if "momentum" in options:
        lines += [
            "if isinstance(momentum, bool | str | None) or not 0 <= momentum <= 1:",
            '    raise ValueError(f"momentum: expected 0 to 1, got {momentum!r}")',
        ]
    lines.append(f"self.apply_act, {', '.join(f'self.{name}' for name in kept)} = apply_act, {', '.join(kept)}")
    if "groups" in options:
        lines.append(f"self.groups = {_GROUPS}")
    return [
        *lines,
        "self.weight = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))",
        "self.bias = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))",
    ]


def _state(canonical: Graph) -> list[str]:
    """Lines that create the learned leaves and the running moments."""
    lines = []
    for leaf in _live_leaves(canonical):
        if leaf.learned:
            start = f"torch.full_like(self.weight, {leaf.value!r})"
            if leaf.kind == "scalar":
                start = f"self.weight.new_full((1,), {leaf.value!r})"
            lines.append(f"self.{leaf.name} = nn.Parameter({start})")
    for name, start_value in running_moments(canonical).values():
        lines.append(f'self.register_buffer("{name}", torch.full_like(self.weight, {start_value!r}))')
    return ["if apply_act:", *(f"    {line}" for line in lines)] if lines else []


def _body(canonical: Graph, taken: set[str]) -> list[str]:
    """The lines of `forward` that replace x by the graph's output. A local name that is `taken` gets an underscore."""
    running = running_moments(canonical)
    lines, texts = [], []
    for index, leaf in enumerate(canonical.leaves):
        name = leaf.name or f"k{index}"
        while name in taken:
            name += "_"
        texts.append(name)
        if index in canonical.live and leaf.learned:
            lines.append(f"{name} = per_channel(self.{leaf.name}, x, axis)")
        elif index in canonical.live and leaf.kind == "number":
            lines.append(f"{name} = x.new_full([1] * x.ndim, {leaf.value!r})")

    def write_call(node: Node, index: int, operands: list[str]) -> str:
        row = PRIMITIVES[node.op]
        if row.reduces:
            moment = [f"self.{running[index][0]}"] if index in running else []
            return f"self.{row.name}({', '.join([*operands, *moment])})"
        return f"{'torch.' * _is_torchs(row.fn)}{row.fn.__name__}({', '.join(operands)})"

    for name, expression in formula_lines(canonical, write_call, texts):
        lines.append(f"{name or 'x'} = {expression}")
    return lines


def _aggregations(canonical: Graph) -> list[str]:
    """A method for each aggregation of the graph."""
    lines = []
    for name in sorted({node.op for node in canonical.nodes if PRIMITIVES[node.op].reduces}):
        row = PRIMITIVES[name]
        parameters, arguments = "a: Tensor", [row.fn.__name__, "a"]
        if row.reduces != "chw":
            arguments.append("self.channel_dim")
        if row.reduces == "ghw":
            arguments.append("self.groups")
        if row.reduces == "bhw":
            parameters += ", running: Tensor"
            arguments += ["running", "self.momentum", "self.training"]
        moment = f"over_{row.reduces}({', '.join(arguments)})"
        lines += ["", f"def {name}(self, {parameters}) -> Tensor:"]
        lines.append(f"    return torch.sqrt({moment} + self.eps)" if row.rooted else f"    return {moment}")
    return lines


# --------------------------------------------------------------------------- text


def _escape(text: str) -> str:
    """Escape a text for a docstring."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _lines(lines: Iterable[str], indent: int) -> str:
    return "\n".join(" " * indent + line if line else "" for line in lines)
