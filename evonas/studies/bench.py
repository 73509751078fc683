"""The cost of an evaluation on this machine for each way to run it, and the steps from which compiling pays."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch

from evonas.config import BASELINE, Config
from evonas.config_input import load_config
from evonas.layers.resolve import Layers, trainable
from evonas.retraining import Progress, quiet
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError, whole
from evonas.search_space.graph import Graph
from evonas.store.records import columns
from evonas.workers import data, machine
from evonas.workers.protocol import Device, DType, Execution, Protocol, Recipe
from evonas.workers.step import step_kind
from evonas.workers.task import Task
from evonas.workers.training import Diverged, Training, check_compiler

Way = tuple[bool, DType, bool, bool]  # channels last, dtype, compiled, captured
DTYPES: tuple[DType, ...] = get_args(DType)
TIMED = (BASELINE, "EvoNorm-S0", "EvoNorm-B0")  # that are timed unless others are named
STEPS_MAX = 10**6
IDENTITY = "x"  # a layer that is its affine alone: the cost of the rest of the network


@dataclass(frozen=True, slots=True)
class BenchRow:
    """A layer on a proxy, run in one way."""

    layer: str
    proxy: str
    channels_last: bool
    dtype: DType
    compiled: bool
    step_seconds: float
    compile_seconds: float  # of the first steps beyond usual ones: to compile, and to warm up and capture
    captured: bool = False  # as a CUDA graph

    def seconds(self, steps: int) -> float:
        return self.compile_seconds + steps * self.step_seconds


@dataclass(frozen=True, slots=True, repr=False)
class Bench:
    """The timings of all ways to run a config, and what follows from them."""

    rows: tuple[BenchRow, ...]
    execution: Execution  # the fastest
    compiling_pays_from: float  # steps, in the fastest format; infinite if never, or not timed
    seconds: dict[str, float]  # way -> an evaluation of each layer at the full budget

    def __repr__(self) -> str:
        way = min(self.seconds, key=lambda name: self.seconds[name])
        return f"<Bench of {len(self.rows)} timings: {way} is fastest>"

    def _repr_html_(self) -> str:
        from evonas.report.notebook import table_html  # only a notebook needs it

        return table_html([columns(row) for row in self.rows])


def bench(
    config: Config | Mapping[str, Any] | str | Path,
    layers: Layers = TIMED,
    *,
    steps: int = 20,
    device: Device | None = None,
    compiled: bool = True,
    settings: Sequence[str] = (),
    on_progress: Progress = quiet,
) -> Bench:
    """Find the fastest way to run a config on this machine, and the steps from which compiling pays. On a GPU every way
    is timed with CUDA graphs, too.

    Args:
        layers: one or several graphs, texts, names of the catalog, records, or RUN#BIRTH; the identity is timed beside
            them.
        steps: the number of steps to time.
        device: by default that of the config's workers.
        compiled: whether to time torch.compile, too.
        on_progress: called with the timings done and their total.

    Raises InputError for bad input, and for a compiler that does not work.

    >>> evonas.bench("quickstart.yaml", "EvoNorm-B0", compiled=False)
    """
    loaded, steps = load_config(config, settings), whole("steps", steps, 1, STEPS_MAX)
    timed = [each for each in trainable(layers) if each.name != IDENTITY]
    if not timed:
        raise InputError("layers: expected one other than the identity, which is always timed")
    where = machine.chosen(loaded.workers.device if device is None else device)
    if compiled:
        check_compiler(where)
    ways = 2 * len(DTYPES) * (1 + compiled) * (1 + (where == "cuda"))
    total = ways * (1 + len(timed)) * len(loaded.proxies)
    rows: list[BenchRow] = []
    with machine.threads(loaded.workers.cpus):
        on_progress(0, total)
        for row in timings(loaded, timed, steps, where, compiled):
            rows.append(row)
            on_progress(len(rows), total)
    return Bench(tuple(rows), *best_execution(rows, loaded.recipe.steps))


def timings(
    config: Config, layers: Sequence[NamedGraph], steps: int, device: str, compiled: bool = True
) -> Iterator[BenchRow]:
    """Time each layer, and the identity, on each proxy: in every memory format and dtype, eager and compiled; on a GPU
    also captured.

    `steps` are timed after the first, which warm up. As in an evaluation, a layer is compiled from scratch for the
    first proxy; the others share the compiled code as far as they can.
    """
    tasks = data.load_tasks(config.protocol, device)
    graphs = (False, True) if device == "cuda" else (False,)
    ways = product((False, True), DTYPES, (False, True) if compiled else (False,), graphs)
    timed = (NamedGraph(IDENTITY, Graph.parse(IDENTITY)), *layers)
    for (channels_last, dtype, compiles, captured), layer in product(ways, timed):
        execution = Execution(
            compile_from_steps=1 if compiles else "never",
            channels_last=channels_last,
            dtype=dtype,
            cuda_graphs=captured,
        )
        recipe = timed_recipe(config, steps, execution)
        protocol = config.protocol.model_copy(update={"recipe": recipe, "execution": execution})
        for proxy in config.proxies:
            first, each = time_training(layer.graph, protocol, proxy, tasks[proxy], config.seed)
            setup = max(0.0, first - each) * (compiles or captured)
            yield BenchRow(layer.name, proxy, channels_last, dtype, compiles, each, setup, captured)
        if compiles:
            torch.compiler.reset()


def timed_recipe(config: Config, steps: int, execution: Execution) -> Recipe:
    """The recipe with the first steps, which are not timed, and a learning rate so small that no network diverges."""
    cold = step_kind(execution).cold
    return config.recipe.model_copy(update={"steps": steps + cold, "learning_rate": 1e-9, "seeds": 1})


def time_training(graph: Graph, protocol: Protocol, proxy: str, task: Task, seed: int) -> tuple[float, float]:
    """Seconds of the first step, and the median over those up to the full budget that nothing delays; infinite if the
    training diverges. The first step compiles from scratch if the protocol compiles; where it captures, the first step
    is charged with what the warm-up and the capture add."""
    training = Training(graph, protocol, proxy, task, seed)
    cold = training.one_step.cold
    seconds = []
    with torch._inductor.config.patch(fx_graph_cache=False):  # each candidate is new to torch
        for step in range(protocol.recipe.steps):
            started = time.perf_counter()
            try:
                training.run(step + 1)
            except Diverged:
                return math.inf, math.inf
            seconds.append(time.perf_counter() - started)
    each = median(seconds[cold:])
    return sum(seconds[:cold]) - (cold - 1) * each, each


def best_execution(rows: Sequence[BenchRow], steps: int) -> tuple[Execution, float, dict[str, float]]:
    """The fastest way to run `steps` on all proxies and all layers but the identity; the steps from which compiling
    pays in its format, infinite if never; and the seconds of every way."""
    ways: dict[Way, list[BenchRow]] = {}
    for row in rows:
        if row.layer != IDENTITY:
            ways.setdefault((row.channels_last, row.dtype, row.compiled, row.captured), []).append(row)
    totals = {way: sum(row.seconds(steps) for row in mine) for way, mine in ways.items()}
    channels_last, dtype, compiled, captured = min(totals, key=lambda way: totals[way])
    eager, fast = (ways.get((channels_last, dtype, compiles, captured), []) for compiles in (False, True))
    gain = sum(row.step_seconds for row in eager) - sum(row.step_seconds for row in fast)
    price = sum(row.compile_seconds for row in fast) - sum(row.compile_seconds for row in eager)
    from_steps = max(0.0, price) / gain if fast and gain > 0 else math.inf
    execution = Execution(
        compile_from_steps=max(1, math.ceil(from_steps)) if compiled else "never",
        channels_last=channels_last,
        dtype=dtype,
        cuda_graphs=captured,
    )
    return execution, from_steps, {_name(way): total for way, total in totals.items()}


def _name(way: Way) -> str:
    channels_last, dtype, compiled, captured = way
    memory, code = "channels last" if channels_last else "channels first", "compiled" if compiled else "eager"
    return f"{dtype}, {memory}, {code}" + ", captured" * captured
