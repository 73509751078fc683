"""Gate `amplification`: does the layer blow up input over which its statistics vanish?"""

import math
from typing import Literal

from pydantic import Field

from evonas.search_space.screening import Degenerate, Screening
from evonas.workers.frozen import Positive
from evonas.workers.gates.base import LayerGate
from evonas.workers.outcome import Measurement


class Amplification(LayerGate):
    """The layer does not blow up input over which its statistics vanish: the output's root mean square over that of the
    input. A layer that divides by std_hw of one position a channel does so 316 times."""

    gate: Literal["amplification"] = "amplification"
    at: Degenerate = Field("position", description="the input: one position a channel, a constant, or one sample")
    max: Positive | None = Field(100.0, description="null measures only")  # ours: BN, GN, EvoNorms have at most 1

    @property
    def label(self) -> str:
        return f"{self.gate} {self.at}"

    def measure(self, screening: Screening) -> Measurement:
        value = screening.amplifications[self.at]
        threshold = math.inf if self.max is None else self.max
        return self.measured(value, threshold, passed=value <= threshold)
