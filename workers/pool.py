"""Pools run evaluations: the contract, and a pool in this process."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar
from typing import Protocol as Interface

from evonas.search_space.errors import InputError
from evonas.workers import machine
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Crash, CrashKind, Evaluation
from evonas.workers.protocol import Device, Job, Protocol
from evonas.workers.training import check_execution

T = TypeVar("T")
# Perhaps the machine's or a neighbour's doing, so tried again; a hang or an error may be the layer's.
RETRIED = (CrashKind.WORKER_DIED, CrashKind.OUT_OF_MEMORY, CrashKind.MACHINE)


class Pool(Interface):
    """Accepts at most `capacity` jobs at once and answers each exactly once, in any order.

    `capacity` may change, but never falls below 1: a job waits for its worker. A worker that dies, or is busy beyond
    the time limit, is replaced; its job is answered with a Crash, after further attempts where the machine may be the
    cause. A worker that never started does not count as an attempt.
    """

    holds: int  # workers that fit now

    @property
    def capacity(self) -> int: ...

    def submit(self, key: int, job: Job) -> None:
        """Start a job. Raises RuntimeError when `capacity` jobs are running."""

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        """The next finished job, or None after `timeout` seconds."""

    def on_every_node(self, look: Callable[..., T], *arguments: Any) -> list[T | str]:
        """A function's result on each machine of the pool, or one line that says why there is none."""

    def close(self) -> None:
        """Stop the workers. Unfinished jobs are dropped."""


class InProcessPool:
    """One job at a time, in this process: for debugging. Nothing can interrupt a job, so there is no time limit; where
    the machine failed, a job is tried once more."""

    holds = capacity = 1

    def __init__(self, protocol: Protocol, device: Device = "cpu") -> None:
        self._device = machine.chosen(device)
        check_execution(protocol, self._device)
        self._waiting: deque[tuple[int, Job]] = deque()

    def submit(self, key: int, job: Job) -> None:
        if self._waiting:
            raise RuntimeError("the pool is full")
        self._waiting.append((key, job))

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        if not self._waiting:
            return None
        key, job = self._waiting.popleft()
        evaluation = evaluate_safely(job, self._device)
        if isinstance(evaluation.outcome, Crash) and evaluation.outcome.kind == CrashKind.MACHINE:
            again = evaluate_safely(job, self._device)
            evaluation = replace(again, attempts=2, seconds=evaluation.seconds + again.seconds)
        return key, evaluation

    def on_every_node(self, look: Callable[..., T], *arguments: Any) -> list[T | str]:
        return [look(*arguments)]

    def close(self) -> None:
        self._waiting.clear()


def evaluate_safely(job: Job, device: str) -> Evaluation:
    """`evaluate`, with errors of the program and the machine as a Crash: one candidate is lost, not the search."""
    started = time.perf_counter()
    try:
        return evaluate(job, device)
    except InputError:
        raise
    except Exception as error:  # unforeseeable over a week; the driver stops when crashes repeat
        return Evaluation(machine.crash(error), seconds=time.perf_counter() - started)
