"""A run as plain values for people. Command line, reports and pages only render them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from evonas.config import BASELINE, Config
from evonas.final import FinalRow, contenders
from evonas.known_layers import known_as
from evonas.rank_correlation import RankCorrelation
from evonas.ranking import baseline_by_seed
from evonas.report.texts import figure_text
from evonas.retraining import figures as figures_of
from evonas.run_state import RunState, run_state
from evonas.search_space.wording import counted
from evonas.store.reader import Reader
from evonas.store.records import Cost, Figures, Pace, Purpose, Record, State
from evonas.units import Figure, Unit, Units
from evonas.workers.outcome import Fitness

CHILD_COST = 0.14  # mean cost of a survivor's child, in full evaluations; the quickstart's. Ours
CHILD_COST_WEIGHT = 0.6  # CHILD_COST counts like the costs of this share of the births to come. Ours


def seconds_left(
    config: Config,
    costs: Mapping[bool, Cost],
    pace: Pace,
    *,
    outcomes: int,
    births: int,
    retrained: int,
    workers: float,
) -> float:
    """Estimate the seconds until a search ends.

    A birth costs its evaluation on one of the workers, and its share of the time in which no worker is busy. Children
    of survivors cost more than random graphs, and more the longer a search lasts: their mean cost so far is averaged
    with CHILD_COST, which counts less the fewer births are to come.

    Args:
        config: the run's config.
        costs: costs of the newest outcomes, by whether the candidate has a parent.
        pace: the pace since the driver started.
        outcomes: number of births that have their outcome.
        births: number of births that the search will have.
        retrained: number of trainings for the final table that are done.
        workers: mean number of busy workers.
    """
    births_left, retrainings_left = births - outcomes, max(0, retrainings(config) - retrained)
    child, random = costs.get(True, Cost()), costs.get(False, Cost())
    random_share = config.evolution.random_share
    weight = CHILD_COST_WEIGHT * births_left
    children = child.births + weight
    child_seconds = (child.seconds + weight * CHILD_COST * pace.full_seconds) / children if children else 0.0
    random_seconds = random.seconds / random.births if random.births else 0.0
    evaluation = random_share * random_seconds + (1 - random_share) * child_seconds
    idle = max(0.0, pace.seconds - pace.spent / workers) / pace.outcomes if pace.outcomes else 0.0
    left = births_left * (evaluation / workers + idle)
    if births_left and config.evolution.minutes is not None:
        left = min(left, max(0.0, 60 * config.evolution.minutes - pace.driven))
    longer = config.final_protocol.recipe.steps / config.recipe.steps
    return left + retrainings_left * longer * pace.full_seconds / workers


def lengths(config: Config) -> str:
    """A sentence on trainings that are longer than the search's; empty where none is."""
    steps, longer = config.recipe.steps, {}
    if config.trains_leaders_longer:
        longer["leaders, with further seeds"] = config.leaders_protocol.recipe.steps
    if config.final_protocol.recipe.steps > steps:
        longer["the final table, with fresh seeds"] = config.final_protocol.recipe.steps
    texts = [f"{counted(each, 'step')} for {what}" for what, each in longer.items()]
    return f"Trainings have {counted(steps, 'step')}; {'; '.join(texts)}." if texts else ""


