"""The pages of the reference that are made from the code while the site is built: commands, config, Python."""

import re
from collections.abc import Iterator
from inspect import Parameter, cleandoc, formatannotation, getdoc, getmembers, isclass, isfunction, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import evonas
from evonas.cli.main import COMMANDS, app
from evonas.config import Config
from evonas.search_space.mutation import OPERATORS

WORDS = {int: "integer", float: "number", str: "string", bool: "boolean"}
GATES = "gates"  # whose models have a page of their own, docs/gates.md

# --------------------------------------------------------------------------- commands


def commands() -> Iterator[tuple[str, click.Command]]:
    """All commands, those of a group after it."""
    context = click.Context(app, info_name="evonas")
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for inner, each in command.commands.items():
                yield f"{name} {inner}", each


def commands_page() -> str:
    """docs/reference/commands.md"""
    parts = [
        "# Commands",
        "This page is made from the commands themselves. `evonas --help` lists them, `evonas COMMAND --help` says "
        "what stands here. [Output and exit codes](output.md) says how they answer a script.",
    ]
    for name, command in commands():
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        words = " ".join(["evonas", name, *("[OPTIONS]",) * _has_options(command), *map(_usage, arguments)])
        parts += [f"## {name}", f"```text\n{words}\n```", *_paragraphs(command.help or "")]
        options = [each for each in command.params if isinstance(each, click.Option)]
        if options:
            rows = [(f"`{_option(each)}`", _escaped(each.help or ""), _default(each)) for each in options]
            parts.append(table(("option", "meaning", "default"), rows))
    return "\n\n".join(parts) + "\n"


def _has_options(command: click.Command) -> bool:
    return any(isinstance(each, click.Option) for each in command.params)


def _usage(argument: click.Argument) -> str:
    return argument.make_metavar(click.Context(app))


