"""Calls of plugins: checked before they are made, and with errors of one line."""

from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, signature
from typing import Any

from evonas.search_space.errors import InputError, did_you_mean
from evonas.workers.plugins import load, place

_EITHER = Parameter.POSITIONAL_OR_KEYWORD


def check_call(reference: str, key: str, given: Sequence[str], named: Sequence[str], options: Iterable[str]) -> None:
    """Raises InputError unless the object can be called with so many positional arguments, the `named` keywords and the
    options. The message begins with the key that is wrong: that of the reference, or of an option."""
    try:
        target = load(reference)
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
    if not callable(target):
        raise InputError(f"{key}: {reference}: expected a function, found {type(target).__name__}")
    try:
        accepted = signature(target).parameters
    except (TypeError, ValueError):  # it is built in, and says nothing of what it takes
        return
    expected = f"{key}: {reference}{signature(target)}: expected a function of ({', '.join((*given, *named, '...'))})"
    kinds = [each.kind for each in accepted.values()]
    places = [each for each in accepted.values() if each.kind in (Parameter.POSITIONAL_ONLY, _EITHER)]
    if len(places) < len(given) and Parameter.VAR_POSITIONAL not in kinds:
        raise InputError(expected)
    keywords = [each for each in accepted.values() if each.kind in (_EITHER, Parameter.KEYWORD_ONLY)]
    names = [each.name for each in keywords if each not in places[: len(given)]]
    if Parameter.VAR_KEYWORD not in kinds:
        for name in named:
            if name not in names:
                raise InputError(expected)
        for name in options:
            if name not in names or name in named:
                hint = did_you_mean(name, [each for each in names if each not in named])
                raise InputError(f"options.{name}: {reference} takes no '{name}'{hint}")
    for each in accepted.values():
        needed = each.default is Parameter.empty and each.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        if needed and each not in places[: len(given)] and each.name not in (*named, *options):
            raise InputError(f"options: {reference} needs '{each.name}'")


def called(reference: str, target: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call a user's function. Raises InputError with the line of its module that failed; exhausted memory and faults of
    the machine are raised as they are."""
    try:
        return target(*given, **named)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # it may raise anything
        if "out of memory" in str(error) or "allocate memory" in str(error):
            raise
        raise InputError(f"{reference}: failed at {place(error)}") from error
