"""A config as YAML text: reading it with errors that point at the line, and writing it."""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from evonas.config import Config
from evonas.search_space.errors import InputError, did_you_mean

CHARACTERS_MAX = 100_000  # of a config; the shipped ones have 4,000
VALUES_MAX = 10_000  # of a config whose aliases are written out
DEPTH_MAX = 20  # of values within values; a config needs 6
MESSAGE_MAX = 500  # characters of what is said of a config


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `1e8` is a number, `2026-11-22` a text, `yes` a text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Raises ComposerError at once where there is more than a config has: pyyaml takes seconds for deep nesting."""
        self._nodes, self._depth = self._nodes + 1, self._depth + 1
        if self._nodes > VALUES_MAX or self._depth > DEPTH_MAX:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, _too_much(self._depth), mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Raises ConstructorError, which knows its line, where a value does not fit its tag (`!!bool maybe`)."""
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


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as something else."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
_Dumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """The door of configs: whatever goes wrong within is an InputError of one short line."""
    try:
        yield
    except InputError as error:
        raise InputError(_shortened(str(error))) from None
    except Exception as error:  # of yaml, pydantic, torch, the system: none of them is to be known outside
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(_shortened(f"{where}: no config that evonas reads: {reason}")) from error


def _shortened(message: str) -> str:
    line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in message[: 2 * MESSAGE_MAX])
    return line if len(line) <= MESSAGE_MAX else f"{line[: MESSAGE_MAX - 3]}..."


def dump_config(config: Config | Mapping[str, Any]) -> str:
    """A config as YAML that `parse_config` reads; the order of the proxies is kept. Raises InputError for a mapping
    that holds what YAML cannot."""
    with _one_line("config"):
        raw = config.model_dump(mode="json") if isinstance(config, Config) else dict(config)
        try:
            return yaml.dump(raw, Dumper=_Dumper, sort_keys=False)
        except yaml.YAMLError as error:
            raise InputError(f"config: not plain values: {str(error.args[-1]).splitlines()[0]}") from None


def load_config(path: str | Path, settings: Sequence[str] = ()) -> Config:
    """Read and validate a YAML file, with `key.key=value` settings laid over it. Raises InputError in one line."""
    with _one_line(str(path)):
        path = Path(path)
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(CHARACTERS_MAX + 1)
        except FileNotFoundError:
            beside = [str(each) for each in path.parent.glob("[!.]*.y*ml")] if path.parent.is_dir() else []
            raise InputError(f"{path}: no such file{did_you_mean(str(path), beside) if beside else ''}") from None
        except (
            OSError,
            ValueError,
        ) as error:  # of the system, of a name that it cannot have, of bytes that are no UTF-8
            raise InputError(f"{path}: cannot be read ({error})") from None
        return parse_config(text, str(path), settings)


def parse_config(text: str, where: str = "config", settings: Sequence[str] = ()) -> Config:
    """As `load_config`, of text."""
    with _one_line(where):
        root, raw = _read(text, where)
        if not isinstance(raw, dict) or root is None:
            raise InputError(f"{where}:1: expected keys such as name and proxies, found {type(raw).__name__}")
        keys, stages = [], [raw]  # the config before every setting and after each
        for setting in settings:
            laid = copy.deepcopy(stages[-1])
            keys.append(_lay_over(laid, setting))
            stages.append(laid)
        checked = _checked(stages[-1])
        if isinstance(checked, Config):
            return checked
        path, reason = checked
        dotted = ".".join(map(str, path))
        if any(f"{dotted}.".startswith(f"{key}.") for key in keys):
            raise InputError(f"--set {dotted}: {reason}")
        for key, before in zip(reversed(keys), reversed(stages[:-1]), strict=True):
            if _checked(before) != checked:  # so this setting brought it, in contradiction to what stands elsewhere
                raise InputError(f"{f'--set {key}: {dotted}'.rstrip(': ')}: {reason}")
        raise InputError(f"{f'{where}:{_line(root, path)}: {dotted}'.rstrip(': ')}: {reason}")


def _checked(raw: dict[str, Any]) -> Config | tuple[list[str | int], str]:
    """The config, or the place of its first error, as keys, and the reason."""
    try:
        return Config.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        details = error.errors()
    first = details[0]
    reason, path = _reason(first), _yaml_path(raw, first["loc"], is_missing=first["type"] == "missing")
    if first["type"] == "missing" and path[-1:] != [first["loc"][-1]]:  # of a gate that is written as a name
        reason = f"{first['loc'][-1]} is missing"
    if len(details) > 1 and details[1]["type"] == "literal_error" and details[1]["loc"][:-1] == first["loc"][:-1]:
        reason = f"{reason}; or {details.pop(1)['ctx']['expected']}"  # a number or a word
    named, colon, rest = reason.partition(": ")
    inner = [*path, *named.split(".")]
    if first["type"] == "value_error" and colon and _yaml_path(raw, tuple(inner), is_missing=True) == inner:
        reason, path = rest, inner  # a contradiction that names its key
    return path, reason + (f" (and {len(details) - 1} more)" if len(details) > 1 else "")


