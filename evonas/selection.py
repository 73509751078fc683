"""Tournament, Pareto front and ageing: pure functions of survivors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from operator import ge, itemgetter
from random import Random
from statistics import fmean

from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.start import output_distance
from evonas.workers.calls import called
from evonas.workers.outcome import Fitness, Outcome
from evonas.workers.plugins import is_own, load

FAMILY = 0.1  # BN-ReLU, BN-LeakyReLU and BN-SiLU are 0.16 to 0.22 apart, BN-LeakyReLU and BN-PReLU 0.05


@dataclass(frozen=True, slots=True)
class Survivor:
    """A candidate that was trained to the full budget; every objective is maximised."""

    birth: int
    graph: str
    fingerprint: str
    objectives: tuple[float, ...]
    family: str = ""
    function: int = 0  # birth of the first candidate of its function: its own, or what it is `equal_to`
    measured: int = 1  # seeds
    outcome: Fitness | None = None  # the mean over these seeds
    fitness: float = 0.0  # mean score over proxies; of several seeds on the scale of one: evonas.leaders
    live_nodes: int = 0


def is_family(one: Survivor, other: Survivor) -> bool:
    return one.family == other.family or output_distance(one.graph, other.graph) < FAMILY


@dataclass
class Population:
    """The newest survivors, at most `size`, and of one family at most `family_max`: there the worst gives way.

    A family are the layers whose standardised outputs at the start are within FAMILY of the new one's. Without such a
    limit 318 of the 444 layers that a search of CIFAR-10 trained were one family.
    """

    size: int
    family_max: int | None = None
    members: list[Survivor] = field(default_factory=list)  # in the order of their outcomes

    def add(self, new: Survivor) -> None:
        """A survivor; one that was measured again takes the place of the members of its function."""
        if new.measured > 1:
            self.members = [each for each in self.members if each.function != new.function]
        self.members.append(new)
        if self.family_max is not None:
            family = [each for each in self.members if is_family(each, new)]
            if len(family) > self.family_max:
                self.members.remove(min(family, key=lambda each: (each.fitness, each.birth)))
        if len(self.members) > self.size:
            del self.members[0]

    def update(self, survivors: Mapping[int, Survivor]) -> None:
        """Functions of which other seeds changed the fitness, at their members' places."""
        self.members = [
            replace(survivors[each.function], birth=each.birth) if each.function in survivors else each
            for each in self.members
        ]

    def drop(self, function: int) -> None:
        """A function that failed with a further seed."""
        self.members = [each for each in self.members if each.function != function]


def objectives(
    names: Sequence[str], fitness: Fitness, graph: str, live_nodes: int, scores: Sequence[float] | None = None
) -> tuple[float, ...]:
    """The score on each proxy, or `scores` instead, and what else is asked: negated, mean seconds of a training step,
    MiB kept for the backward, live nodes; and functions of a user's own. Raises InputError where one of these fails."""
    values: list[float] = []
    for name in names:
        match name:
            case "accuracy" | "loss":
                values += fitness.scores(name).values() if scores is None else scores
            case "step_time":
                values.append(-fmean(fitness.step_seconds.values()))
            case "memory":
                values.append(-fmean(fitness.saved_mb.values()))
            case "nodes":
                values.append(-float(live_nodes))
            case own:
                values.append(own_objective(own, fitness, graph))
    return tuple(values)


def with_own(names: Sequence[str], outcome: Outcome, graph: str) -> Outcome:
    """An outcome that has the values of the objectives of a user's own, for the records."""
    if not isinstance(outcome, Fitness):
        return outcome
    return replace(outcome, own={name: own_objective(name, outcome, graph) for name in names if is_own(name)})


def own_objective(reference: str, fitness: Fitness, graph: str) -> float:
    """The value of an objective of a user's own, which is maximised. Raises InputError unless it is a finite number."""
    value = called(reference, load(reference), fitness, Graph.parse(graph))
    if not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"objectives: {reference}: expected a finite number, got {value!r:.60}")
    return float(value)


def tournament(
    population: Sequence[Survivor], share: float, selection: str, rng: Random, weights: Sequence[float] | None = None
) -> Survivor:
    """The winner among a random `share` of the population (at least 2), which is drawn uniformly or by `weights`: the
    best mean; one of the Pareto front at random (arXiv:2004.02967, section 4); or of the front the one whose neighbours
    there are farthest."""
    size = min(len(population), max(2, round(share * len(population))))
    entrants = rng.sample(population, size) if weights is None else weighted_sample(population, weights, size, rng)
    if selection == "average":
        return max(entrants, key=lambda each: (sum(each.objectives), -each.birth))
    front = pareto_front(entrants)
    if selection == "crowding":
        distances = crowding_distances(front)
        farthest = max(distances)
        front = [each for each, distance in zip(front, distances, strict=True) if distance == farthest]
    return rng.choice(front)


def weighted_sample(population: Sequence[Survivor], weights: Sequence[float], size: int, rng: Random) -> list[Survivor]:
    """Members drawn without replacement, each with a probability in proportion to its weight among those left: the
    smallest of exponential variates whose rates are the weights (Efraimidis and Spirakis 2006)."""
    variates = [(rng.expovariate(weight), member) for weight, member in zip(weights, population, strict=True)]
    return [member for _, member in sorted(variates, key=itemgetter(0))[:size]]


def pareto_front(survivors: Sequence[Survivor]) -> list[Survivor]:
    """The survivors that no other one dominates, in the given order."""
    front: list[tuple[float, ...]] = []
    for mine in sorted({each.objectives for each in survivors}, reverse=True):  # what dominates it comes before it
        for other in front:
            if all(map(ge, other, mine)):
                break
        else:
            front.append(mine)
    kept = set(front)
    return [each for each in survivors if each.objectives in kept]


def front_with(front: Sequence[Survivor], new: Survivor) -> list[Survivor]:
    """Add a survivor to a Pareto front. Of survivors with equal objectives the first stays."""
    if any(dominates(each, new) or each.objectives == new.objectives for each in front):
        return list(front)
    return [*(each for each in front if not dominates(new, each)), new]


def dominates(a: Survivor, b: Survivor) -> bool:
    """At least as good in every objective, and not the same."""
    pairs = zip(a.objectives, b.objectives, strict=True)
    return all(x >= y for x, y in pairs) and a.objectives != b.objectives


def crowding_distances(front: Sequence[Survivor]) -> list[float]:
    """Crowding distance of each member: the gap between its two neighbours as a share of the objective's range on the
    front, summed over objectives; infinite at the ends (NSGA-II, Deb et al. 2002, section III B)."""
    distances = [0.0] * len(front)
    for objective in range(len(front[0].objectives)):
        order = sorted(range(len(front)), key=lambda i: (front[i].objectives[objective], front[i].birth))
        values = [front[i].objectives[objective] for i in order]
        distances[order[0]] = distances[order[-1]] = math.inf
        span = values[-1] - values[0]
        if span > 0:
            for place in range(1, len(order) - 1):
                distances[order[place]] += (values[place + 1] - values[place - 1]) / span
    return distances
