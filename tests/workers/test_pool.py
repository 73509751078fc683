"""Pools: one contract for both, and what only separate processes can promise."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from evonas.search_space.errors import InputError
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Crash, CrashKind, Evaluation, Fitness, Rejection
from evonas.workers.pool import InProcessPool, Pool
from evonas.workers.protocol import Job
from evonas.workers.ray_pool import RayPool
from evonas.workers.ray_worker import Worker
from tests.workers.conftest import graph, protocol

PROTOCOL = protocol()
PATIENCE = 120.0  # seconds; a pool that never answers fails its test
FOREVER = 10**7  # steps


def job(text: str = "BN-ReLU", seed: int = 0, **changes: Any) -> Job:
    return Job(graph=str(graph(text)), protocol=protocol(proxies=("resnet",), **changes), seed=seed)


def endless() -> Job:
    return job(recipe={"steps": FOREVER})


FULL = "OSError: [Errno 28] No space left on device"


class FullDisk(Worker):
    """A worker whose machine has no space left."""

    def evaluate(self, job: Job) -> Evaluation:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def answer(pool: Pool) -> tuple[int, Evaluation]:
    answered = pool.next(PATIENCE)
    assert answered is not None
    return answered


def crash(evaluation: Evaluation) -> Crash:
    assert isinstance(evaluation.outcome, Crash)
    return evaluation.outcome


# --------------------------------------------------------------------------- without Ray running


def nobody() -> str:
    """An address of this machine at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def alone() -> Iterator[None]:
    """Ray is not running in this process, before and after."""
    assert not ray.is_initialized()
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    "address", ["nowhere", pytest.param(nobody(), id="nobody"), "127.0.0.1:port", "no.such.host.invalid:6379"]
)
def test_an_address_without_a_cluster_is_bad_input(alone: None, address: str) -> None:
    with pytest.raises(InputError, match=r"^cluster\.address: ") as caught:
        RayPool(PROTOCOL, address=address, count=1)
    assert f"'{address}'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not ray.is_initialized()


def test_a_pool_stops_the_ray_that_it_started(alone: None) -> None:
    with pytest.raises(InputError, match=r"^workers: 1000 x 1 CPUs wanted, but the cluster holds \d+ such workers$"):
        RayPool(PROTOCOL, count=1000)
    assert not ray.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_bad_input(alone: None) -> None:
    with pytest.raises(InputError, match=r"device: cuda, but torch finds no GPU"):
        InProcessPool(PROTOCOL, "cuda")
    with pytest.raises(InputError, match=r"workers: 1 x 1 CPUs and 0\.5 GPUs wanted, but the cluster holds 0"):
        RayPool(PROTOCOL, device="cuda", gpus=0.5)


