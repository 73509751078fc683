"""The contract of every pool, and jobs for it."""

from typing import Any

import pytest

from evonas.search_space.errors import InputError
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Crash, Evaluation, Fitness, Rejection
from evonas.workers.pool import Pool
from evonas.workers.protocol import Job
from tests.workers import evaluation_cases
from tests.workers.conftest import protocol

PROTOCOL = protocol()
PATIENCE = 120.0  # seconds; a pool that never answers fails its test
FULL = "OSError: [Errno 28] No space left on device"


def job(text: str = "BN-ReLU", seed: int = 0, **changes: Any) -> Job:
    return evaluation_cases.job(text, seed, proxies=("resnet",), **changes)


def answer(pool: Pool) -> tuple[int, Evaluation]:
    answered = pool.next(PATIENCE)
    assert answered is not None
    return answered


def crash(evaluation: Evaluation) -> Crash:
    assert isinstance(evaluation.outcome, Crash)
    return evaluation.outcome


class PoolContract:
    """What the driver relies on, whatever the pool."""

    @pytest.fixture
    def pool(self) -> Pool:
        raise NotImplementedError

    @pytest.fixture
    def another(self) -> Pool:
        """To be closed by the test."""
        raise NotImplementedError

    def test_every_job_is_answered_once(self, pool: Pool) -> None:
        jobs = {key: job(text, seed=key) for key, text in enumerate(["BN-ReLU", "GN-ReLU", "x", "EvoNorm-S0"], 10)}
        waiting, answered = list(jobs), {}
        running = 0
        while len(answered) < len(jobs):
            while waiting and running < pool.capacity:
                key = waiting.pop(0)
                pool.submit(key, jobs[key])
                running += 1
            key, evaluation = answer(pool)
            running -= 1
            assert key not in answered
            answered[key] = evaluation
        assert pool.next(0.05) is None
        assert {key: each.outcome for key, each in answered.items()} == {
            key: evaluate(each).outcome for key, each in jobs.items()
        }

    def test_an_idle_pool_has_no_answer(self, pool: Pool) -> None:
        assert pool.next(0.05) is None
        assert pool.next(0.0) is None

    def test_a_full_pool_takes_no_job(self, pool: Pool) -> None:
        for key in range(pool.capacity):
            pool.submit(key, job(seed=key))
        with pytest.raises(RuntimeError, match="full"):
            pool.submit(99, job())
        assert {answer(pool)[0] for _ in range(pool.capacity)} == set(range(pool.capacity))
        assert pool.next(0.05) is None

    def test_a_rejection_is_an_answer(self, pool: Pool) -> None:
        pool.submit(7, job("x * x * x * x", gates=({"gate": "stability", "steps": 2},)))
        key, evaluation = answer(pool)
        assert key == 7
        assert isinstance(evaluation.outcome, Rejection)
        assert [each.gate for each in evaluation.measurements] == ["stability"]

    def test_a_program_that_fails_is_a_crash_and_the_next_job_works(self, pool: Pool) -> None:
        pool.submit(1, job("x + y"))  # proxies have no second input
        key, evaluation = answer(pool)
        assert (key, crash(evaluation).kind) == (1, "error")
        assert crash(evaluation).message.startswith("ValueError: ")
        assert "input" in crash(evaluation).message
        pool.submit(2, job())
        key, evaluation = answer(pool)
        assert key == 2
        assert isinstance(evaluation.outcome, Fitness)

    def test_bad_input_is_raised(self, another: Pool) -> None:
        try:
            another.submit(1, job().model_copy(update={"graph": "x * sigmod(x)"}))
            with pytest.raises(InputError, match="did you mean 'sigmoid'"):
                another.next(PATIENCE)
        finally:
            another.close()

    def test_a_closed_pool_forgets_its_jobs(self, another: Pool) -> None:
        another.submit(1, job())
        another.close()
        assert another.next(0.05) is None
        another.close()  # twice is harmless
