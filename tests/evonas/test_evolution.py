"""The loop, with a pool that answers from a table instead of training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evonas import proposal
from evonas.config import BASELINE
from evonas.evolution import CRASHES_MAX, Search
from evonas.history import History
from evonas.retelling import rebuild
from evonas.retraining import evaluate_baseline
from evonas.search_space.errors import InputError
from evonas.session import Stopped
from evonas.store import writer as writer_module
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.records import Purpose
from evonas.store.writer import Writer
from evonas.workers.outcome import Evaluation, Fitness, Measurement, Point, Rejection
from evonas.workers.protocol import Job
from tests.evonas.search_cases import (
    CRASHED,
    ONLY_NEG,
    PASSED,
    FakePool,
    Killed,
    Traced,
    answering,
    configured,
    rung_answer,
    searched,
)

# --------------------------------------------------------------------------- the loop


@pytest.mark.parametrize(
    ("duplicates", "births"),
    [
        ("evaluate", 300),
        ("inherit", 300),
        ("mutate_again", 300),
        pytest.param("evaluate", 2000, marks=pytest.mark.long),
    ],
)
def test_no_birth_is_lost_or_twice_and_the_store_knows_all_that_the_loop_knows(
    tmp_path: Path, tiny: dict[str, Any], duplicates: str, births: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity, population = 4, 10
    config = configured(tiny, births=births, population=population, duplicates=duplicates, space={"nodes": 4})
    address = Address.of_file(tmp_path / "run.db", "run", tmp_path)
    monkeypatch.setattr(Writer, "seconds_to_flush", 0.0)  # whenever the loop waits

    class Checking(FakePool):
        checked = 0

        def next(self, timeout: float) -> tuple[int, Evaluation] | None:
            if self.of is not None and self.of.births >= 100 * (self.checked + 1):
                self.checked += 1
                assert rebuild(Database(address).reader()) == self.of
            return super().next(timeout)

        of: History | None = None

    pool = Checking(capacity)
    search, reader = searched(tmp_path, config, pool, on_progress=lambda history: setattr(pool, "of", history))
    records = reader.candidates()
    assert pool.checked >= births // 100 - 1  # at its end the loop waits no more
    assert rebuild(reader) == search.history
    assert [each.birth for each in records] == list(range(1, births + 1))
    assert sorted(each.seq or 0 for each in records) == list(range(1, births + 1))
    assert len(reader.evaluations("search")) == births
    assert len({each.birth for each in reader.evaluations("search")}) == births
    assert pool.most == capacity
    assert len(pool.submitted) > births / 10
    assert len(pool.submitted) == len(set(pool.submitted))
    assert not search.history.pending
    mutated = [each for each in records if each.parent is not None]
    assert len(mutated) > births / 5
    by_seq = sorted(records, key=lambda each: each.seq or 0)
    for each in mutated:
        trained = [r.birth for r in by_seq[: each.seen] if isinstance(r.outcome, Fitness)]
        assert each.parent in trained[-population:]
        assert each.operator == "mutation"
    for each in records:
        assert each.seen <= (each.seq or 0) - 1
        assert each.birth - 1 - each.seen < capacity  # the others had outcomes


@pytest.mark.parametrize("capacity", [1, 2, 6])
def test_a_run_goes_on_with_more_or_fewer_workers(tmp_path: Path, tiny: dict[str, Any], capacity: int) -> None:
    config = configured(tiny, births=40, duplicates="evaluate")
    counted: list[int] = []
    with pytest.raises(Stopped):
        searched(
            tmp_path,
            config,
            FakePool(4),
            should_stop=lambda: counted[-1:] >= [15],
            on_progress=lambda h: counted.append(h.outcomes),
        )
    in_flight = [each.birth for each in Database.open(tmp_path).reader().candidates() if each.state == "pending"]
    assert len(in_flight) >= 3
    pool, store = FakePool(capacity), Database.open(tmp_path).own()
    Search(
        config, Traced(pool, store), rebuild(Database.open(tmp_path).reader()), Database.open(tmp_path).reader().outcome
    ).run()
    store.close()
    records = Database.open(tmp_path).reader().candidates()
    assert [each.birth for each in records] == list(range(1, 41))
    assert sorted(each.seq or 0 for each in records) == list(range(1, 41))
    assert pool.submitted[: len(in_flight)] == in_flight
    assert pool.most == capacity
    for birth in in_flight:  # what the driver had screened is screened again
        evaluation = Database.open(tmp_path).reader().evaluation_of(birth)
        assert evaluation is not None
        assert [each.gate for each in evaluation.measurements][:2] == ["depends_on_x", "finite"]


@pytest.mark.parametrize(
    ("committed", "stride"),
    [(False, 12), (True, 12), *(pytest.param(committed, 1, marks=pytest.mark.long) for committed in (False, True))],
)
def test_a_death_at_any_commit_leaves_the_uninterrupted_run(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, committed: bool, stride: int
) -> None:
    """Before the transaction, or just after it, at each `stride`-th of them in turn."""
    raw = {**tiny, "gates": [*tiny["gates"], {"rung": {"steps": 3, "keep": 0.5, "after": 4}}]}
    config = configured(raw, births=26, population=5, duplicates="inherit", audit_share=0.3, space={"nodes": 4})
    _, calm = searched(tmp_path / "calm", config, FakePool(1, rung_answer))
    expected = list(dump(calm))
    write, left = Writer._write, [0]

    def dying(store: Writer, work: Callable[[Any], Any]) -> None:
        left[0] -= 1
        if left[0] == 0 and not committed:
            raise Killed
        write(store, work)
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(Writer, "seconds_to_flush", 0.0)
    monkeypatch.setattr(Writer, "_write", dying)
    deaths = 0
    for commit in range(2, 1000, stride):  # the first makes the run
        folder = tmp_path / f"{commit}"
        address = Address.of_file(folder / "run.db", "run", folder)
        left[0] = commit
        store = Database(address).create(config, {})
        search = Search(
            config, Traced(FakePool(1, rung_answer), store), History(config), Database(address).reader().outcome
        )
        try:
            evaluate_baseline(search.session, search.history, Purpose.BASELINE)
            search.run()
        except Killed:
            deaths += 1
            left[0] = 0
        if store._lock is not None:  # what the system does
            store._lock.release()
        store.engine.dispose()
        if left[0] > 0:  # it ended before
            break
        store = Database(address).own()
        search = Search(
            config,
            Traced(FakePool(1, rung_answer), store),
            rebuild(Database(address).reader()),
            Database(address).reader().outcome,
        )
        evaluate_baseline(search.session, search.history, Purpose.BASELINE)
        search.run()
        store.close()
        for told, wanted in zip(dump(Database(address).reader()), expected, strict=True):
            assert told == wanted, commit
    assert deaths > 15 / stride


def test_no_candidate_is_proposed_while_all_workers_are_busy(tmp_path: Path, tiny: dict[str, Any]) -> None:
    _, reader = searched(tmp_path, configured(tiny, births=60), FakePool(1))
    assert [each.seen for each in reader.candidates()] == list(range(60))


def test_what_needs_no_worker_is_written_all_the_same(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands in a row may be screened; a kill costs moments of them, and a reader sees them come."""
    stopped = Measurement("finite", "", 1.0, 0.5, 0, False, 0.0)
    monkeypatch.setattr(proposal, "screen", lambda *_: (stopped,))
    unwritten: list[int] = []

    def look(history: History) -> None:
        if history.births % 300 == 0 and history.births:
            reader = Database(Address.of_file(tmp_path / "run.db", "run", tmp_path)).reader()
            unwritten.append(history.births - len(reader.candidates()))

    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 1e9)
    monkeypatch.setattr(writer_module, "FLUSH_CANDIDATES", 100)
    pool = FakePool(1)
    searched(tmp_path, configured(tiny, births=1000, duplicates="evaluate"), pool, on_progress=look)
    assert pool.submitted == [0]  # BN-ReLU
    assert len(unwritten) >= 3
    assert max(unwritten) <= 100


