"""Rejected candidates that are trained to the full budget all the same, to see whether their gates were right."""

from dataclasses import dataclass, field
from random import Random

from evonas.workers.outcome import DIVERGED


@dataclass
class Audits:
    """A share of the rejected candidates, drawn by birth, and spread evenly over gates: one with fewer rejections than
    its share is audited completely. Candidates that inherit their outcome do not count."""

    share: float
    seed: int
    rejected_by: dict[str, int] = field(default_factory=dict)  # gate -> candidates
    waiting: dict[int, str] = field(default_factory=dict)  # birth -> graph, in the order of their outcomes

    def reject(self, birth: int, graph: str, gate: str) -> None:
        """Count a rejected candidate, and draw whether it is audited. One that diverged would do so again."""
        if gate == DIVERGED:
            return
        self.rejected_by[gate] = self.rejected_by.get(gate, 0) + 1
        if self.share and Random(f"{self.seed} {birth} audit").random() < self._of_each() / self.rejected_by[gate]:
            self.waiting[birth] = graph

    def _of_each(self) -> float:
        """The number of audits of each gate that has so many rejections."""
        of_each = left = self.share * sum(self.rejected_by.values())
        for done, rejected in enumerate(sorted(self.rejected_by.values())):
            of_each = left / (len(self.rejected_by) - done)
            if of_each <= rejected:
                break
            left -= rejected
        return of_each

    def next(self) -> tuple[int, str]:
        """Take the birth and the graph that wait longest."""
        birth = next(iter(self.waiting))
        return birth, self.waiting.pop(birth)
