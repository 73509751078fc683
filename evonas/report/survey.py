"""Candidates of a run as columns, with its funnel and its operators: one pass over the records.

Place i of every column is the candidate of `birth[i]`. Names that repeat stand once, in a list beside their column of
places in it. Accuracies are shares, times are seconds. Where all proxies read text, an advantage is by how many bits
per byte the candidate needs less than BN-ReLU, so that more is better, as of accuracies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from evonas.config import Config
from evonas.ranking import gain_read
from evonas.report.texts import one_line
from evonas.store.choice import Choice, Chosen
from evonas.store.reader import Reader
from evonas.store.records import Purpose, Record, State, Trained
from evonas.studies.funnel import Funnel, FunnelCount
from evonas.studies.operators import OperatorCount, OperatorRow, names
from evonas.workers.outcome import Crash

BESIDE = (Purpose.BASELINE, Purpose.AUDIT, Purpose.RERANK, Purpose.VALIDATE)  # evaluations of the same workers
FIRST_LETTER = ord("A")  # of the first operation in the column `ops`


class Places:
    """Names, each with its place in the order of their first use."""

    def __init__(self, *names: str) -> None:
        self._places = {name: place for place, name in enumerate(names)}

    def of(self, name: str) -> int:
        return self._places.setdefault(name, len(self._places))

    @property
    def names(self) -> list[str]:
        return list(self._places)


@dataclass(slots=True)
class Candidates:
    """The columns. `ops` holds a letter for each operation of a live node: A is the first of `op_names`."""

    config: Config
    accuracy: dict[str, list[float | None]] = field(init=False)  # by proxy, each in its unit
    birth: list[int] = field(default_factory=list)
    state: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)  # by the gate of this label, or lost by this kind of crash
    operator: list[int] = field(default_factory=list)  # edits as they are stored: insert+op
    parent: list[int] = field(default_factory=list)  # birth; 0: none, as in the next two
    equal_to: list[int] = field(default_factory=list)
    seq: list[int] = field(default_factory=list)  # order of the outcomes
    batch: list[int] = field(default_factory=list)  # 1: depends on its batch
    nodes: list[int] = field(default_factory=list)  # live
    advantage: list[float | None] = field(default_factory=list)  # None where it was not trained to the end
    seconds: list[float] = field(default_factory=list)
    at: list[float | None] = field(default_factory=list)  # seconds from the run's begin to its outcome
    formula: list[str] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)
    states: Places = field(default_factory=lambda: Places(*State))
    stops: Places = field(default_factory=lambda: Places(""))
    operators: Places = field(default_factory=Places)
    op_names: Places = field(default_factory=Places)

    def __post_init__(self) -> None:
        self.accuracy = {proxy: [] for proxy in self.config.proxies}

    def add(self, record: Record, trained: Trained | None, gate: str | None, created: float) -> None:
        crash = record.outcome.kind if isinstance(record.outcome, Crash) else ""
        self.birth.append(record.birth)
        self.state.append(self.states.of(record.state))
        self.stopped.append(self.stops.of(gate or crash))
        self.operator.append(self.operators.of("+".join(names(record.operator))))
        self.parent.append(record.parent or 0)
        self.equal_to.append(record.equal_to or 0)
        self.seq.append(record.seq or 0)
        self.batch.append(int(record.batch_dependent))
        self.nodes.append(record.live_nodes)
        gain = gain_read(record, self.config)
        self.advantage.append(None if gain is None else round(gain, 5))
        self.seconds.append(round(record.seconds, 2))
        self.at.append(None if trained is None else round(trained.at - created, 1))
        self.formula.append(one_line(record.formula))
        self.ops.append("")
        read = self.config.units.read(record.accuracy)
        for proxy, values in self.accuracy.items():
            values.append(round(read[proxy], 4) if proxy in read else None)

    def use(self, place: int, op: str) -> None:
        """Note that a live node of a candidate is this operation."""
        self.ops[place] += chr(FIRST_LETTER + self.op_names.of(op))

    def as_json(self) -> dict[str, Any]:
        named = {"proxies": tuple(self.config.proxies), **self.config.units.named(self.accuracy)}
        values = {name: getattr(self, name) for name in self.__slots__ if name not in ("config", "accuracy")}
        return named | {name: each.names if isinstance(each, Places) else each for name, each in values.items()}


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that one pass over a run gives. Of a sample the columns alone are there, and what ran beside them."""

    candidates: Candidates
    funnel: Funnel
    operators: list[OperatorRow]
    beside: list[tuple[str, float, float]]  # evaluations outside the search: purpose, end, seconds
    conditions: tuple[str, ...]  # device, processor, threads and torch of its evaluations
    hosts: tuple[str, ...]
    weights: list[int] | None = None  # of a sample: how many candidates each one stands for
    chosen: int | None = None  # candidates of which the columns hold a sample

    @property
    def lasted(self) -> float:
        """Seconds from the run's begin to its last outcome."""
        return max([0.0, *(each or 0.0 for each in self.candidates.at), *(at for _, at, _ in self.beside)])

    @property
    def spent(self) -> float:
        """Seconds of workers, of all evaluations."""
        return sum(self.candidates.seconds) + sum(seconds for _, _, seconds in self.beside)


