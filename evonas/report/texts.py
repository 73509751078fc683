"""Texts of cells: the same in the terminal, in a notebook and on a page."""

from evonas.units import Figure


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


def figure_text(value: Figure | None) -> str:
    """A figure as people read it, with its spread over seeds."""
    if value is None:
        return "-"
    mean, spread = value
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ±{spread:.3f}"
