"""The spread of a layer's figures over seeds, which a difference between two layers has to exceed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_input import load_ungated
from evonas.intervals import spread
from evonas.layers.resolve import Layers, trainable
from evonas.retraining import SEEDS_MAX, Progress, quiet, train, try_own_networks, ungated
from evonas.search_space.catalog.named import NamedGraph, named_graph
from evonas.search_space.errors import whole
from evonas.session import Session, Ticket, stop_signals
from evonas.units import Unit
from evonas.workers.outcome import Fitness, Outcome
from evonas.workers.protocol import Job


@dataclass(frozen=True, slots=True)
class NoiseRow:
    """One layer on one proxy, or on their "mean", in its unit. Spreads are sample standard deviations, None below two
    seeds."""

    layer: str
    proxy: str
    accuracies: tuple[float, ...]  # of the seeds that did not fail
    failed: int
    difference_spread: float | None  # of the difference to BN-ReLU with the same seed
    unit: Unit = Unit.ACCURACY

    @property
    def mean(self) -> float | None:
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        return spread(self.accuracies)[1] if self.accuracies else None

    def as_json(self) -> dict[str, Any]:
        """The figures under the name of their unit, and the statistics of them."""
        figures = "accuracies" if self.unit is Unit.ACCURACY else self.unit.name_in_data
        first = {"layer": self.layer, "proxy": self.proxy, figures: self.accuracies}
        names = ("failed", "mean", "spread", "interval", "difference_spread")
        return first | {name: getattr(self, name) for name in names}

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the spread, if figures are normally distributed."""
        if self.spread is None:
            return None
        from scipy.stats import chi2  # slow to import

        freedom = len(self.accuracies) - 1
        low, high = (self.spread * sqrt(freedom / chi2.ppf(share, freedom)) for share in (0.975, 0.025))
        return float(low), float(high)


def noise(
    config: Config | Mapping[str, Any] | str | Path,
    layers: Layers = (),
    *,
    seeds: int = 5,
    settings: Sequence[str] = (),
    on_progress: Progress = quiet,
) -> list[NoiseRow]:
    """Train BN-ReLU and `layers` to the full budget of a config with the same seeds, the config's and those after it.

    Returns a row for each layer on each proxy, and one for their mean. Raises InputError for bad input, and Stopped on
    Ctrl-C or SIGTERM.

    >>> evonas.noise("quickstart.yaml", "EvoNorm-S0", seeds=3)
    """
    loaded, seeds, chosen = load_ungated(config, settings), whole("seeds", seeds, 2, SEEDS_MAX), trainable(layers)
    try_own_networks(loaded)
    with open_pool(loaded) as pool, stop_signals() as should_stop:
        return measure_noise(loaded, Session(pool, should_stop=should_stop), chosen, seeds, on_progress)


def measure_noise(
    config: Config,
    session: Session,
    layers: Sequence[NamedGraph],
    seeds: int,
    on_progress: Progress = quiet,
) -> list[NoiseRow]:
    """`noise` on the workers of a session."""
    graphs = {each.name: each.graph for each in (named_graph(config.baseline), *layers)}
    tickets = [
        Ticket(Job(graph=str(graph), protocol=ungated(config), seed=config.seed + n), name=name)
        for n in range(seeds)
        for name, graph in graphs.items()
    ]
    outcomes: dict[tuple[str, int], Outcome] = {}
    on_progress(0, len(tickets))
    for ticket, evaluation in train(session, tickets):
        outcomes[str(ticket.name), ticket.job.seed] = evaluation.outcome
        on_progress(len(outcomes), len(tickets))
    return [row for name in graphs for row in _rows(config, name, outcomes)]


def _rows(config: Config, name: str, outcomes: dict[tuple[str, int], Outcome]) -> list[NoiseRow]:
    mine = {seed: outcome for (layer, seed), outcome in outcomes.items() if layer == name}
    failed = sum(not isinstance(each, Fitness) for each in mine.values())
    own = {seed: _with_mean(each) for seed, each in mine.items() if isinstance(each, Fitness)}
    baseline = {seed: each for (layer, seed), each in outcomes.items() if layer == config.baseline and seed in own}
    paired = {seed: _with_mean(each) for seed, each in baseline.items() if isinstance(each, Fitness)}
    rows = []
    for proxy, unit in {**{each: config.units.of(each) for each in config.proxies}, "mean": config.units.mean}.items():
        differences = [unit.difference(own[seed][proxy], paired[seed][proxy]) for seed in paired]
        deviation = spread(differences)[1] if name != config.baseline and differences else None
        rows.append(
            NoiseRow(name, proxy, tuple(unit.read(each[proxy]) for each in own.values()), failed, deviation, unit)
        )
    return rows


def _with_mean(fitness: Fitness) -> dict[str, float]:
    return {**fitness.accuracy, "mean": fmean(fitness.accuracy.values())}
