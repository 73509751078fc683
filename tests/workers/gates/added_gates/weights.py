"""Gate `weights`: has a network enough of them?"""

from typing import Literal

from evonas.workers.frozen import Count
from evonas.workers.gates.base import NetworkGate, Networks
from evonas.workers.outcome import Measurement


class Weights(NetworkGate):
    """Every proxy has so many learned values."""

    gate: Literal["weights"] = "weights"
    least: Count = 1

    def measure(self, networks: Networks, proxy: str) -> Measurement:
        model, _, _ = networks.fresh(proxy, 1)
        count = sum(each.numel() for each in model.parameters())
        return self.measured(count, self.least, passed=count >= self.least, proxy=proxy)
