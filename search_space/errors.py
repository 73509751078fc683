"""Errors in what a person typed: one clear line that says where, what stands there, and the nearest valid name."""

from collections.abc import Iterable
from difflib import get_close_matches
from operator import index
from typing import Any


class InputError(ValueError):
    """Bad input from a person; the message is the one line that they see."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'tournament'?`, or the valid names where none is near."""
    options = sorted(valid)
    near = get_close_matches(name[:100].lower(), [option.lower() for option in options], n=1, cutoff=0.5)
    if near:
        best = next(option for option in options if option.lower() == near[0])
        return f"; did you mean '{best}'?"
    return f"; expected one of {', '.join(options)}" if options else ""


def whole(name: str, value: Any, least: int, most: int) -> int:
    """The value as an int. Raises InputError unless it is a whole number from `least` to `most`."""
    try:
        number = index(value)
    except TypeError:
        raise InputError(f"{name}: expected a whole number, got {value!r:.100}") from None
    if not least <= number <= most:
        raise InputError(f"{name}: expected {least} to {most}, got {number}")
    return number
