"""What becomes of candidates that compute the same function."""

from pathlib import Path
from typing import Any

import pytest

from evonas.config import BASELINE
from evonas.history import History
from evonas.proposal import propose
from evonas.retelling import rebuild
from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.shared import REMEASURE_AFTER, REMEASURE_SEEDS
from evonas.workers.outcome import Crash, Evaluation, Fitness, Rejection
from evonas.workers.protocol import Job
from tests.evonas.search_cases import (
    CRASHED,
    ONLY_NEG,
    PASSED,
    SMALL,
    FakePool,
    answering,
    configured,
    equals_before,
    searched,
)


@pytest.mark.parametrize("duplicates", ["mutate_again", "inherit"])
def test_equal_to_is_the_first_equal_candidate_with_an_outcome_and_its_scores(
    tmp_path: Path, tiny: dict[str, Any], duplicates: str
) -> None:
    pool = FakePool(3)
    _, reader = searched(tmp_path, configured(tiny, births=150, space=SMALL, duplicates=duplicates), pool)
    records = reader.candidates()
    inherited = [each for each in records if each.equal_to is not None]
    assert inherited
    for each in records:
        equals = equals_before(records, each)
        assert each.equal_to == (equals[0].birth if equals else None), each.birth
    for each in inherited:
        first = records[(each.equal_to or 0) - 1]
        uses = sum(other.equal_to == each.equal_to for other in records[: each.birth])
        if uses < REMEASURE_AFTER or not isinstance(first.outcome, Fitness):
            assert each.outcome == first.outcome
            assert (each.accuracy, each.advantage) == (first.accuracy, first.advantage)
        else:  # the mean over seeds, and here each seed answers alike
            assert each.accuracy == pytest.approx(first.accuracy)
            assert each.advantage == pytest.approx(first.advantage)
        measured = uses % REMEASURE_AFTER == 0 and isinstance(first.outcome, Fitness)
        assert (each.birth in pool.submitted) == measured


def test_mutate_again_gives_a_new_function_or_inherits(tmp_path: Path, tiny: dict[str, Any]) -> None:
    _, reader = searched(tmp_path, configured(tiny, births=150, space=SMALL, duplicates="mutate_again"), FakePool(1))
    records = reader.candidates()
    new = 0
    for each in records:
        earlier = [other for other in records[: each.birth - 1] if other.fingerprint == each.fingerprint]
        new += not earlier
        lost = all(isinstance(other.outcome, Crash) for other in earlier)  # nothing to inherit from
        assert not earlier or each.equal_to is not None or lost
    assert 20 < new < 150


def test_mutate_again_avoids_functions_in_flight(tiny: dict[str, Any]) -> None:
    config = configured(tiny, space={"nodes": 1, "index_sets": ["hw"]})
    history = History(config)
    seen = set()
    for birth in range(1, 15):
        candidate = propose(config, birth, history).candidate
        history.propose(candidate)
        seen.add(candidate.fingerprint)
    assert len(seen) == 14


def test_evaluate_never_inherits(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(2)
    _, reader = searched(tmp_path, configured(tiny, births=20, space=ONLY_NEG, duplicates="evaluate"), pool)
    assert {each.equal_to for each in reader.candidates()} == {None}
    assert sorted(pool.submitted) == list(range(21))


def test_inherit_evaluates_one_function_once(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(1, answering(PASSED))
    _, reader = searched(tmp_path, configured(tiny, births=6, space=ONLY_NEG, duplicates="inherit"), pool)
    assert [each.equal_to for each in reader.candidates()] == [None, 1, 1, 1, 1, 1]
    assert pool.submitted == [0, 1]
    assert [each.birth for each in reader.top(10)] == [1]


def test_a_rejection_is_inherited(tmp_path: Path, tiny: dict[str, Any]) -> None:
    stopped = Evaluation(Rejection("quality", "resnet", 0.05, 0.1, 3))
    pool = FakePool(1, answering(stopped))
    _, reader = searched(tmp_path, configured(tiny, births=3, space=ONLY_NEG, duplicates="inherit"), pool)
    assert [(each.equal_to, each.outcome) for each in reader.candidates()][1:] == [(1, stopped.outcome)] * 2


def test_a_pending_candidate_is_not_inherited_from(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(2)
    _, reader = searched(tmp_path, configured(tiny, births=3, space=ONLY_NEG, duplicates="inherit"), pool)
    assert [each.equal_to for each in reader.candidates()][:2] == [None, None]
    assert {1, 2} <= set(pool.submitted)


def test_a_crash_is_not_inherited_but_a_later_equals_outcome_is(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(1, answering(CRASHED, PASSED))
    _, reader = searched(tmp_path, configured(tiny, births=4, space=ONLY_NEG, duplicates="inherit"), pool)
    assert [each.equal_to for each in reader.candidates()] == [None, None, 2, 2]


def test_what_was_inherited_ten_times_is_measured_again_and_averaged(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """With a fresh seed each time, and what inherits after it has the mean."""
    config = configured(tiny, births=32, space=ONLY_NEG, duplicates="inherit")
    jobs: list[Job] = []

    def respond(job: Job) -> Evaluation:
        if Graph.parse(job.graph).digest == LAYERS[BASELINE].graph.digest:
            return PASSED
        jobs.append(job)
        accuracy = (0.2, 0.4, 0.9, 0.1)[len(jobs) - 1]
        return Evaluation(Fitness({"resnet": accuracy, "mobilenet": accuracy}))

    search, reader = searched(tmp_path, config, FakePool(1, respond))
    assert len({job.seed for job in jobs}) == 4
    assert jobs[0].seed == config.seed
    assert all(job.seed >= config.seed + REMEASURE_SEEDS for job in jobs[1:])
    accuracies = [each.accuracy["resnet"] for each in reader.candidates()]
    expected = [*[0.2] * 10, 0.4, *[0.3] * 9, 0.9, *[0.5] * 9, 0.1, 0.4]
    assert accuracies == pytest.approx(expected)
    assert [each.equal_to for each in reader.candidates()] == [None, *[1] * 31]
    assert search.history.population.members[-1].objectives == pytest.approx((0.4, 0.4))
    assert rebuild(reader) == search.history
    assert [each.birth for each in reader.top()] == [1]
