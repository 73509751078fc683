"""The functions that lead a search, which are trained with further seeds before they are believed; and how what was
measured with several seeds compares with what was measured with one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np

from evonas.config import Config
from evonas.selection import Survivor, objectives
from evonas.workers.outcome import Fitness

KEPT = 4  # times as many functions as lead: so many may take a fallen leader's place
NOISE = 1.0  # variance of a score over seeds, as a multiple of its variance over the leading functions

Scores = tuple[float, ...]  # on each proxy
BySeed = Mapping[int, Scores]


@dataclass(frozen=True, slots=True)
class Best:
    """The first survivor of the largest advantage; where leaders are measured again, the first of them."""

    birth: int
    seq: int
    advantage: float
    graph: str
    accuracy: dict[str, float]
    seeds: int  # over which the accuracy is a mean


@dataclass
class Leaders:
    """The best functions, by fitness; of equal ones the first. Each is kept under the birth of its first candidate."""

    leaders: int  # so many of them are measured again
    seeds: int  # of a leader in all
    members: list[Survivor] = field(default_factory=list)  # best first
    outcomes: dict[int, dict[int, Fitness]] = field(default_factory=dict)  # function that has further seeds -> seed
    again: dict[int, int] = field(default_factory=dict)  # function -> births that measure it again, ended or not

    def add(self, survivor: Survivor) -> None:
        """A new function."""
        self._keep([*self.members, replace(survivor, birth=survivor.function)])

    def measured_again(self, function: int, seed: int, outcome: Fitness) -> None:
        """One more birth that gives a function a further seed; the outcome is that of the search's seed."""
        self.outcomes.setdefault(function, {seed: outcome})
        self.again[function] = self.again.get(function, 0) + 1

    def compared(
        self, known: Mapping[int, Survivor], baseline: Mapping[int, Fitness], config: Config
    ) -> dict[int, Survivor]:
        """Functions that have further seeds, each under its first birth and with the fitness that all its seeds say.

        Args:
            known: function -> its survivor.
            baseline: seed -> BN-ReLU's outcome; the search's is among them.
        """

        def scores(outcome: Fitness) -> Scores:
            return tuple(outcome.scores(config.judged_by).values())

        single = [scores(each.outcome) for each in self.members if each.outcome and each.function not in self.outcomes]
        several = {
            function: {seed: scores(of[seed]) for seed in config.counted_seeds(of)}
            for function, of in self.outcomes.items()
        }
        theirs = {seed: scores(each) for seed, each in baseline.items()}
        changed = {}
        for function, values in comparable(several, single, theirs, config.seed).items():
            member = known.get(function)
            if member and member.outcome:
                mine = objectives(config.objectives, member.outcome, member.graph, member.live_nodes, values)
                changed[function] = replace(member, birth=function, objectives=mine, fitness=fmean(values))
        self.update(changed[each.function] for each in self.members if each.function in changed)
        return changed

    def update(self, survivors: Iterable[Survivor]) -> None:
        """Functions of which other seeds changed the fitness."""
        changed = {each.function: replace(each, birth=each.function) for each in survivors}
        self._keep([*(each for each in self.members if each.function not in changed), *changed.values()])

    def _keep(self, members: list[Survivor]) -> None:
        self.members = sorted(members, key=lambda each: (-each.fitness, each.birth))[: KEPT * self.leaders]

    def drop(self, function: int) -> None:
        """A function that failed with a further seed."""
        self.members = [each for each in self.members if each.function != function]
        self.outcomes.pop(function, None)

    def next(self, pending: set[int | None], front: Sequence[Survivor]) -> Survivor | None:
        """The leader that has the fewest seeds, the best of those, then a member of the front; None where each has its
        seeds, or will have them."""
        leading = self.members[: self.leaders]
        others = [each for each in front if each.function not in {leader.function for leader in leading}]
        for group in (leading, others):
            waiting = [each for each in group if each.function not in pending and self._lacks(each)]
            if waiting:
                return min(waiting, key=lambda each: each.measured)
        return None

    def _lacks(self, member: Survivor) -> int:
        return self.seeds - 1 - self.again.get(member.function, 0)

    @property
    def lacking(self) -> int:
        """The births that give each leader its seeds."""
        return sum(self._lacks(each) for each in self.members[: self.leaders])


def comparable(
    several: Mapping[int, BySeed], single: Sequence[Scores], baseline: BySeed, seed: int
) -> dict[int, Scores]:
    """The scores of functions that were trained with several seeds, on the scale of `single`: those of the other
    leading functions, which were trained with `seed` alone.

    Model: score = seed + function + noise. Functions are normal around a mean; the noise has NOISE times their
    variance. BN-ReLU is fixed, since nobody chose it. The best linear unbiased prediction (Henderson 1975; remembered)
    of a function's part, given n scores, is sum(score - seed) / (n + NOISE): the fewer seeds, the more a lucky score
    shrinks. It is returned times 1 + NOISE, plus the mean with `seed`: on that scale a single score is its own.

    Args:
        several: function -> seed -> its score on each proxy.
        baseline: BN-ReLU's, with `seed` and perhaps others.
    """
    if not several:
        return {}
    random = (*several.values(), *({seed: score} for score in single))
    layers: list[tuple[BySeed, float]] = [*((each, NOISE) for each in random), (baseline, 0.0)]
    seeds = sorted({each for scores, _ in layers for each in scores})
    place = {each: number for number, each in enumerate(seeds)}
    matrix, right = np.zeros((len(seeds), len(seeds))), np.zeros((len(seeds), len(baseline[seed])))
    for scores, noise in layers:  # normal equations of the seeds, the functions eliminated
        places, share = [place[each] for each in scores], len(scores) + noise
        total = np.sum(list(scores.values()), axis=0)
        matrix[np.ix_(places, places)] -= 1 / share
        for each, score in scores.items():
            matrix[place[each], place[each]] += 1
            right[place[each]] += np.array(score) - total / share
    of_seed = np.linalg.solve(matrix, right)
    found = {}
    for function, mine in several.items():
        rest = np.sum([np.array(score) - of_seed[place[each]] for each, score in mine.items()], axis=0)
        alone = of_seed[place[seed]] + (1 + NOISE) * rest / (len(mine) + NOISE)
        found[function] = tuple(round(float(each), 12) for each in alone)
    return found
