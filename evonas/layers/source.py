"""A layer as a Python file that imports torch alone: the graph's text, and the functions that it calls, verbatim."""

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import fill, wrap

import torch

import evonas
from evonas.layers.verbatim import called, is_torchs, names_in, with_what_they_use
from evonas.search_space.analysis import analyse
from evonas.search_space.graph import Graph, Leaf, Node
from evonas.search_space.lowering import running_moments
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.printing import formula_lines, print_formula

_FILE = '''"""{title}

{formula}

{about}
"""

{imports}import torch
from torch import Tensor, nn
{constants}

{functions}


class EvolvedLayer(nn.Module):
    """y = weight * graph(x) + bias, for x of shape (N, ..., C, ...).

{described}
    """

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
        channels = len(self.weight)
        if x.ndim < 2 or not -x.ndim < axis < x.ndim or shape[axis] != channels:
            wanted = f"expected {{channels}} channels at axis {{axis}}"
            raise ValueError(f"{{wanted}}, got shape {{tuple(shape)}}")
{widened}
        if self.apply_act and x.numel():
{body}
        x = x * per_channel(self.weight, x, axis) + per_channel(self.bias, x, axis)
        return x{expanded}.to(dtype)
{aggregations}'''
WIDTH = 88  # letters of a line: black's and ruff's default, which a file of any project keeps
_NOTE = "The affine (weight, bias) is part of the layer. Half precision is computed in float32, and rounded once."
_BATCH_NOTE = " Batch statistics are those of this process; in evaluation, running moments replace them."
_IMPORTS = {"Callable": "from collections.abc import Callable", "Any": "from typing import Any"}
_NAMES = ("Tensor", "nn", "axis", "shape", "dtype", "channels", "wanted")  # in `forward`, beside the functions
_LOWERED_GROUPS = (  # as `Layer` lowers them
    "self.groups = int(min(groups, num_features))",
    "while num_features % self.groups:",
    "    self.groups -= 1",
)
_UNUSED = "; accepted as by timm's layers, and unused here"


@dataclass(frozen=True, slots=True)
class _Option:
    """An argument of the class beside num_features and apply_act."""

    name: str
    default: str  # with its type
    about: str


def layer_source(
    graph: Graph, *, title: str = "A layer found by evonas.", about: str = "", groups: int = 32, checks: str = ""
) -> str:
    """The source of a module with the class `EvolvedLayer`, whose state_dict is that of `evonas.layer(graph, ...)`.

    Its lines are as `ruff format` writes them, for any length of lines from `WIDTH` on.

    title, about: of its docstring; `checks` is a text for its end, such as a table of parity.
    groups: the default of the option `groups`, which the class has if the graph has groups.
    """
    canonical = graph.canonical()
    functions = with_what_they_use(called(canonical))
    constants = [source for source in functions.values() if not source.startswith(("def", "class"))]
    used = set().union(*map(names_in, functions.values()))
    imports = [line for name, line in _IMPORTS.items() if name in used]
    options = _options(canonical, groups)
    buffers = [name for name, _ in running_moments(canonical).values()]
    inputs = ["x", "y"] if canonical.takes_y else ["x"]
    written = f"Written by evonas {evonas.__version__} with torch {torch.__version__}; digest {canonical.digest}."
    about = "\n".join([_wrapped(about), _wrapped(written), "", _wrapped(_NOTE + _BATCH_NOTE * bool(buffers))]).lstrip()
    return _FILE.format(
        title=_escape(_wrapped(title)),
        formula=_lines(print_formula(canonical, WIDTH - 4).splitlines(), 4),
        about=_escape("\n\n".join(filter(None, [about, checks]))),
        imports="".join(f"{line}\n" for line in [*imports, ""] if imports),
        constants="".join(f"{source}\n" for source in ["", *constants] if constants),
        functions="\n\n\n".join(source for source in functions.values() if source not in constants),
        described=_lines(_described(options), 4),
        buffers="".join(f"    {name}: Tensor\n" for name in buffers) + "\n" * bool(buffers),
        arguments=_lines((f"{option.name}: {option.default}," for option in options), 8),
        settings=_lines([*_settings({option.name for option in options}), *_state(canonical)], 8),
        inputs=", ".join(f"{name}: Tensor" for name in inputs),
        widened=_lines((f"{name} = {name}.to(torch.promote_types({name}.dtype, torch.float32))" for name in inputs), 8),
        expanded=".expand(shape)" * _may_be_smaller(canonical),
        body=_lines(_body(canonical, {*functions, *_NAMES}), 12),
        aggregations="".join(f"{_lines([line], 4)}\n" for line in _aggregations(canonical)),
    )


