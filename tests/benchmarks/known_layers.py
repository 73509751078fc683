"""BN-ReLU, GN-ReLU, BN-SiLU, EvoNorm-B0 and EvoNorm-S0 must pass every gate of every shipped config, on 5 seeds.

    python tests/benchmarks/known_layers.py configs/quickstart.yaml [--seeds 5] [--set data.source=folder ...]

Prints what each gate measured; exits with 1 when a layer was stopped. Graphs that show that the stability gate can fire
(exp(exp(x)), x*x*x*x, x / mean_hw(x)) are measured beside them, on that gate alone.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from evonas.config import Config
from evonas.config_file import load_config
from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.screening import Screening
from evonas.workers import data
from evonas.workers.evaluation import Judged, Rejected
from evonas.workers.gates import screen
from evonas.workers.gates.stability import Stability
from evonas.workers.outcome import DIVERGED, Measurement
from evonas.workers.protocol import BaselinePoint, Job
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

KNOWN = ("GN-ReLU", "BN-SiLU", "EvoNorm-B0", "EvoNorm-S0")
BAD = ("exp(exp(x))", "x * x * x * x", "x / mean_hw(x)")


def measure(config: Config, text: str, seed: int, baseline: tuple[BaselinePoint, ...], all_gates: bool) -> Judged:
    torch.set_num_threads(1)
    protocol = config.protocol
    if not all_gates:
        protocol = protocol.model_copy(update={"gates": tuple(g for g in protocol.gates if isinstance(g, Stability))})
    job = Job(graph=text, protocol=protocol, seed=seed, baseline=baseline)
    run = Judged(job, Graph.parse(text), data.load_tasks(config.protocol))
    try:
        run.ask_gates()
    except Rejected as stop:
        rejection = stop.rejection
        if rejection.gate == DIVERGED:
            run.measurements.append(Measurement(DIVERGED, rejection.proxy, 0.0, 0.0, rejection.step, False, 0.0))
    return run


def one_seed(config: Config, seed: int) -> list[tuple[str, int, list[Measurement]]]:
    first = measure(config, LAYERS["BN-ReLU"].text, seed, (), True)
    points = tuple(BaselinePoint(proxy=p.proxy, step=p.step, accuracy=p.accuracy) for p in first.points)
    rows = [("BN-ReLU", seed, first.measurements)]
    rows += [(name, seed, measure(config, LAYERS[name].text, seed, points, True).measurements) for name in KNOWN]
    rows += [(text, seed, measure(config, text, seed, points, False).measurements) for text in BAD]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    print(machine())
    stopped = 0
    for name in ("BN-ReLU", *KNOWN):
        graph = LAYERS[name].graph
        stopped += not all(each.passed for each in screen(config.gates, Screening(graph)))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for rows in pool.map(one_seed, [config] * arguments.seeds, range(arguments.seeds)):
            for name, seed, measurements in rows:
                passed = all(m.passed for m in measurements)
                stopped += not passed and name not in BAD
                shown = "  ".join(
                    f"{m.gate}/{m.proxy} {m.value:.3g}@{m.step}{'' if m.passed else ' STOPPED'}" for m in measurements
                )
                print(f"{config.name} seed {seed} {name:16} {'passed ' if passed else 'stopped'} {shown}", flush=True)
    print(f"{config.name}: {stopped} known layers stopped")
    sys.exit(stopped > 0)


if __name__ == "__main__":
    in_one_line(main)
