"""Errors in what a person typed: one clear line that says where, what stands there, and the nearest valid name."""

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real
from operator import index
from typing import Any


class InputError(ValueError):
    """Bad input from a person; the message is the one line that they see."""

    exit_code = 2  # of a command that it ends


class NotThere(InputError):
    """The name or the number of something that is not there."""


def did_you_mean(name: object, valid: Iterable[str]) -> str:
    """`; did you mean 'tournament'?`, or the valid names where none is near."""
    options = sorted(valid)
    near = get_close_matches(str(name)[:100].lower(), [option.lower() for option in options], n=1, cutoff=0.5)
    if near:
        best = next(option for option in options if option.lower() == near[0])
        return f"; did you mean '{best}'?"
    return f"; expected one of {', '.join(options)}" if options else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters; its type, where it has no message."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def short(text: str) -> str:
    """A text that a person gave, as a message shows it: in one line, and shortened."""
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text[:201])
    return text if len(text) <= 200 else f"{text[:197]}..."


def integer_of(name: str, value: Any) -> int:
    """The value as an int. Raises InputError unless it is a whole number."""
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InputError(f"{name}: expected a whole number, got {value!r:.100}")
    return number


def whole(name: str, value: Any, least: int, most: int) -> int:
    """The value as an int. Raises InputError unless it is a whole number from `least` to `most`."""
    number = integer_of(name, value)
    if not least <= number <= most:
        raise InputError(f"{name}: expected {least} to {most}, got {number}")
    return number


def share(name: str, value: Any, most: float = 1.0) -> float:
    """The value as a float. Raises InputError unless it is a number from 0 to `most`."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise InputError(f"{name}: expected a number, got {value!r:.100}")
    number = float(value)
    if not 0 <= number <= most:
        raise InputError(f"{name}: expected 0 to {most:g}, got {value}")
    return number


def texts(name: str, value: Any) -> list[str]:
    """The texts of a sequence, or of one text. Raises InputError for anything else."""
    several = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    for each in several:
        if not isinstance(each, str):
            raise InputError(f"{name}: expected texts, got {each!r:.100}")
    return several
