"""How well predictions rank what was measured afterwards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evonas.search_space.wording import counted
from evonas.workers.gates import ranked_gate

PAIRS_MIN = 4  # of an interval; fewer say nothing
NORMAL_95 = 1.959964


def stopped_at(gate: str, value: object, gates: Sequence[str]) -> float:
    """A figure, below every fitness, that ranks a candidate which a gate stopped: the later among `gates`, the higher;
    at one gate that compares candidates, the better it measured. A training that diverged ranks as the last gate."""
    place = gates.index(gate) if gate in gates else len(gates) - 1
    if isinstance(value, float) and value > 0 and ranked_gate(gate):
        return place - len(gates) + min(value, 0.999)
    return float(place - len(gates))


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's rank correlation, and its 95 % interval by Fisher's transformation with the standard error
    sqrt((1 + r^2 / 2) / (n - 3)) (Bonett and Wright, 2000; remembered)."""

    value: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> "RankCorrelation | None":
        """None below PAIRS_MIN pairs, or where all values of one side are equal."""
        if len(pairs) < PAIRS_MIN or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
            return None
        from scipy.stats import spearmanr  # slow to import

        value = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        if abs(value) > 1 - 1e-12:
            return cls(math.copysign(1.0, value), *(math.copysign(1.0, value),) * 2, len(pairs))
        centre, error = math.atanh(value), NORMAL_95 * math.sqrt((1 + value * value / 2) / (len(pairs) - 3))
        return cls(value, math.tanh(centre - error), math.tanh(centre + error), len(pairs))

    @property
    def short(self) -> str:
        """The surrogate's, in a few words."""
        return f"surrogate {self.value:.2f} on {self.pairs} unranked"

    @property
    def text(self) -> str:
        """The surrogate's, with its interval."""
        return (
            f"surrogate: rank correlation {self.value:.2f} [{self.low:.2f} to {self.high:.2f}] of predicted and "
            f"measured fitness on {counted(self.pairs, 'candidate')} that it did not rank; "
            "what a gate stopped ranks below what was trained, the earlier the lower"
        )

    def figures(self) -> dict[str, Any]:
        """The numbers by name."""
        return {"correlation": self.value, "interval": [self.low, self.high], "candidates": self.pairs}
