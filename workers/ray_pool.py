"""Evaluations on Ray actors. With evonas/cluster.py the only file that imports ray."""

import logging
import math
import os
import platform
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from evonas.search_space.errors import InputError
from evonas.workers.data import load
from evonas.workers.machine import crash, peak_mb
from evonas.workers.outcome import Crash, CrashKind, Evaluation
from evonas.workers.pool import RETRIED, T, evaluate_safely
from evonas.workers.protocol import Device, Job, Protocol
from evonas.workers.training import check_compiler, compiles

CONNECT_SECONDS = 5.0
LOOK_SECONDS = 5.0  # between two looks at what the cluster holds
HEAD_SECONDS = 30.0  # that the cluster's head may not answer; after 60 Ray ends the process. Ours
START_SECONDS = 600.0  # for a worker to be placed and to load its data; then it is tried with another. Ours
STARTS_MAX = 12  # workers that fail to start, LOOK_SECONDS apart, before that is a job's answer. Ours
PLACE_SECONDS = 30.0  # that a job waits for a worker before that is told. Ours
_log = logging.getLogger("evonas")


class ClusterLost(Exception):
    """The head of the cluster is gone, and with it every worker; what was recorded stays."""


def _check_reachable(address: str) -> None:
    """Ray itself tries a dead address for many minutes. Raises InputError within seconds."""
    if ":" not in address:
        if address not in ("local", "auto"):
            raise InputError(f"cluster.address: expected in_process, local, auto or host:port, got '{address}'")
        return
    try:
        _connect(address)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"cluster.address: no Ray cluster answers at '{address}' ({error})") from None


