"""Gate `loss`: has the training loss fallen?"""

from typing import Literal

from pydantic import Field

from evonas.workers.frozen import Count, Positive
from evonas.workers.gates.base import TrainingGate, Trainings
from evonas.workers.outcome import Measurement

AVERAGED = 10  # steps; ours


class Loss(TrainingGate):
    """The training loss has fallen on every proxy: its mean over the last ten steps, as a share of the loss of
    guessing, ln(classes)."""

    gate: Literal["loss"] = "loss"
    steps: Count = Field(40, description="of the training, when it is asked")
    # ours: slow starters such as GN-ReLU have 0.99 at step 40 of a rate of 0.1
    max_share: Positive = Field(1.0, description="of the loss of guessing")

    def measure(self, trainings: Trainings, proxy: str) -> Measurement:
        loss = trainings.mean_loss(proxy, max(0, self.steps - AVERAGED), self.steps)
        share = loss / trainings.guessing(proxy)
        return self.measured(share, self.max_share, passed=share <= self.max_share, proxy=proxy, step=self.steps)
