"""A check of a run's records: every proposal is derived again from the records before it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evonas.history import History
from evonas.pending import Pending
from evonas.proposal import propose
from evonas.retelling import replayed, restore_baseline
from evonas.selection import own_objective
from evonas.store.reader import Reader
from evonas.store.records import MEASURED_LATER, Candidate, Recorded
from evonas.workers.gates import ranked_gate
from evonas.workers.outcome import Fitness


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of a birth that does not follow from the records before it."""

    birth: int
    field: str
    stored: Any
    derived: Any


def replay(reader: Reader, on_progress: Callable[[int], None] = lambda birth: None) -> list[Difference]:
    """Derive each candidate, its rungs' thresholds, its seed and the values of a user's own objectives again, and the
    Pareto front at the end; return the differences to the store.

    A run that this version of evonas wrote has none, however often it was killed and resumed, and on however many
    workers. A run of another version of the fingerprint or of the sampler differs. Nothing is trained.
    """
    reader.load_plugins()
    history, differences = History(reader.config), list[Difference]()
    restore_baseline(reader, history)

    def compare(birth: int, field: str, stored: Any, derived: Any) -> None:
        if stored != derived:
            differences.append(Difference(birth, field, stored, derived))

    def compare_outcome(pending: Pending, recorded: Recorded) -> None:
        if isinstance(recorded.outcome, Fitness):
            for name, value in recorded.outcome.own.items():
                compare(recorded.birth, name, value, own_objective(name, recorded.outcome, pending.graph))
        if history.inherits(pending):
            return
        compare(recorded.birth, "seed", recorded.seed, pending.seed)
        expected = {(each.gate, each.steps): each.value for each in pending.thresholds}
        for measured in recorded.measurements:
            if kind := ranked_gate(measured.gate):
                threshold = expected.get((measured.gate, measured.step), kind.no_threshold)
                compare(recorded.birth, f"{measured.gate} {measured.step}", measured.threshold, threshold)

    reader.check_evaluations()
    for candidate in replayed(reader, history, compare_outcome):
        reader.parsed(candidate.birth, candidate.graph)  # later births may be its children
        derived = propose(reader.config, history.births + 1, history).candidate
        for name in Candidate.__slots__:
            stored = getattr(candidate, name)
            if stored is not None or name not in MEASURED_LATER:
                compare(candidate.birth, name, stored, getattr(derived, name))
        on_progress(candidate.birth)
    front = sorted(each.birth for each in reader.front())
    derived_front = sorted(each.birth for each in history.front)
    if front != derived_front:
        differences.append(Difference(0, "front", front, derived_front))
    return differences
