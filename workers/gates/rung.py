"""Gate `rung`: is a candidate among the best of the earlier ones?"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field

from evonas.workers.frozen import Count
from evonas.workers.gates.base import RankedGate, Trainings
from evonas.workers.outcome import Measurement


class Rung(RankedGate):
    """The validation accuracy, mean over proxies, is among the best share of the earlier candidates' at that step:
    asynchronous successive halving with stopping (arXiv:1810.05934)."""

    once = True
    gate: Literal["rung"] = "rung"
    steps: Count
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.5, description="the share of earlier candidates")
    after: Count = Field(10, description="candidates that reach the rung before it stops any")

    def threshold(self, earlier: Sequence[float]) -> float | None:
        """The least accuracy of the best `keep`."""
        if len(earlier) < self.after:
            return None
        return earlier[len(earlier) - math.ceil(self.keep * len(earlier))]

    def measure(self, trainings: Trainings, proxy: str) -> Measurement:
        mean = fmean([trainings.accuracy(each, self.steps) for each in trainings.proxies])
        threshold = trainings.threshold(self)
        return self.measured(mean, threshold, passed=mean >= threshold, step=self.steps)