def test_progress_is_told_at_every_outcome(tmp_path: Path, tiny: dict[str, Any]) -> None:
    told: list[int] = []
    searched(tmp_path, configured(tiny, births=30), FakePool(2), on_progress=lambda h: told.append(h.outcomes))
    assert set(told) >= set(range(1, 31))


def test_screening_asks_no_worker(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(2)
    _, reader = searched(tmp_path, configured(tiny, births=60, duplicates="evaluate"), pool)
    screened = {
        each.birth
        for each in reader.candidates()
        if isinstance(each.outcome, Rejection) and each.outcome.gate in ("depends_on_x", "finite")
    }
    assert screened
    assert set(pool.submitted) - {0} == set(range(1, 61)) - screened


def test_a_screened_candidate_keeps_the_measurements_of_workers_and_driver(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    _, reader = searched(tmp_path, configured(tiny, births=60), FakePool(1))
    stopped = [r for r in reader.candidates() if isinstance(r.outcome, Rejection) and r.outcome.gate == "quality"]
    assert stopped
    for each in stopped:
        evaluation = reader.evaluation_of(each.birth)
        assert evaluation is not None
        gates = [measurement.gate for measurement in evaluation.measurements]
        assert gates == ["depends_on_x", "finite", "quality"] or each.equal_to is not None


def test_every_job_carries_the_baselines_points_at_the_quality_steps(tmp_path: Path, tiny: dict[str, Any]) -> None:
    jobs: list[Job] = []

    def noting(job: Job) -> Evaluation:
        jobs.append(job)
        points = (Point("resnet", 3, 0.2, 2.0), Point("resnet", 6, 0.5, 1.0), Point("mobilenet", 3, 0.1, 2.0))
        return replace(PASSED, points=points)

    config = configured(tiny, births=12)
    searched(tmp_path, config, FakePool(1, noting))
    assert jobs[0].baseline == ()
    assert len(jobs) > 1
    for job in jobs[1:]:
        assert [(p.proxy, p.step, p.accuracy) for p in job.baseline] == [("resnet", 3, 0.2), ("mobilenet", 3, 0.1)]
        assert (job.seed, job.protocol) == (config.seed, config.protocol)


def test_the_baseline_is_trained_before_all_else_and_recorded(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(3)
    search, reader = searched(tmp_path, configured(tiny, births=5), pool)
    assert pool.submitted[0] == 0
    (baseline,) = reader.evaluations("baseline")
    assert (baseline.name, baseline.birth, baseline.seed) == (BASELINE, None, 0)
    assert search.history.baseline == Fitness({"resnet": 0.4, "mobilenet": 0.3})


def test_advantage_is_the_mean_difference_to_the_baseline(tmp_path: Path, tiny: dict[str, Any]) -> None:
    search, reader = searched(tmp_path, configured(tiny, births=60), FakePool(2))
    trained = [each for each in reader.candidates() if each.accuracy]
    assert trained
    for each in trained:
        expected = (each.accuracy["resnet"] - 0.4 + each.accuracy["mobilenet"] - 0.3) / 2
        assert each.advantage == pytest.approx(expected)
    best = max(trained, key=lambda each: (each.advantage or 0.0, -(each.seq or 0)))
    found = search.history.best
    assert found is not None
    assert (found.birth, found.advantage, found.seq) == (best.birth, best.advantage, best.seq)


def test_a_protocol_that_rejects_its_own_baseline_is_bad_input(tmp_path: Path, tiny: dict[str, Any]) -> None:
    rejection = Evaluation(Rejection("stability", "resnet", 1e9, 1e8, 7))
    with pytest.raises(InputError, match=r"rejects BN-ReLU: stability on resnet"):
        searched(tmp_path, configured(tiny), FakePool(1, lambda job: rejection))


def test_a_baseline_that_cannot_be_trained_says_why(tmp_path: Path, tiny: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"BN-ReLU cannot be trained: worker_died: gone"):
        searched(tmp_path, configured(tiny), FakePool(1, lambda job: CRASHED))


# --------------------------------------------------------------------------- crashes


def test_so_many_crashes_in_a_row_stop_the_search_and_stay_recorded(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=100, space=ONLY_NEG, duplicates="evaluate")
    with pytest.raises(InputError, match=rf"{CRASHES_MAX} candidates in a row crashed.*worker_died: gone"):
        searched(tmp_path, config, FakePool(1, answering(CRASHED)))
    assert [each.state for each in Database.open(tmp_path).reader().candidates()] == ["crashed"] * CRASHES_MAX


def test_an_outcome_between_crashes_starts_their_count_again(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=20, space=ONLY_NEG, duplicates="evaluate")
    outcomes = [*[CRASHED] * (CRASHES_MAX - 1), PASSED] * 2
    _, reader = searched(tmp_path, config, FakePool(1, answering(*outcomes)))
    states = [each.state for each in reader.candidates()]
    assert states == [*["crashed"] * (CRASHES_MAX - 1), "evaluated"] * 2


def test_screened_candidates_do_not_hide_that_every_worker_crashes(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=300, duplicates="evaluate")
    pool = FakePool(1, answering(CRASHED))
    with pytest.raises(InputError, match="in a row crashed"):
        searched(tmp_path, config, pool)
    assert len(pool.submitted) == 1 + CRASHES_MAX