def retrainings(config: Config) -> int:
    """The number of trainings for the final table, if the search finds candidates enough."""
    rerank = config.evolution.rerank
    return (rerank.top + len({config.baseline, *rerank.baselines})) * rerank.seeds


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a search."""

    run: str
    state: RunState
    finished: bool  # also while it is driven again, as by `validate`
    evolved: bool  # all candidates are proposed and judged
    baselines: int  # trainings of BN-ReLU
    births: int
    births_wanted: int
    by_state: dict[str, int]
    by_gate: dict[str, int]  # stopped candidates by gate, crashed ones by kind of crash
    retrained: int  # trainings for the final table
    retrainings: int  # so many of them there will be; before the candidates are judged, at most
    outcomes_per_second: float | None  # since the last start; None before its first outcome
    seconds_left: float | None  # None before the first outcome, and of a stopped or dead run
    seconds_passed: float  # of all drivers of the search
    worker_seconds: float  # of all evaluations of the search
    surrogate: RankCorrelation | None  # of predicted and measured fitness, where it did not choose
    last_crash: str | None  # the birth, and why


def status(reader: Reader) -> Status:
    """Counts by state and gate, the pace and the time left, from the database alone."""
    config, pace, state, finished = reader.config, reader.pace(), run_state(reader), reader.finished
    states, gates = reader.counts()
    births = sum(states.values())
    retrained, evolved = len(reader.evaluations(Purpose.RERANK)), reader.evolved
    wanted = retrained if finished else retrainings(config)
    if evolved and not finished:  # a search with few candidates has a shorter final table
        wanted = len(contenders(reader)) * config.evolution.rerank.seeds
    left = 0.0 if finished else None
    if not finished and pace.outcomes and not state.resumable:
        left = seconds_left(
            config,
            reader.costs(),
            pace,
            outcomes=births - states.get(State.PENDING, 0),
            births=births if evolved else config.evolution.births,
            retrained=retrainings(config) - wanted + retrained,
            workers=max(1.0, pace.spent / pace.seconds) if pace.seconds > 0 else 1.0,
        )
    return Status(
        run=reader.name,
        state=state,
        finished=finished,
        evolved=evolved,
        baselines=len(reader.evaluations(Purpose.BASELINE)),
        births=births,
        births_wanted=config.evolution.births,
        by_state=states,
        by_gate=gates,
        retrained=retrained,
        retrainings=wanted,
        outcomes_per_second=pace.outcomes / pace.seconds if pace.seconds > 0 else None,
        seconds_left=left,
        seconds_passed=reader.seconds_driven(is_running=state == RunState.RUNNING),
        worker_seconds=reader.worker_seconds(),
        surrogate=RankCorrelation.of(reader.unranked()) if config.evolution.surrogate else None,
        last_crash=reader.last_crash(),
    )


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer's line in a table: a candidate or a baseline."""

    birth: int | None
    what: str  # name in the catalog, or formula
    accuracy: dict[str, Figure | None]  # proxy -> mean, spread over seeds; as people read it: accuracy, bits per byte
    difference: float | None  # to BN-ReLU with the same seeds, as people read it
    difference_spread: float | None
    seeds: int | None  # None if it was not trained to the full budget
    failed: int
    is_fresh: bool  # with seeds that the search did not use
    origin: str  # the parents' births, or the operator
    known_as: str = ""  # the known layer that the candidate repeats, or "affine of" it
    is_repeated: bool = False  # with further seeds of the search
    paired: int = 0  # seeds of the difference
    own: Mapping[str, float] = field(default_factory=dict)  # the objectives of a user's own, of the search's evaluation
    run: str = ""  # where rows of several runs stand together
    baseline: str = BASELINE  # the name of what the difference is to
    in_bits: tuple[str, ...] = ()  # proxies whose figure is in bits per byte

    def figure(self, proxy: str) -> str:
        """The figure on a proxy."""
        return figure_text(self.accuracy.get(proxy))

    @property
    def units(self) -> Units:
        return Units(tuple(self.accuracy), self.in_bits)

    @property
    def unit(self) -> Unit:
        """The unit of the difference."""
        return self.units.mean

    @property
    def gain(self) -> float | None:
        """The difference, with the sign by which more is better."""
        return None if self.difference is None else self.unit.gain(self.difference)

    @property
    def against(self) -> str:
        """The difference in words."""
        return f"{self.points} {self.unit.of_differences} against {self.baseline}"

    @property
    def points(self) -> str:
        """The difference with its spread over seeds."""
        if self.difference is None:
            return f"failed {self.failed}/{self.seeds}" if self.failed else ""
        return self.unit.with_deviation(self.difference, self.difference_spread)

    @property
    def kind(self) -> tuple[bool, bool]:
        """Rows of one kind are compared with one BN-ReLU."""
        return self.is_fresh, self.is_repeated

    @property
    def kind_text(self) -> str:
        """The kind in words."""
        return (
            "fresh seeds" if self.is_fresh else "several seeds of the search" if self.is_repeated else "in the search"
        )


