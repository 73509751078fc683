"""Gate `few_nodes`: is the formula short?"""

from typing import Literal

from pydantic import Field

from evonas.search_space.screening import Screening
from evonas.workers.frozen import Count
from evonas.workers.gates.base import LayerGate
from evonas.workers.outcome import Measurement


class FewNodes(LayerGate):
    """The live nodes are few."""

    gate: Literal["few_nodes"] = "few_nodes"
    most: Count = Field(5, description="live nodes")

    def measure(self, screening: Screening) -> Measurement:
        live = screening.graph.live_nodes
        return self.measured(live, self.most, passed=live <= self.most)
