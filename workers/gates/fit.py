"""Gate `fit`: does a network learn one batch?"""

import math
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from evonas.workers.frozen import Count, Positive
from evonas.workers.gates.base import NetworkGate, Networks
from evonas.workers.gradients import Loss
from evonas.workers.outcome import Measurement


class Fit(NetworkGate):
    """Every proxy learns one batch: trained again and again on the same few images, at the recipe's full rate, its loss
    falls to a share of that of guessing, ln(classes). The value is the first such share, or else the least."""

    gate: Literal["fit"] = "fit"
    steps: Count = Field(10, description="most steps on the one batch")
    # ours: which batch it is matters much, so a config sets it over several split seeds
    max_share: Positive = Field(0.9, description="of the loss of guessing")
    batch: Count = Field(32, description="training images")

    def measure(self, networks: Networks, proxy: str) -> Measurement:
        guessing = networks.guessing(proxy)
        model, inputs, targets = networks.fresh(proxy, self.batch)
        goal = self.max_share * guessing
        optimizer, loss = networks.optimizer(model), networks.loss(proxy)
        least, step = fit(model, inputs, targets, optimizer, self.steps, goal, loss)
        share = least / guessing
        return self.measured(share, self.max_share, passed=share <= self.max_share, proxy=proxy, step=step)


def fit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    optimizer: Optimizer,
    steps: int,
    goal: float,
    loss_of: Loss = F.cross_entropy,
) -> tuple[float, int]:
    """The least loss within so many steps on one batch, in training mode and float32, and the step at which it was met.

    Stops once the loss is at most `goal`, or not finite (inf is answered where it never was finite).
    """
    model.train()
    least, at = math.inf, 0
    for step in range(steps + 1):
        loss = loss_of(model(inputs), targets)
        value = float(loss.detach())
        if value < least:
            least, at = value, step
        if least <= goal or step == steps or not math.isfinite(value):
            break
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return least, at
