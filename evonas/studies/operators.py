"""The proposals of each operator of a run and their outcomes, from the records alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evonas.config import Config
from evonas.search_space.mutation import OPERATORS
from evonas.search_space.wording import counted
from evonas.store.reader import Reader
from evonas.store.records import Operator, Record, Trained
from evonas.units import Unit, Units
from evonas.workers.outcome import Fitness, JudgedBy, Rejection

REDRAW = "redraw"  # stored as Operator.MUTATION where a child has no other edit

ROUNDING = 1e-9  # of a mean: as good as its parent is no better


@dataclass(slots=True, repr=False)
class OperatorRow:
    """Counts of one operator, or of another origin of candidates. A child of several edits counts with each of them.

    inherited: births with the function, and so the outcome, of an earlier candidate.
    compared: trained children whose parent was trained with the same seed.
    improved: those above it, both means over proxies.
    best: birth with the largest advantage.
    mean_advantage, best_advantage: the fitness minus BN-ReLU's; where all proxies read text, the difference in bits per
        byte, of which less is better.
    """

    operator: str
    units: Units
    by: JudgedBy
    births: int = 0
    inherited: int = 0
    stopped: int = 0
    crashed: int = 0
    trained: int = 0
    compared: int = 0
    improved: int = 0
    seconds: float = 0.0  # of workers
    best: int | None = None
    best_advantage: float | None = None
    _advantages: float = 0.0

    @property
    def mean_advantage(self) -> float | None:
        """The mean over the trained births."""
        return self._advantages / self.trained if self.trained and self.best else None

    def figures(self) -> dict[str, Any]:
        """The numbers of the row by name."""
        names = ("operator", "births", "inherited", "stopped", "crashed", "trained", "compared", "improved")
        kind = f"difference{Unit.BITS.suffix}" if self.units.mean is Unit.BITS else "advantage"
        means = {f"mean_{kind}": self.mean_advantage, f"best_{kind}": self.best_advantage}
        return {name: getattr(self, name) for name in names} | means | {"best": self.best, "seconds": self.seconds}

    def count(self, record: Record, trained: Trained | None, parent: float | None) -> None:
        """A birth; `parent`: the advantage of its parent with the search's seed."""
        self.births += 1
        if trained is None:
            return
        self.seconds += trained.evaluation.seconds
        if record.equal_to is not None and record.operator != Operator.AGAIN:
            self.inherited += 1
            return
        match trained.evaluation.outcome:
            case Fitness():
                self.trained += 1
                self._rank(record, trained.evaluation.outcome)
                if parent is not None and record.advantage is not None:
                    self.compared += 1
                    self.improved += record.advantage > parent + ROUNDING
            case Rejection():
                self.stopped += 1
            case _:
                self.crashed += 1

    def _rank(self, record: Record, outcome: Fitness) -> None:
        if record.advantage is None:
            return
        unit = self.units.mean
        advantage = unit.difference_of(outcome.mean_score(self.by), record.advantage)
        self._advantages += advantage
        if self.best_advantage is None or unit.gain(advantage) > unit.gain(self.best_advantage):
            self.best, self.best_advantage = record.birth, advantage

    def __repr__(self) -> str:
        of_parents = f", {self.improved} of {self.compared} above their parent" if self.compared else ""
        return f"<{self.operator}: {counted(self.births, 'birth')}, {self.trained} trained{of_parents}>"


def operators(reader: Reader) -> list[OperatorRow]:
    """A row for each operator in the order of the table OPERATORS, then for each other origin."""
    count = OperatorCount(reader.config)
    for record, trained in reader.searched():
        count.add(record, trained)
    return count.rows()


class OperatorCount:
    """The operators' rows, counted candidate by candidate, by birth."""

    def __init__(self, config: Config) -> None:
        names = [name for name in (*OPERATORS, *map(str, Operator)) if name != Operator.MUTATION]
        self._rows = {name: OperatorRow(name, config.units, config.judged_by) for name in names}
        self._measured: dict[int, float] = {}  # function -> its advantage with the search's seed
        self._functions: dict[int, int] = {}  # birth -> function, where they differ

    def add(self, record: Record, trained: Trained | None) -> None:
        """Count a candidate."""
        parent = None
        if record.parent is not None and record.operator != Operator.AGAIN:
            parent = self._measured.get(self._functions.get(record.parent, record.parent))
        for name in names(record.operator):
            self._rows[name].count(record, trained, parent)
        if record.equal_to:
            self._functions[record.birth] = record.equal_to
        elif record.advantage is not None:
            self._measured[record.birth] = record.advantage

    def rows(self) -> list[OperatorRow]:
        """The rows that have births."""
        return [row for row in self._rows.values() if row.births]


def names(operator: str) -> Iterator[str]:
    """The rows in which a candidate's stored operator counts, each once."""
    edits = REDRAW if operator == Operator.MUTATION else operator
    yield from dict.fromkeys(edits.split("+"))