def final_row(row: FinalRow, config: Config) -> LayerRow:
    origin, known = "" if row.birth is None else _origin(row), known_as(row.same_as, row.affine_of)
    return layer_row(row.name or row.formula, row, row.birth, origin, known, config=config)


def _origin(of: FinalRow | Record) -> str:
    """The parents' births, or else the operator."""
    if of.parent is None:
        return str(of.operator)
    return str(of.parent) if of.second_parent is None else f"{of.parent}, {of.second_parent}"


def layer_row(
    what: str,
    f: Figures,
    birth: int | None = None,
    origin: str = "",
    known_as: str = "",
    *,
    config: Config | None = None,
) -> LayerRow:
    """The line of a layer trained with fresh seeds."""
    shown = f.shown
    row = LayerRow(
        birth, what, shown.values, shown.difference, shown.difference_spread, f.seeds, f.failed, True, origin, known_as,
        paired=f.paired,
    )  # fmt: skip
    return row if config is None else replace(row, baseline=config.baseline, in_bits=config.in_bits)


def layer_rows(reader: Reader, records: Sequence[Record], final: Sequence[FinalRow]) -> list[LayerRow]:
    """Candidates with their figures of the final table if they were retrained, else with those of the search. BN-ReLU
    with the same seeds precedes the first of each kind."""
    rows: list[LayerRow] = []
    kinds: set[tuple[bool, bool]] = set()
    for row in candidate_rows(reader, records):
        if row.kind not in kinds:
            kinds.add(row.kind)
            rows += _baseline_rows(reader, final, row)
        rows.append(row)
    return rows or _baseline_rows(reader, final, None)


def candidate_rows(reader: Reader, records: Sequence[Record]) -> list[LayerRow]:
    """`layer_rows` of the candidates alone."""
    return [_record_row(record, reader.config) for record in records]


def baseline_accuracy(reader: Reader) -> dict[str, float]:
    """BN-ReLU's accuracy, or bits per byte, on each proxy with the search's seed; empty before it is trained."""
    trained, seed = reader.evaluations(Purpose.BASELINE), reader.config.seed
    outcomes = [each.evaluation.outcome for each in trained if each.seed == seed]
    return reader.config.units.read(next((each.accuracy for each in outcomes if isinstance(each, Fitness)), {}))


def _baseline_rows(reader: Reader, final: Sequence[FinalRow], first: LayerRow | None) -> list[LayerRow]:
    """BN-ReLU as rows of the kind of `first` are compared with it; without one, as the best are."""
    if first.is_fresh if first else final:
        return [final_row(row, reader.config) for row in final if row.name == reader.config.baseline]
    seeds, by_seed = reader.config.recipe.seeds, baseline_by_seed(reader)
    own = range(reader.config.seed, reader.config.seed + seeds)
    config = reader.config
    wanted = config.longest_seeds(by_seed) if first and first.is_repeated else own
    by_seed = {seed: each for seed, each in by_seed.items() if seed in wanted}
    if not any(by_seed.values()):
        return []
    row = layer_row(config.baseline, figures_of(by_seed, by_seed, config.units), config=config)
    return [replace(row, is_fresh=False, is_repeated=bool(first and first.is_repeated))]


def _record_row(record: Record, config: Config) -> LayerRow:
    origin, known, mine = _origin(record), known_as(record.same_as, record.affine_of), record.figures
    if mine is None:
        empty = LayerRow(record.birth, record.formula, {}, None, None, None, 0, False, origin, known)
        return replace(empty, baseline=config.baseline, in_bits=config.in_bits)
    row = layer_row(record.formula, mine, record.birth, origin, known, config=config)
    row = replace(row, own=record.own_objectives)
    if record.retrained is not None:
        return row
    return replace(row, is_fresh=False, is_repeated=mine.seeds > config.recipe.seeds)
