"""The functions that an exported layer calls: their source, verbatim."""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import torch

from evonas.search_space import moments, primitives
from evonas.search_space.graph import Graph
from evonas.search_space.primitives import PRIMITIVES


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
    statements = dict(_statements(moments)) | dict(_statements(primitives))
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
