"""Gate `quality`: does a short training reach an accuracy?"""

from typing import Literal

from pydantic import Field, model_validator

from evonas.workers.frozen import Count, Share
from evonas.workers.gates.base import TrainingGate, Trainings
from evonas.workers.outcome import Measurement


class Quality(TrainingGate):
    """The validation accuracy on every proxy, of text 2^-(bits per byte), reaches a share of BN-ReLU's at that step, or
    an absolute one (20 % in arXiv:2004.02967)."""

    of_fitness = True
    gate: Literal["quality"] = "quality"
    steps: Count = Field(100, description="of the training, when it is asked")
    of_baseline: Share | None = Field(None, description="of BN-ReLU's accuracy; without that it only measures")
    min_accuracy: Share | None = Field(None, description="in place of of_baseline: an accuracy in [0, 1]")

    @model_validator(mode="after")
    def _one_threshold(self) -> "Quality":
        if (self.of_baseline is None) == (self.min_accuracy is None):
            raise ValueError("expected one of of_baseline and min_accuracy")
        return self

    @property
    def against_baseline(self) -> bool:
        return self.of_baseline is not None

    def measure(self, trainings: Trainings, proxy: str) -> Measurement:
        accuracy = trainings.accuracy(proxy, self.steps)
        threshold = self.min_accuracy or 0.0
        if self.of_baseline is not None:
            threshold = self.of_baseline * (trainings.baseline_accuracy(proxy, self.steps) or 0.0)
        return self.measured(accuracy, threshold, passed=accuracy >= threshold, proxy=proxy, step=self.steps)
