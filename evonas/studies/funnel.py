"""The funnel of a run, from its records: what each gate stopped, at what cost, and how often wrongly."""

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from evonas.search_space.errors import share
from evonas.search_space.wording import counted
from evonas.store.reader import Reader
from evonas.store.records import Operator, Purpose, Record, Trained
from evonas.units import Unit
from evonas.workers.gates import needs_training
from evonas.workers.outcome import DIVERGED, Crash, Fitness, Measurement, Outcome, Rejection

# A layer at most this much worse than BN-ReLU should not have been stopped. Ours
WITHIN = {Unit.ACCURACY: 0.02, Unit.FITNESS: 0.02, Unit.BITS: 0.05}


@dataclass(slots=True, repr=False)
class FunnelRow:
    """Counts of one gate. Inherited outcomes do not count: no gate was asked."""

    gate: str
    asked: int = 0  # candidates
    stopped: int = 0
    after: "array[float]" = field(default_factory=lambda: array("d"))  # seconds that each stopped candidate had cost
    spent: float = 0.0  # seconds in the gate, including the training steps that it needs
    saved: float = (
        0.0  # seconds that the stopped candidates would have cost beyond, at the mean cost of a full evaluation
    )
    audits: list[bool] = field(default_factory=list)  # whether the gate was wrong, for each audited candidate

    def figures(self) -> dict[str, Any]:
        """The numbers of the row by name."""
        names = ("gate", "asked", "stopped", "spent", "saved")
        audits = {"audited": len(self.audits), "wrong": sum(self.audits), "interval": self.interval}
        return {name: getattr(self, name) for name in names} | audits

    def __repr__(self) -> str:
        wrong = f", wrongly {sum(self.audits)} of {len(self.audits)} audited" if self.audits else ""
        return f"<{self.gate}: stopped {self.stopped} of {self.asked}{wrong}>"

    @property
    def interval(self) -> tuple[float, float] | None:
        """The exact 95 % interval (Clopper and Pearson) of the false-reject rate; None without audits."""
        if not self.audits:
            return None
        from scipy.stats import binomtest  # slow to import

        interval = binomtest(sum(self.audits), len(self.audits)).proportion_ci(0.95, "exact")
        return float(interval.low), float(interval.high)


@dataclass(frozen=True, slots=True, repr=False)
class Funnel:
    """The gates in their order, then divergence; the mean seconds of a full evaluation; the number of inherited
    outcomes."""

    rows: list[FunnelRow]
    full_seconds: float
    inherited: int

    def __repr__(self) -> str:
        stopped = ", ".join(repr(row)[1:-1] for row in self.rows if row.stopped)
        return f"<Funnel of {counted(len(self.rows), 'gate')}: {stopped}>"

    def _repr_html_(self) -> str:
        from evonas.report.notebook import table_html  # only a notebook needs it

        return table_html([row.figures() for row in self.rows])


def funnel(reader: Reader, within: float | None = None) -> Funnel:
    """Count what each gate stopped, spent, saved, and stopped wrongly.

    An audited candidate was stopped wrongly if its accuracy at the full budget, mean over proxies, is at most `within`
    below BN-ReLU's, mean over proxies and seeds; where all proxies read text, if it takes at most `within` more bits
    per byte. By default it is that of WITHIN. Audits that crashed do not count.
    """
    count = FunnelCount(reader, within)
    for record, trained in reader.searched():
        count.add(record, trained)
    return count.funnel()


class FunnelCount:
    """The funnel, counted candidate by candidate. Without `audits`, those of the run are read."""

    def __init__(self, reader: Reader, within: float | None = None, audits: Sequence[Trained] | None = None) -> None:
        unit = reader.config.units.mean
        within = share("within", WITHIN[unit] if within is None else within)
        by_proxy = reader.baseline_accuracies(reader.config.recipe.steps).values()
        baseline = fmean(fmean(each) for each in by_proxy) if all(by_proxy) else math.inf
        baselines = [each.evaluation for each in reader.evaluations(Purpose.BASELINE)]
        self._reader = reader
        # Fitness of a layer that should not have been stopped.
        self._least = baseline * 2.0**-within if unit is Unit.BITS else baseline - within
        self._full = array("d", [each.seconds for each in baselines if isinstance(each.outcome, Fitness)])
        audits = reader.evaluations(Purpose.AUDIT) if audits is None else audits
        self._audits = {each.birth: each for each in audits}
        self._rows = {gate.label: FunnelRow(gate.label) for gate in reader.config.gates}
        self._diverged = FunnelRow(DIVERGED)
        self._inherited = 0

    def add(self, record: Record, trained: Trained | None) -> str | None:
        """Count a candidate; return the label of the gate that stopped it."""
        inherits = record.equal_to is not None and record.operator != Operator.AGAIN
        if inherits or trained is None:
            self._inherited += inherits
            return None
        rows, diverged = self._rows, self._diverged
        evaluation, outcome = trained.evaluation, trained.evaluation.outcome
        labels = _labels(self._reader, record.birth, evaluation.measurements)
        met = list(zip(labels, evaluation.measurements, strict=True))
        for name in {name for name, _ in met}:
            rows[name].asked += 1
        for name, measured in met:
            rows[name].spent += measured.seconds
        trains = any(needs_training(measured) for _, measured in met) or bool(evaluation.points)
        stopped_by = diverged if isinstance(outcome, Rejection) and outcome.gate == diverged.gate else None
        diverged.asked += trains or stopped_by is diverged
        if isinstance(outcome, Fitness):
            self._full.append(evaluation.seconds)
            return None
        if isinstance(outcome, Crash):
            return None
        if stopped_by is None and not met:
            self._reader.refuse(f"birth {record.birth}", f"gate '{outcome.gate}' stopped it and measured nothing")
        row = stopped_by or rows[met[-1][0]]
        if row is diverged:
            row.spent += max(0.0, evaluation.seconds - sum(measured.seconds for _, measured in met))
        row.stopped += 1
        row.after.append(evaluation.seconds)
        audit = self._audits.get(record.birth)
        if audit is not None and not isinstance(audit.evaluation.outcome, Crash):
            row.audits.append(_mean_fitness(audit.evaluation.outcome) >= self._least)
        return row.gate

    def funnel(self) -> Funnel:
        rows, full_seconds = [*self._rows.values(), self._diverged], fmean(self._full) if self._full else 0.0
        for row in rows:
            row.saved = sum(max(0.0, full_seconds - seconds) for seconds in row.after)
        return Funnel(rows, full_seconds, self._inherited)


def _mean_fitness(outcome: Outcome) -> float:
    """Mean over proxies; -inf if the training diverged."""
    return fmean(outcome.accuracy.values()) if isinstance(outcome, Fitness) else -math.inf


def _labels(reader: Reader, birth: int, measurements: tuple[Measurement, ...]) -> Iterator[str]:
    """The gate's label for each measurement: the k-th of a kind on a proxy belongs to the k-th gate of that kind."""
    seen: Counter[tuple[str, str]] = Counter()
    for each in measurements:
        same = [gate for gate in reader.config.gates if gate.gate == each.gate]
        if seen[each.gate, each.proxy] == len(same):
            reader.refuse(f"birth {birth}", f"gate '{each.gate:.40}' measured more often than the config asks it")
        yield same[seen[each.gate, each.proxy]].label
        seen[each.gate, each.proxy] += 1
