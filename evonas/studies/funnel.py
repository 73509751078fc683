"""What each gate of a run stopped, at what cost, and how often wrongly: read from its records."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from scipy.stats import binomtest

from evonas.store.queries import Reader, Trained
from workers.outcome import Fitness, Measurement, Rejection
from workers.protocol import Loss, Quality, Rung

WITHIN = 0.02  # of BN-ReLU's accuracy: what comes so near should not have been stopped
TRAINING_GATES = tuple(str(kind.model_fields["gate"].default) for kind in (Loss, Quality, Rung))


@dataclass(slots=True)
class FunnelRow:
    """One gate. Inherited outcomes are not counted: no gate was asked."""

    gate: str
    asked: int = 0  # candidates
    stopped: int = 0
    spent: float = 0.0  # seconds in the gate, with the training steps that it asked for
    saved: float = 0.0  # seconds: what the stopped would have cost beyond, at the mean cost of a full evaluation
    audits: list[bool] = field(default_factory=list)  # of stopped candidates: whether the gate was wrong

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the false-reject rate: the exact 95 % interval (Clopper and Pearson); None without audits."""
        if not self.audits:
            return None
        found = binomtest(sum(self.audits), len(self.audits)).proportion_ci(0.95, "exact")
        return float(found.low), float(found.high)


def label(gate: str, step: int) -> str:
    """Gates that train are told apart by their steps; stability's step is where its norm was met."""
    return f"{gate} at {step}" if gate in TRAINING_GATES else gate


def funnel(reader: Reader, within: float = WITHIN) -> list[FunnelRow]:
    """The gates in the order in which candidates met them, then divergence. An audited candidate was stopped wrongly
    when its accuracy at the full budget, mean over proxies, is at most `within` below BN-ReLU's."""
    inherited = {record.birth for record in reader.candidates() if record.equal_to is not None}
    evaluations = [each for each in reader.evaluations("search") if each.birth not in inherited]
    full = full_seconds([*reader.evaluations("baseline"), *evaluations])
    audits = {each.birth: each for each in reader.evaluations("audit")}
    rows = {name: FunnelRow(name) for name in _order(evaluations)}
    for each in evaluations:
        evaluation, outcome = each.evaluation, each.evaluation.outcome
        for name in {label(m.gate, m.step) for m in evaluation.measurements}:
            rows[name].asked += 1
        for m in evaluation.measurements:
            rows[label(m.gate, m.step)].spent += m.seconds
        if not isinstance(outcome, Rejection):
            continue
        row = rows[label(outcome.gate, outcome.step)]
        row.stopped += 1
        row.saved += max(0.0, full - evaluation.seconds)
        audit = audits.get(each.birth)
        if audit is not None:
            row.audits.append(isinstance(audit.evaluation.outcome, Fitness) and (audit.advantage or 0.0) >= -within)
    if "diverged" in rows:
        rows["diverged"].asked = sum(1 for each in evaluations if _trained(each))
    return list(rows.values())


def full_seconds(evaluations: Iterable[Trained]) -> float:
    """Mean cost of those that were trained to the full budget; 0 where none was."""
    seconds = [each.evaluation.seconds for each in evaluations if isinstance(each.evaluation.outcome, Fitness)]
    return fmean(seconds) if seconds else 0.0


def _order(evaluations: list[Trained]) -> list[str]:
    """Of the gates: as the candidate that met most of them did; "diverged", which any training may be, last."""
    met: dict[str, None] = {}
    by_length = sorted(evaluations, key=lambda each: -len(each.evaluation.measurements))
    for each in by_length:
        met.update(dict.fromkeys(label(m.gate, m.step) for m in each.evaluation.measurements))
    for each in evaluations:
        if isinstance(outcome := each.evaluation.outcome, Rejection):
            met.setdefault(label(outcome.gate, outcome.step))
    return sorted(met, key=lambda name: name == "diverged")


def _trained(each: Trained) -> bool:
    """Whether any step was trained."""
    outcome = each.evaluation.outcome
    diverged = isinstance(outcome, Rejection) and outcome.gate == "diverged"
    measurements: tuple[Measurement, ...] = each.evaluation.measurements
    return diverged or bool(each.evaluation.points) or any(m.gate in TRAINING_GATES for m in measurements)
