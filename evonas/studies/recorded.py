"""The validations of a layer that a run has recorded: on test images, under settings that its search did not use."""

from collections.abc import Sequence
from dataclasses import dataclass

from evonas.config import Config
from evonas.intervals import Estimate, estimate
from evonas.store.reader import Reader
from evonas.store.trainings import StoredTraining
from evonas.studies.validation import Spread, spread


@dataclass(frozen=True, slots=True)
class RecordedValidation:
    """A layer on one network. A training that diverged has the accuracy of guessing."""

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
    accuracy: Spread
    differences: dict[str, Estimate]  # to each baseline, over the seeds that both have


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
    first, accuracy = mine[0], {each.seed: each.counted_accuracy for each in mine}
    differences: dict[str, list[float]] = {}
    for each in sorted(others, key=lambda each: (each.name != config.baseline, each.seed)):
        if each.seed in accuracy:
            differences.setdefault(str(each.name), []).append(accuracy[each.seed] - each.counted_accuracy)
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
        accuracy=spread(list(accuracy.values())),
        differences={name: estimate(values) for name, values in differences.items()},
    )
