"""How a layer trains at other batch sizes and learning rates: short trainings on one network, beside BN-ReLU."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evonas.config import Config
from evonas.intervals import Estimate, estimate, spread
from evonas.retraining import fresh_seeds
from evonas.search_space.catalog.named import NamedGraph, named_graph
from evonas.store.reader import Reader
from evonas.store.records import Purpose
from evonas.studies.results import Row
from evonas.studies.trainings import Asked, accuracy, asked
from evonas.studies.validation import Spread
from evonas.units import Unit
from evonas.workers.outcome import Fitness

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RATES = (1 / 9, 1 / 3, 1.0, 3.0, 9.0)  # times the recipe's
SMALL_BATCH = 0.25  # share of a step's seconds that a small batch does not save; a guess, for the estimate alone

Place = tuple[int, float]  # batch size and rate
Key = tuple[Place, str, int]  # place, layer and seed


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A layer and BN-ReLU at one batch size and rate. A training that diverged counts as guessing."""

    batch_size: int
    learning_rate: float
    seeds: int
    failed: int  # trainings of the layer that diverged
    accuracy: Spread
    baseline: Spread
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Sweep:
    """On validation images or text, after the recipe's steps. Rates follow the batch sizes in proportion; the batch
    size of other rates is the recipe's."""

    proxy: str
    steps: int
    batch_sizes: tuple[SweepRow, ...]
    rates: tuple[SweepRow, ...]
    unit: Unit

    def as_json(self) -> dict[str, Any]:
        """All figures by name."""
        fields = asdict(self)
        if self.unit is Unit.ACCURACY:
            del fields["unit"]
            return fields
        for row in (*fields["batch_sizes"], *fields["rates"]):
            row[self.unit.name_in_data] = row.pop("accuracy")
        return fields


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The trainings of a sweep."""

    config: Config  # of one network
    wanted: Mapping[Key, Asked]
    batch_sizes: tuple[Place, ...]
    rates: tuple[Place, ...]

    @property
    def proxy(self) -> str:
        return next(iter(self.config.proxies))

    def seconds(self, some: Iterable[Key], step_seconds: float) -> float:
        """Worker seconds of some trainings, about; a step at the recipe's batch size takes `step_seconds`."""
        recipe = self.config.recipe
        shares = (SMALL_BATCH + (1 - SMALL_BATCH) * size / recipe.batch_size for (size, _), _, _ in some)
        return sum(shares) * recipe.steps * step_seconds


def plan_sweep(config: Config, proxy: str, layer: NamedGraph, seeds: int) -> SweepPlan:
    """The trainings of a layer and of BN-ReLU on one proxy of a config, without gates, with fresh seeds."""
    recipe = config.recipe
    alone = config.model_copy(update={"proxies": {proxy: config.proxies[proxy]}, "gates": ()})
    batch_sizes = tuple((size, recipe.learning_rate * size / recipe.batch_size) for size in BATCH_SIZES)
    rates = tuple((recipe.batch_size, recipe.learning_rate * factor) for factor in RATES)
    layers = {each.name: each for each in (layer, named_graph(config.baseline))}
    wanted: dict[Key, Asked] = {}
    for place in dict.fromkeys((*batch_sizes, *rates)):
        batch_size, rate = place
        here = alone.model_copy(
            update={"recipe": recipe.model_copy(update={"batch_size": batch_size, "learning_rate": rate})}
        )
        for seed in fresh_seeds(here, seeds):
            for each in layers.values():
                (wanted[place, each.name, seed],) = asked(here, each, seed)
    return SweepPlan(alone, wanted, batch_sizes, rates)


def sweep_of(plan: SweepPlan, layer: str, rows: Mapping[Asked, Row]) -> Sweep | None:
    """The figures over trainings, at each place where the layer and BN-ReLU have a seed in common; None without any."""
    by_place: dict[Place, dict[str, dict[int, Row]]] = {}
    for (place, name, seed), training in plan.wanted.items():
        if training in rows:
            by_place.setdefault(place, {}).setdefault(name, {})[seed] = rows[training]
    than, unit = plan.config.baseline, plan.config.units.of(plan.proxy)
    made = {place: row for place, trained in by_place.items() if (row := _row(place, layer, trained, than, unit))}
    if not made:
        return None
    sizes, rates = (tuple(made[each] for each in places if each in made) for places in (plan.batch_sizes, plan.rates))
    return Sweep(plan.proxy, plan.config.recipe.steps, sizes, rates, unit)


def _row(place: Place, layer: str, trained: Mapping[str, Mapping[int, Row]], than: str, unit: Unit) -> SweepRow | None:
    mine, its = trained.get(layer, {}), trained.get(than, {})
    seeds = sorted(mine.keys() & its.keys())
    if not seeds:
        return None
    own, baseline = ([accuracy(of[seed]) for seed in seeds] for of in (mine, its))
    return SweepRow(
        batch_size=place[0],
        learning_rate=place[1],
        seeds=len(seeds),
        failed=sum(mine[seed]["accuracy"] is None for seed in seeds),
        accuracy=spread([unit.read(each) for each in own]),
        baseline=spread([unit.read(each) for each in baseline]),
        difference=estimate([unit.difference(a, b) for a, b in zip(own, baseline, strict=True)]),
    )


def cheapest(reader: Reader) -> tuple[str, float]:
    """The proxy whose training step took BN-ReLU the least time in the search, and its seconds; the first proxy, and
    0.0, where none was recorded."""
    seconds: dict[str, float] = {}
    for each in reader.evaluations(Purpose.BASELINE):
        if isinstance(each.evaluation.outcome, Fitness):
            for proxy, value in each.evaluation.outcome.step_seconds.items():
                seconds.setdefault(proxy, value)
    if not seconds:
        return next(iter(reader.config.proxies)), 0.0
    proxy = min(seconds, key=lambda name: seconds[name])
    return proxy, seconds[proxy]
