"""Layers of one's own on the proxies of a config: judged by its gates, and trained with fresh seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_input import load_config
from evonas.history import History
from evonas.layers.resolve import Layers, trainable
from evonas.retraining import (
    SEEDS_MAX,
    Progress,
    accuracy_of,
    baselines,
    evaluate_baseline,
    figures,
    fresh_seeds,
    quiet,
    train,
    try_own_networks,
    ungated,
)
from evonas.search_space.analysis import batch_dependent
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError, whole
from evonas.search_space.graph import Graph
from evonas.search_space.screening import Screening
from evonas.search_space.wording import counted_pairs
from evonas.session import Session, Ticket, stop_signals
from evonas.store.records import Figures
from evonas.workers.gates import screen
from evonas.workers.outcome import Evaluation, Measurement, Outcome, Rejection
from evonas.workers.protocol import Job


@dataclass(frozen=True, slots=True, repr=False)
class Judgement:
    """One layer on the proxies of a config."""

    name: str  # of the catalog, or the formula
    graph: Graph
    figures: Figures
    amplification: float  # over input of one position
    measurements: tuple[Measurement, ...] = ()  # of the gates that were asked
    outcome: Outcome | None = None  # in a search, with the config's seed; None for the baselines, which are not judged

    @property
    def batch_dependent(self) -> bool:
        return batch_dependent(self.graph)

    @property
    def live_nodes(self) -> int:
        return self.graph.live_nodes

    def __repr__(self) -> str:
        shown = self.figures.shown
        difference = (
            "failed"
            if shown.difference is None
            else shown.unit.with_deviation(shown.difference, shown.difference_spread)
        )
        seeds = counted_pairs(self.figures.paired, self.figures.seeds, "fresh seed")
        stopped = f", stopped by {self.outcome.gate}" if isinstance(self.outcome, Rejection) else ""
        return f"<{'; '.join(self.name.splitlines())}: {difference} {shown.unit.of_differences} with {seeds}{stopped}>"


def evaluate(
    layers: Layers,
    config: Config | Mapping[str, Any] | str | Path,
    *,
    seeds: int = 3,
    settings: Sequence[str] = (),
    on_progress: Progress = quiet,
) -> list[Judgement]:
    """Judge layers by the gates of a config, and train them with fresh seeds to the full budget on every proxy.

    They are trained whatever the gates say, beside BN-ReLU and the baselines of the config. No run is written.

    Args:
        layers: one or several graphs, texts, names of the catalog, records, or RUN#BIRTH.
        config: a YAML file, a mapping or a Config.
        seeds: the number of fresh seeds; differences to BN-ReLU are paired.
        settings: overrides of the config, such as "recipe.steps=100".
        on_progress: called with the trainings done and their total.

    Returns the layers and baselines, the best first. Raises InputError for bad input, and Stopped on Ctrl-C or SIGTERM.

    >>> evonas.evaluate("x / rms_hw(x)", "quickstart.yaml")
    """
    loaded, seeds = load_config(config, settings), whole("seeds", seeds, 1, SEEDS_MAX)
    named = trainable(layers)
    if not named:
        raise InputError("layers: expected at least one")
    try_own_networks(loaded)
    with open_pool(loaded) as pool, stop_signals() as should_stop:
        return judge(loaded, Session(pool, should_stop=should_stop), named, seeds, on_progress)


def judge(
    config: Config, session: Session, layers: Sequence[NamedGraph], seeds: int, on_progress: Progress = quiet
) -> list[Judgement]:
    """`evaluate` on the workers of a session."""
    mine = {each.name: each.graph for each in layers}
    graphs = {str(each.name): each.graph for each in baselines(config)} | mine
    fresh = [
        Ticket(Job(graph=str(graph), protocol=ungated(config), seed=seed), name=name)
        for seed in fresh_seeds(config, seeds)
        for name, graph in graphs.items()
    ]
    alone = {name: Screening(graph) for name, graph in graphs.items()}
    screened = {name: screen(config.gates, alone[name]) for name in mine}
    passing = [name for name, measured in screened.items() if all(each.passed for each in measured)]
    total = 1 + len(passing) + len(fresh)
    on_progress(0, total)
    history = History(config)
    evaluate_baseline(session, history)
    on_progress(1, total)
    gated = [
        Ticket(
            Job(
                graph=str(mine[name]),
                protocol=config.protocol,
                seed=config.seed,
                baseline=history.baseline_points,
            ),
            name=name,
        )
        for name in passing
    ]
    evaluations: dict[Ticket, Evaluation] = {}
    for ticket, evaluation in train(session, [*gated, *fresh]):
        evaluations[ticket] = evaluation
        on_progress(1 + len(evaluations), total)
    judged = {str(ticket.name): evaluations[ticket] for ticket in gated}
    by_seed: dict[str, dict[int, dict[str, float] | None]] = {name: {} for name in graphs}
    for ticket in fresh:
        by_seed[str(ticket.name)][ticket.job.seed] = accuracy_of(evaluations[ticket].outcome)
    judgements = [
        Judgement(
            name,
            graph,
            figures(by_seed[name], by_seed[config.baseline], config.units),
            alone[name].amplifications["position"],
            *_gates(screened.get(name, ()), judged.get(name)),
        )
        for name, graph in graphs.items()
    ]
    return sorted(judgements, key=lambda each: -_gain(each))


def _gates(
    screened: tuple[Measurement, ...], evaluation: Evaluation | None
) -> tuple[tuple[Measurement, ...], Outcome | None]:
    """The measurements of all gates, and the outcome that a search would record."""
    if evaluation is not None:
        return (*screened, *evaluation.measurements), evaluation.outcome
    if not screened:
        return (), None
    return screened, Rejection.by(screened[-1])


def _gain(judgement: Judgement) -> float:
    gain = judgement.figures.gain
    return -math.inf if gain is None else gain
