"""Errors of a config, in the words and at the place of its file, from those of pydantic."""

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from evonas.config import Config
from evonas.search_space.errors import did_you_mean

_QUOTES = "'()"  # around the name of a key, or of a function


def place_and_reason(error: ValidationError, raw: Mapping[str, Any]) -> tuple[list[str | int], str]:
    """The keys that lead to the first error in the raw config, and what is wrong there."""
    details = error.errors()
    if details[0]["type"] == "literal_error" and isinstance(details[0]["input"], list) and len(details) > 1:
        details.pop(0)  # a list was written, and an item of it is wrong
    first = details[0]
    reason, path = _reason(first), _yaml_path(raw, first["loc"], is_missing=first["type"] == "missing")
    if first["type"] == "missing" and path[-1:] != [first["loc"][-1]]:  # of a gate that is written as a name
        reason = f"{first['loc'][-1]} is missing"
    if [each["type"] for each in details[:2]] == ["literal_error", "tuple_type"]:
        reason = reason.replace(", got", " or a list, got", 1)
        details.pop(1)
    if len(details) > 1 and details[1]["type"] == "literal_error" and details[1]["loc"][:-1] == first["loc"][:-1]:
        reason = f"{reason}; or {details.pop(1)['ctx']['expected']}"  # a number or a word
    named, colon, rest = reason.partition(": ")
    inner = [*path, *named.split(".")]
    if first["type"] == "value_error" and colon and _yaml_path(raw, tuple(inner), is_missing=True) == inner:
        reason, path = rest, inner  # a contradiction that names its key
    return path, reason + (f" (and {len(details) - 1} more)" if len(details) > 1 else "")


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


def _reason(error: Mapping[str, Any]) -> str:
    kind, got, context = error["type"], error["input"], error.get("ctx", {})
    shown = _shown(got)
    match kind:
        case "model_type" | "dict_type" | "model_attributes_type":
            keys = _keys(error["loc"]) if kind == "model_type" else []
            named = f" ({', '.join([*keys[:3], *['...'][: len(keys) - 3]])})" if keys else ""
            return f"expected keys and values{named}, got {shown}"
        case "list_type" | "tuple_type":
            return f"expected a list, got {shown}"
        case "string_too_short":
            return f"expected at least {context['min_length']} character, got {shown}"
        case "finite_number":
            return f"expected a finite number, got {shown}"
        case "float_type" | "int_type" if isinstance(got, str) and got.strip("+-.").lower() in ("nan", "inf"):
            return f"expected a finite number, got {shown}"
        case "extra_forbidden":
            return f"unknown key{did_you_mean(str(error['loc'][-1]), _valid_keys(error['loc']))}"
        case "missing":
            return "missing"
        case "union_tag_invalid":
            tag, valid = context["tag"], [each.strip(" '") for each in context["expected_tags"].split(",")]
            hint = did_you_mean(tag, [each for each in valid if each != "own"])
            return f"unknown {context['discriminator'].strip(_QUOTES)} '{tag}'{hint}"
        case "union_tag_not_found":
            return f"{context['discriminator'].strip(_QUOTES)} is missing in {shown}"
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


def _shown(value: Any) -> str:
    """A value as a person wrote it, shortened."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else f"{value!r}"
    return text if len(text) < 60 else f"{text:.57}..."


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _tag(model: type[BaseModel]) -> str | None:
    for name in ("architecture", "gate"):
        if name in model.model_fields:
            return str((*get_args(model.model_fields[name].annotation), "own")[0])
    return None


_TAGS = {_tag(model) for name in ("proxies", "gates") for model in _models(Config.model_fields[name].annotation)}


def _valid_keys(location: tuple[str | int, ...]) -> list[str]:
    """The keys that the file may have beside the last of a location, sorted."""
    return sorted(_keys(location[:-1]))


def _keys(location: tuple[str | int, ...]) -> list[str]:
    """The keys that the file may have at a location."""
    models: list[type[BaseModel]] = [Config]
    for part in location:
        inner = [
            model.model_fields[part].annotation
            for model in models
            if isinstance(part, str) and part in model.model_fields
        ]
        if inner:
            models = [model for annotation in inner for model in _models(annotation)]
        elif part in _TAGS:
            models = [model for model in models if _tag(model) == part]
    return list(dict.fromkeys(name for model in models for name in model.model_fields))
