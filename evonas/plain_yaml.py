"""YAML of plain values: read with line numbers in errors and limits on size, and written."""

import json
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import yaml

from evonas.search_space.errors import InputError, first_line

CHARACTERS_MAX = 100_000  # the shipped configs have 4,000
VALUES_MAX = 10_000  # with aliases expanded
DEPTH_MAX = 20  # values within values; a config needs 6


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `1e8` is a number, `2026-11-22` a text, `yes` a text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Raises ComposerError as soon as a limit is passed: pyyaml takes seconds for deep nesting."""
        self._nodes, self._depth = self._nodes + 1, self._depth + 1
        if self._nodes > VALUES_MAX or self._depth > DEPTH_MAX:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, _too_much(self._depth), mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Raises ConstructorError, which knows its line, for a value that does not fit its tag (`!!bool maybe`)."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"'{node.value}' is no {kind}", node.start_mark
            ) from None


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list(_first))


_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))  # 010 is ten


class Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as something else."""


Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
Dumper.add_multi_representer(float, lambda dumper, value: dumper.represent_float(float(value)))  # numpy's float64
Dumper.add_multi_representer(str, lambda dumper, value: dumper.represent_str(str(value)))
for _not_plain in (set, bytes):
    Dumper.add_representer(_not_plain, Dumper.represent_undefined)
Dumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))


def read(text: str, where: str) -> tuple[yaml.Node | None, Any]:
    """Parse text into nodes, which know their lines, and plain values, none of them shared. Raises InputError."""
    if len(text) > CHARACTERS_MAX:
        raise InputError(f"{where}: longer than {CHARACTERS_MAX:,} characters; a config is not")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, None
        _refuse_what_is_too_much(root, where)
        _refuse_double_keys(root, where)
        return root, json.loads(json.dumps(loader.construct_document(root)))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{where}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: not YAML that evonas reads: {first_line(error)}") from None


def _refuse_what_is_too_much(root: yaml.Node, where: str) -> None:
    """Count values and depth with aliases expanded, without expanding them: 12 short lines may stand for 10^11."""
    measured: dict[int, tuple[int, int]] = {}  # node -> values, depth
    entered: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        if id(node) in measured:
            return measured[id(node)]
        if id(node) in entered:
            raise InputError(f"{where}:{node.start_mark.line + 1}: contains itself")
        entered.add(id(node))
        inner = [measure(each) for each in _children(node)]
        values, depth = 1 + sum(count for count, _ in inner), 1 + max((depth for _, depth in inner), default=0)
        if values > VALUES_MAX or depth > DEPTH_MAX:
            raise InputError(f"{where}:{node.start_mark.line + 1}: {_too_much(depth)}")
        measured[id(node)] = values, depth
        return values, depth

    measure(root)


def _too_much(depth: int) -> str:
    return f"nested deeper than {DEPTH_MAX}" if depth > DEPTH_MAX else f"more than {VALUES_MAX:,} values"


def _children(node: yaml.Node) -> list[yaml.Node]:
    match node:
        case yaml.MappingNode():
            return [each for pair in node.value for each in pair]
        case yaml.SequenceNode():
            return list(node.value)
        case _:
            return []


def _refuse_double_keys(node: yaml.Node, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                kind = "mapping" if isinstance(key, yaml.MappingNode) else "list"
                raise InputError(f"{where}:{key.start_mark.line + 1}: a {kind} stands where a key is expected")
            if key.value in seen:
                raise InputError(f"{where}:{key.start_mark.line + 1}: '{key.value}' stands twice")
            seen.add(key.value)
            _refuse_double_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_double_keys(value, where)


def line_of(root: yaml.Node, path: Sequence[str | int]) -> int:
    node, line = root, root.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1
