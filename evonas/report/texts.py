"""Texts of cells: the same in the terminal, in a notebook and on a page."""

import math

from evonas.workers.outcome import bits_per_byte


def one_line(formula: str) -> str:
    return "; ".join(formula.splitlines())


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def core_time(core_seconds: float) -> str:
    if core_seconds < 120:
        return f"{core_seconds:.0f} core-seconds"
    return f"{core_seconds / 60:.1f} core-minutes" if core_seconds < 7200 else f"{core_seconds / 3600:.1f} core-hours"


def figure_text(value: tuple[float, float | None] | None, *, in_bits: bool = False) -> str:
    """A fitness, mean and spread over seeds, as people know it: an accuracy, or with `in_bits` the bits per byte of
    which it is 2^-b (of a mean; the spread to first order, and none of a fitness that vanished)."""
    if value is None or not in_bits:
        return accuracy_text(value)
    mean, spread = value
    return accuracy_text((bits_per_byte(mean), spread / (mean * math.log(2)) if spread is not None and mean else None))


def accuracy_text(value: tuple[float, float | None] | None) -> str:
    if value is None:
        return "-"
    mean, spread = value
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ±{spread:.3f}"


def points_text(difference: tuple[float, tuple[float, float] | None]) -> str:
    """A difference of accuracies in points, with its interval."""
    mean, interval = difference
    if interval is None:
        return f"{100 * mean:+.1f}"
    return f"{100 * mean:+.1f} [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
