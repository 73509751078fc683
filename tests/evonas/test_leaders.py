"""Functions that were trained with several seeds, beside those with one."""

from collections.abc import Mapping

import numpy as np
import pytest

from evonas.leaders import NOISE, BySeed, Leaders, comparable
from evonas.selection import Survivor
from evonas.workers.outcome import Fitness


def survivor(birth: int, fitness: float, function: int = 0, measured: int = 1) -> Survivor:
    return Survivor(birth, "x", "", (fitness,), "", function or birth, measured, Fitness({"resnet": fitness}), fitness)


def predicted(several: Mapping[int, BySeed], single: list[float], baseline: BySeed) -> dict[int, float]:
    """The textbook's prediction by dense matrices, of scores on one proxy and the seed 0: V = Z Z' + NOISE I, b =
    (X' V^-1 X)^-1 X' V^-1 y, u = Z' V^-1 (y - X b)."""
    functions = [*several.items(), *((-1 - n, {0: (score,)}) for n, score in enumerate(single))]
    rows = [(name, seed, score[0]) for name, scores in functions for seed, score in scores.items()]
    rows += [(None, seed, score[0]) for seed, score in baseline.items()]
    seeds, names = sorted({seed for _, seed, _ in rows}), [name for name, _ in functions]
    y = np.array([score for _, _, score in rows])
    fixed = np.array([[*(float(seed == each) for each in seeds), float(name is None)] for name, seed, _ in rows])
    random = np.array([[float(name == each) for each in names] for name, _, _ in rows])
    inverse = np.linalg.inv(random @ random.T + NOISE * np.eye(len(y)))
    b = np.linalg.pinv(fixed.T @ inverse @ fixed) @ fixed.T @ inverse @ y
    u = random.T @ inverse @ (y - fixed @ b)
    return {name: b[0] + (1 + NOISE) * u[names.index(name)] for name in several}


def drawn(seed: int) -> tuple[dict[int, BySeed], list[float], BySeed]:
    rng = np.random.default_rng(seed)
    seeds = list(range(int(rng.integers(2, 5))))
    of_seed = rng.normal(0, 0.1, len(seeds))

    def scores(mine: list[int]) -> BySeed:
        level = rng.normal(0.5, 0.05)
        return {each: (float(level + of_seed[each] + rng.normal(0, 0.05)),) for each in mine}

    several = {birth: scores([0, *seeds[1 : 1 + int(rng.integers(1, len(seeds)))]]) for birth in range(1, 5)}
    single = [scores([0])[0][0] for _ in range(int(rng.integers(0, 6)))]
    return several, single, scores(seeds if seed % 2 else [0])


@pytest.mark.parametrize("seed", range(6))
def test_scores_of_several_seeds_are_the_best_linear_prediction(seed: int) -> None:
    several, single, baseline = drawn(seed)
    found = comparable(several, [(each,) for each in single], baseline, 0)
    expected = predicted(several, single, baseline)
    assert {name: scores[0] for name, scores in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_that_makes_every_network_worse_changes_nothing(seed: int) -> None:
    several, single, baseline = drawn(seed)

    def worse(scores: BySeed) -> BySeed:
        return {each: (score[0] - 0.2 * each,) for each, score in scores.items()}

    before = comparable(several, [(each,) for each in single], baseline, 0)
    moved = {birth: worse(scores) for birth, scores in several.items()}
    after = comparable(moved, [(each,) for each in single], worse(baseline), 0)
    assert after == {birth: pytest.approx(scores) for birth, scores in before.items()}


def test_by_hand_and_each_proxy_alone() -> None:
    """Means of the seeds: 0.5 and, by the pair's sum, 0.5. So 0.5 + 2 * (0.1 + 0.1) / 3 of the first function on the
    first proxy, and on the second, where the functions differ by nothing, 0.7."""
    several = {1: {0: (0.6, 0.7), 1: (0.6, 0.7)}, 2: {0: (0.4, 0.7), 1: (0.4, 0.7)}}
    found = comparable(several, [], {0: (0.1, 0.1)}, 0)
    assert found == {1: pytest.approx((0.5 + 0.4 / 3, 0.7)), 2: pytest.approx((0.5 - 0.4 / 3, 0.7))}


def test_what_is_confirmed_counts_more_and_what_is_not_counts_less() -> None:
    single = [(0.5,), (0.52,), (0.48,), (0.55,)]
    confirmed = {1: {0: (0.56,), 1: (0.56,)}, 2: {0: (0.5,), 1: (0.5,)}, 3: {0: (0.56,), 1: (0.5,)}}
    found = comparable(confirmed, single, {0: (0.3,), 1: (0.3,)}, 0)
    assert found[1][0] > 0.56 > found[3][0] > found[2][0]


def test_one_seed_is_its_own_score() -> None:
    found = comparable({1: {0: (0.6,)}, 2: {0: (0.4,)}}, [(0.5,)], {0: (0.3,)}, 0)
    assert found == {1: pytest.approx((0.6,)), 2: pytest.approx((0.4,))}


def test_the_leader_with_the_fewest_seeds_is_next_and_then_the_front() -> None:
    leaders = Leaders(leaders=2, seeds=3)
    assert leaders.next(set(), []) is None
    for each in (survivor(1, 0.5), survivor(2, 0.7), survivor(3, 0.6)):
        leaders.add(each)
    assert [each.birth for each in leaders.members] == [2, 3, 1]
    assert leaders.lacking == 4
    first, second = leaders.next(set(), []), leaders.next({2}, [])
    assert first and second
    assert (first.birth, second.birth) == (2, 3)
    leaders.update([survivor(4, 0.55, function=2, measured=2)])
    assert [(each.birth, each.fitness) for each in leaders.members] == [(3, 0.6), (2, 0.55), (1, 0.5)]
    leaders.again = {3: 2, 2: 2}
    assert leaders.lacking == 0
    assert leaders.next(set(), []) is None
    small = survivor(9, 0.1)
    assert leaders.next(set(), [leaders.members[0], small]) == small
    assert leaders.next({9}, [small]) is None