# --------------------------------------------------------------------------- the class


def _live_leaves(canonical: Graph) -> list[Leaf]:
    return [leaf for index, leaf in enumerate(canonical.leaves) if index in canonical.live]


def _may_be_smaller(canonical: Graph) -> bool:
    """Whether the output may have size 1 along an axis where x has more."""
    output = analyse(canonical)[canonical.output]
    return output.on_y or output.axes != frozenset({"b", "c", "hw"})


def _options(canonical: Graph, groups: int) -> list[_Option]:
    """The arguments after apply_act: timm's, and those that the graph needs."""
    rows = [PRIMITIVES[node.op] for node in canonical.nodes]
    eps = "added to variances and mean squares, inside the root"
    momentum = "the share of the batch in the running moments' next value"
    of_groups = _Option("groups", f"int = {groups}", "of ghw; lowered until it divides C.")
    return [
        _Option("eps", "float = 1e-5", f"{eps}{_UNUSED * (not any(row.rooted for row in rows))}."),
        _Option("momentum", "float = 0.1", f"{momentum}{_UNUSED * all(row.reduces != 'bhw' for row in rows)}."),
        *([of_groups] if any(row.reduces == "ghw" for row in rows) else []),
        _Option("channel_dim", "int = 1", "the axis of C; -1 for (N, ..., C)."),
        _Option("device", "torch.device | str | None = None", ""),
        _Option("dtype", "torch.dtype | None = None", ""),
    ]


def _described(options: list[_Option]) -> list[str]:
    """The arguments in the docstring of the class."""
    texts = ["num_features: C.", "apply_act: False leaves weight * x + bias, for a norm without activation."]
    texts += [f"{option.name}: {option.about}" for option in options if option.about]
    texts.append("device, dtype: of parameters and buffers.")
    return [line for text in texts for line in wrap(text, WIDTH - 4, subsequent_indent=4 * " ")]


def _settings(names: set[str]) -> list[str]:
    groups = ', "groups": groups' * ("groups" in names)
    return [
        f'positive = {{"num_features": num_features, "eps": eps{groups}}}',
        "for name, value in positive.items():",
        "    if isinstance(value, bool | str | None) or not 1e-37 < value < 1e38:",
        '        raise ValueError(f"{name}: expected a number above 0, got {value!r}")',
        "if isinstance(momentum, bool | str | None) or not 0 <= momentum <= 1:",
        '    raise ValueError(f"momentum: expected 0 to 1, got {momentum!r}")',
        "if isinstance(channel_dim, bool | float | str | None) or channel_dim == 0:",
        '    raise ValueError(f"channel_dim: expected 1 or -1, got {channel_dim!r}")',
        "self.apply_act, self.channel_dim = apply_act, channel_dim",
        "self.eps, self.momentum = eps, momentum",
        *(_LOWERED_GROUPS if groups else []),
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
        return f"{'torch.' * is_torchs(row.fn)}{row.fn.__name__}({', '.join(operands)})"

    for name, expression in formula_lines(canonical, write_call, texts, WIDTH - 12):
        lines.append(f"{name or 'x'} = {'+x' if expression == 'x' else expression}")  # a graph of x alone
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
            arguments = [row.fn.__name__, "a", "axis", "running", "momentum", "self.training"]
        lines += ["", f"def {name}(self, {parameters}) -> Tensor:"]
        if row.reduces == "bhw":
            lines.append("    axis, momentum = self.channel_dim, self.momentum")
        moment = f"over_{row.reduces}({', '.join(arguments)})"
        if row.rooted:
            lines += [f"    moment = {moment}", "    return torch.sqrt(moment + self.eps)"]
        else:
            lines.append(f"    return {moment}")
    return lines


# --------------------------------------------------------------------------- text


def _escape(text: str) -> str:
    """Escape a text for a docstring."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _lines(lines: Iterable[str], indent: int) -> str:
    return "\n".join(" " * indent + line if line else "" for line in lines)


def _wrapped(text: str) -> str:
    return "\n".join(fill(line, WIDTH) for line in text.splitlines())
