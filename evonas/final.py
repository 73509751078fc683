"""The final table: the best candidates, BN-ReLU and other baselines, trained again with fresh seeds.

The maximum of hundreds of single-seed accuracies is a noise winner; only the figures of this table are quoted.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from evonas.files import write
from evonas.intervals import Estimate, estimate
from evonas.known_layers import known_layer, named
from evonas.layers.candidate import candidate_source
from evonas.leaders import KEPT, BySeed, Scores, comparable
from evonas.ranking import with_figures
from evonas.retraining import (
    Contender,
    Progress,
    accuracy_of,
    baselines,
    figures,
    fresh_seeds,
    missing,
    quiet,
    retrain,
)
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.screening import changes_with_x
from evonas.session import Session
from evonas.store.reader import Reader
from evonas.store.records import Figures, Purpose, Record, Trained, columns
from evonas.workers.outcome import Fitness


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRow(Figures):
    """The figures of one contender."""

    birth: int | None
    name: str | None
    formula: str
    parent: int | None
    second_parent: int | None
    operator: str | None  # the edits, or other source, of the candidate
    same_as: str | None = None  # a known layer of the same function
    affine_of: str | None = None  # a known layer, up to an affine of each channel
    by_seed: dict[int, float] = field(default_factory=dict)  # mean fitness over proxies, of the seeds that did not fail

    def difference_to(self, other: "FinalRow") -> Estimate:
        """The difference to another layer, as people read it, with the same seeds, of which neither failed, and its
        95 % interval."""
        unit = self.shown.unit
        return estimate([unit.difference(self.by_seed[seed], other.by_seed[seed]) for seed in self.by_seed])


def contenders(reader: Reader) -> list[Contender]:
    """The best candidate of each of the best families, then the baselines. Leaders that were measured again count with
    all their seeds (`comparable`). Of the candidates that repeat a known layer only the best is among them, so that
    those that do not are compared with it; of those that trained alike, bit for bit, only the first. A finished run
    keeps those it chose."""
    if reader.finished:
        chosen = dict.fromkeys((each.birth, each.name) for each in reader.evaluations(Purpose.RERANK))
        return [Contender(birth, name, _graph(reader, birth, name)) for birth, name in chosen]
    top, again = reader.config.evolution.rerank.top, reader.measured_again()
    several: dict[int, BySeed] = {}
    single: dict[int, Scores] = {}
    traces: dict[tuple[float, ...], int] = {}
    families = KEPT * top + len(LAYERS.graphs) if top else 0
    for record in reader.families(families):
        if not isinstance(record.outcome, Fitness) or record.advantage is None:
            continue
        if traces.setdefault(record.outcome.trace, record.birth) != record.birth:
            continue
        if (measured := again.get(record.birth)) is None:
            single[record.birth] = (record.advantage,)
            continue
        advantages = {each.seed: (each.advantage,) for each in measured if each.advantage is not None}
        if len(advantages) == len(measured):  # else a further seed stopped it
            several[record.birth] = advantages
    leading = sorted(single.values(), reverse=True)[: KEPT * top]
    baseline = {seed: (0.0,) for scores in several.values() for seed in scores} | {reader.config.seed: (0.0,)}
    scores = single | comparable(several, leading, baseline, reader.config.seed)
    best = _without_repetitions(reader, sorted(scores, key=lambda birth: (-scores[birth][0], birth)), top)
    return [*(Contender(birth, None, reader.graph(birth)) for birth in best), *baselines(reader.config)]


def _without_repetitions(reader: Reader, births: list[int], count: int) -> list[int]:
    """The first births, without those that repeat a known layer but the first of these."""
    kept: list[int] = []
    repeats = False
    for birth in births:
        if len(kept) == count:
            break
        is_known = known_layer(reader, reader.candidate(birth)).same_as is not None
        if not (is_known and repeats):
            kept.append(birth)
        repeats = repeats or is_known
    return kept


def _graph(reader: Reader, birth: int | None, name: str | None) -> Graph:
    if birth is not None:
        return reader.graph(birth)
    try:
        return named_graph(str(name)).graph
    except InputError as error:
        reader.refuse("the final table", f"its layer '{name!s:.40}' cannot be read ({error})")


def final_table(reader: Reader) -> list[FinalRow]:
    """Candidates and baselines by mean difference to BN-ReLU, best first; empty until all are retrained."""
    if not reader.finished and (
        not reader.evolved or missing(reader, Purpose.RERANK, contenders(reader), fresh_seeds(reader.config))
    ):
        return []
    return table(reader, reader.evaluations(Purpose.RERANK))


def conclude(session: Session, reader: Reader, best_layer: Path, on_progress: Progress = quiet) -> None:
    """End a search: retrain the contenders, write the best of them to the file `best_layer` unless its output does not
    change with x, and finish the run. Raises Stopped when the user asks to stop."""
    retrain(session, reader, Purpose.RERANK, contenders(reader), fresh_seeds(reader.config), on_progress)
    best = _best(reader)
    if best is not None and changes_with_x(graph := reader.graph(best.birth)):
        write(best_layer, candidate_source(best, graph, reader.name, reader.config))
    session.recorder.finish()


def _best(reader: Reader) -> Record | None:
    """The best candidate of the final table; without one there, the best of the search."""
    for row in table(reader, reader.evaluations(Purpose.RERANK)):
        if row.birth and row.difference is not None:
            return replace(named(reader, reader.candidate(row.birth)), retrained=row)
    best = [named(reader, each) for each in reader.top(1)]
    return next(iter(with_figures(reader, best, reader.measured_again())), None)


def table(reader: Reader, evaluations: list[Trained]) -> list[FinalRow]:
    """A row for each candidate or baseline that was trained, by mean difference to BN-ReLU, best first."""
    accuracies: dict[tuple[int | None, str | None], dict[int, dict[str, float] | None]] = {}
    formulas: dict[tuple[int | None, str | None], str] = {}
    for each in evaluations:  # after a crash, its repetition counts
        accuracies.setdefault((each.birth, each.name), {})[each.seed] = accuracy_of(each.evaluation.outcome)
        formulas[each.birth, each.name] = each.formula
    baseline = accuracies.get((None, reader.config.baseline), {})
    rows = []
    for (birth, name), by_seed in accuracies.items():
        record = named(reader, reader.named([birth])[0]) if birth else None
        rows.append(
            FinalRow(
                birth=birth,
                name=name,
                formula=formulas[birth, name],
                parent=record.parent if record else None,
                second_parent=record.second_parent if record else None,
                operator=record.operator if record else None,
                same_as=record.same_as if record else None,
                affine_of=record.affine_of if record else None,
                by_seed={seed: fmean(each.values()) for seed, each in by_seed.items() if each},
                **columns(figures(by_seed, baseline, reader.config.units)),
            )
        )
    return sorted(rows, key=lambda row: (row.gain is None, -(row.gain or 0.0), row.birth or 0))
