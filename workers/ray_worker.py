"""The worker of a Ray pool, and the pool's records of workers and of jobs without one."""

import os
import platform
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from evonas.search_space.errors import InputError
from evonas.workers.data import load_tasks
from evonas.workers.outcome import Evaluation
from evonas.workers.pool import evaluate_safely
from evonas.workers.protocol import Job, Protocol
from evonas.workers.training import check_execution


class Worker:
    """The body of a Ray actor: one process that evaluates job after job."""

    def __init__(self, protocol: Protocol, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device = device
        self._bad_input: InputError | None = None
        try:
            protocol = protocol.loaded()
            load_tasks(protocol, device)
            check_execution(protocol, device)
        except InputError as error:  # `ready` raises it: an actor whose constructor fails only dies
            self._bad_input = error

    def ready(self) -> tuple[str, int]:
        """Host and process number."""
        if self._bad_input:
            raise self._bad_input
        return platform.node(), os.getpid()

    def evaluate(self, job: Job) -> Evaluation:
        return evaluate_safely(job, self._device)


@dataclass
class Slot:
    """A worker, and the job that it has."""

    actor: Any
    ready: Any  # reference; resolves once the worker has started, and with a job just before that begins
    started: bool = False
    host: str = ""
    process: int | None = None  # its number, if it runs on this machine
    key: int | None = None
    job: Job | None = None
    attempt: int = 0
    spent: float = 0.0  # seconds of earlier attempts
    result: Any = None
    since: float = field(default_factory=time.monotonic)  # seconds; start of the job, or else of the worker
    peak_mb: float = 0.0  # seen from outside, since a worker that dies reports nothing

    @property
    def is_busy(self) -> bool:
        """Whether the worker is starting or has a job."""
        return not self.started or self.key is not None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job without a worker."""

    key: int
    job: Job
    attempt: int = 1  # the next one's number
    spent: float = 0.0
    since: float = field(default_factory=time.monotonic)
