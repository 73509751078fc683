"""Gate `depends_on_x`: does the layer look at its input?"""

from typing import Literal

from evonas.search_space.screening import CHANGE_MIN, Screening
from evonas.workers.gates.base import LayerGate
from evonas.workers.outcome import Measurement


class DependsOnX(LayerGate):
    """The output changes when x does: its relative change between two inputs."""

    gate: Literal["depends_on_x"] = "depends_on_x"

    def measure(self, screening: Screening) -> Measurement:
        value = screening.change
        return self.measured(value, CHANGE_MIN, passed=value > CHANGE_MIN)