def _connect(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


class _Worker:
    """The body of a Ray actor: one process that evaluates job after job."""

    def __init__(self, protocol: Protocol, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device = device
        self._bad_input: InputError | None = None
        try:
            load(protocol.data, device)
            if compiles(protocol):
                check_compiler(device)
        except InputError as error:  # raised by `ready`: an actor that fails in its constructor only dies
            self._bad_input = error

    def ready(self) -> tuple[str, int]:
        if self._bad_input:
            raise self._bad_input
        return platform.node(), os.getpid()

    def evaluate(self, job: Job) -> Evaluation:
        return evaluate_safely(job, self._device)


@dataclass
class _Slot:
    actor: Any
    ready: Any  # reference that resolves once the worker has started; when it has a job, just before that begins
    started: bool = False
    host: str = ""  # where the worker is
    process: int | None = None  # its number, on this machine
    key: int | None = None
    job: Job | None = None
    attempt: int = 0
    spent: float = 0.0  # seconds of the earlier attempts
    result: Any = None
    since: float = field(default_factory=time.monotonic)  # seconds; when the job, or else the worker, was begun
    peak_mb: float = 0.0  # seen from outside: a worker that dies does not tell


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A job without a worker."""

    key: int
    job: Job
    attempt: int = 1  # which this will be
    spent: float = 0.0
    since: float = field(default_factory=time.monotonic)


def _is_at_work(slot: _Slot) -> bool:
    """It starts, or it has a job."""
    return not slot.started or slot.key is not None


class RayPool:
    """Ray actors, one process each; they outlive their jobs, and are replaced when they die or hang. Without a `count`
    there are as many as the cluster holds at the moment: nodes may join and leave. With a `count` a cluster that grows
    by itself is asked for what it does not hold yet."""

    def __init__(
        self,
        protocol: Protocol,
        *,
        address: str = "local",
        count: int | None = None,
        cpus: int = 1,
        gpus: float = 1.0,
        memory_gb: float | None = None,
        device: Device = "cpu",
        time_limit_seconds: float = 600.0,
        retries: int = 1,
    ) -> None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences its warning
        import ray

        self._ray = ray
        self._time_limit, self._retries = time_limit_seconds, retries
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _check_reachable(address)
            try:
                options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(f"cluster.address: '{address}': {str(error).splitlines()[0]}") from None
        uses_gpu = device == "cuda" or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
        self._wanted = {"CPU": float(cpus)} | ({"GPU": gpus} if uses_gpu else {})
        if memory_gb is not None:
            self._wanted["memory"] = memory_gb * 2**30
        self._count = count
        self._head = ray.get_runtime_context().gcs_address
        self.holds, self._looked = self._fit(), time.monotonic()
        self._answered = self._looked  # when the head did last
        if self.holds < (1 if count is None else count):
            asked = f"{count or 1} x {cpus} CPUs" + (f" and {gpus:g} GPUs" if uses_gpu else "")
            asked += f" and {memory_gb:g} GB" if memory_gb is not None else ""
            found = f"workers: {asked} wanted, but the cluster holds {self.holds} such workers"
            if count is None or address == "local":
                self.close()
                if address != "local":
                    found += "; with workers.count a cluster that grows by itself is asked for them"
                raise InputError(found)
            _log.warning("%s now; the others are waited for", found)
        self._arguments = (protocol, "cuda" if uses_gpu else "cpu", cpus)
        options = {"num_cpus": cpus, "num_gpus": gpus if uses_gpu else 0, "memory": self._wanted.get("memory")}
        actor: Any = ray.remote(_Worker).options(**options, max_restarts=0, max_task_retries=0)
        self._new_actor = actor.remote
        self._waiting: deque[_Waiting] = deque()
        self._answers: deque[tuple[int, Evaluation]] = deque()
        self._told = False  # that a job waits
        self._failed_starts, self._why = 0, ""  # in a row, and why the last did
        self._start_at = 0.0  # monotonic seconds: a node that is gone is noticed after a while
        self._slots: list[_Slot] = []
        self._grow()

    @property
    def capacity(self) -> int:
        """What was asked for, or what the cluster holds now."""
        self._look_if_due()
        self._room = max(1, self.holds) if self._count is None else self._count
        return self._room

    def _look_if_due(self) -> None:
        """At the head and, if it is there, at the nodes. Raises ClusterLost."""
        if time.monotonic() - self._looked <= LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            _connect(self._head)
        except OSError as error:
            if self._looked - self._answered > HEAD_SECONDS:
                self._slots, self._owns_ray = [], False  # they are gone, and Ray would wait for the head
                raise ClusterLost(f"the cluster's head, {self._head}, does not answer any more ({error})") from None
            return
        self._answered, self.holds = self._looked, self._fit()

    def _fit(self) -> int:
        """The workers that the nodes hold; none is spread over two."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(
            min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in self._wanted.items()) for node in nodes
        )

    def _grow(self) -> None:
        """Start as many workers as there is room for."""
        while len(self._slots) < self.capacity and time.monotonic() >= self._start_at:
            actor = self._new_actor(*self._arguments)
            self._slots.append(_Slot(actor, actor.ready.remote()))

    def submit(self, key: int, job: Job) -> None:
        if len(self._waiting) + sum(slot.key is not None for slot in self._slots) >= self._room:
            raise RuntimeError("the pool is full")
        self._waiting.append(_Waiting(key, job))
        self._place()

    def _place(self) -> None:
        """Give the jobs that wait to idle workers; say so where one waits long, and answer it where none can start."""
        idle = [slot for slot in self._slots if slot.started and slot.key is None]
        while self._waiting and idle:
            slot, job = idle.pop(), self._waiting.popleft()
            slot.key, slot.job, slot.attempt, slot.spent = job.key, job.job, job.attempt, job.spent
            slot.peak_mb, slot.since, self._told = 0.0, time.monotonic(), False
            slot.ready, slot.result = slot.actor.ready.remote(), slot.actor.evaluate.remote(job.job)
        if not self._waiting:
            return
        seconds = time.monotonic() - self._waiting[0].since
        if seconds > PLACE_SECONDS and not self._told:
            self._told = True
            _log.warning("a job has waited %.0f s for a worker: the cluster has no room, or they still load", seconds)
        if self._failed_starts >= STARTS_MAX and not any(slot.started for slot in self._slots):
            lost, self._failed_starts = self._waiting.popleft(), 0
            found = Evaluation(Crash(CrashKind.WORKER_DIED, self._why), attempts=lost.attempt, seconds=lost.spent)
            self._answers.append((lost.key, found))

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        deadline = time.monotonic() + timeout
        while not self._answers:
            self._look_if_due()
            self._grow()
            self._place()
            at_work = {(slot.result if slot.started else slot.ready): slot for slot in self._slots if _is_at_work(slot)}
            left = max(0.0, deadline - time.monotonic())
            if at_work:
                self._ray.wait(list(at_work), timeout=min(left, 0.2))
                done, _ = self._ray.wait(list(at_work), num_returns=len(at_work), timeout=0)  # all that are ready
                for reference in done:
                    self._hear(at_work.pop(reference))
                for slot in at_work.values():
                    self._watch(slot)
                self._place()
            else:
                time.sleep(min(left, 0.2))
            if time.monotonic() >= deadline:
                break
        return self._answers.popleft() if self._answers else None

    def _hear(self, slot: _Slot) -> None:
        """What a worker answered: that it has started, or its job's evaluation."""
        if slot.started:
            self._answer(slot, self._get(slot.result))
            return
        found = self._get(slot.ready)
        if isinstance(found, Evaluation):
            assert isinstance(found.outcome, Crash)
            self._failed_starts, self._why = self._failed_starts + 1, found.outcome.message
            if self._failed_starts == 1:
                _log.warning("a worker could not start, and is tried again: %s", self._why)
            self._start_at = time.monotonic() + LOOK_SECONDS
            self._replace(slot)
            return
        slot.started, self._failed_starts = True, 0
        slot.host = found[0]
        slot.process = found[1] if slot.host == platform.node() else None

    def _watch(self, slot: _Slot) -> None:
        """The time limits, and a busy worker's memory."""
        seconds = time.monotonic() - slot.since
        if not slot.started:
            if seconds > START_SECONDS:
                self._replace(slot)
            return
        if slot.process and self._arguments[1] == "cpu":  # of a GPU's memory only its own process knows
            slot.peak_mb = max(slot.peak_mb, peak_mb(process=slot.process))
        if seconds > self._time_limit:
            limit = self._time_limit
            self._answer(slot, Evaluation(Crash(CrashKind.TIME_LIMIT, f"no answer within {limit:g} s"), seconds=limit))

    def _replace(self, slot: _Slot) -> None:
        self._ray.kill(slot.actor, no_restart=True)
        self._slots.remove(slot)
        self._looked = -math.inf  # its node may be gone
        self._grow()

    def _had_begun(self, slot: _Slot) -> bool:
        """Whether a worker that died was still there when its job was sent."""
        done, _ = self._ray.wait([slot.ready], timeout=LOOK_SECONDS)
        return bool(done) and not isinstance(self._get(slot.ready), Evaluation)

    def _get(self, reference: Any) -> Any:
        """What a worker answered, or a Crash in its place; bad input found on the worker is raised here."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", error)
            if isinstance(cause, InputError):
                raise cause from None
            return Evaluation(crash(cause))
        except errors.OutOfMemoryError as error:
            return Evaluation(Crash(CrashKind.OUT_OF_MEMORY, " ".join(str(error).split())[:300]))
        except errors.RayError as error:
            return Evaluation(Crash(CrashKind.WORKER_DIED, " ".join(str(error).split())[:300]))

    def _answer(self, slot: _Slot, found: Evaluation) -> None:
        """Free the worker, or replace it; the job is answered, or tried once more."""
        key, job, attempt = slot.key, slot.job, slot.attempt
        assert key is not None
        assert job is not None
        crash = found.outcome if isinstance(found.outcome, Crash) else None
        spent = slot.spent + (found.seconds or time.monotonic() - slot.since)
        slot.key = slot.job = slot.result = None
        if crash:  # the worker is dead, hung, or in a state that nobody knows
            if crash.kind in RETRIED and not self._had_begun(slot):
                self._waiting.append(_Waiting(key, job, attempt, slot.spent))
                self._replace(slot)
                return
            self._replace(slot)
            if crash.kind in RETRIED and attempt <= self._retries:
                self._waiting.append(_Waiting(key, job, attempt + 1, spent))
                return
        memory_mb, host = found.memory_mb or slot.peak_mb, found.host or slot.host
        answer = replace(found, attempts=attempt, seconds=spent, memory_mb=memory_mb, host=host)
        self._answers.append((key, answer))

    def on_every_node(self, look: Callable[..., T], *arguments: Any) -> list[T | str]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task: Any = self._ray.remote(look)
        found: list[T | str] = []
        for node in self._ray.nodes():
            if node["Alive"]:
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                reference = task.options(num_cpus=0, scheduling_strategy=here, max_retries=0).remote(*arguments)
                try:
                    found.append(self._ray.get(reference, timeout=START_SECONDS))
                except self._ray.exceptions.RayError as error:  # such as a package that the node lacks
                    reason = str(error).strip().splitlines()[-1][:300]
                    found.append(f"{node['NodeManagerHostname']}: {reason}")
        return found

    def close(self) -> None:
        for slot in getattr(self, "_slots", []):
            self._ray.kill(slot.actor, no_restart=True)
        self._slots = []
        self._waiting, self._answers = deque(), deque()
        if self._owns_ray:
            self._ray.shutdown()