def survey(reader: Reader) -> Survey:
    """Read a run once."""
    config = reader.config
    candidates, funnel, operators = Candidates(config), FunnelCount(reader), OperatorCount(config)
    conditions, hosts = dict[str, None](), dict[str, None]()
    for record, trained in reader.searched():
        candidates.add(record, trained, funnel.add(record, trained), reader.created)
        operators.add(record, trained)
        if trained is not None and trained.evaluation.host:
            hosts[trained.evaluation.host] = None
            conditions[trained.evaluation.conditions] = None
    count = len(candidates.state)
    for birth, op in reader.live_ops():
        if not isinstance(birth, int) or not isinstance(op, str) or birth < 1:
            reader.refuse(f"operation {op!s:.40}", f"birth {birth!s:.40} is not there")
        if birth <= count:  # later ones were born after the pass
            candidates.use(birth - 1, op)
    beside = list(_beside(reader))
    return Survey(candidates, funnel.funnel(), operators.rows(), beside, tuple(filter(None, conditions)), tuple(hosts))


def sampled(reader: Reader, choice: Choice, most: int) -> Survey:
    """A survey of about `most` of the candidates that a choice takes, in a second whatever the number of births."""
    chosen = Chosen(reader, choice)
    trained = reader.evaluations(Purpose.BASELINE)
    hosts = dict.fromkeys(each.evaluation.host for each in trained)
    conditions = dict.fromkeys(each.evaluation.conditions for each in trained)
    beside = list(_beside(reader, (Purpose.BASELINE, Purpose.RERANK)))
    sample = chosen.sample(most)
    return Survey(
        columns_of(reader, list(sample)), Funnel([], 0.0, 0), [], beside, tuple(filter(None, conditions)), tuple(hosts),
        list(sample.values()), chosen.count(),
    )  # fmt: skip


def columns_of(reader: Reader, births: Sequence[int]) -> Candidates:
    """Some candidates as columns, in this order."""
    candidates, funnel = Candidates(reader.config), FunnelCount(reader, audits=())
    for record, trained in reader.judged(births):
        candidates.add(record, trained, funnel.add(record, trained), reader.created)
    place = {birth: i for i, birth in enumerate(births)}
    for birth, op in reader.live_ops(births):
        candidates.use(place[birth], op)
    return candidates


def _beside(reader: Reader, purposes: Sequence[Purpose] = BESIDE) -> Iterator[tuple[str, float, float]]:
    for purpose in purposes:
        for each in reader.evaluations(purpose):
            yield str(purpose), round(each.at - reader.created, 1), round(each.evaluation.seconds, 2)
