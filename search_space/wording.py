"""Counts in messages."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: "1 fresh seed", "2 fresh seeds", "3 proxies"."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def pairs(paired: int, count: int) -> str:
    """The number of seeds beside a difference: "3", or "2 of 3" where the other layer failed with one of the seeds."""
    return f"{paired} of {count}" if 0 < paired < count else str(count)


def counted_pairs(paired: int, count: int, noun: str) -> str:
    """`pairs` with the noun: "3 fresh seeds", "2 of 3 fresh seeds"."""
    return counted(count, noun).replace(str(count), pairs(paired, count), 1)
