"""The pool on Ray: what only separate processes can promise."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from evonas.search_space.errors import InputError
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Crash, CrashKind, Evaluation, Fitness
from evonas.workers.pool import Pool
from evonas.workers.protocol import Job
from evonas.workers.ray_pool import RayPool
from evonas.workers.ray_worker import Worker
from tests.workers.conftest import protocol
from tests.workers.pool_cases import FULL, PATIENCE, PROTOCOL, PoolContract, answer, crash, job

FOREVER = 10**7  # steps


def endless() -> Job:
    return job(recipe={"steps": FOREVER})


class FullDisk(Worker):
    """A worker whose machine has no space left."""

    def evaluate(self, job: Job) -> Evaluation:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with 4 CPUs, however many the machine has; pools leave it running."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def ray_pool(cluster: None) -> Iterator[RayPool]:
    pool = RayPool(PROTOCOL, count=2, retries=0)
    yield pool
    pool.close()


class TestRayPool(PoolContract):
    @pytest.fixture
    def pool(self, ray_pool: RayPool) -> Pool:
        return ray_pool

    @pytest.fixture
    def another(self, cluster: None) -> Pool:
        return RayPool(PROTOCOL, count=1)

    def test_workers_are_separate_processes(self, ray_pool: RayPool) -> None:
        pids = {ray.get(slot.ready)[1] for slot in ray_pool._slots}
        assert len(pids) == ray_pool.capacity == 2
        assert os.getpid() not in pids

    def test_a_job_that_runs_has_no_answer_yet_and_its_killed_worker_is_replaced(self, ray_pool: RayPool) -> None:
        ray_pool.submit(1, endless())
        ray_pool.submit(2, job())
        key, evaluation = answer(ray_pool)
        assert key == 2
        assert isinstance(evaluation.outcome, Fitness)
        assert ray_pool.next(0.5) is None
        (victim,) = [slot for slot in ray_pool._slots if slot.key == 1]
        os.kill(ray.get(victim.ready)[1], signal.SIGKILL)
        key, evaluation = answer(ray_pool)
        assert (key, crash(evaluation).kind) == (1, "worker_died")
        assert crash(evaluation).message
        assert "\n" not in crash(evaluation).message
        for key in (3, 4):  # on the old worker and on the new one
            ray_pool.submit(key, job(seed=key))
        answers = dict(answer(ray_pool) for _ in range(2))
        assert {key: each.outcome for key, each in answers.items()} == {
            key: evaluate(job(seed=key)).outcome for key in (3, 4)
        }

    def test_a_job_whose_worker_dies_is_tried_again(self, cluster: None) -> None:
        """So often as asked; the answer is that of the last attempt, with the memory that was seen from outside."""
        pool = RayPool(PROTOCOL, count=1, retries=2)
        try:
            pool.submit(1, job(recipe={"steps": 200}))
            while not pool._slots[0].started:
                assert pool.next(0.1) is None
            os.kill(ray.get(pool._slots[0].ready)[1], signal.SIGKILL)
            key, evaluation = answer(pool)
            assert (key, evaluation.attempts) == (1, 2)
            assert evaluation.outcome == evaluate(job(recipe={"steps": 200})).outcome
            pool.submit(2, endless())  # to the worker that answered
            for attempt in (1, 2, 3):
                while not (pool._slots[0].attempt == attempt and pool._slots[0].peak_mb):
                    assert pool.next(0.1) is None
                os.kill(ray.get(pool._slots[0].ready)[1], signal.SIGKILL)
            key, evaluation = answer(pool)
            assert (key, crash(evaluation).kind, evaluation.attempts) == (2, "worker_died", 3)
            assert evaluation.memory_mb > 50
        finally:
            pool.close()

    def test_a_fault_of_the_machine_is_tried_again(self, cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("evonas.workers.ray_pool.Worker", FullDisk)
        pool = RayPool(PROTOCOL, count=1, retries=1)
        try:
            pool.submit(1, job())
            key, evaluation = answer(pool)
            assert (key, evaluation.attempts) == (1, 2)
            assert crash(evaluation) == Crash(CrashKind.MACHINE, FULL)
        finally:
            pool.close()

    def test_what_the_layer_may_cause_is_not_tried_again(
        self, ray_pool: RayPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ray_pool, "_retries", 5)
        for key, asked, kind, limit in (
            (1, endless(), "time_limit", 1.0),
            (2, job("x + y"), "error", PATIENCE),
        ):
            monkeypatch.setattr(ray_pool, "_time_limit", limit)  # from when the worker has started
            ray_pool.submit(key, asked)
            _, evaluation = answer(ray_pool)
            assert (crash(evaluation).kind, evaluation.attempts) == (kind, 1)

    def test_a_hanging_worker_is_replaced(self, ray_pool: RayPool, monkeypatch: pytest.MonkeyPatch) -> None:
        workers = list(ray_pool._slots)
        with monkeypatch.context() as limited:
            limited.setattr(ray_pool, "_time_limit", 1.0)
            ray_pool.submit(1, endless())
            key, evaluation = answer(ray_pool)
        assert key == 1
        assert crash(evaluation) == Crash("time_limit", "no answer within 1 s")
        assert evaluation.seconds == 1.0
        (hung,) = [each for each in workers if each not in ray_pool._slots]
        (new,) = [each for each in ray_pool._slots if each not in workers]
        assert hung.process != ray.get(new.ready)[1]
        for key in (2, 3):  # on the old worker and on the new one
            ray_pool.submit(key, job(seed=key))
        for key, evaluation in (answer(ray_pool) for _ in range(2)):
            assert evaluation.outcome == evaluate(job(seed=key)).outcome

    def test_a_job_waits_for_a_worker_that_cannot_start(
        self, ray_pool: RayPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Others have the cluster's 4 CPUs; a worker that hangs while it loads its data looks so, and is replaced."""
        monkeypatch.setattr("evonas.workers.ray_pool.START_SECONDS", 0.5)
        monkeypatch.setattr("evonas.workers.ray_pool.PLACE_SECONDS", 0.2)
        monkeypatch.setattr("evonas.workers.ray_pool.LOOK_SECONDS", 0.1)
        others = RayPool(PROTOCOL, count=1, cpus=2)
        ray.get([slot.ready for slot in (*ray_pool._slots, *others._slots)])
        pool = RayPool(PROTOCOL, count=1, retries=0)
        try:
            (stuck,) = pool._slots
            pool.submit(1, job())
            assert pool.next(2.0) is None
            told = [each.message for each in caplog.records if each.name == "evonas"]
            assert [each[:16] for each in told] == ["a job has waited"]
            assert stuck not in pool._slots
            assert len(pool._slots) == 1
            others.close()
            monkeypatch.setattr("evonas.workers.ray_pool.START_SECONDS", PATIENCE)
            key, evaluation = answer(pool)
            assert (key, evaluation.attempts) == (1, 1)
            assert isinstance(evaluation.outcome, Fitness)
        finally:
            others.close()
            pool.close()

    def test_workers_that_fail_to_start_are_no_attempts_but_end_the_job(
        self, cluster: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("evonas.workers.ray_pool.LOOK_SECONDS", 0.1)
        monkeypatch.setattr("evonas.workers.ray_pool.STARTS_MAX", 2)
        pool = RayPool(protocol(proxies=("resnet",)), count=1, retries=1)
        try:
            pool._arguments = (pool._arguments[0], "nowhere", 1)  # torch knows no such device
            ray.kill(pool._slots[0].actor)
            pool.submit(1, job())
            key, evaluation = answer(pool)
            assert (key, crash(evaluation).kind, evaluation.attempts) == (1, "worker_died", 1)
            pool._arguments = (pool._arguments[0], "cpu", 1)
            pool.submit(2, job())
            key, evaluation = answer(pool)
            assert (key, evaluation.attempts) == (2, 1)
            assert isinstance(evaluation.outcome, Fitness)
        finally:
            pool.close()

    def test_a_worker_that_died_idle_costs_no_attempt(self, ray_pool: RayPool) -> None:
        for key in (1, 2):
            ray_pool.submit(key, job(seed=key))
        assert {answer(ray_pool)[0] for _ in range(2)} == {1, 2}
        for slot in ray_pool._slots:
            os.kill(ray.get(slot.ready)[1], signal.SIGKILL)
        ray_pool.submit(3, job())
        key, evaluation = answer(ray_pool)
        assert (key, evaluation.attempts) == (3, 1)
        assert isinstance(evaluation.outcome, Fitness)

    def test_a_job_goes_to_the_worker_that_is_there(self, ray_pool: RayPool) -> None:
        """The pool's other worker has no room in the cluster's 4 CPUs."""
        ray.get([slot.ready for slot in ray_pool._slots])
        pool = RayPool(PROTOCOL, count=2, cpus=2)
        try:
            for key in (1, 2):
                pool.submit(key, job(seed=key))
            assert {answer(pool)[0] for _ in range(2)} == {1, 2}
            assert sum(slot.started for slot in pool._slots) == 1
        finally:
            pool.close()

    def test_data_that_a_worker_cannot_find_are_bad_input(self, cluster: None, tmp_path: Path) -> None:
        """The driver may have them where another node has not."""
        pool = RayPool(protocol(data={"source": "folder", "path": str(tmp_path / "nowhere")}), count=1)
        try:
            pool.submit(1, job())
            with pytest.raises(InputError, match=r"data\.path: no folder"):
                pool.next(PATIENCE)
        finally:
            pool.close()

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"count": 5}, "workers: 5 x 1 CPU wanted, but the cluster holds 4 such workers"),
            ({"count": 3, "cpus": 2}, "workers: 3 x 2 CPUs wanted, but the cluster holds 2 such workers"),
            ({"cpus": 5}, "workers: 1 x 5 CPUs wanted, but the cluster holds 0 such workers"),
            (
                {"device": "cuda", "gpus": 1000.0},
                "workers: 1 x 1 CPU and 1000 GPUs wanted, but the cluster holds 0 such workers",
            ),
        ],
    )
    def test_more_workers_than_the_cluster_holds(self, cluster: None, asked: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError) as caught:
            RayPool(PROTOCOL, **asked)
        assert str(caught.value) == message
        assert ray.is_initialized()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
    def test_a_cluster_without_a_gpu_holds_no_worker_that_needs_one(self, cluster: None) -> None:
        with pytest.raises(InputError, match=r"workers: 1 x 1 CPU and 0\.5 GPUs wanted, but the cluster holds 0"):
            RayPool(PROTOCOL, device="cuda", gpus=0.5)

    def test_as_many_workers_as_the_cluster_holds(self, cluster: None) -> None:
        pool = RayPool(PROTOCOL, cpus=2)
        pool.close()
        assert pool.capacity == 2
