"""A run's scalars for TensorBoard, from its records alone, during a search or long after.

The records are gone through as the search made them, so a point is the same whoever writes it and whenever: a search is
not slowed, and one that was resumed has the steps of one that was not.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from evonas.history import History
from evonas.pending import Pending
from evonas.retelling import replayed, restore_baseline
from evonas.run_state import RunState, run_state
from evonas.search_space.errors import InputError
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Recorded
from evonas.units import Unit

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CPU_SHARE = 0.05  # of a core for the looks at a run that is watched: each goes through all its records
POINTS_MAX = 1000  # of a curve: a search of 100,000 births has every hundredth


@dataclass(frozen=True, slots=True)
class Point:
    """The scalars after an outcome."""

    outcomes: int  # births that are judged
    core_seconds: float  # of their evaluations
    values: dict[str, float]


def tensorboard(
    run: str | Path, folder: str | Path, *, watch: float | None = None, sleep: Callable[[float], None] = time.sleep
) -> Path:
    """Write the scalars of a run below a folder, and return the run's folder there. What was written there before is
    hidden by TensorBoard.

    Args:
        watch: go on until the run ends, with a look into its database after so many seconds, or more where a look takes
            more than a twentieth of them.
    Raises InputError for a run that cannot be read and where the extra `tensorboard` is not installed.
    """
    reader = Database.open(run).reader()
    reader.load_plugins()
    place = Path(folder) / reader.name
    with _writer(place) as writer:
        written = 0
        while True:
            began = time.process_time()
            is_driven = run_state(reader) == RunState.RUNNING
            for point in _points(reader, written, is_last=not is_driven):
                for name, value in point.values.items():
                    writer.add_scalar(f"over births/{name}", value, point.outcomes)
                    writer.add_scalar(f"over core-seconds/{name}", value, round(point.core_seconds))
                written = point.outcomes
            writer.flush()
            if watch is None or not is_driven:
                return place
            sleep(max(watch, (time.process_time() - began) / CPU_SHARE))


def _writer(place: Path) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard's package is missing: pip install 'evonas[tensorboard]'") from None
    try:
        place.mkdir(parents=True, exist_ok=True)
        return SummaryWriter(str(place), purge_step=0)
    except OSError as error:
        raise InputError(f"{place}: cannot be written ({error.strerror})") from None


def _points(reader: Reader, after: int, *, is_last: bool) -> Iterator[Point]:
    """The points of a run after so many outcomes; with `is_last` also that of the last outcome."""
    history, points = History(reader.config), list[Point]()
    restore_baseline(reader, history)
    stride = max(1, reader.config.evolution.births // POINTS_MAX)

    def note(pending: Pending, recorded: Recorded) -> None:
        if history.outcomes > after and history.outcomes % stride == 0:
            points.append(_point(history))

    for _ in replayed(reader, history, note):
        yield from points
        points.clear()
    yield from points
    if is_last and history.outcomes > after and history.outcomes % stride:
        yield _point(history)


def _point(history: History) -> Point:
    return Point(history.outcomes, history.spent * history.config.workers.cpus, scalars(history))


def scalars(history: History) -> dict[str, float]:
    """The values of a moment by name. Fitnesses, and bits per byte, are differences to BN-ReLU's."""
    values: dict[str, float] = {"births": history.births}
    if history.baseline and history.best:
        unit, own = history.config.units.mean, history.baseline.mean_score(history.config.judged_by)
        mean = fmean(each.fitness for each in history.population.members)
        what = unit if unit is Unit.BITS else Unit.FITNESS
        values[f"best {what}"] = unit.difference_of(own + history.best.advantage, history.best.advantage)
        values[f"mean {what} of the population"] = unit.difference_of(mean, mean - own)
    gates = dict.fromkeys([*(gate.gate for gate in history.config.gates), *history.stopped_by])
    values |= {f"stopped by {gate}": history.stopped_by.get(gate, 0) for gate in gates}
    if history.surrogate and history.surrogate.honesty:
        values["surrogate's rank correlation"] = history.surrogate.honesty.value
    return values
