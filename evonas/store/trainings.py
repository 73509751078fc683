"""Trainings of layers under settings of their own, as the store keeps them beside the search."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import Connection, select

from evonas.store import tables
from evonas.store.records import Purpose
from evonas.store.stored import Door
from evonas.units import Unit, Units
from evonas.workers.protocol import JudgedOn
from evonas.workers.proxies import TEXT_ARCHITECTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTraining:
    """One training of a layer on one network. Two with one `setting` differ in the layer and the seed alone."""

    purpose: Purpose  # it was first trained for; it serves others, too
    digest: str  # of all that decides it
    setting: str  # digest of the same without layer and seed
    layer: str  # formula
    birth: int | None  # of the candidate, or of that of which `layer` lacks a part
    name: str | None  # of a layer that is no candidate: the catalog's, or its formula
    config: str  # its name
    proxy: str  # the config's name of the network
    data: str  # source
    split: str | None  # digest of the images; None where another machine trained
    judged_on: JudgedOn
    architecture: str
    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    protocol: dict[str, Any]  # data, recipe and network
    accuracy: float | None  # None: it diverged
    loss: float | None  # mean training loss
    classes: int
    seconds: float  # of a core
    conditions: str

    @property
    def unit(self) -> Unit:
        return Unit.BITS if self.architecture in TEXT_ARCHITECTURES else Unit.ACCURACY

    @property
    def counted_fitness(self) -> float:
        """The fitness; a training that diverged counts as guessing."""
        return 1 / self.classes if self.accuracy is None else self.accuracy


def units_of(trainings: Iterable[StoredTraining]) -> Units:
    """The units of the proxies that were trained."""
    units = {each.proxy: each.unit for each in trainings}
    return Units(tuple(units), tuple(proxy for proxy, unit in units.items() if unit is Unit.BITS))


OF_MACHINE = ("seconds", "conditions")  # fields on which no outcome depends


def read_trainings(connection: Connection, run: int, door: Door) -> list[StoredTraining]:
    """All of a run, in the order of their recording; each passes the door."""
    table = tables.training
    rows = connection.execute(select(table).where(table.c.run == run).order_by(table.c.id)).all()
    trainings = []
    for row in rows:
        door.check(table, row)
        values = dict(zip(_COLUMNS, row, strict=True))
        here = f"training {values['id']}"
        if values["judged_on"] not in get_args(JudgedOn):
            door.refuse(here, f"judged_on '{values['judged_on']:.40}' is unknown")
        values["purpose"] = door.one_of(Purpose, values["purpose"], "training", values["id"])
        values["protocol"] = door.mapping(values["protocol"], here, "protocol")
        if not isinstance(values["protocol"].get("data"), dict):
            door.refuse(here, "its protocol has no data")
        trainings.append(StoredTraining(**{name: values[name] for name in StoredTraining.__slots__}))
    return trainings


_COLUMNS = tuple(column.name for column in tables.training.columns)
