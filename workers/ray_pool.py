"""Evaluations on Ray actors. With evonas/cluster.py the only file that imports ray."""

import logging
import math
import os
import platform
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from evonas.search_space.errors import InputError, first_line
from evonas.search_space.wording import counted
from evonas.workers.machine import crash, peak_mb
from evonas.workers.outcome import Crash, CrashKind, Evaluation
from evonas.workers.pool import RETRIED, T
from evonas.workers.protocol import Device, Job, Protocol
from evonas.workers.ray_worker import Slot, Waiting, Worker

CONNECT_SECONDS = 5.0
LOOK_SECONDS = 5.0  # between two looks at what the cluster holds
HEAD_SECONDS = 30.0  # silence of the cluster's head before it counts as lost; after 60 Ray ends the process. Ours
START_SECONDS = 600.0  # for a worker to be placed and to load its data; then it is replaced. Ours
STARTS_MAX = 12  # failed starts in a row, LOOK_SECONDS apart, before a job is answered with a crash. Ours
PLACE_SECONDS = 30.0  # wait of a job for a worker before a warning. Ours
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


class RayPool:
    """Ray actors, one process each. They outlive their jobs, and are replaced when they die or hang.

    Without a `count` there are as many workers as the cluster holds at the moment: nodes may join and leave. With a
    `count`, an autoscaling cluster is asked for that many.
    """

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
            except Exception as error:  # Ray raises Exception itself where its node starts too slowly
                raise InputError(f"cluster.address: '{address}': {first_line(error)}") from None
        uses_gpu = device == "cuda" or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
        self._needs = {"CPU": float(cpus)} | ({"GPU": gpus} if uses_gpu else {})
        if memory_gb is not None:
            self._needs["memory"] = memory_gb * 2**30
        self._count = count
        self._head = ray.get_runtime_context().gcs_address
        self.holds, self._looked = self._fit(), time.monotonic()
        self._answered = self._looked  # when the head did last
        if self.holds < (1 if count is None else count):
            demand = f"{count or 1} x {counted(cpus, 'CPU')}" + (f" and {gpus:g} GPUs" if uses_gpu else "")
            demand += f" and {memory_gb:g} GB" if memory_gb is not None else ""
            shortage = f"workers: {demand} wanted, but the cluster holds {counted(self.holds, 'such worker')}"
            if count is None or address == "local":
                self.close()
                if address != "local":
                    shortage += "; with workers.count a cluster that grows by itself is asked for them"
                raise InputError(shortage)
            _log.warning("%s now; the others are waited for", shortage)
        self._arguments = (protocol, "cuda" if uses_gpu else "cpu", cpus)
        options = {"num_cpus": cpus, "num_gpus": gpus if uses_gpu else 0, "memory": self._needs.get("memory")}
        actor: Any = ray.remote(Worker).options(**options, max_restarts=0, max_task_retries=0)
        self._new_actor = actor.remote
        self._waiting: deque[Waiting] = deque()
        self._answers: deque[tuple[int, Evaluation]] = deque()
        self._warned = False  # that a job waits
        self._failed_starts, self._why = 0, ""  # in a row, and why the last did
        self._start_at = 0.0  # monotonic seconds: a node that is gone is noticed after a while
        self._slots: list[Slot] = []
        self._grow()

    @property
    def capacity(self) -> int:
        """`count`, or else the workers that the cluster holds now."""
        self._look_if_due()
        self._room = max(1, self.holds) if self._count is None else self._count
        return self._room

    def _look_if_due(self) -> None:
        """Ask the head whether it is alive, then count the workers that the nodes hold. Raises ClusterLost."""
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
        """The workers that the nodes hold. A worker is never spread over two nodes."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(
            min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in self._needs.items()) for node in nodes
        )

    def _grow(self) -> None:
        """Start as many workers as there is room for."""
        while len(self._slots) < self.capacity and time.monotonic() >= self._start_at:
            actor = self._new_actor(*self._arguments)
            self._slots.append(Slot(actor, actor.ready.remote()))

    def submit(self, key: int, job: Job) -> None:
        if len(self._waiting) + sum(slot.key is not None for slot in self._slots) >= self._room:
            raise RuntimeError("the pool is full")
        self._waiting.append(Waiting(key, job))
        self._place()

    def _place(self) -> None:
        """Give waiting jobs to idle workers. Warns of a long wait; answers with a crash where no worker can start."""
        idle = [slot for slot in self._slots if slot.started and slot.key is None]
        while self._waiting and idle:
            slot, first = idle.pop(), self._waiting.popleft()
            slot.key, slot.job, slot.attempt, slot.spent = first.key, first.job, first.attempt, first.spent
            slot.peak_mb, slot.since, self._warned = 0.0, time.monotonic(), False
            slot.ready, slot.result = slot.actor.ready.remote(), slot.actor.evaluate.remote(first.job)
        if not self._waiting:
            return
        seconds = time.monotonic() - self._waiting[0].since
        if seconds > PLACE_SECONDS and not self._warned:
            self._warned = True
            _log.warning("a job has waited %.0f s for a worker: the cluster has no room, or they still load", seconds)
        if self._failed_starts >= STARTS_MAX and not any(slot.started for slot in self._slots):
            lost, self._failed_starts = self._waiting.popleft(), 0
            crash = Evaluation(Crash(CrashKind.WORKER_DIED, self._why), attempts=lost.attempt, seconds=lost.spent)
            self._answers.append((lost.key, crash))

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        deadline = time.monotonic() + timeout
        while not self._answers:
            self._look_if_due()
            self._grow()
            self._place()
            at_work = {(slot.result if slot.started else slot.ready): slot for slot in self._slots if slot.is_busy}
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

    def _hear(self, slot: Slot) -> None:
        """Take a worker's answer: it has started, or its job has an evaluation."""
        if slot.started:
            self._answer(slot, self._get(slot.result))
            return
        ready = self._get(slot.ready)
        if isinstance(ready, Evaluation):
            assert isinstance(ready.outcome, Crash)
            self._failed_starts, self._why = self._failed_starts + 1, ready.outcome.message
            if self._failed_starts == 1:
                _log.warning("a worker could not start, and is tried again: %s", self._why)
            self._start_at = time.monotonic() + LOOK_SECONDS
            self._replace(slot)
            return
        slot.started, self._failed_starts = True, 0
        slot.host = ready[0]
        slot.process = ready[1] if slot.host == platform.node() else None

    def _watch(self, slot: Slot) -> None:
        """Enforce the time limits, and follow a busy worker's memory."""
        seconds = time.monotonic() - slot.since
        if not slot.started:
            if seconds > START_SECONDS:
                self._replace(slot)
            return
        if slot.process and self._arguments[1] == "cpu":  # only the process itself can read its GPU memory
            slot.peak_mb = max(slot.peak_mb, peak_mb(process=slot.process))
        if seconds > self._time_limit:
            limit = self._time_limit
            self._answer(slot, Evaluation(Crash(CrashKind.TIME_LIMIT, f"no answer within {limit:g} s"), seconds=limit))

    def _replace(self, slot: Slot) -> None:
        self._ray.kill(slot.actor, no_restart=True)
        self._slots.remove(slot)
        self._looked = -math.inf  # its node may be gone
        self._grow()

    def _had_begun(self, slot: Slot) -> bool:
        """Whether a worker that died was alive when its job was sent. A worker that never started has not tried it."""
        done, _ = self._ray.wait([slot.ready], timeout=LOOK_SECONDS)
        return bool(done) and not isinstance(self._get(slot.ready), Evaluation)

    def _get(self, reference: Any) -> Any:
        """The value of a reference, or an evaluation that crashed. Raises InputError where the worker met one."""
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

    def _answer(self, slot: Slot, evaluation: Evaluation) -> None:
        """Answer the job or try it again; free the worker, or replace it after a crash."""
        key, job, attempt = slot.key, slot.job, slot.attempt
        assert key is not None
        assert job is not None
        failure = evaluation.outcome if isinstance(evaluation.outcome, Crash) else None
        spent = slot.spent + (evaluation.seconds or time.monotonic() - slot.since)
        slot.key = slot.job = slot.result = None
        if failure:  # the worker is dead, hung, or in an unknown state
            if failure.kind in RETRIED and not self._had_begun(slot):
                self._waiting.append(Waiting(key, job, attempt, slot.spent))
                self._replace(slot)
                return
            self._replace(slot)
            if failure.kind in RETRIED and attempt <= self._retries:
                self._waiting.append(Waiting(key, job, attempt + 1, spent))
                return
        memory_mb, host = evaluation.memory_mb or slot.peak_mb, evaluation.host or slot.host
        answer = replace(evaluation, attempts=attempt, seconds=spent, memory_mb=memory_mb, host=host)
        self._answers.append((key, answer))

    def on_every_node(self, look: Callable[..., T], *arguments: Any) -> list[T | str]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task: Any = self._ray.remote(look)
        answers: list[T | str] = []
        for node in self._ray.nodes():
            if node["Alive"]:
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                reference = task.options(num_cpus=0, scheduling_strategy=here, max_retries=0).remote(*arguments)
                try:
                    answers.append(self._ray.get(reference, timeout=START_SECONDS))
                except self._ray.exceptions.RayError as error:  # such as a package that the node lacks
                    reason = str(error).strip().splitlines()[-1][:300]
                    answers.append(f"{node['NodeManagerHostname']}: {reason}")
        return answers

    def close(self) -> None:
        for slot in getattr(self, "_slots", []):
            self._ray.kill(slot.actor, no_restart=True)
        self._slots = []
        self._waiting, self._answers = deque(), deque()
        if self._owns_ray:
            self._ray.shutdown()
