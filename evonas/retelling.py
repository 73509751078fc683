"""A history from the records of a run: the same steps, in the same order."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from evonas.history import History
from evonas.pending import Pending
from evonas.store.reader import Reader
from evonas.store.records import Candidate, Purpose, Recorded
from evonas.workers.outcome import Crash, Fitness


def rebuild(reader: Reader) -> History:
    """The history of a run, from its records alone. Raises InputError where one cannot be."""
    reader.check_evaluations()
    history = History(reader.config)
    restore_baseline(reader, history)
    for _ in replayed(reader, history):
        pass
    for each in reader.evaluations(Purpose.AUDIT):
        if not isinstance(each.evaluation.outcome, Crash):
            history.audits.waiting.pop(each.birth or 0, None)
    alive = {s.birth: s.graph for s in history.population.members} | {b: p.graph for b, p in history.pending.items()}
    for birth, text in (alive | history.audits.waiting).items():
        reader.parsed(birth, text)
    return history


def restore_baseline(reader: Reader, history: History) -> None:
    """The recorded trainings of BN-ReLU, into `history`."""
    for each in reader.evaluations(Purpose.BASELINE):
        evaluation, is_fitness = each.evaluation, isinstance(each.evaluation.outcome, Fitness)
        if each.seed == reader.config.seed:
            if not is_fitness:
                reader.refuse(f"the {Purpose.BASELINE}", f"{each.name} ended without accuracies")
            history.set_baseline(evaluation)
        elif isinstance(evaluation.outcome, Fitness):
            history.baselines[each.seed] = evaluation.outcome


def replayed(
    reader: Reader,
    history: History,
    on_outcome: Callable[[Pending, Recorded], None] = lambda pending, recorded: None,
) -> Iterator[Candidate]:
    """Take `history` through a run as it happened. Yields each candidate before `history` counts it, when `history` is
    as it was when the candidate was proposed; `on_outcome` is called after each outcome."""
    outcomes = reader.outcomes()

    def record() -> None:
        recorded = next(outcomes)
        on_outcome(history.record(recorded.birth, recorded.outcome, recorded.measurements, recorded.seconds), recorded)

    for candidate in reader.proposals():
        while history.outcomes < candidate.seen:
            record()
        yield candidate
        history.propose(candidate)
    with suppress(StopIteration):
        while True:
            record()
