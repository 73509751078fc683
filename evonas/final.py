"""The end of a search: the best few, BN-ReLU and other baselines, trained again with seeds that the search did not use.

A maximum over hundreds of single-seed accuracies is a noise winner; only the figures of this table are quoted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from evonas.config import BASELINE, Config
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.graph import Graph
from evonas.session import Session, Ticket
from evonas.store.reader import Reader
from evonas.store.records import Figures, Purpose, Record, Trained, columns
from evonas.workers.outcome import Crash, Fitness, Outcome
from evonas.workers.protocol import Job, JudgedOn, Protocol

Progress = Callable[[int, int], None]  # of how many trainings
BySeed = Mapping[int, dict[str, float] | None]  # seed -> proxy -> accuracy; None where the training failed


def quiet(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate by its birth, or another layer by its name: the catalog's, or a formula."""

    birth: int | None
    name: str | None
    graph: Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRow(Figures):
    """One contender's figures."""

    birth: int | None
    name: str | None
    formula: str
    parent: int | None
    operator: str | None  # that made the candidate


def contenders(reader: Reader) -> list[Contender]:
    """The best candidate of each of the best families, then the baselines; once the run is finished, who was chosen."""
    if reader.finished:
        retrained = dict.fromkeys((each.birth, each.name) for each in reader.evaluations(Purpose.RERANK))
        return [Contender(birth, name, _graph(reader, birth, name)) for birth, name in retrained]
    standards, families = baselines(reader.config), reader.families(reader.config.evolution.rerank.top)
    return [*(Contender(each.birth, None, Graph.parse(each.graph)) for each in families), *standards]


def _graph(reader: Reader, birth: int | None, name: str | None) -> Graph:
    return Graph.parse(reader.candidate(birth).graph) if birth is not None else named_graph(str(name)).graph


def baselines(config: Config) -> list[Contender]:
    """BN-ReLU, and what the config names."""
    names = dict.fromkeys((BASELINE, *config.evolution.rerank.baselines))
    return [Contender(None, name, named_graph(name).graph) for name in names]


def fresh_seeds(config: Config, count: int | None = None) -> range:
    """Seeds that the search did not use; by default as many as its final table takes."""
    first = config.seed + config.recipe.seeds
    return range(first, first + (config.evolution.rerank.seeds if count is None else count))


def retraining(config: Config) -> Protocol:
    """The protocol without gates, in which each seed is an evaluation of its own."""
    recipe = config.recipe.model_copy(update={"seeds": 1})
    return config.protocol.model_copy(update={"gates": (), "recipe": recipe})


def rerank(session: Session, reader: Reader, on_progress: Progress = quiet, *, only_baseline: bool = False) -> None:
    """The final table's trainings. Raises Stopped when asked to stop."""
    seeds = fresh_seeds(reader.config)
    trained = baselines(reader.config)[:1] if only_baseline else contenders(reader)
    retrain(session, reader, Purpose.RERANK, trained, seeds, on_progress)


def retrain(
    session: Session,
    reader: Reader,
    purpose: Purpose,
    trained: Sequence[Contender],
    seeds: Sequence[int],
    on_progress: Progress = quiet,
    judged_on: JudgedOn = "validation",
) -> None:
    """Train what the store does not hold yet, without gates; what crashed is tried again, and anew at each resume.
    Raises Stopped when asked to stop."""
    tickets = missing(reader, purpose, trained, seeds, judged_on)
    total = len(trained) * len(seeds)
    ended = total - len(tickets)
    on_progress(ended, total)
    for _, evaluation in session.train(tickets):
        ended += not isinstance(evaluation.outcome, Crash)
        on_progress(ended, total)
    on_progress(total, total)


def missing(
    reader: Reader,
    purpose: Purpose,
    trained: Sequence[Contender],
    seeds: Sequence[int],
    judged_on: JudgedOn = "validation",
) -> list[Ticket]:
    """The trainings that the store holds no outcome of, or only crashes."""
    protocol = retraining(reader.config)
    done = {
        (each.birth, each.name, each.seed)
        for each in reader.evaluations(purpose)
        if not isinstance(each.evaluation.outcome, Crash)
    }
    return [
        Ticket(
            purpose,
            Job(graph=str(each.graph), protocol=protocol, seed=seed, judged_on=judged_on),
            each.birth,
            each.name,
        )
        for seed in seeds
        for each in trained
        if (each.birth, each.name, seed) not in done
    ]


def final_table(reader: Reader) -> list[FinalRow]:
    """Candidates and baselines by their mean difference to BN-ReLU, best first; empty until all are retrained."""
    if not reader.finished and (
        not reader.evolved or missing(reader, Purpose.RERANK, contenders(reader), fresh_seeds(reader.config))
    ):
        return []
    return table(reader, reader.evaluations(Purpose.RERANK))


def conclude(session: Session, reader: Reader, on_progress: Progress = quiet) -> Record | None:
    """Retrain the contenders. Returns the best of them, or the search's best where none is retrained; None where none
    was trained. Raises Stopped when asked to stop."""
    rerank(session, reader, on_progress)
    for row in table(reader, reader.evaluations(Purpose.RERANK)):
        if row.birth and row.difference is not None:
            return replace(reader.candidate(row.birth), retrained=row)
    return next(iter(reader.top(1)), None)


def table(reader: Reader, evaluations: list[Trained]) -> list[FinalRow]:
    """One row for each candidate or baseline that was trained, by the mean difference to BN-ReLU, best first."""
    accuracies: dict[tuple[int | None, str | None], dict[int, dict[str, float] | None]] = {}
    formulas: dict[tuple[int | None, str | None], str] = {}
    for each in evaluations:  # of a crash and its repetition, the last counts
        accuracies.setdefault((each.birth, each.name), {})[each.seed] = accuracy_of(each.evaluation.outcome)
        formulas[each.birth, each.name] = each.formula
    baseline = accuracies.get((None, BASELINE), {})
    rows = []
    for (birth, name), by_seed in accuracies.items():
        record = reader.candidate(birth) if birth else None
        rows.append(
            FinalRow(
                birth=birth,
                name=name,
                formula=formulas[birth, name],
                parent=record.parent if record else None,
                operator=record.operator if record else None,
                **columns(figures(by_seed, baseline, reader.config.proxies)),
            )
        )
    return sorted(rows, key=lambda row: (row.difference is None, -(row.difference or 0.0), row.birth or 0))


def accuracy_of(outcome: Outcome) -> dict[str, float] | None:
    return outcome.accuracy if isinstance(outcome, Fitness) else None


def figures(by_seed: BySeed, baseline: BySeed, proxies: Iterable[str]) -> Figures:
    """Mean and spread of a layer over its seeds, on each proxy and against BN-ReLU with the same seeds."""
    proxies, scores = tuple(proxies), [each for each in by_seed.values() if each]
    pairs = [(mine, baseline.get(seed)) for seed, mine in by_seed.items()]
    differences = [fmean(a[p] - b[p] for p in proxies) for a, b in pairs if a and b]
    complete = len(scores) == len(by_seed) and bool(differences)
    return Figures(
        seeds=len(by_seed),
        failed=len(by_seed) - len(scores),
        accuracy={p: _mean_and_spread([each[p] for each in scores]) for p in proxies},
        difference=fmean(differences) if complete else None,
        difference_spread=stdev(differences) if complete and len(differences) > 1 else None,
    )


def _mean_and_spread(values: list[float]) -> tuple[float, float | None] | None:
    if not values:
        return None
    return fmean(values), stdev(values) if len(values) > 1 else None
