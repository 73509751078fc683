"""Whether a run's records explain themselves: every proposal is derived again from what stands before it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evonas.history import History, Pending, replayed
from evonas.proposal import propose
from evonas.store.reader import Reader
from evonas.store.records import Candidate, Purpose, Recorded
from evonas.workers.gates import ranked


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of a birth that the records before it do not give."""

    birth: int
    field: str
    stored: Any
    derived: Any


def replay(reader: Reader, on_progress: Callable[[int], None] = lambda birth: None) -> list[Difference]:
    """The differences between what the store holds of each candidate, of the thresholds at its rungs and of the seed it
    was trained with, and what follows from the config and the records before it; and at the end the Pareto front.

    There is none in a run that this version of evonas wrote, however often it was killed, resumed and on how many
    workers; a run of another version of the fingerprint or of the sampler differs. Nothing is trained.
    """
    history, differences = History(reader.config), list[Difference]()
    for each in reader.evaluations(Purpose.BASELINE):
        history.set_baseline(each.evaluation)

    def compare(birth: int, field: str, stored: Any, derived: Any) -> None:
        if stored != derived:
            differences.append(Difference(birth, field, stored, derived))

    def compare_outcome(pending: Pending, recorded: Recorded) -> None:
        if history.inherits(pending):
            return
        compare(recorded.birth, "seed", recorded.seed, pending.seed)
        expected = {(each.gate, each.steps): each.value for each in pending.thresholds}
        for measured in recorded.measurements:
            if kind := ranked(measured.gate):
                threshold = expected.get((measured.gate, measured.step), kind.no_threshold)
                compare(recorded.birth, f"{measured.gate} {measured.step}", measured.threshold, threshold)

    for candidate in replayed(reader, history, compare_outcome):
        derived = propose(reader.config, history.births + 1, history).candidate
        for name in Candidate.__slots__:
            stored = getattr(candidate, name)
            if stored is not None or not name.startswith("amplification"):  # an older version measured none
                compare(candidate.birth, name, stored, getattr(derived, name))
        on_progress(candidate.birth)
    front = sorted(each.birth for each in reader.front())
    derived_front = sorted(each.birth for each in history.front)
    if front != derived_front:
        differences.append(Difference(0, "front", front, derived_front))
    return differences
