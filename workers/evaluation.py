"""evaluate(job): a candidate is judged by the gates and trained. The outcome is a function of the job alone."""

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from statistics import fmean

import torch
from torch import Tensor, nn

from evonas.search_space.graph import Graph
from evonas.workers import data, machine
from evonas.workers.gates import timed
from evonas.workers.gates.base import Gate, LayerGate, NetworkGate, RankedGate, TrainingGate
from evonas.workers.gradients import InitialPass, Loss
from evonas.workers.outcome import DIVERGED, CrashKind, Evaluation, Fitness, Measurement, Outcome, Point, Rejection
from evonas.workers.protocol import Job
from evonas.workers.step import optimizer_of
from evonas.workers.task import Task
from evonas.workers.training import Diverged, Training, build_model, compiles


class Rejected(Exception):
    """A gate stops the candidate; never leaves `evaluate`."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection)
        self.rejection = rejection


def evaluate(job: Job, device: str = "cpu") -> Evaluation:
    """Take the job's layer through the protocol's gates, in order, and on to the full budget on every proxy.

    A rejected or diverging layer, exhausted memory and a fault of the machine are outcomes; an error of the program is
    raised. Gates that need the layer alone are not asked: the driver did. Two evaluations of one job under the same
    `conditions` on one type of machine have the same outcome, points and measurements, bit for bit. Raises InputError
    where the data are absent.
    """
    job = job.model_copy(update={"protocol": job.protocol.loaded()})
    tasks = data.load_tasks(job.protocol, device, job.judged_on)
    machine.make_deterministic(device)
    started = time.perf_counter()
    machine.forget_peak(device)
    with machine.random_numbers(device, job.seed):
        return _judge(job, device, tasks, started)


def _judge(job: Job, device: str, tasks: Mapping[str, Task], started: float) -> Evaluation:
    judged = Judged(job, Graph.parse(job.graph), tasks)
    outcome: Outcome
    try:
        judged.ask_gates()
        outcome = judged.train()
    except Rejected as stop:
        outcome = stop.rejection
    except Exception as error:
        outcome = machine.crash(error)
        if outcome.kind == CrashKind.ERROR:
            raise
    finally:
        if compiles(job.protocol):
            torch.compiler.reset()
        if job.protocol.execution.cuda_graphs:  # a dead graph's memory stays away from the workers that share the GPU
            judged.trainings.clear()
            torch.cuda.empty_cache()
    return Evaluation(
        outcome,
        tuple(judged.measurements),
        tuple(judged.points),
        seconds=time.perf_counter() - started,
        memory_mb=machine.peak_mb(device),
        host=platform.node(),
        conditions=machine.conditions(device),
    )


@dataclass
class Judged:
    """A candidate under judgement: its networks and trainings, as gates see them, and what was measured so far."""

    job: Job
    graph: Graph
    tasks: Mapping[str, Task]  # by proxy
    measurements: list[Measurement] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    trainings: dict[tuple[str, int], Training] = field(default_factory=dict)  # by proxy and repeat
    passes: dict[tuple[str, int], InitialPass] = field(default_factory=dict)  # by proxy and batch

    def ask_gates(self) -> None:
        """In their order; neighbours of equal work proxy by proxy, which costs less. Raises Rejected."""
        for (once, _), group in groupby(self.job.protocol.gates, _shared):
            gates = list(group)
            for proxy in ("",) if once else self.proxies:
                for gate in gates:
                    self._ask(gate, proxy)
                self.passes.clear()  # each holds every activation of a network

    def _ask(self, gate: Gate, proxy: str) -> None:
        match gate:
            case LayerGate():
                return  # asked by the driver
            case NetworkGate() | TrainingGate():
                measurement = timed(lambda: gate.measure(self, proxy))
            case _:
                raise TypeError(f"{gate.gate}: nobody asks it")
        self.measurements.append(measurement)
        if not measurement.passed:
            raise Rejected(Rejection.by(measurement))

    def train(self) -> Fitness:
        """On to the full budget, with each of the recipe's seeds."""
        recipe = self.job.protocol.recipe
        accuracy, step_seconds, saved_mb, loss = {}, {}, {}, {}
        for proxy in self.proxies:
            repeats = range(recipe.seeds)
            accuracy[proxy] = fmean([self._validate(proxy, recipe.steps, repeat).accuracy for repeat in repeats])
            trained = [self.trainings.pop((proxy, repeat)) for repeat in repeats]
            step_seconds[proxy] = fmean([each.step_seconds for each in trained])
            saved_mb[proxy] = trained[0].saved_mb()
            loss[proxy] = fmean([each.mean_loss(recipe.steps - _late(recipe.steps), recipe.steps) for each in trained])
        return Fitness(accuracy, step_seconds, saved_mb, loss)

    # The view of gates: base.Networks and base.Trainings.

    @property
    def proxies(self) -> tuple[str, ...]:
        return tuple(self.job.protocol.proxies)

    def guessing(self, proxy: str) -> float:
        return self.tasks[proxy].guessing

    def loss(self, proxy: str) -> Loss:
        return self.tasks[proxy].loss

    def fresh(self, proxy: str, batch: int) -> tuple[nn.Module, Tensor, Tensor]:
        task = self.tasks[proxy]
        inputs, targets = task.train[:batch]
        return build_model(self.graph, self.job.protocol, proxy, task, self.job.seed), task.input(inputs), targets

    def initial_pass(self, proxy: str, batch: int) -> InitialPass:
        if (proxy, batch) not in self.passes:
            self.passes[proxy, batch] = InitialPass(*self.fresh(proxy, batch), self.loss(proxy))
        return self.passes[proxy, batch]

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return optimizer_of(model, self.job.protocol.recipe)

    def accuracy(self, proxy: str, step: int) -> float:
        return self._validate(proxy, step).accuracy

    def mean_loss(self, proxy: str, begin: int, end: int) -> float:
        return self._trained(proxy, end).mean_loss(begin, end)

    def baseline_accuracy(self, proxy: str, step: int) -> float | None:
        points = self.job.baseline
        return next((each.accuracy for each in points if (each.proxy, each.step) == (proxy, step)), None)

    def threshold(self, gate: RankedGate) -> float:
        key = gate.gate, gate.steps
        return next((each.value for each in self.job.thresholds if (each.gate, each.steps) == key), gate.no_threshold)

    def _validate(self, proxy: str, until: int, repeat: int = 0) -> Point:
        """The point of the learning curve at a step; two gates may ask for one."""
        training = self._trained(proxy, until, repeat)
        for point in self.points:
            if (point.proxy, point.repeat, point.step) == (proxy, repeat, training.step):
                return point
        try:
            point = training.validate()
        except Diverged as stop:
            raise _diverged(proxy, stop) from None
        self.points.append(replace(point, repeat=repeat))
        return point

    def _trained(self, proxy: str, until: int, repeat: int = 0) -> Training:
        """The training on a proxy, after so many steps."""
        if (proxy, repeat) not in self.trainings:
            seed = self.job.seed + repeat
            self.trainings[proxy, repeat] = Training(self.graph, self.job.protocol, proxy, self.tasks[proxy], seed)
        training = self.trainings[proxy, repeat]
        try:
            training.run(until)
        except Diverged as stop:
            raise _diverged(proxy, stop) from None
        return training


def _late(steps: int) -> int:
    """The last quarter of the steps, at least one."""
    return math.ceil(steps / 4)


def _shared(gate: Gate) -> tuple[bool, str]:
    """Whether a gate is asked once for all proxies, and its work: neighbours alike in both are asked together."""
    return isinstance(gate, TrainingGate) and gate.once, gate.work or gate.gate


def _diverged(proxy: str, stop: Diverged) -> Rejected:
    return Rejected(Rejection(DIVERGED, proxy, math.inf, math.inf, stop.step))
