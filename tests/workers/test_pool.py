"""The pool in this process, and what a pool refuses where Ray is not running."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch

from evonas.search_space.errors import InputError
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Crash, CrashKind, Evaluation
from evonas.workers.pool import InProcessPool, Pool
from evonas.workers.protocol import Job
from evonas.workers.ray_pool import RayPool
from tests.workers.conftest import protocol
from tests.workers.pool_cases import FULL, PROTOCOL, PoolContract, answer, job

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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Exception("The node timed out.\n  raylet.out: ..."), "cluster.address: 'local': The node timed out."),
        (TimeoutError(), "cluster.address: 'local': TimeoutError"),
    ],
)
def test_a_ray_that_does_not_start_is_one_line(
    alone: None, error: Exception, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine under load Ray gives up on its own node, with a plain Exception."""

    def slow(**options: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "init", slow)
    with pytest.raises(InputError) as caught:
        RayPool(PROTOCOL, count=1)
    assert str(caught.value) == line


def test_a_pool_stops_the_ray_that_it_started(alone: None) -> None:
    with pytest.raises(InputError, match=r"^workers: 1000 x 1 CPU wanted, but the cluster holds \d+ such workers?$"):
        RayPool(PROTOCOL, count=1000)
    assert not ray.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"device: cuda, but torch finds no GPU"):
        InProcessPool(PROTOCOL, "cuda")


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


class TestInProcessPool(PoolContract):
    @pytest.fixture
    def pool(self) -> Pool:
        return InProcessPool(PROTOCOL)

    @pytest.fixture
    def another(self) -> Pool:
        return InProcessPool(PROTOCOL)
