"""The functions that lead a search by their mean fitness, which are measured again before they are believed."""

from dataclasses import dataclass, field, replace

from evonas.selection import Survivor

KEPT = 4  # times as many functions as lead: so many may take a fallen leader's place


@dataclass
class Leaders:
    """The best functions, by mean fitness over seeds; of equal ones the first. Each is kept under the birth of its
    first candidate."""

    leaders: int  # so many of them are measured again
    seeds: int  # of a leader in all
    members: list[Survivor] = field(default_factory=list)  # best first
    again: dict[int, int] = field(default_factory=dict)  # function -> births that measure it again, ended or not

    def add(self, survivor: Survivor) -> None:
        """A new function, or one with another mean."""
        mine = replace(survivor, birth=survivor.function)
        others = [each for each in self.members if each.function != mine.function]
        self.members = sorted([*others, mine], key=lambda each: (-each.fitness, each.birth))[: KEPT * self.leaders]

    def drop(self, function: int) -> None:
        """A function that failed with a further seed."""
        self.members = [each for each in self.members if each.function != function]

    def next(self, pending: set[int | None]) -> Survivor | None:
        """The leader with the fewest seeds, the best of those; None where each has its seeds, or will have them."""
        waiting = [each for each in self.members[: self.leaders] if each.function not in pending]
        waiting = [each for each in waiting if self.again.get(each.function, 0) < self.seeds - 1]
        return min(waiting, key=lambda each: each.measured, default=None)
