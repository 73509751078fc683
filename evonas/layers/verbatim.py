"""The functions that an exported layer calls: their source, verbatim."""

import ast
import builtins
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import torch

from evonas.search_space import moments, primitives
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.primitives import PRIMITIVES

_EXPORTED = ("torch", "Tensor", "nn", "Callable", "Any")  # what every exported file may import


def called(canonical: Graph) -> list[Callable[..., Any]]:
    """The functions that the file calls by name."""
    rows = [PRIMITIVES[node.op] for node in canonical.nodes]
    over = [getattr(moments, f"over_{index_set}") for index_set in sorted({row.reduces for row in rows if row.reduces})]
    own = [row.fn for row in rows if not row.operator and not is_torchs(row.fn)]
    return [moments.per_channel, *own, *over]


def is_torchs(fn: Callable[..., Any]) -> bool:
    return getattr(torch, fn.__name__, None) is fn


def with_what_they_use(functions: Iterable[Callable[..., Any]]) -> dict[str, str]:
    """Name -> source of functions and of everything that they use, each before its users."""
    functions = list(functions)
    statements = _ours()
    for function in functions:
        if (module := _own_module(function)) is not None:
            statements |= dict(_statements(module))
    needed: dict[str, str] = {}

    def add(name: str) -> None:
        if name in statements and name not in needed:
            source = statements[name]
            for other in sorted(names_in(source) - {name}):
                add(other)
            needed[name] = source

    for function in functions:
        add(function.__name__)
    return needed


def _ours() -> dict[str, str]:
    return dict(_statements(moments)) | dict(_statements(primitives))


def _own_module(function: Callable[..., Any]) -> ModuleType | None:
    """The module of a user's own function; None for a function of evonas or torch."""
    name = function.__module__
    return None if name in (moments.__name__, primitives.__name__) or is_torchs(function) else sys.modules.get(name)


def expect_torch_alone(name: str, function: Callable[..., Any]) -> None:
    """Raises InputError unless the source of a user's primitive can stand in an exported file: a `def` that uses torch,
    and what its module defines by statements under names that are not evonas' own."""
    if is_torchs(function):
        return
    module = _own_module(function)
    defined = dict(_statements(module)) if module else {}
    function_name = getattr(function, "__name__", "")
    if function_name not in defined:
        raise InputError(f"primitive {name}: expected a function that its module defines with def")
    for other, source in with_what_they_use([function]).items():
        if other in _ours():
            raise InputError(f"primitive {name}: '{other}' is the name of a function of evonas; choose another")
        for free in sorted(_free_names(source) - {*defined, *_EXPORTED, *dir(builtins)}):
            raise InputError(
                f"primitive {name}: '{other}' uses '{free}'; expected torch, Tensor, nn and what its module defines: "
                "an exported layer has no more"
            )


def _free_names(source: str) -> set[str]:
    tree = ast.parse(source)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {node.id for node in names} - bound


def _statements(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Name and source of each function, class and constant of a module, with its trailing comment."""
    source = inspect.getsource(module)
    for node in ast.parse(source).body:
        text = "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, text
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, text


def names_in(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
