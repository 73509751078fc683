"""Gate `finite`: are the layer's values and gradients finite?"""

import math
from typing import Literal

from evonas.search_space.screening import FLOAT32_MAX, Screening
from evonas.workers.gates.base import LayerGate
from evonas.workers.outcome import Measurement


class Finite(LayerGate):
    """Output and gradient of the layer are finite on input of several scales, and at one position a channel: their
    largest absolute value."""

    gate: Literal["finite"] = "finite"

    def measure(self, screening: Screening) -> Measurement:
        value = screening.largest_value
        return self.measured(value, FLOAT32_MAX, passed=math.isfinite(value))