def test_a_compiler_asked_for_and_absent_is_bad_input(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the training is too short to compile anything."""
    monkeypatch.setenv("CXX", "/no/such/compiler")
    compiling = protocol(execution={"compile_from_steps": 1})
    changes = {"cpp.cxx": (None, "/no/such/compiler"), "fx_graph_cache": False}  # else it is answered from the disk
    with (
        torch._inductor.config.patch(changes),
        pytest.raises(InputError, match=r"^execution\.compile_from_steps: torch\.compile does not work here"),
    ):
        InProcessPool(compiling)
    InProcessPool(protocol(execution={"compile_from_steps": 7}))  # of 6 steps


@pytest.mark.parametrize("faults", [1, 2])
def test_a_fault_of_the_machine_is_tried_again_in_this_process(monkeypatch: pytest.MonkeyPatch, faults: int) -> None:
    attempts = []

    def failing(job: Job, device: str) -> Evaluation:
        attempts.append(job)
        if len(attempts) <= faults:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return evaluate(job, device)

    monkeypatch.setattr("evonas.workers.pool.evaluate", failing)
    pool = InProcessPool(PROTOCOL)
    pool.submit(1, job())
    _, evaluation = answer(pool)
    assert (len(attempts), evaluation.attempts) == (2, 2)
    assert evaluation.outcome == (evaluate(job()).outcome if faults == 1 else Crash(CrashKind.MACHINE, FULL))


# --------------------------------------------------------------------------- the contract


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


class TestInProcessPool(PoolContract):
    @pytest.fixture
    def pool(self) -> Pool:
        return InProcessPool(PROTOCOL)

    @pytest.fixture
    def another(self) -> Pool:
        return InProcessPool(PROTOCOL)


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
            pool.submit(1, endless())
            for attempt in (1, 2, 3):
                while not (pool._slots[0].attempt == attempt and pool._slots[0].peak_mb):
                    assert pool.next(0.5) is None
                os.kill(ray.get(pool._slots[0].ready)[1], signal.SIGKILL)
            key, evaluation = answer(pool)
            assert (key, crash(evaluation).kind, evaluation.attempts) == (1, "worker_died", 3)
            assert evaluation.memory_mb > 50
            pool.submit(2, job(recipe={"steps": 200}))
            while not pool._slots[0].started:
                assert pool.next(0.1) is None
            os.kill(ray.get(pool._slots[0].ready)[1], signal.SIGKILL)
            key, evaluation = answer(pool)
            assert (key, evaluation.attempts) == (2, 2)
            assert evaluation.outcome == evaluate(job(recipe={"steps": 200})).outcome
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

    def test_what_the_layer_may_cause_is_not_tried_again(self, cluster: None) -> None:
        pool = RayPool(PROTOCOL, count=1, retries=5, time_limit_seconds=1.0)
        try:
            for key, asked, kind in ((1, endless(), "time_limit"), (2, job("x + y"), "error")):
                pool.submit(key, asked)
                _, evaluation = answer(pool)
                assert (crash(evaluation).kind, evaluation.attempts) == (kind, 1)
                pool._time_limit = PATIENCE
        finally:
            pool.close()

    def test_a_hanging_worker_is_replaced(self, cluster: None) -> None:
        pool = RayPool(PROTOCOL, count=1, time_limit_seconds=1.0)  # from when the worker has started
        try:
            pool.submit(1, endless())
            key, evaluation = answer(pool)
            assert key == 1
            assert crash(evaluation) == Crash("time_limit", "no answer within 1 s")
            assert evaluation.seconds == 1.0
            pool._time_limit = PATIENCE
            pool.submit(2, job())
            key, evaluation = answer(pool)
            assert key == 2
            assert isinstance(evaluation.outcome, Fitness)
        finally:
            pool.close()

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

    def test_a_worker_that_died_idle_costs_no_attempt(self, cluster: None) -> None:
        pool = RayPool(PROTOCOL, count=2, retries=0)
        try:
            for key in (1, 2):
                pool.submit(key, job(seed=key))
            assert {answer(pool)[0] for _ in range(2)} == {1, 2}
            while not all(slot.started for slot in pool._slots):
                assert pool.next(0.1) is None
            for slot in pool._slots:
                os.kill(ray.get(slot.ready)[1], signal.SIGKILL)
            pool.submit(3, job())
            key, evaluation = answer(pool)
            assert (key, evaluation.attempts) == (3, 1)
            assert isinstance(evaluation.outcome, Fitness)
        finally:
            pool.close()

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
            ({"count": 5}, "workers: 5 x 1 CPUs wanted, but the cluster holds 4 such workers"),
            ({"count": 3, "cpus": 2}, "workers: 3 x 2 CPUs wanted, but the cluster holds 2 such workers"),
            ({"cpus": 5}, "workers: 1 x 5 CPUs wanted, but the cluster holds 0 such workers"),
            (
                {"device": "cuda", "gpus": 1000.0},
                "workers: 1 x 1 CPUs and 1000 GPUs wanted, but the cluster holds 0 such workers",
            ),
        ],
    )
    def test_more_workers_than_the_cluster_holds(self, cluster: None, asked: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError) as caught:
            RayPool(PROTOCOL, **asked)
        assert str(caught.value) == message
        assert ray.is_initialized()

    def test_as_many_workers_as_the_cluster_holds(self, cluster: None) -> None:
        pool = RayPool(PROTOCOL, cpus=2)
        pool.close()
        assert pool.capacity == 2