def _option(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    return f"{names} {option.make_metavar(click.Context(app))}"


def _default(option: click.Option) -> str:
    if option.is_flag or option.default in (None, ()) or not isinstance(option.default, int | float | str | tuple):
        return ""
    values = option.default if isinstance(option.default, tuple) else (option.default,)
    return ", ".join(f"`{each}`" for each in values)


def _paragraphs(text: str) -> list[str]:
    r"""Markdown of a help text, in which click marks with \b what keeps its lines."""
    found = []
    for each in cleandoc(text).split("\n\n"):
        if not each.startswith("\b"):
            found.append(_escaped(each))
            continue
        lines = each.removeprefix("\b").strip("\n").splitlines()
        if lines[0].startswith("Example: "):
            found.append("```sh\n" + "\n".join(line.removeprefix("Example: ").strip() for line in lines) + "\n```")
        else:
            found.append("```text\n" + "\n".join(lines) + "\n```")
    return found


# --------------------------------------------------------------------------- config


def models(model: type[BaseModel] = Config, path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """All models of a config but its gates, each with the path of its keys."""
    yield path, model
    for name, field in model.model_fields.items():
        for inner in dict.fromkeys(_models_in(field.annotation)):
            if name not in (GATES, "plugins", "primitives"):
                yield from models(inner, ".".join(filter(None, (path, name))))


def config_page() -> str:
    """docs/reference/config.md"""
    parts = [
        "# Config",
        "A search is one YAML file. This page is made from the models that validate it. An unknown key is an error "
        "that names the nearest one, and each key can be overridden on the command line: "
        "`--set evolution.births=5000`. The run keeps the resolved config, defaults included. `evonas init` writes a "
        "commented file to start from.",
    ]
    for path, model in dict.fromkeys(models()):
        kind = _tag(model)
        title = f"`{path}`" if path else "The whole"
        parts += [f"## {title}{f': {kind}' if kind else ''}", _escaped(" ".join((getdoc(model) or "").split()))]
        rows = [
            (f"`{name}`", written(field.annotation, field.metadata), _initial(field), meaning(field))
            for name, field in model.model_fields.items()
            if name != "architecture" or not kind or kind == "module:name"
        ]
        parts.append(table(("key", "type", "default", "meaning"), rows))
        if path == "evolution":
            parts += ["The edits that `operators` weighs:", _operators()]
    return "\n\n".join(parts) + "\n"


def meaning(field: FieldInfo) -> str:
    """The description of a key, or that of the section it opens."""
    if field.description:
        return _escaped(field.description)
    described = [each.description for each in field.metadata if getattr(each, "description", None)]
    if described:
        return _escaped(described[0])
    inner = list(dict.fromkeys(_models_in(field.annotation)))
    return _escaped(" ".join((getdoc(inner[0]) or "").split()).partition(". ")[0].removesuffix(".")) if inner else ""


def _tag(model: type[BaseModel]) -> str:
    field = model.model_fields.get("architecture")
    if field is None:
        return ""
    return str(get_args(field.annotation)[0]) if get_origin(field.annotation) is Literal else "module:name"


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models_in(each)


def written(annotation: Any, metadata: Any = ()) -> str:
    """A type as a reader of YAML knows it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return written(inner[0], inner[1:])
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(written(each, metadata) for each in inner))
    if origin is tuple:
        return f"list of {_plural(written(inner[0]))}"
    if origin is dict:
        return f"mapping of names to {_plural(written(inner[1]))}"
    if annotation is NoneType:
        return "`null`"
    if isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    if annotation in (int, float):
        return WORDS[annotation] + _bounds(metadata)
    return WORDS.get(annotation, "value")


def _plural(kind: str) -> str:
    """The plural of a word; values and several words stay as they are."""
    word, comma, rest = kind.partition(",")
    return f"{word}s{comma}{rest}" if word in (*WORDS.values(), "section", "value") else kind


def _bounds(metadata: Any) -> str:
    """The limits that a reader may meet; those far above what a machine can do are left out."""
    limits = {}
    for each in metadata:
        for part in getattr(each, "metadata", [each]):
            limits |= {name: getattr(part, name) for name in ("ge", "gt", "le", "lt") if hasattr(part, name)}
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    shown = [f"{sign} {limits[key]:g}" for key, sign in signs.items() if key in limits and limits[key] <= 1000]
    return "".join(f", {each}" for each in shown)


def _initial(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in ((), {}):
        return ""
    if value is None or isinstance(value, bool):
        return f"`{ {None: 'null', True: 'true', False: 'false'}[value] }`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{key}: {each:g}' for key, each in value.items())}}}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _operators() -> str:
    return table(("operator", "edit"), [(f"`{each.name}`", each.help) for each in OPERATORS.values()])


# --------------------------------------------------------------------------- Python


def python_page() -> str:
    """docs/reference/python.md"""
    parts = [
        "# Python",
        "The public names of `evonas`, made from their docstrings. Everything that the command line can do is here. "
        "A name is imported when it is first used, so `import evonas` is quick.",
    ]
    for name in sorted(evonas.__all__, key=str.lower):
        value = getattr(evonas, name)
        parts.append(f"## evonas.{name}")
        if isfunction(value):
            parts += [_signature(f"evonas.{name}", value), *docstring(value)]
        elif isclass(value) and issubclass(value, BaseModel):
            parts += [*docstring(value), "Its keys are those of a [config](config.md)."]
        else:
            kind = value if isclass(value) else type(value)
            parts += docstring(kind)
            for method, each in getmembers(kind, lambda each: isfunction(each) or isinstance(each, property)):
                inner = each.fget if isinstance(each, property) else each
                if not method.startswith("_") and inner.__module__.startswith("evonas") and getdoc(each):
                    parts.append(f"### {name}.{method}")
                    parts += [] if isinstance(each, property) else [_signature(f"{name}.{method}", each)]
                    parts += docstring(each)
    return "\n\n".join(parts) + "\n"


def _signature(name: str, function: Any) -> str:
    shown = signature(function)
    pieces: list[str] = []
    kinds = [each.kind for each in shown.parameters.values()]
    for place, each in enumerate(shown.parameters.values()):
        if each.name == "self":
            continue
        if each.kind is Parameter.KEYWORD_ONLY and kinds[place - 1] not in (
            Parameter.KEYWORD_ONLY,
            Parameter.VAR_POSITIONAL,
        ):
            pieces.append("*")
        star = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}.get(each.kind, "")
        default = "" if each.default is Parameter.empty else f" = {_shown(each.default)}"
        pieces.append(f"{star}{each.name}: {_annotation(each.annotation)}{default}")
    returns = _annotation(shown.return_annotation)
    line = f"{name}({', '.join(pieces)}) -> {returns}"
    if len(line) > 90 and pieces:
        line = f"{name}(\n" + "".join(f"    {each},\n" for each in pieces) + f") -> {returns}"
    return f"```text\n{line}\n```"


def _shown(default: Any) -> str:
    return "..." if callable(default) else str(default) if isinstance(default, Path) else repr(default)


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text).replace("'", "")


def docstring(value: Any) -> list[str]:
    """A docstring as Markdown; its arguments become a list, and what is indented keeps its lines."""
    found: list[str] = []
    for each in (getdoc(value) or "").split("\n\n"):
        head, _, rest = each.partition("\n")
        if head == "Args:":
            found.append(_arguments(cleandoc("\n" + rest)))
        elif each.startswith(">>> "):
            found.append("```python\n" + each.replace(">>> ", "") + "\n```")
        elif each.startswith("    "):
            found.append(f"```text\n{cleandoc(chr(10) + each)}\n```")
        elif each:
            found.append(_escaped(" ".join(each.split())))
    return found


def _arguments(text: str) -> str:
    """Entries `name: what`, whose further lines are indented, as a list."""
    entries: list[str] = []
    for line in text.splitlines():
        if re.match(r"[\w, *]+: ", line):
            name, _, what = line.partition(": ")
            entries.append(f"- `{name}`: {_escaped(what)}")
        elif entries:
            entries[-1] += f" {_escaped(line.strip())}"
        else:
            entries.append(_escaped(line))
    return "\n".join(entries)


# --------------------------------------------------------------------------- Markdown


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table; a bar within a cell ends it nowhere."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(each.replace("|", r"\|") for each in line) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Text outside code, in which Markdown would read emphasis or HTML."""
    parts = text.split("`")
    return "`".join(
        part if place % 2 else re.sub(r"([*_])", r"\\\1", part.replace("\n", " ")).replace("<", "&lt;")
        for place, part in enumerate(parts)
    )