def _read(text: str, where: str) -> tuple[yaml.Node | None, Any]:
    """The nodes, which know their lines, and the values. Raises InputError, the sooner the larger the text is."""
    if len(text) > CHARACTERS_MAX:
        raise InputError(f"{where}: longer than {CHARACTERS_MAX:,} characters; a config is not")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, None
        _refuse_what_is_too_much(root, where)
        _refuse_double_keys(root, where)
        return root, json.loads(json.dumps(loader.construct_document(root)))  # plain values, none of them shared
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{where}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: not YAML that evonas reads: {str(error).splitlines()[0]}") from None


def _refuse_what_is_too_much(root: yaml.Node, where: str) -> None:
    """Aliases may stand for a thousand million values in a few lines: what they would be is counted, not built."""
    measured: dict[int, tuple[int, int]] = {}  # how many values a node is, and how deep
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


def _lay_over(raw: dict[str, Any], setting: str) -> str:
    """Lay `a.b=c` over the raw config; answers the key."""
    key, equals, value = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) > DEPTH_MAX:
        raise InputError(f"--set {setting}: expected key=value, such as evolution.births=100")
    _, parsed = _read(value, f"--set {key}")
    place: Any = raw
    for part in parts[:-1]:
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        place = place[_key_in(place, part, key)]
    place[_key_in(place, parts[-1], key)] = parsed
    return ".".join(parts)


def _key_in(place: Any, part: str, key: str) -> str | int:
    if isinstance(place, dict):
        return part
    if isinstance(place, list) and part.isascii() and part.isdecimal() and int(part[:9]) < len(place):
        return int(part[:9])
    raise InputError(f"--set {key}: there is no '{part}' to set")


def _refuse_double_keys(node: yaml.Node, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InputError(f"{where}:{key.start_mark.line + 1}: '{key.value}' stands twice")
            seen.add(key.value)
            _refuse_double_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_double_keys(value, where)


def _yaml_path(raw: Any, location: tuple[str | int, ...], *, is_missing: bool = False) -> list[str | int]:
    """The error's location without the union tags that are no keys of the file."""
    path: list[str | int] = []
    place = raw
    for position, part in enumerate(location):
        is_last = position == len(location) - 1
        if isinstance(place, dict) and (part in place or (is_last and is_missing)):
            path.append(part)
            place = place.get(part)
        elif isinstance(place, list) and isinstance(part, int) and part < len(place):
            path.append(part)
            place = place[part]
    return path


def _line(root: yaml.Node, path: Sequence[str | int]) -> int:
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


def _reason(error: Mapping[str, Any]) -> str:
    kind, got, context = error["type"], error["input"], error.get("ctx", {})
    shown = f"{got!r}" if len(f"{got!r}") < 60 else f"{f'{got!r}':.57}..."
    match kind:
        case "extra_forbidden":
            return f"unknown key{did_you_mean(str(error['loc'][-1]), _valid_keys(error['loc']))}"
        case "missing":
            return "missing"
        case "union_tag_invalid":
            tag = context["tag"]
            return f"unknown {context['discriminator'].strip(chr(39))} '{tag}'" + did_you_mean(
                tag, [each.strip(" '") for each in context["expected_tags"].split(",")]
            )
        case "union_tag_not_found":
            return f"{context['discriminator'].strip(chr(39))} is missing in {shown}"
        case "literal_error":
            expected = context["expected"]
            options = expected.replace("'", "").replace(" or ", ", ").split(", ")
            hint = did_you_mean(got, options) if isinstance(got, str) else ""
            return f"expected {expected}, got {shown}" + (hint if hint.startswith("; did you mean") else "")
        case "value_error":
            return str(context["error"])
        case _:
            return f"{str(error['msg'])[:1].lower()}{str(error['msg'])[1:]}, got {shown}".replace(
                "input should", "should"
            )


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _tag(model: type[BaseModel]) -> str | None:
    for name in ("architecture", "gate"):
        if name in model.model_fields:
            return str(get_args(model.model_fields[name].annotation)[0])
    return None


_TAGS = {_tag(model) for name in ("proxies", "gates") for model in _models(Config.model_fields[name].annotation)}


def _valid_keys(location: tuple[str | int, ...]) -> list[str]:
    """The keys that the file may have at an error's place."""
    models: list[type[BaseModel]] = [Config]
    for part in location[:-1]:
        inner = [
            model.model_fields[part].annotation
            for model in models
            if isinstance(part, str) and part in model.model_fields
        ]
        if inner:
            models = [model for annotation in inner for model in _models(annotation)]
        elif part in _TAGS:
            models = [model for model in models if _tag(model) == part]
    return sorted({name for model in models for name in model.model_fields})
