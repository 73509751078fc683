"""Counts in messages."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: "1 fresh seed", "2 fresh seeds", "3 proxies"."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
