"""Gate `race`: has a candidate learned faster than half of the earlier ones?"""

from collections.abc import Sequence
from typing import Literal

from evonas.workers.gates.base import RankedGate, Trainings
from evonas.workers.outcome import Measurement


class Race(RankedGate):
    """The least training loss is below the median of the earlier candidates'."""

    once = True
    no_threshold = 100.0
    gate: Literal["race"] = "race"

    def threshold(self, earlier: Sequence[float]) -> float | None:
        return earlier[len(earlier) // 2] if len(earlier) >= 2 else None

    def measure(self, trainings: Trainings, proxy: str) -> Measurement:
        loss = min(trainings.mean_loss(each, 0, self.steps) for each in trainings.proxies)
        threshold = trainings.threshold(self)
        return self.measured(loss, threshold, passed=loss <= threshold, step=self.steps)
