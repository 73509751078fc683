"""Gate `rung`: is a candidate among the best of the earlier ones?"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field

from evonas.workers.frozen import Count, Name
from evonas.workers.gates.base import RankedGate, Trainings
from evonas.workers.outcome import Measurement


class Rung(RankedGate):
    """The validation accuracy, of text 2^-(bits per byte), or the training loss so far, is among the best share of the
    earlier candidates' at that step: asynchronous successive halving with stopping (arXiv:1810.05934), by means over
    proxies. With `proxy` the candidates race on that one first, and only who passes is trained on the others; with `by:
    loss` the training loss decides (its mean over all steps so far: arXiv:2006.04492)."""

    once = of_fitness = True
    gate: Literal["rung"] = "rung"
    steps: Count = Field(description="of the training, when it is asked")
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.5, description="the share of earlier candidates")
    after: Count = Field(10, description="candidates that reach the rung before it stops any")
    proxy: Name | None = Field(None, exclude_if=lambda proxy: proxy is None, description="the one proxy that it asks")
    by: Literal["accuracy", "loss"] = Field(
        "accuracy",
        exclude_if=lambda by: by == "accuracy",
        description="loss: exp(-mean training loss so far), a mean probability of the right class",
    )

    @property
    def only(self) -> str | None:
        return self.proxy

    def threshold(self, earlier: Sequence[float]) -> float | None:
        """The least value among the best `keep` of the earlier ones; None of fewer than `after`."""
        if len(earlier) < self.after:
            return None
        return earlier[len(earlier) - math.ceil(self.keep * len(earlier))]

    def measure(self, trainings: Trainings, proxy: str) -> Measurement:
        proxies = trainings.proxies if self.proxy is None else [self.proxy]
        mean = fmean([self._value(trainings, each) for each in proxies])
        threshold = trainings.threshold(self)
        return self.measured(mean, threshold, passed=mean >= threshold, proxy=self.proxy or "", step=self.steps)

    def _value(self, trainings: Trainings, proxy: str) -> float:
        if self.by == "loss":
            return math.exp(-trainings.mean_loss(proxy, 0, self.steps))
        return trainings.accuracy(proxy, self.steps)
