"""evaluate(job): the only door. An outcome is a function of the job alone."""

import math
import platform
import resource
import time
from dataclasses import dataclass, field

import torch

from search_space.graph import Graph
from workers import data
from workers.gates import stability
from workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Point, Rejection
from workers.protocol import SCREENING, Job, Quality, Stability
from workers.training import Diverged, Training, build_model


class Rejected(Exception):
    """A gate stops the candidate; never leaves this module."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection)
        self.rejection = rejection


def evaluate(job: Job, device: str = "cpu") -> Evaluation:
    """Take the job's layer through the protocol's gates, in order, and on to the full budget on every proxy.

    A rejected or diverging layer and exhausted memory are outcomes. The screening gates were asked before the job was
    made. Raises InputError where the data are absent.
    """
    images = data.load(job.protocol.data, device)
    started = time.perf_counter()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run = _Run(job, Graph.parse(job.graph), images, device)
    outcome: Outcome
    try:
        run.ask_gates()
        outcome = run.train()
    except Rejected as stop:
        outcome = stop.rejection
    except (MemoryError, torch.OutOfMemoryError) as error:
        outcome = Crash("out_of_memory", str(error).splitlines()[0] if str(error) else type(error).__name__)
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # how torch reports it on a CPU
            raise
        outcome = Crash("out_of_memory", str(error).splitlines()[0])
    finally:
        if job.protocol.execution.compile_from_steps != "never":
            torch.compiler.reset()
    seconds = time.perf_counter() - started
    return Evaluation(outcome, tuple(run.measurements), tuple(run.points), seconds, _peak_mb(device), platform.node())


@dataclass
class _Run:
    job: Job
    graph: Graph
    images: data.Images
    device: str
    measurements: list[Measurement] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    trainings: dict[str, Training] = field(default_factory=dict)

    def ask_gates(self) -> None:
        protocol = self.job.protocol
        for gate in protocol.gates:
            if isinstance(gate, SCREENING):
                continue
            for proxy in protocol.proxies:
                if isinstance(gate, Quality):
                    self._quality(gate, proxy)
                else:
                    self._stability(gate, proxy)

    def train(self) -> Fitness:
        protocol = self.job.protocol
        return Fitness({proxy: self._train(proxy, protocol.recipe.steps).accuracy for proxy in protocol.proxies})

    def _train(self, proxy: str, until: int) -> Point:
        """Go on to a step and validate there."""
        if proxy not in self.trainings:
            self.trainings[proxy] = Training(self.graph, self.job.protocol, proxy, self.images, self.job.seed)
        training = self.trainings[proxy]
        for point in self.points:
            if (point.proxy, point.step) == (proxy, max(until, training.step)):
                return point  # two gates may ask at one step
        try:
            training.run(until)
            point = training.validate()
        except Diverged as stop:
            raise Rejected(Rejection("diverged", proxy, math.inf, math.inf, stop.step)) from None
        self.points.append(point)
        return point

    def _quality(self, gate: Quality, proxy: str) -> None:
        started = time.perf_counter()
        accuracy = self._train(proxy, min(gate.steps, self.job.protocol.recipe.steps)).accuracy
        threshold = gate.min_accuracy or 0.0
        if gate.of_baseline is not None:
            same = [p.accuracy for p in self.job.baseline if (p.proxy, p.step) == (proxy, gate.steps)]
            threshold = gate.of_baseline * same[0] if same else 0.0
        self._record(gate.gate, proxy, accuracy, threshold, gate.steps, accuracy >= threshold, started)

    def _stability(self, gate: Stability, proxy: str) -> None:
        started = time.perf_counter()
        model = build_model(self.graph, self.job.protocol, proxy, self.images, self.job.seed)
        first = self.images.train
        batch = self.images.normalise(first.images[: gate.batch])
        norm, step = stability(model, batch, first.labels[: gate.batch], gate)
        passed = norm <= gate.gradient_norm_max
        self._record(gate.gate, proxy, norm, gate.gradient_norm_max, step, passed, started)

    def _record(
        self, gate: str, proxy: str, value: float, threshold: float, step: int, passed: bool, started: float
    ) -> None:
        seconds = time.perf_counter() - started
        self.measurements.append(Measurement(gate, proxy, value, threshold, step, passed, seconds))
        if not passed:
            raise Rejected(Rejection(gate, proxy, value, threshold, step))


def _peak_mb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
