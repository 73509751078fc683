"""The end of a search: the best few, BN-ReLU and other baselines, trained again with seeds that the search did not use.

A maximum over hundreds of single-seed accuracies is a noise winner; only the figures of this table are quoted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from evonas.config import BASELINE, Config
from evonas.evolution import Search, Stopped
from evonas.search_space.catalog import catalog
from evonas.search_space.graph import Graph
from evonas.store.queries import Reader
from evonas.store.records import Trained
from evonas.workers.outcome import Crash, Fitness
from evonas.workers.protocol import Job, JudgedOn

Progress = Callable[[int, int], None]  # of how many trainings


def quiet(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate by its birth, or a layer of the catalog by its name."""

    birth: int | None
    name: str | None
    graph: Graph


@dataclass(frozen=True, slots=True)
class FinalRow:
    """One contender's figures. Spreads are sample standard deviations over seeds, None below two seeds."""

    birth: int | None
    name: str | None
    formula: str
    parent: int | None
    seeds: int
    failed: int  # seeds with which the training diverged or crashed
    accuracy: dict[str, tuple[float, float | None] | None]  # proxy -> mean, spread
    difference: float | None  # to BN-ReLU: mean over proxies and its seeds, paired; None where a seed failed
    difference_spread: float | None  # over seeds


def contenders(config: Config, reader: Reader) -> list[Contender]:
    """The best candidates, then the baselines. Of several that trained alike, accuracy and loss at every validation,
    and so are the same function in all but name (`x` and `x + v0 * v0`), the first."""
    chosen: dict[tuple[tuple[str, int, float, float], ...], Contender] = {}
    rerank = config.evolution.rerank
    wanted = rerank.top
    while len(chosen) < rerank.top:
        records = reader.top(wanted)
        for record in records:
            if len(chosen) < rerank.top:
                evaluation = reader.evaluation_of(record.birth)
                points = evaluation.points if evaluation else ()
                curve = tuple((p.proxy, p.step, p.accuracy, round(p.loss, 4)) for p in points)
                chosen.setdefault(curve, Contender(record.birth, None, Graph.parse(record.graph)))
        if len(records) < wanted:
            break
        wanted *= 2
    return [*chosen.values(), *baselines(config)]


def baselines(config: Config) -> list[Contender]:
    """BN-ReLU, and what the config names."""
    names = dict.fromkeys((BASELINE, *config.evolution.rerank.baselines))
    return [Contender(None, name, catalog[name].graph) for name in names]


def rerank_seeds(config: Config) -> list[int]:
    return [config.seed + config.recipe.seeds + i for i in range(config.evolution.rerank.seeds)]


def rerank(search: Search, reader: Reader, on_progress: Progress = quiet, *, only_baseline: bool = False) -> None:
    """The final table's trainings. Raises as `retrain` does."""
    config = search.config
    wanted = baselines(config)[:1] if only_baseline else contenders(config, reader)
    retrain(search, reader, "rerank", wanted, rerank_seeds(config), on_progress)


def retrain(
    search: Search,
    reader: Reader,
    purpose: str,
    wanted: Sequence[Contender],
    seeds: Sequence[int],
    on_progress: Progress,
    judged_on: JudgedOn = "validation",
) -> None:
    """Train what the store does not hold yet; what crashed has a second chance, and one more at each resume. Raises
    Stopped when asked to stop."""
    config = search.config
    recipe = config.recipe.model_copy(update={"seeds": 1})  # each seed is an evaluation of its own
    protocol = config.protocol.model_copy(update={"gates": (), "recipe": recipe})
    done = {
        (each.birth, each.name, each.seed)
        for each in reader.evaluations(purpose)
        if not isinstance(each.evaluation.outcome, Crash)
    }
    retried: set[tuple[Contender, int]] = set()
    everything = [(each, seed) for seed in seeds for each in wanted]
    waiting = [(each, seed) for each, seed in everything if (each.birth, each.name, seed) not in done]
    running: dict[int, tuple[Contender, int]] = {}
    number = 0
    while waiting or running:
        on_progress(len(everything) - len(waiting) - len(running), len(everything))
        while waiting and len(running) < search.pool.capacity:
            if search.should_stop():
                raise Stopped
            running[number] = contender, seed = waiting.pop(0)
            job = Job(graph=str(contender.graph), protocol=protocol, seed=seed, judged_on=judged_on)
            search.pool.submit(number, job)
            number += 1
        key, evaluation = search.next()
        contender, seed = running.pop(key)
        search.store.record_beside(
            purpose, contender.graph.formula, seed, evaluation, birth=contender.birth, name=contender.name
        )
        if isinstance(evaluation.outcome, Crash) and (contender, seed) not in retried:
            retried.add((contender, seed))
            waiting.append((contender, seed))
    on_progress(len(everything), len(everything))


def final_table(reader: Reader) -> list[FinalRow]:
    """Candidates and baselines by their mean difference to BN-ReLU, best first; empty until the rerank has ended."""
    config = reader.config
    evaluations = reader.evaluations("rerank")
    trained = {(each.birth, each.name, each.seed) for each in evaluations}
    if not reader.evolved or len(trained) < len(contenders(config, reader)) * config.evolution.rerank.seeds:
        return []
    return table(reader, evaluations)


def table(reader: Reader, evaluations: list[Trained]) -> list[FinalRow]:
    """One row for each candidate or baseline that was trained, by the mean difference to BN-ReLU, best first."""
    config = reader.config
    accuracies: dict[tuple[int | None, str | None], dict[int, dict[str, float] | None]] = {}
    formulas: dict[tuple[int | None, str | None], str] = {}
    for each in evaluations:
        outcome = each.evaluation.outcome
        found = outcome.accuracy if isinstance(outcome, Fitness) else None
        accuracies.setdefault((each.birth, each.name), {})[each.seed] = found  # of a crash and its repetition the last
        formulas[each.birth, each.name] = each.formula
    baseline = accuracies.get((None, BASELINE), {})
    rows = []
    for (birth, name), by_seed in accuracies.items():
        scores = [found for found in by_seed.values() if found]
        pairs = [(found, baseline.get(seed)) for seed, found in by_seed.items()]
        differences = [fmean(a[p] - b[p] for p in config.proxies) for a, b in pairs if a and b]
        complete = len(scores) == len(by_seed) and bool(differences)
        rows.append(
            FinalRow(
                birth=birth,
                name=name,
                formula=formulas[birth, name],
                parent=reader.candidate(birth).parent if birth else None,
                seeds=len(by_seed),
                failed=len(by_seed) - len(scores),
                accuracy={p: _mean_and_spread([each[p] for each in scores]) for p in config.proxies},
                difference=fmean(differences) if complete else None,
                difference_spread=stdev(differences) if complete and len(differences) > 1 else None,
            )
        )
    return sorted(rows, key=lambda row: (row.difference is None, -(row.difference or 0.0), row.birth or 0))


def _mean_and_spread(values: list[float]) -> tuple[float, float | None] | None:
    if not values:
        return None
    return fmean(values), stdev(values) if len(values) > 1 else None
