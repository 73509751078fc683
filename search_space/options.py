"""Checks of a layer's options. Each raises ValueError in one line: the option, what is expected, what it got."""

from numbers import Integral, Real
from typing import Any

import torch

_FLOAT32 = torch.finfo(torch.float32)
_SIZE_MAX = 2**31 - 1


def integer(name: str, value: Any, least: int = 1) -> int:
    """An integer, a numpy one too."""
    if not _is(Integral, value) or value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {_shown(value)}")
    if value > _SIZE_MAX:
        raise ValueError(f"{name}: expected an integer of at most {_SIZE_MAX}, got {_shown(value)}")
    return int(value)


def axis(name: str, value: Any) -> int:
    """An axis beside the batch's. Whether an input has it is seen when the input is."""
    if not _is(Integral, value):
        raise ValueError(f"{name}: expected an integer, got {_shown(value)}")
    if value == 0:
        raise ValueError(f"{name}: expected 1 or -1 (axis 0 is the batch), got 0")
    return int(value)


def share(name: str, value: Any) -> float:
    if not _is(Real, value) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected 0 to 1, got {_shown(value)}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """A number above 0 that float32 rounds neither to 0 nor to infinity."""
    if not _is(Real, value) or not value > 0:
        raise ValueError(f"{name}: expected a number above 0, got {_shown(value)}")
    if not _FLOAT32.tiny <= value <= _FLOAT32.max:
        raise ValueError(f"{name}: expected a number above 0, got {_shown(value)}, which float32 lacks")
    return float(value)


def expect_placement(device: Any, dtype: Any) -> None:
    """Raises ValueError for a device that torch cannot use here, and for what is no floating-point type of 16 bits or
    more."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1):
        raise ValueError(f"dtype: expected a floating-point type such as torch.float32, got {_shown(dtype)}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"device: torch cannot use {_shown(device)} here ({reason})") from None


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return f"{value!r:.80}"
