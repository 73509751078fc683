"""Views of a run as plain values: command line, reports and pages render these and decide nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evonas.config import BASELINE, Config
from evonas.final import FinalRow
from evonas.store.reader import Reader
from evonas.store.records import Cost, Figures, Pace, Purpose, Record
from evonas.workers.outcome import Fitness

CHILD_COST = 0.14  # of a full evaluation, what the child of a survivor costs on average; the quickstart's. Ours
CHILD_COST_WEIGHT = 1 / 3  # of a run's births, at most CHILDREN: as so many children's costs counts that figure. Ours
CHILDREN = 600


def seconds_left(
    config: Config,
    costs: Mapping[bool, Cost],
    pace: Pace,
    *,
    births: int,
    retrainings: int,
    workers: float,
) -> float:
    """Seconds until a search ends.

    A birth costs its evaluation on one of the workers, and the time in which none is busy. Children of survivors cost
    more than random graphs, and more the longer a search lasts: their cost so far is averaged with CHILD_COST.

    Args:
        config: of the run.
        costs: of the newest outcomes, by whether their candidate has a parent.
        pace: since the driver started.
        births: to come.
        retrainings: of the final table, to come.
        workers: that are busy at once.
    """
    child, random = costs.get(True, Cost()), costs.get(False, Cost())
    random_share = config.evolution.random_share
    weight = min(CHILDREN, CHILD_COST_WEIGHT * config.evolution.births)
    child_seconds = (child.seconds + weight * CHILD_COST * pace.full_seconds) / (child.births + weight)
    random_seconds = random.seconds / random.births if random.births else 0.0
    evaluation = random_share * random_seconds + (1 - random_share) * child_seconds
    idle = max(0.0, pace.seconds - pace.spent / workers) / pace.outcomes if pace.outcomes else 0.0
    left = births * (evaluation / workers + idle)
    if births and config.evolution.minutes is not None:
        left = min(left, max(0.0, 60 * config.evolution.minutes - pace.since_start))
    return left + retrainings * pace.full_seconds / workers


@dataclass(frozen=True, slots=True)
class Status:
    """The progress of a search."""

    run: str
    finished: bool
    births: int
    births_wanted: int
    by_state: dict[str, int]
    by_gate: dict[str, int]  # stopped by a gate, or lost, by kind of crash
    retrained: int  # evaluations of the final table
    outcomes_per_second: float | None  # since the last start; None before its first outcome
    seconds_left: float | None


def status(reader: Reader) -> Status:
    """Counts by state and gate, the pace and the time left, from the database alone."""
    config, pace = reader.config, reader.pace()
    states, gates = reader.counts()
    births = sum(states.values())
    decided = births - states.get("pending", 0)
    retrained, rerank = len(reader.evaluations(Purpose.RERANK)), config.evolution.rerank
    retrainings = (rerank.top + len({BASELINE, *rerank.baselines})) * rerank.seeds
    left: float | None = 0.0
    if not reader.finished:
        left = None
        if pace.outcomes:
            left = seconds_left(
                config,
                reader.costs(),
                pace,
                births=(births if reader.evolved else config.evolution.births) - decided,
                retrainings=max(0, retrainings - retrained),
                workers=max(1.0, pace.spent / pace.seconds) if pace.seconds > 0 else 1.0,
            )
    return Status(
        run=reader.name,
        finished=reader.finished,
        births=births,
        births_wanted=config.evolution.births,
        by_state=states,
        by_gate=gates,
        retrained=retrained,
        outcomes_per_second=pace.outcomes / pace.seconds if pace.seconds > 0 else None,
        seconds_left=left,
    )


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer's line in a table: a candidate, or a layer of the catalog beside it."""

    birth: int | None
    what: str  # name in the catalog, or formula
    accuracy: dict[str, tuple[float, float | None] | None]  # proxy -> mean, spread over seeds
    difference: float | None  # to BN-ReLU with the same seeds
    difference_spread: float | None
    seeds: int | None  # None where it was not trained to the full budget
    failed: int
    is_fresh: bool  # with seeds that the search did not use
    origin: str  # the parent's birth, or the operator


def final_row(row: FinalRow) -> LayerRow:
    origin = "" if row.birth is None else str(row.parent or row.operator)
    return layer_row(row.name or row.formula, row, row.birth, origin)


def layer_row(what: str, f: Figures, birth: int | None = None, origin: str = "") -> LayerRow:
    """The line of figures with fresh seeds."""
    return LayerRow(birth, what, f.accuracy, f.difference, f.difference_spread, f.seeds, f.failed, True, origin)


def layer_rows(reader: Reader, records: Sequence[Record], final: Sequence[FinalRow]) -> list[LayerRow]:
    """Candidates with their figures of the final table where they have them, else with the search's one seed; before
    the first of each kind BN-ReLU with the same seeds."""
    rows: list[LayerRow] = []
    kinds: set[bool] = set()
    for record in records:
        is_fresh = record.retrained is not None
        if is_fresh not in kinds:
            kinds.add(is_fresh)
            rows += _baseline_rows(reader, final, is_fresh)
        rows.append(_record_row(record))
    return rows or _baseline_rows(reader, final, bool(final))


def baseline_accuracy(reader: Reader) -> dict[str, float]:
    """BN-ReLU's accuracy on each proxy with the search's seed; empty before it is trained."""
    outcomes = [each.evaluation.outcome for each in reader.evaluations(Purpose.BASELINE)]
    return next((each.accuracy for each in outcomes if isinstance(each, Fitness)), {})


def _baseline_rows(reader: Reader, final: Sequence[FinalRow], is_fresh: bool) -> list[LayerRow]:
    if is_fresh:
        return [final_row(row) for row in final if row.name == BASELINE]
    accuracy = baseline_accuracy(reader)
    row = LayerRow(None, BASELINE, _one_seed(accuracy), 0.0, None, reader.config.recipe.seeds, 0, False, "")
    return [row] if accuracy else []


def _record_row(record: Record) -> LayerRow:
    origin = str(record.parent or record.operator)
    if record.retrained is not None:
        return layer_row(record.formula, record.retrained, record.birth, origin)
    seeds = 1 if record.accuracy else None
    return LayerRow(
        record.birth, record.formula, _one_seed(record.accuracy), record.advantage, None, seeds, 0, False, origin
    )


def _one_seed(accuracy: Mapping[str, float]) -> dict[str, tuple[float, float | None] | None]:
    return {proxy: (value, None) for proxy, value in accuracy.items()}
