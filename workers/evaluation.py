"""evaluate(job): the only door. An outcome is a function of the job alone."""

import math
import os
import platform
import resource
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from evonas.search_space.graph import Graph
from evonas.workers import data
from evonas.workers.gates import InitialPass, fit, stability
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Point, Rejection
from evonas.workers.protocol import DependsOnX, Finite, Fit, Gate, Gradient, Job, Loss, Quality, Rung, Signal, Stability
from evonas.workers.training import Diverged, Training, build_model, compiles

OUT_OF_MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED")  # in torch's words, on a CPU and on a GPU


class Rejected(Exception):
    """A gate stops the candidate; never leaves this module."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection)
        self.rejection = rejection


def evaluate(job: Job, device: str = "cpu") -> Evaluation:
    """Take the job's layer through the protocol's gates, in order, and on to the full budget on every proxy.

    A rejected or diverging layer and exhausted memory are outcomes. The screening gates were asked before the job was
    made. Of two evaluations of one job under the same `conditions` on one type of machine, outcome, points and
    measurements are bit for bit the same. Raises InputError where the data are absent.
    """
    images = data.load(job.protocol.data, device, job.judged_on)
    _make_deterministic(device)
    started = time.perf_counter()
    _forget_peak(device)
    run = _Run(job, Graph.parse(job.graph), images)
    outcome: Outcome
    try:
        run.ask_gates()
        outcome = run.train()
    except Rejected as stop:
        outcome = stop.rejection
    except (MemoryError, torch.OutOfMemoryError) as error:
        outcome = Crash("out_of_memory", str(error).splitlines()[0] if str(error) else type(error).__name__)
    except RuntimeError as error:
        if not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        outcome = Crash("out_of_memory", str(error).splitlines()[0])
    finally:
        if compiles(job.protocol):
            torch.compiler.reset()
    seconds = time.perf_counter() - started
    known = tuple(run.measurements), tuple(run.points), seconds, peak_mb(device)
    return Evaluation(outcome, *known, platform.node(), conditions(device))


def conditions(device: str) -> str:
    """Under which an evaluation runs: on one type of machine, equal ones answer an equal job bit by bit alike."""
    where = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    words = (platform.machine(), where, f"{threads} thread{'s' * (threads > 1)}", f"torch {torch.__version__}")
    return ", ".join((device, *words))


@dataclass
class _Run:
    job: Job
    graph: Graph
    images: data.Images
    measurements: list[Measurement] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    trainings: dict[tuple[str, int], Training] = field(default_factory=dict)  # by proxy and repeat
    initial: dict[tuple[str, int], InitialPass] = field(default_factory=dict)  # by proxy and batch

    def ask_gates(self) -> None:
        """In their order; neighbours that look at the same pass or training, proxy by proxy: it costs less."""
        for kind, group in groupby(self.job.protocol.gates, _work):
            gates = list(group)
            for proxy in ("",) if kind is Rung else self.job.protocol.proxies:
                for gate in gates:
                    self._ask(gate, proxy)
                self.initial.clear()  # its graph of the whole network

    def _ask(self, gate: Gate, proxy: str) -> None:
        match gate:
            case Signal() | Gradient():
                self._initial(gate, proxy)
            case Fit():
                self._fit(gate, proxy)
            case Loss():
                self._loss(gate, proxy)
            case Quality():
                self._quality(gate, proxy)
            case Stability():
                self._stability(gate, proxy)
            case Rung():
                self._rung(gate)
            case DependsOnX() | Finite():
                pass  # asked by the driver

    def train(self) -> Fitness:
        """On to the full budget, with each of the recipe's seeds."""
        recipe = self.job.protocol.recipe
        accuracy, step_seconds, saved_mb = {}, {}, {}
        for proxy in self.job.protocol.proxies:
            repeats = range(recipe.seeds)
            accuracy[proxy] = fmean([self._train(proxy, recipe.steps, repeat).accuracy for repeat in repeats])
            finished = [self.trainings.pop((proxy, repeat)) for repeat in repeats]
            step_seconds[proxy] = fmean([each.step_seconds for each in finished])
            saved_mb[proxy] = finished[0].saved_mb()
        return Fitness(accuracy, step_seconds, saved_mb)

    def _train(self, proxy: str, until: int, repeat: int = 0) -> Point:
        """Go on to a step and validate there."""
        training = self._run_to(proxy, until, repeat)
        for point in self.points:
            if (point.proxy, point.repeat, point.step) == (proxy, repeat, training.step):
                return point  # two gates may ask at one step
        try:
            point = training.validate()
        except Diverged as stop:
            raise self._diverged(proxy, stop) from None
        self.points.append(replace(point, repeat=repeat))
        return point

    def _run_to(self, proxy: str, until: int, repeat: int = 0) -> Training:
        if (proxy, repeat) not in self.trainings:
            seed = self.job.seed + repeat
            self.trainings[proxy, repeat] = Training(self.graph, self.job.protocol, proxy, self.images, seed)
        training = self.trainings[proxy, repeat]
        try:
            training.run(until)
        except Diverged as stop:
            raise self._diverged(proxy, stop) from None
        return training

    def _diverged(self, proxy: str, stop: Diverged) -> Rejected:
        return Rejected(Rejection("diverged", proxy, math.inf, math.inf, stop.step))

    def _initial(self, gate: Signal | Gradient, proxy: str) -> None:
        started = time.perf_counter()
        key = proxy, gate.batch
        if key not in self.initial:
            self.initial[key] = InitialPass(*self._fresh(proxy, gate.batch))
        if isinstance(gate, Signal):
            spread = self.initial[key].logits_std
            passed = spread >= gate.logits_std_min and math.isfinite(spread)
            value = spread if not math.isnan(spread) else math.inf
            self._record(gate.gate, proxy, value, gate.logits_std_min, 0, passed, started)
        else:
            norm = self.initial[key].gradient_norm
            bound = gate.norm_min if norm < gate.norm_min else gate.norm_max
            self._record(gate.gate, proxy, norm, bound, 0, gate.norm_min <= norm <= gate.norm_max, started)

    def _fit(self, gate: Fit, proxy: str) -> None:
        started = time.perf_counter()
        guessing = math.log(self.images.classes)
        network = self._fresh(proxy, gate.batch)
        least, step = fit(*network, self.job.protocol.recipe, gate.steps, gate.max_share * guessing)
        share = least / guessing
        self._record(gate.gate, proxy, share, gate.max_share, step, share <= gate.max_share, started)

    def _loss(self, gate: Loss, proxy: str) -> None:
        started = time.perf_counter()
        training = self._run_to(proxy, gate.steps)
        share = training.mean_loss(max(0, gate.steps - 10), gate.steps) / math.log(self.images.classes)
        self._record(gate.gate, proxy, share, gate.max_share, gate.steps, share <= gate.max_share, started)

    def _quality(self, gate: Quality, proxy: str) -> None:
        started = time.perf_counter()
        accuracy = self._train(proxy, gate.steps).accuracy
        threshold = gate.min_accuracy or 0.0
        if gate.of_baseline is not None:
            same = [p.accuracy for p in self.job.baseline if (p.proxy, p.step) == (proxy, gate.steps)]
            threshold = gate.of_baseline * same[0] if same else 0.0
        self._record(gate.gate, proxy, accuracy, threshold, gate.steps, accuracy >= threshold, started)

    def _stability(self, gate: Stability, proxy: str) -> None:
        started = time.perf_counter()
        norm, step = stability(*self._fresh(proxy, gate.batch), gate)
        passed = norm <= gate.gradient_norm_max
        self._record(gate.gate, proxy, norm, gate.gradient_norm_max, step, passed, started)

    def _rung(self, gate: Rung) -> None:
        started = time.perf_counter()
        mean = fmean([self._train(proxy, gate.steps).accuracy for proxy in self.job.protocol.proxies])
        threshold = next((each.accuracy for each in self.job.rungs if each.steps == gate.steps), 0.0)
        self._record(gate.gate, "", mean, threshold, gate.steps, mean >= threshold, started)

    def _fresh(self, proxy: str, batch: int) -> tuple[nn.Module, Tensor, Tensor]:
        """The proxy at its initial weights, and the first training images with their labels."""
        model = build_model(self.graph, self.job.protocol, proxy, self.images, self.job.seed)
        first = self.images.train
        return model, self.images.normalise(first.images[:batch]), first.labels[:batch]

    def _record(
        self, gate: str, proxy: str, value: float, threshold: float, step: int, passed: bool, started: float
    ) -> None:
        seconds = time.perf_counter() - started
        self.measurements.append(Measurement(gate, proxy, value, threshold, step, passed, seconds))
        if not passed:
            raise Rejected(Rejection(gate, proxy, value, threshold, step))


def _work(gate: Gate) -> type:
    """What a gate looks at."""
    return Signal if isinstance(gate, Gradient) else type(gate)


def _make_deterministic(device: str) -> None:
    """On a GPU torch is so only where it is asked; an operation that cannot be warns."""
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 is what was asked
        torch.use_deterministic_algorithms(True, warn_only=True)


def _forget_peak(device: str) -> None:
    """So that the peak is this evaluation's, not that of an earlier one of this process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # Linux alone can
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb(device: str = "cpu", process: int | str = "self") -> float:
    """MiB: the peak of a process of this machine since it was last forgotten, or of this process' GPU memory. 0 where
    it is not known."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    if process != "self":
        return 0.0
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
