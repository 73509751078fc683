"""Trainings that a run keeps beside its search."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.session import recording
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Event, Purpose
from evonas.store.trainings import StoredTraining
from evonas.studies.results import Row
from evonas.studies.trainings import Asked, data_of, decided_by, setting

_EVENTS = {Purpose.VALIDATE: Event.VALIDATING}


class InRun:
    """The trainings of a run, as rows. Whoever writes drives the run."""

    def __init__(self, database: Database, reader: Reader, purpose: Purpose, births: Mapping[str, int]) -> None:
        """`births`: formula -> the candidate whose training it is recorded as."""
        self.rows: list[Row] = [row_of_stored(each) for each in reader.trainings()]
        self._database = database
        self._purpose = purpose
        self._births = births

    @classmethod
    def of(cls, run: str | Path, purpose: Purpose, births: Mapping[str, int]) -> "InRun":
        database = Database.open(run)
        return cls(database, database.reader(), purpose, births)

    @contextmanager
    def writing(self) -> Iterator[Callable[[Asked, Row], None]]:
        """Record each in the run. Raises InputError where the run is read-only, or driven by another process."""
        try:
            store = self._database.own(_EVENTS.get(self._purpose, Event.STUDYING))
        except InputError as error:
            raise InputError(f"{error}; or keep the trainings in a file, with out") from None
        with recording(store):
            yield lambda training, row: store.record_training(self._stored(training, row))

    def _stored(self, training: Asked, row: Row) -> StoredTraining:
        job, formula = training.job, Graph.parse(training.job.graph).formula
        protocol, birth = decided_by(job), self._births.get(formula)
        losses = [loss for step, _, loss in row["points"] if step == job.protocol.recipe.steps]
        return StoredTraining(
            purpose=self._purpose,
            digest=training.digest,
            setting=setting(job),
            layer=formula,
            birth=birth,
            name=training.layer if birth is None else None,
            config=training.config.name,
            proxy=training.proxy,
            data=data_of(training).source,
            split=row.get("split"),
            judged_on=job.judged_on,
            architecture=protocol["network"]["architecture"],
            steps=job.protocol.recipe.steps,
            batch_size=job.protocol.recipe.batch_size,
            learning_rate=job.protocol.recipe.learning_rate,
            seed=job.seed,
            protocol=protocol,
            accuracy=row["accuracy"],
            loss=losses[0] if losses else None,
            classes=row["classes"],
            seconds=row["seconds"],
            conditions=row["conditions"],
        )


def row_of_stored(training: StoredTraining) -> Row:
    """A line of a file of results."""
    point = [training.steps, training.accuracy, training.loss]
    return {
        "training": training.digest,
        "config": training.config,
        "proxy": training.proxy,
        "layer": training.name or training.layer,
        "seed": training.seed,
        "looks": [],
        "accuracy": training.accuracy,
        "classes": training.classes,
        "points": [point] if training.loss is not None else [],
        "seconds": training.seconds,
        "conditions": training.conditions,
        "split": training.split,
    }
