"""Fitnesses that are measured with several seeds: those of leaders, and those that equal candidates inherit."""

from dataclasses import dataclass, replace

from evonas.config import Config
from evonas.workers.outcome import Fitness

REMEASURE_AFTER = 10  # uses of an inherited fitness
REMEASURE_SEEDS = 1_000_000  # beyond the run's seed: none that the final table or the validation uses


def further_seed(config: Config, number: int) -> int:
    """The first of the recipe's seeds with which a function is measured again, for the n-th time."""
    return config.seed + REMEASURE_SEEDS + number * config.recipe.seeds


@dataclass(frozen=True, slots=True)
class Shared:
    """A fitness that equal candidates inherit: the mean over the seeds with which it was measured."""

    uses: int
    measured: int
    fitness: Fitness
    fresh: int = 0  # seeds beyond the search's, given so far


def measured_again(shared: Shared, new: Fitness) -> Shared:
    """The mean after one more seed."""
    n = shared.measured

    def mean(old: dict[str, float], added: dict[str, float]) -> dict[str, float]:
        return {key: (n * value + added[key]) / (n + 1) for key, value in old.items()}  # empty in records from before

    old = shared.fitness
    fitness = Fitness(
        mean(old.accuracy, new.accuracy),
        mean(old.step_seconds, new.step_seconds),
        mean(old.saved_mb, new.saved_mb),
        mean(old.loss, new.loss),
    )
    return replace(shared, measured=n + 1, fitness=fitness)
