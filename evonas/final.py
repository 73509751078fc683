"""The final table: the best candidates, BN-ReLU and other baselines, trained again with fresh seeds.

The maximum of hundreds of single-seed accuracies is a noise winner; only the figures of this table are quoted.
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

Progress = Callable[[int, int], None]  # (trainings done, their total)
SEEDS_MAX = 1000  # of a study
BySeed = Mapping[int, dict[str, float] | None]  # seed -> proxy -> accuracy; None if the training failed


def quiet(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate with its birth, or a baseline with its name (the catalog's, or its formula)."""

    birth: int | None
    name: str | None
    graph: Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRow(Figures):
    """The figures of one contender."""

    birth: int | None
    name: str | None
    formula: str
    parent: int | None
    operator: str | None  # the mutation, or other source, of the candidate


def contenders(reader: Reader) -> list[Contender]:
    """The best candidate of each of the best families, then the baselines. A finished run keeps those it chose."""
    if reader.finished:
        chosen = dict.fromkeys((each.birth, each.name) for each in reader.evaluations(Purpose.RERANK))
        return [Contender(birth, name, _graph(reader, birth, name)) for birth, name in chosen]
    families = reader.families(reader.config.evolution.rerank.top)
    candidates = [Contender(each.birth, None, reader.graph(each.birth)) for each in families]
    return [*candidates, *baselines(reader.config)]


def _graph(reader: Reader, birth: int | None, name: str | None) -> Graph:
    return reader.graph(birth) if birth is not None else named_graph(str(name)).graph


def baselines(config: Config) -> list[Contender]:
    """BN-ReLU, and the baselines that the config names."""
    names = dict.fromkeys((BASELINE, *config.evolution.rerank.baselines))
    return [Contender(None, name, named_graph(name).graph) for name in names]


def fresh_seeds(config: Config, count: int | None = None) -> range:
    """`count` seeds that the search did not use; by default as many as the final table takes."""
    first = config.seed + config.recipe.seeds
    return range(first, first + (config.evolution.rerank.seeds if count is None else count))


def retraining(config: Config) -> Protocol:
    """The protocol of retrainings: without gates, and with one seed an evaluation."""
    return config.protocol.ungated(seeds=1)


def rerank(session: Session, reader: Reader, on_progress: Progress = quiet, *, only_baseline: bool = False) -> None:
    """Train the contenders of the final table, or BN-ReLU alone. Raises Stopped when the user asks to stop."""
    chosen = baselines(reader.config)[:1] if only_baseline else contenders(reader)
    retrain(session, reader, Purpose.RERANK, chosen, fresh_seeds(reader.config), on_progress)


def retrain(
    session: Session,
    reader: Reader,
    purpose: Purpose,
    chosen: Sequence[Contender],
    seeds: Sequence[int],
    on_progress: Progress = quiet,
    judged_on: JudgedOn = "validation",
) -> None:
    """Train contenders without gates, unless the store holds their outcomes. Crashes are tried again, and anew at each
    resume. Raises Stopped when the user asks to stop."""
    tickets = missing(reader, purpose, chosen, seeds, judged_on)
    total = len(chosen) * len(seeds)
    ended = total - len(tickets)
    on_progress(ended, total)
    for _, evaluation in session.train(tickets):
        ended += not isinstance(evaluation.outcome, Crash)
        on_progress(ended, total)
    on_progress(total, total)


def missing(
    reader: Reader,
    purpose: Purpose,
    chosen: Sequence[Contender],
    seeds: Sequence[int],
    judged_on: JudgedOn = "validation",
) -> list[Ticket]:
    """The trainings of which the store holds no outcome, or only crashes."""
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
        for each in chosen
        if (each.birth, each.name, seed) not in done
    ]


def final_table(reader: Reader) -> list[FinalRow]:
    """Candidates and baselines by mean difference to BN-ReLU, best first; empty until all are retrained."""
    if not reader.finished and (
        not reader.evolved or missing(reader, Purpose.RERANK, contenders(reader), fresh_seeds(reader.config))
    ):
        return []
    return table(reader, reader.evaluations(Purpose.RERANK))


def conclude(session: Session, reader: Reader, on_progress: Progress = quiet) -> Record | None:
    """Retrain the contenders, and return the best candidate among them. If none was retrained, return the search's best
    or None. Raises Stopped when the user asks to stop."""
    rerank(session, reader, on_progress)
    for row in table(reader, reader.evaluations(Purpose.RERANK)):
        if row.birth and row.difference is not None:
            return replace(reader.candidate(row.birth), retrained=row)
    return next(iter(reader.top(1)), None)


def table(reader: Reader, evaluations: list[Trained]) -> list[FinalRow]:
    """A row for each candidate or baseline that was trained, by mean difference to BN-ReLU, best first."""
    accuracies: dict[tuple[int | None, str | None], dict[int, dict[str, float] | None]] = {}
    formulas: dict[tuple[int | None, str | None], str] = {}
    for each in evaluations:  # after a crash, its repetition counts
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
