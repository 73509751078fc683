"""Selection: laws of dominance and of the Pareto front, and what a tournament draws."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.selection import (
    Survivor,
    crowding_distances,
    dominates,
    front_with,
    pareto_front,
    tournament,
    weighted_sample,
)

OBJECTIVES = st.integers(1, 3).flatmap(
    lambda n: st.lists(st.tuples(*[st.integers(0, 4).map(float)] * n), min_size=1, max_size=12)
)
SURVIVORS = OBJECTIVES.map(lambda rows: [Survivor(birth, "x", "", row) for birth, row in enumerate(rows, start=1)])


def survivors(*objectives: tuple[float, ...]) -> list[Survivor]:
    return [Survivor(birth, "x", "", row) for birth, row in enumerate(objectives, start=1)]


class Listening(Random):
    """Remembers the size of each sample."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.sizes: list[int] = []

    def sample(self, population: Sequence[Any], k: int, **options: Any) -> list[Any]:
        self.sizes.append(k)
        return super().sample(population, k, **options)


# --------------------------------------------------------------------------- dominance


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.5, 0.5), (0.5, 0.4), True),
        ((0.5, 0.5), (0.4, 0.4), True),
        ((0.5, 0.5), (0.5, 0.5), False),
        ((0.5, 0.4), (0.4, 0.5), False),
        ((0.4,), (0.5,), False),
        ((-3.0,), (-5.0,), True),
    ],
)
def test_dominance(a: tuple[float, ...], b: tuple[float, ...], expected: bool) -> None:
    first, second = survivors(a, b)
    assert dominates(first, second) is expected


@given(SURVIVORS)
def test_dominance_is_a_strict_order(each: list[Survivor]) -> None:
    for a in each:
        assert not dominates(a, a)
        for b in each:
            assert not (dominates(a, b) and dominates(b, a))
            for c in each:
                assert not (dominates(a, b) and dominates(b, c)) or dominates(a, c)


@given(SURVIVORS)
def test_dominance_is_to_be_nowhere_worse_and_somewhere_better(each: list[Survivor]) -> None:
    for a in each:
        for b in each:
            pairs = list(zip(a.objectives, b.objectives, strict=True))
            nowhere_worse, somewhere_better = not any(x < y for x, y in pairs), any(x > y for x, y in pairs)
            assert dominates(a, b) == (nowhere_worse and somewhere_better)


def test_objectives_of_different_numbers_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        dominates(*survivors((0.5,), (0.5, 0.5)))


# --------------------------------------------------------------------------- the front


def test_front_of_known_points() -> None:
    each = survivors((0.9, 0.1), (0.5, 0.5), (0.1, 0.9), (0.4, 0.4), (0.5, 0.5), (0.1, 0.8))
    assert [survivor.birth for survivor in pareto_front(each)] == [1, 2, 3, 5]  # equals stay together


@given(SURVIVORS)
def test_front_is_not_dominated_and_dominates_the_rest(each: list[Survivor]) -> None:
    front = pareto_front(each)
    assert front
    for survivor in each:
        by_front = any(dominates(best, survivor) for best in front)
        by_any = any(dominates(other, survivor) for other in each)
        assert by_front == by_any == (survivor not in front)


@given(SURVIVORS, st.randoms(use_true_random=False))
def test_front_keeps_the_order_and_does_not_depend_on_it(each: list[Survivor], rng: Random) -> None:
    front = pareto_front(each)
    assert front == [survivor for survivor in each if survivor in front]
    shuffled = rng.sample(each, len(each))
    assert {survivor.birth for survivor in pareto_front(shuffled)} == {survivor.birth for survivor in front}


@given(SURVIVORS)
def test_front_of_the_front_is_the_front(each: list[Survivor]) -> None:
    assert pareto_front(pareto_front(each)) == pareto_front(each)


@given(SURVIVORS)
def test_front_of_one_objective_is_its_maximum(each: list[Survivor]) -> None:
    single = [Survivor(survivor.birth, "x", "", survivor.objectives[:1]) for survivor in each]
    best = max(survivor.objectives for survivor in single)
    assert pareto_front(single) == [survivor for survivor in single if survivor.objectives == best]


# --------------------------------------------------------------------------- tournaments


@pytest.mark.parametrize(
    ("population", "share", "entrants"),
    [(100, 0.05, 5), (100, 0.001, 2), (64, 0.1, 6), (10, 1.0, 10), (3, 0.05, 2), (2, 0.05, 2), (1, 0.05, 1)],
)
@pytest.mark.parametrize("selection", ["pareto", "average"])
def test_entrants_are_a_share_of_the_population_and_at_least_two(
    population: int, share: float, entrants: int, selection: str
) -> None:
    rng = Listening(0)
    each = survivors(*[(float(number),) for number in range(population)])
    assert tournament(each, share, selection, rng) in each
    assert rng.sizes == [entrants]


