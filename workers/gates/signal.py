"""Gate `signal`: does a network tell images apart?"""

import math
from typing import Annotated, Literal

from pydantic import Field

from evonas.workers.frozen import Positive
from evonas.workers.gates.base import NetworkGate, Networks
from evonas.workers.outcome import Measurement


class Signal(NetworkGate):
    """At its initial weights every proxy tells images apart: the largest standard deviation of a logit over a batch."""

    work = "initial pass"
    gate: Literal["signal"] = "signal"
    # ours: known layers that train have at least 5e-3
    logits_std_min: Positive = Field(1e-3, description="least standard deviation")
    batch: Annotated[int, Field(ge=2, le=10**9, description="training images")] = 32

    def measure(self, networks: Networks, proxy: str) -> Measurement:
        spread = networks.initial_pass(proxy, self.batch).logits_std
        passed = spread >= self.logits_std_min and math.isfinite(spread)
        value = math.inf if math.isnan(spread) else spread
        return self.measured(value, self.logits_std_min, passed=passed, proxy=proxy)
