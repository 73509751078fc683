"""Seconds and peak memory of layers alone, forward and backward, side by side on this machine."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from statistics import median, quantiles

import torch
from torch import nn

from evonas.layers import layer as build
from evonas.retraining import Progress, quiet
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.lowering import NormAct
from evonas.search_space.moments import lowered_groups

SHAPES = ((128, 64, 16, 16), (32, 256, 8, 8))  # n c h w
TORCHS = "BN-ReLU (torch)"  # torch's BatchNorm2d and ReLU, eager: all are compared with it
BESIDE = ("BN-ReLU", "GN-ReLU")  # graphs of the catalog, as evonas computes them
GROUPS = 32  # as of evonas.layer, and of timm
ROUNDS, ROUNDS_MIN = 11, 3
LEAST_SECONDS = 0.005  # of one timing
MOST_SECONDS = 15.0  # of the rounds on one shape; later ones are left out on a busy machine
WARM_UP = 2

Shape = tuple[int, ...]
Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """A layer on one shape, run in one way."""

    layer: str
    shape: Shape
    compiled: bool
    seconds: float  # of forward and backward; the median over rounds
    ratio: float  # to torch's BatchNorm2d and ReLU, eager, in the same round; the median over rounds
    ratio_range: tuple[float, float]  # its quartiles over rounds
    peak_mb: float  # allocated above what was there before; MiB


def measure_speed(
    layer: NamedGraph,
    *,
    groups: int = GROUPS,
    device: str = "cpu",
    compiled: bool = False,
    shapes: Sequence[Shape] = SHAPES,
    rounds: int = ROUNDS,
    on_progress: Progress = quiet,
) -> list[SpeedRow]:
    """Time a layer beside BN-ReLU, GN-ReLU, and timm's EvoNorms where timm is installed, in float32.

    All take turns in each of at most `rounds` rounds, so that a busy machine slows all. With `compiled` each is timed
    compiled, too.
    """
    rows: list[SpeedRow] = []
    for number, shape in enumerate(shapes):
        steps = dict(_steps(layer, shape, groups, device, compiled))
        total = len(steps) * (rounds + 1)
        seconds = _take_turns(
            steps,
            rounds,
            device,
            partial(_report, on_progress, number * total, len(shapes) * total),
        )
        reference = seconds[TORCHS, False]
        for (name, compiles), mine in seconds.items():
            ratios = [a / b for a, b in zip(mine, reference, strict=True)]
            low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
            peak = peak_mb(steps[name, compiles], device)
            rows.append(SpeedRow(name, shape, compiles, median(mine), median(ratios), (low, high), peak))
        if compiled:
            torch.compiler.reset()
    return rows


def _report(on_progress: Progress, before: int, total: int, done: int) -> None:
    on_progress(before + done, total)


def _steps(
    layer: NamedGraph, shape: Shape, groups: int, device: str, compiled: bool
) -> Iterator[tuple[tuple[str, bool], Step]]:
    """Forward and backward of each layer in each way."""
    generator = torch.Generator().manual_seed(0)
    x, slope = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    x.requires_grad_()
    modules = _modules(layer, shape[1], groups)
    for compiles in (False, True)[: 1 + compiled]:
        for name, make in modules.items():
            yield (name, compiles), _step(make().to(device), x, slope, compiles)


def _step(module: nn.Module, x: torch.Tensor, slope: torch.Tensor, compiles: bool) -> Step:
    inputs = [x, *module.parameters()]
    run = torch.compile(module, dynamic=False) if compiles else module
    return lambda: torch.autograd.grad(run(x), inputs, slope, allow_unused=True)


def _modules(layer: NamedGraph, channels: int, groups: int) -> Mapping[str, Callable[[], nn.Module]]:
    made: dict[str, Callable[[], nn.Module]] = {
        layer.name: lambda: NormAct(layer.graph, channels, groups=groups),
        TORCHS: lambda: nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()),
    }
    for name in BESIDE:
        made[f"{name} (evonas)"] = partial(build, name, channels)
    try:
        layers = import_module("timm.layers")
    except ImportError:
        return made
    made["EvoNorm-B0 (timm)"] = lambda: layers.EvoNorm2dB0(channels)
    made["EvoNorm-S0 (timm)"] = lambda: layers.EvoNorm2dS0(channels, groups=lowered_groups(GROUPS, channels))
    return made


def _take_turns(
    steps: Mapping[tuple[str, bool], Step], rounds: int, device: str, on_done: Callable[[int], None]
) -> dict[tuple[str, bool], list[float]]:
    """Seconds of each in each round; every other round goes backwards."""
    repeats, done = dict[tuple[str, bool], int](), 0
    with torch._dynamo.config.patch(recompile_limit=64):  # all layers share code; torch would silently stop
        for key, step in steps.items():
            for _ in range(WARM_UP):
                step()
            repeats[key] = max(1, math.ceil(LEAST_SECONDS / timed(step, device)))
            on_done(done := done + 1)
        seconds: dict[tuple[str, bool], list[float]] = {key: [] for key in steps}
        began = time.monotonic()
        for number in range(rounds):
            if number >= ROUNDS_MIN and time.monotonic() - began > MOST_SECONDS:
                break
            for key in list(steps)[:: -1 if number % 2 else 1]:
                seconds[key].append(timed(steps[key], device, repeats[key]))
                on_done(done := done + 1)
    return seconds


def timed(step: Step, device: str, repeats: int = 1) -> float:
    """Mean seconds of a step."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    _wait(device)
    return (time.perf_counter() - began) / repeats


def _wait(device: str) -> None:
    """Until the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_mb(step: Step, device: str) -> float:
    """MiB that a step allocates at its peak, beyond what is there before it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        _wait(device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to standard error
    profiler = import_module("torch.profiler")
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = [each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda each: int(each.start_ns())):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    return peak / 2**20
