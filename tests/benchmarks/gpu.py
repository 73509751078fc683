"""Training steps on a GPU: eager, compiled, captured as a CUDA graph, and both; one whole evaluation; shared GPUs.

    python tests/benchmarks/gpu.py [configs/evonorm-b.yaml] [--out gpu.json] [--set data.source=...]

Each layer on each proxy, from the same weights on the same batches: milliseconds of a step, seconds of the steps before
that (compilation, warm-up, capture), and how far the losses of all steps are from the eager ones. `static` is the
captured step without its capture, so their losses must be equal bit for bit; the others differ by rounding, which a
training amplifies. Last, `sharing` runs several processes on the GPU at once, each with its own graph. Each part is
printed and written to the file as soon as it is there: a lent machine may go before the end.

Where the config's data are absent, the shipped images stand in. Without a GPU it says so, and runs a few eager and
static steps on a CPU; that is no measurement.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from evonas.config import Config
from evonas.config_file import load_config
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.workers import data, machine
from evonas.workers.data import Images
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import Job, Protocol
from evonas.workers.step import CapturedStep, StaticStep, Step
from evonas.workers.training import Diverged, Training, check_execution
from tests.benchmarks.machine import machine as described

Way = tuple[type[Step], bool]  # the step, and whether the layers are compiled
WAYS: dict[str, Way] = {
    "eager": (Step, False),
    "static": (StaticStep, False),
    "captured": (CapturedStep, False),
    "compiled": (Step, True),
    "compiled, captured": (CapturedStep, True),
}
ON_A_CPU = ("eager", "static")
STEPS, DRY_STEPS = 50, 1
EMBEDDED = ("data.source=embedded", "data.path=null", "data.train=8000", "data.validation=1000", "data.test=1000")
DRY = (*EMBEDDED, "recipe.batch_size=4")  # on a CPU: seconds
EARLY = 10  # steps, whose losses rounding has hardly moved


@dataclass(frozen=True, slots=True)
class Timing:
    """A layer on a proxy, trained in one way."""

    layer: str
    proxy: str
    way: str
    milliseconds: float  # of a step, mean
    setup_seconds: float  # of the steps before those
    losses: tuple[float, ...]


def protocol_of(config: Config, compiled: bool, steps: int) -> Protocol:
    """The config's, without gates, at its own learning rate; each way sets its step itself."""
    update = {"compile_from_steps": 1 if compiled else "never", "cuda_graphs": False}
    wanted = config.protocol.ungated(steps=CapturedStep.cold + steps)  # in every way, for the schedule depends on it
    return wanted.model_copy(update={"execution": wanted.execution.model_copy(update=update)})


def train(config: Config, images: Images, layer: str, proxy: str, way: str, steps: int) -> Timing:
    kind, compiled = WAYS[way]
    training = Training(LAYERS[layer].graph, protocol_of(config, compiled, steps), proxy, images, config.seed)
    training.one_step, training.cold = kind(training.network, training.recipe), kind.cold
    started = time.perf_counter()
    try:
        training.run(CapturedStep.cold)  # each run waits for the device at its end
        warm = time.perf_counter()
        training.run(CapturedStep.cold + steps)
    except Diverged:
        return Timing(layer, proxy, way, math.nan, math.nan, ())
    milliseconds = 1000 * (time.perf_counter() - warm) / steps
    return Timing(layer, proxy, way, milliseconds, warm - started, tuple(training.losses.tolist()))


def shared(arguments: tuple[Config, str, str, str, int, str]) -> float:
    """Milliseconds of a step beside other processes, each of which calls this."""
    config, layer, proxy, way, steps, device = arguments
    torch.set_num_threads(1)
    machine.make_deterministic(device)
    return train(config, data.load(config.data, device), layer, proxy, way, steps).milliseconds


def share(config: Config, layer: str, steps: int, device: str, count: int) -> float:
    """Captured steps a second of `count` processes together on the first proxy; the slowest counts."""
    proxy = next(iter(config.proxies))
    with torch.multiprocessing.get_context("spawn").Pool(count) as processes:
        each = processes.map(shared, [(config, layer, proxy, "captured", steps, device)] * count, chunksize=1)
    return 1000 * count / max(each)


def difference(timing: Timing, eager: Timing, steps: int) -> float:
    """The largest relative difference of a loss within so many steps; NaN where a training diverged."""
    pairs = zip(timing.losses[:steps], eager.losses[:steps], strict=False)
    return max((abs(own - other) / abs(other) for own, other in pairs), default=math.nan)


