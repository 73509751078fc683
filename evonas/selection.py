"""Tournament, Pareto front and ageing: pure functions of survivors."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from search_space.graph import Graph


@dataclass(frozen=True, slots=True)
class Survivor:
    """A candidate that was trained to the full budget; each objective is to be large."""

    birth: int
    graph: Graph
    objectives: tuple[float, ...]


def tournament(population: Sequence[Survivor], share: float, selection: str, rng: Random) -> Survivor:
    """The winner among a random `share` of the population (at least 2): the best mean, or one of the Pareto front at
    random (arXiv:2004.02967, section 4)."""
    size = min(len(population), max(2, round(share * len(population))))
    entrants = rng.sample(list(population), size)
    if selection == "average":
        return max(entrants, key=lambda each: (sum(each.objectives), -each.birth))
    return rng.choice(pareto_front(entrants))


def pareto_front(survivors: Sequence[Survivor]) -> list[Survivor]:
    """Those that no other one dominates, in the given order."""
    return [each for each in survivors if not any(dominates(other, each) for other in survivors)]


def dominates(a: Survivor, b: Survivor) -> bool:
    """At least as good in every objective, and not the same."""
    return a.objectives != b.objectives and all(x >= y for x, y in zip(a.objectives, b.objectives, strict=True))