@given(SURVIVORS, st.integers(0, 1000))
def test_average_picks_the_best_mean(each: list[Survivor], seed: int) -> None:
    winner = tournament(each, 1.0, "average", Random(seed))
    assert sum(winner.objectives) == max(sum(survivor.objectives) for survivor in each)


def test_average_takes_the_older_of_two_equals() -> None:
    each = survivors((0.2, 0.8), (0.8, 0.2), (0.1, 0.1))
    assert {tournament(each, 1.0, "average", Random(seed)).birth for seed in range(20)} == {1}


@given(SURVIVORS, st.integers(0, 1000))
def test_pareto_picks_from_the_front_of_all(each: list[Survivor], seed: int) -> None:
    assert tournament(each, 1.0, "pareto", Random(seed)) in pareto_front(each)


def test_every_member_of_the_front_is_drawn_and_no_other() -> None:
    each = survivors((0.9, 0.1), (0.5, 0.5), (0.1, 0.9), (0.4, 0.4), (0.05, 0.8))
    rng = Random(0)
    assert {tournament(each, 1.0, "pareto", rng).birth for _ in range(200)} == {1, 2, 3}


@pytest.mark.parametrize("selection", ["pareto", "average"])
def test_every_survivor_but_the_worst_wins_a_small_tournament(selection: str) -> None:
    each = survivors(*[(float(number),) for number in range(10)])
    rng = Random(0)
    drawn = {tournament(each, 0.2, selection, rng).birth for _ in range(2000)}
    assert drawn == set(range(2, 11))  # of two entrants, the worst never wins


def test_the_population_is_left_as_it_is() -> None:
    each = survivors((0.3,), (0.2,), (0.1,))
    before = list(each)
    tournament(each, 0.5, "pareto", Random(0))
    assert each == before


def test_the_same_generator_draws_the_same_winner() -> None:
    each = survivors(*[(float(number % 7), float(number % 5)) for number in range(40)])
    draws = [
        [tournament(each, 0.1, "pareto", rng).birth for _ in range(30)] for rng in (Random(3), Random(3), Random(4))
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("weights", "seconds", "firsts"),
    # Two members enter, without replacement: {1, 2} with probability 4/7 2/3 + 2/7 4/5 = 64/105, and so on.
    [((1.0, 1 / 2, 1 / 4), {2: 64 / 105, 3: 41 / 105}, 4 / 7), ((1 / 3, 1 / 3, 1 / 3), {2: 1 / 3, 3: 2 / 3}, 1 / 3)],
)
def test_entrants_are_drawn_by_weight_without_replacement(
    weights: tuple[float, ...], seconds: dict[int, float], firsts: float
) -> None:
    each, rng, draws = survivors((0.1,), (0.2,), (0.3,)), Random(0), 10_000
    winners = Counter(tournament(each, 0.1, "average", rng, weights).birth for _ in range(draws))
    assert {birth: count / draws for birth, count in winners.items()} == pytest.approx(seconds, abs=0.02)
    first = Counter(weighted_sample(each, weights, 1, rng)[0].birth for _ in range(draws))
    assert first[1] / draws == pytest.approx(firsts, abs=0.02)


@given(SURVIVORS, st.integers(0, 12), st.integers(0, 1000))
def test_a_weighted_sample_has_distinct_members_however_unequal_the_weights(
    each: list[Survivor], size: int, seed: int
) -> None:
    weights = [1 / (1 + 10 ** (survivor.birth % 7)) for survivor in each]
    drawn = [survivor.birth for survivor in weighted_sample(each, weights, size, Random(seed))]
    assert len(set(drawn)) == len(drawn) == min(size, len(each))


# --------------------------------------------------------------------------- a front that grows, and its crowding


@given(SURVIVORS)
def test_a_front_kept_up_to_date_is_the_front_of_all(each: list[Survivor]) -> None:
    front: list[Survivor] = []
    for survivor in each:
        front = front_with(front, survivor)
    first_of = {survivor.objectives: survivor.birth for survivor in reversed(pareto_front(each))}
    assert {survivor.objectives: survivor.birth for survivor in front} == first_of
    assert len(front) == len(first_of)


def test_crowding_is_the_gap_between_the_neighbours_as_a_share_of_the_range() -> None:
    distances = crowding_distances(survivors((0.0, 10.0), (1.0, 9.0), (2.0, 4.0), (10.0, 0.0)))
    assert distances[0] == distances[3] == float("inf")
    assert distances[1:3] == [pytest.approx(2 / 10 + 6 / 10), pytest.approx(9 / 10 + 9 / 10)]


def test_selection_crowding_takes_the_ends_of_the_front_and_never_what_is_dominated() -> None:
    entrants = survivors((0.0, 10.0), (5.0, 5.0), (6.0, 4.0), (10.0, 0.0), (4.0, 4.0))
    winners = {tournament(entrants, 1.0, "crowding", Random(seed)).birth for seed in range(50)}
    assert winners == {1, 4}
