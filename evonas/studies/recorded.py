"""The validations of a layer that a run has recorded: on test images or text, under settings that its search did not
use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evonas.config import Config
from evonas.intervals import Estimate, estimate, spread
from evonas.store.reader import Reader
from evonas.store.records import columns
from evonas.store.trainings import StoredTraining
from evonas.units import Figure, Unit


@dataclass(frozen=True, slots=True)
class RecordedValidation:
    """A layer on one network, in its unit. A training that diverged counts as guessing."""

    config: str  # its name
    proxy: str  # the config's name of the network
    architecture: str
    data: str  # source, and size of the images
    split: str | None  # digest of the images; None where another machine trained
    steps: int
    batch_size: int
    learning_rate: float
    seeds: int
    failed: int  # trainings that diverged
    accuracy: Figure
    differences: dict[str, Estimate]  # to each baseline, over the seeds that both have
    unit: Unit

    def as_json(self) -> dict[str, Any]:
        """All fields by name."""
        fields = columns(self)
        unit = fields.pop("unit")
        return {unit.name_in_data if name == "accuracy" else name: value for name, value in fields.items()}


def recorded_validations(reader: Reader, formula: str) -> list[RecordedValidation]:
    """A row for each setting under which the layer was judged on test images, in the order of their recording."""
    by_setting: dict[str, list[StoredTraining]] = {}
    for each in reader.trainings():
        if each.judged_on == "test":
            by_setting.setdefault(each.setting, []).append(each)
    return [
        _row(mine, [each for each in trained if each.name and each.layer != formula], reader.config)
        for trained in by_setting.values()
        if (mine := [each for each in trained if each.layer == formula])
    ]


def _row(mine: Sequence[StoredTraining], others: Sequence[StoredTraining], config: Config) -> RecordedValidation:
    first, fitness = mine[0], {each.seed: each.counted_fitness for each in mine}
    unit = first.unit
    differences: dict[str, list[float]] = {}
    for each in sorted(others, key=lambda each: (each.name != config.baseline, each.seed)):
        if each.seed in fitness:
            difference = unit.difference(fitness[each.seed], each.counted_fitness)
            differences.setdefault(str(each.name), []).append(difference)
    side = first.protocol["data"].get("image_size")
    return RecordedValidation(
        config=first.config,
        proxy=first.proxy,
        architecture=first.architecture,
        data=f"{first.data} at {side}x{side}" if side else first.data,
        split=first.split,
        steps=first.steps,
        batch_size=first.batch_size,
        learning_rate=first.learning_rate,
        seeds=len(mine),
        failed=sum(each.accuracy is None for each in mine),
        accuracy=spread([unit.read(each) for each in fitness.values()]),
        differences={name: estimate(values) for name, values in differences.items()},
        unit=unit,
    )
