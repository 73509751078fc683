"""A layer without each of its parts, trained beside it: which parts matter, and how much."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_input import load_ungated
from evonas.intervals import Estimate
from evonas.layers.resolve import reference_of, run_config, trainable
from evonas.retraining import SEEDS_MAX, Progress, fresh_seeds, quiet
from evonas.search_space.ablations import Ablation as ChangedLayer
from evonas.search_space.ablations import ablations
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError, whole
from evonas.search_space.graph import Graph
from evonas.search_space.wording import counted
from evonas.store.reader import Reader
from evonas.store.records import Purpose, Record
from evonas.store.trainings import StoredTraining, units_of
from evonas.studies.in_run import InRun, row_of_stored
from evonas.studies.results import ResultFile, Row
from evonas.studies.trainings import Kept, asked, complete, lost
from evonas.studies.validation import Spread, Trained, difference, figures_by_unit, spreads
from evonas.units import Units


@dataclass(frozen=True, slots=True)
class AblatedLayer:
    """The layer in which `part` gave way to `becomes`; both None for the layer itself. Figures are in the units that
    people read.

    A training that diverged counts as guessing. Differences are to the layer itself with the same seeds,
    initial weights and batches, with their 95 % t-interval over seeds.
    """

    part: str | None
    becomes: str | None
    formula: str
    failed: int  # trainings that diverged
    mean: Spread  # of the means over proxies
    accuracy: dict[str, Spread]  # by proxy
    difference: Estimate  # of the means over proxies
    by_proxy: dict[str, Estimate]


@dataclass(frozen=True, slots=True, repr=False)
class Ablation:
    """The layer itself, then without each part: where it loses most first."""

    layers: tuple[AblatedLayer, ...]
    seeds: int
    crashed: Mapping[str, str]  # formulas that are not compared -> why there is no answer
    conditions: Mapping[str, int]  # where trainings were computed -> how many
    units: Units

    def __repr__(self) -> str:
        layer, *others = self.layers
        first = f": {others[0].part} matters most" if others else ""
        return f"<Ablation of {'; '.join(layer.formula.splitlines())}, {counted(self.seeds, 'seed')}{first}>"

    def _repr_html_(self) -> str:
        from evonas.report.notebook import table_html  # only a notebook needs it

        return table_html([figures_by_unit(each, self.units) for each in self.layers])

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        rows = [figures_by_unit(each, self.units) for each in self.layers]
        counts = {"crashed": dict(self.crashed), "conditions": dict(self.conditions)}
        return {"layers": rows, **counts, **self.units.as_json()}


def ablate(
    layer: Graph | str | Record,
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    seeds: int = 3,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    on_progress: Progress = quiet,
) -> Ablation:
    """Remove or replace each live node and each learned parameter of a layer, and train what is left.

    Gates are not asked; validation images, or text, judge. Which layers are trained, `evonas.search_space.ablations`
    says; those that would see the bytes that a network predicts are left out. Those of a run's candidate are recorded
    in the run, and not repeated.

    Args:
        layer: a graph, a text, a name of the catalog, a record of a run, or RUN#BIRTH.
        config: whose data, recipe, proxies and workers train; by default those of the candidate's run.
        seeds: trainings of each layer on each proxy: those after the config's own, as in `validate`.
        settings: overrides of the config, such as "recipe.steps=1500".
        out: a file that keeps the trainings in place of the run.
        on_progress: called with the trainings done and their total.

    Raises InputError for bad input, and Stopped on Ctrl-C or SIGTERM.

    >>> evonas.ablate("results/quickstart-000#138")
    >>> evonas.ablate("EvoNorm-B0", "cifar10.yaml", seeds=5, out="ablation.jsonl")
    """
    (named,) = trainable(layer)
    source = config if config is not None else run_config(layer)
    if source is None:
        raise InputError(f"config: expected one, since {named.name} is of no run")
    loaded, seeds = load_ungated(source, settings), whole("seeds", seeds, 1, SEEDS_MAX)
    changed = [each for each in ablations(named.graph) if not loaded.foresees(each.graph)]
    graphs = [named.graph, *(each.graph for each in changed)]
    kept: Kept | None = ResultFile(Path(out), study="ablate") if out is not None else None
    if out is None and (reference := reference_of(layer)):
        run, birth = reference
        kept = InRun.of(run, Purpose.ABLATE, {graph.formula: birth for graph in graphs})
    wanted = {
        (seed, number): list(asked(loaded, NamedGraph(graph.formula, graph), seed))
        for seed in fresh_seeds(loaded, seeds)
        for number, graph in enumerate(graphs)
    }
    trainings = [each for several in wanted.values() for each in several]
    rows, crashed = complete(trainings, kept, loaded, open_pool, on_progress)
    gone = lost(trainings, crashed)
    if (whole_layer := named.graph.formula) in gone:
        raise InputError(f"{named.name} could not be trained: {gone[whole_layer]}")
    trained = [
        {(seed, each.proxy): rows[each] for (seed, n), several in wanted.items() if n == number for each in several}
        if graph.formula not in gone
        else {}
        for number, graph in enumerate(graphs)
    ]
    return _compared(graphs, changed, trained, seeds, gone, loaded.units)


def recorded_ablation(reader: Reader, graph: Graph) -> Ablation | None:
    """The newest ablation of a layer that its run has recorded, as far as it goes; None without any."""
    changed = ablations(graph)
    graphs = [graph, *(each.graph for each in changed)]
    formulas = {each.formula for each in graphs}
    newest: dict[str, list[StoredTraining]] = {}  # by data and recipe
    for each in reader.trainings():
        if each.purpose == Purpose.ABLATE and each.layer in formulas:
            key = json.dumps([each.protocol["data"], each.protocol.get("recipe")], sort_keys=True)
            newest[key] = [*newest.pop(key, []), each]
    while newest:
        _, several = newest.popitem()
        by_layer: dict[str, dict[tuple[int, str], Row]] = {}
        for each in several:
            by_layer.setdefault(each.layer, {})[each.seed, each.proxy] = row_of_stored(each)
        whole = by_layer.get(graph.formula, {})
        trained = [by_layer.get(each.formula, {}) for each in graphs]
        trained = [rows if rows.keys() == whole.keys() else {} for rows in trained]  # stopped before its end
        if any(trained[1:]):
            return _compared(graphs, changed, trained, len({seed for seed, _ in whole}), {}, units_of(several))
    return None


def _compared(
    graphs: Sequence[Graph],
    changed: Sequence[ChangedLayer],
    trained: Sequence[Trained],
    seeds: int,
    gone: Mapping[str, str],
    units: Units,
) -> Ablation:
    """The tables over trainings of the layer itself and of those without a part; without rows one is left out."""
    judged = []
    for graph, mine, what in zip(graphs, trained, (None, *changed), strict=True):
        if mine:
            mean, by_proxy = spreads(mine, units)
            to_whole, to_whole_by_proxy = difference(mine, trained[0], units)
            failed = sum(row["accuracy"] is None for row in mine.values())
            part, becomes = (what.part, what.becomes) if what else (None, None)
            judged.append(
                AblatedLayer(part, becomes, graph.formula, failed, mean, by_proxy, to_whole, to_whole_by_proxy)
            )
    first, *others = judged
    others.sort(key=lambda each: units.mean.gain(each.difference[0]))
    conditions = Counter(row["conditions"] for mine in trained for row in mine.values())
    return Ablation((first, *others), seeds, gone, conditions, units)