def tell(timings: list[Timing], layer: str, proxy: str) -> None:
    mine = {each.way: each for each in timings if (each.layer, each.proxy) == (layer, proxy)}
    for way, each in mine.items():
        early, late = (difference(each, mine["eager"], steps) for steps in (EARLY, len(each.losses)))
        ratio = mine["eager"].milliseconds / each.milliseconds
        print(
            f"  {layer:12} {proxy:16} {way:19} {each.milliseconds:8.2f} ms  {ratio:5.2f} x  "
            f"{each.setup_seconds:6.1f} s before  losses off by {early:.1e}, at the end {late:.1e}",
            flush=True,
        )


def one_evaluation(config: Config, layer: str, device: str, compiled: bool) -> dict[str, Any]:
    """The config's protocol with its gates to the full budget, captured where there is a GPU."""
    update = {"cuda_graphs": device == "cuda", "compile_from_steps": 1 if compiled else "never"}
    protocol = config.protocol.model_copy(update={"execution": config.execution.model_copy(update=update)})
    answer = evaluate(Job(graph=LAYERS[layer].text, protocol=protocol, seed=config.seed), device)
    gates = {f"{each.gate} {each.proxy}".strip(): each.seconds for each in answer.measurements}
    found = {"layer": layer, "compiled": compiled, "gates": gates}
    found |= {"seconds": answer.seconds, "memory_mb": answer.memory_mb}
    if isinstance(answer.outcome, Fitness):
        steps = {proxy: 1000 * seconds for proxy, seconds in answer.outcome.step_seconds.items()}
        return found | {"accuracy": answer.outcome.accuracy, "milliseconds": steps}
    return found | {"outcome": str(answer.outcome)}


def with_data(config: Config, path: str, settings: list[str], device: str) -> tuple[Config, Images]:
    """The config, on the shipped images where its own are absent."""
    try:
        return config, data.load(config.data, device)
    except InputError as error:
        print(f"{error}: the shipped images stand in")
        config = load_config(path, [*settings, *EMBEDDED])
        return config, data.load(config.data, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/evonorm-b.yaml")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS, help="that are timed and compared")
    parser.add_argument("--layer", action="append", default=[], help="[BN-ReLU, EvoNorm-B0]")
    parser.add_argument("--sharing", type=int, nargs="*", default=[1, 2, 4], help="numbers of processes")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--no-evaluation", dest="evaluation", action="store_false")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    device, steps = ("cuda", arguments.steps) if has_gpu else ("cpu", DRY_STEPS)
    if not has_gpu:
        torch.set_num_threads(1)
        print("torch finds no GPU: a dry run of what a CPU can run, eager and static steps; its times mean nothing")
    print(described())
    machine.make_deterministic(device)
    settings = [*arguments.set, *(() if has_gpu else DRY)]
    config, images = with_data(load_config(arguments.config, settings), arguments.config, settings, device)
    ways = [way for way, (_, compiled) in WAYS.items() if arguments.compile or not compiled] if has_gpu else ON_A_CPU
    if "compiled" in ways:
        check_execution(protocol_of(config, True, steps), device)
    layers = arguments.layer or (["BN-ReLU", "EvoNorm-B0"] if has_gpu else ["EvoNorm-B0"])
    timings: list[Timing] = []
    result: dict[str, Any] = {"machine": described(), "device": device, "config": config.model_dump(mode="json")}

    def keep(**parts: Any) -> None:
        result.update(parts)
        if arguments.out:
            arguments.out.write_text(json.dumps(result, indent=1))

    for layer in layers:
        for way in ways:  # proxy after proxy, since they share what is compiled
            timings += [train(config, images, layer, proxy, way, steps) for proxy in config.proxies]
            keep(timings=[asdict(each) for each in timings])
        torch.compiler.reset()
        for proxy in config.proxies:
            tell(timings, layer, proxy)
    if not has_gpu:
        return
    by_key = {(each.layer, each.proxy, each.way): each.losses for each in timings}
    unequal = [key[:2] for key in by_key if key[2] == "captured" and by_key[key] != by_key[*key[:2], "static"]]
    print(f"captured steps that are not the static ones, bit for bit: {unequal or 'none'}", flush=True)
    keep(unequal=unequal)
    if arguments.evaluation:
        evaluation = one_evaluation(config, layers[-1], device, arguments.compile)
        print(f"one evaluation: {json.dumps(evaluation)}", flush=True)
        keep(evaluation=evaluation)
    sharing: dict[int, float] = {}
    for count in arguments.sharing:
        sharing[count] = share(config, layers[-1], 4 * steps, device, count)
        print(f"  {count} processes on the GPU: {sharing[count]:.0f} steps a second together", flush=True)
        keep(sharing=sharing)


if __name__ == "__main__":
    main()
