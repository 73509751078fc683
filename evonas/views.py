"""What people are shown of a run, as plain values: command line, reports and pages render these and decide nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from evonas.config import Config

CHILD_COST = 0.14  # of a full evaluation, what the child of a survivor costs on average; the quickstart's. Ours
CHILD_COST_WEIGHT = 1 / 3  # of a run's births: as so many children's costs does that figure count. Ours


@dataclass(slots=True)
class Cost:
    """How many births of one origin have an outcome, and what their evaluations took."""

    births: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.births += 1
        self.seconds += seconds


def seconds_left(
    config: Config,
    costs: Mapping[bool, Cost],
    full_seconds: float,
    *,
    births: int,
    idle: float,
    retrainings: int,
    workers: int,
) -> float:
    """Seconds until a search ends.

    A birth costs its evaluation on one of the workers, and `idle` seconds in which no worker is busy. Children of
    survivors cost more than random graphs, and more the longer a search lasts: what `costs` tells of them (key True)
    counts beside a share of a full evaluation that is known from finished searches.

    Args:
        config: of the run.
        costs: of the births so far, by whether they have a parent.
        full_seconds: of a full evaluation.
        births: to come.
        idle: seconds a birth.
        retrainings: to come, of the final table.
        workers: how many.
    """
    child, random = costs.get(True, Cost()), costs.get(False, Cost())
    random_share = config.evolution.random_share
    weight = CHILD_COST_WEIGHT * config.evolution.births
    child_seconds = (child.seconds + weight * CHILD_COST * full_seconds) / (child.births + weight)
    random_seconds = random.seconds / random.births if random.births else 0.0
    a_birth = random_share * random_seconds + (1 - random_share) * child_seconds
    return births * (a_birth / workers + idle) + retrainings * full_seconds / workers
