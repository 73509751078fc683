"""Known layers at each gate of a config, over some seeds: the figures by which thresholds are chosen.

    python -m tests.benchmarks.known_layers configs/quickstart.yaml [--seeds 5] [--set data.source=folder ...]
    python -m tests.benchmarks.known_layers configs/gpt.yaml --layers catalog

By default these are BN-ReLU, GN-ReLU, BN-SiLU, EvoNorm-B0 and EvoNorm-S0, which must pass every gate of every shipped
config of convolutions; --layers names others, or all of the catalog that the config's networks take, the default where
one reads text. Each is asked at every gate, whatever the others said, and trained to the end, beside the config's
baseline. A line tells what the gates measured of one layer with one seed. Then come the gates one by one: each layer
with the range of its measurements, its mean figure at the end, and with how many seeds it was stopped. Layers that show
that the stability gate can fire (exp(exp(x)), x*x*x*x, x / mean_hw(x)) are measured at that gate alone, where a config
has it. Exits with 1 where one of the default five was stopped.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from statistics import fmean

import torch

from evonas.config import Config
from evonas.config_file import load_config
from evonas.listing import measured_texts
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.graph import Graph
from evonas.search_space.screening import Screening
from evonas.studies.fidelity import trained_by
from evonas.workers import data
from evonas.workers.evaluation import Judged, Rejected
from evonas.workers.gates import timed
from evonas.workers.gates.base import Gate, LayerGate
from evonas.workers.gates.stability import Stability
from evonas.workers.outcome import DIVERGED, Measurement
from evonas.workers.protocol import BaselinePoint, Job
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

KNOWN = ("BN-ReLU", "GN-ReLU", "BN-SiLU", "EvoNorm-B0", "EvoNorm-S0")
CATALOG = "catalog"
BAD = ("exp(exp(x))", "x * x * x * x", "x / mean_hw(x)")


@dataclass(frozen=True)
class Row:
    """A layer with one seed."""

    layer: str
    seed: int
    measured: tuple[Measurement, ...]
    end: dict[str, float] | None  # fitness by proxy; None where the training diverged, or is not asked for


class Measured(Judged):
    """Asks every gate, whatever the others said."""

    def _ask(self, gate: Gate, proxy: str) -> None:
        try:
            super()._ask(gate, proxy)
        except Rejected as stop:
            if stop.rejection.gate == DIVERGED:
                raise


def measure(config: Config, layer: str, seed: int, baseline: Sequence[BaselinePoint]) -> tuple[Row, Judged]:
    """All gates and, unless it is one of BAD, the end of the training."""
    torch.set_num_threads(1)
    graph = Graph.parse(layer) if layer in BAD else named_graph(layer).graph
    protocol, screening = config.protocol, Screening(graph)
    if layer in BAD:
        protocol = protocol.model_copy(update={"gates": tuple(g for g in protocol.gates if isinstance(g, Stability))})
    job = Job(graph=str(graph), protocol=protocol, seed=seed, baseline=tuple(baseline))
    judged, end = Measured(job, graph, data.load_tasks(config.protocol)), None
    of_layer = [timed(partial(g.measure, screening)) for g in protocol.gates if isinstance(g, LayerGate)]
    try:
        judged.ask_gates()
        end = None if layer in BAD else judged.train().accuracy
    except Rejected as stop:
        diverged = Measurement(DIVERGED, stop.rejection.proxy, 0.0, 0.0, stop.rejection.step, False, 0.0)
        judged.measurements.append(diverged)
    return Row(layer, seed, (*of_layer, *judged.measurements), end), judged


def one_seed(config: Config, layers: Sequence[str], seed: int) -> list[Row]:
    """The baseline first: other layers are compared with it."""
    first, judged = measure(config, config.baseline, seed, ())
    points = [BaselinePoint(proxy=p.proxy, step=p.step, accuracy=p.accuracy) for p in judged.points]
    bad = BAD if any(isinstance(gate, Stability) for gate in config.gates) else ()
    others = [layer for layer in (*layers, *bad) if layer != config.baseline]
    return [first, *(measure(config, layer, seed, points)[0] for layer in others)]


def told(config: Config, row: Row) -> str:
    """A layer with one seed, in one line."""
    shown = [
        f"{m.gate}/{m.proxy} {measured_texts(m.gate, m.proxy, m.value, m.threshold, config.units)[0]}@{m.step}"
        f"{'' if m.passed else ' STOPPED'}"
        for m in row.measured
    ]
    passed = "passed " if all(m.passed for m in row.measured) else "stopped"
    return f"{config.name} seed {row.seed} {row.layer:16} {passed} {'  '.join([*shown, f'end {_end(config, [row])}'])}"


def by_gate(config: Config, rows: Sequence[Row]) -> list[str]:
    """For each gate and proxy the layers, by the least of their measurements."""
    found: dict[tuple[int, str, str], dict[str, list[Measurement]]] = {}
    for row in rows:
        seen: dict[tuple[str, str], int] = {}
        for m in row.measured:
            nth = seen[m.gate, m.proxy] = seen.get((m.gate, m.proxy), -1) + 1  # several gates of one kind
            found.setdefault((nth, m.gate, m.proxy), {}).setdefault(row.layer, []).append(m)
    lines = []
    for (nth, gate, proxy), of_layers in found.items():
        lines.append(f"\n{gate}{f' ({nth + 1})' if nth else ''}{f' on {proxy}' if proxy else ''}")
        for layer, several in sorted(of_layers.items(), key=lambda each: min(m.value for m in each[1])):
            least, most = (pick(several, key=lambda m: m.value) for pick in (min, max))
            values = [measured_texts(gate, proxy, m.value, m.threshold, config.units) for m in (least, most)]
            stopped = sum(not m.passed for m in several)
            end = _end(config, [row for row in rows if row.layer == layer])
            lines.append(
                f"  {layer:16} {values[0][0]:>14} to {values[1][0]:<14} threshold {values[0][1]:<14} "
                f"stopped {stopped} of {len(several)}  end {end}"
            )
    return lines


def _end(config: Config, rows: Sequence[Row]) -> str:
    """The mean figures at the end, over the seeds that trained to it."""
    ends = [config.units.read(row.end) for row in rows if row.end]
    if not ends:
        return "-"
    return ", ".join(f"{proxy} {fmean(end[proxy] for end in ends):.3f}" for proxy in config.proxies)


def chosen(config: Config, names: Sequence[str]) -> list[str]:
    """The layers, each once. Raises InputError for one that is not known."""
    every = [layer for name in names for layer in (trained_by(config) if name == CATALOG else [named_graph(name).name])]
    return list(dict.fromkeys(every))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--layers", action="append", help="a name of the catalog, or `catalog` for all; repeatable")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    layers = chosen(config, arguments.layers or ([CATALOG] if config.in_bits else KNOWN))
    print(machine())
    rows: list[Row] = []
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        count = arguments.seeds
        for each in pool.map(one_seed, [config] * count, [layers] * count, range(count)):
            rows += each
            for row in each:
                print(told(config, row), flush=True)
    print(*by_gate(config, rows), sep="\n")
    stopped = {row.layer for row in rows if not all(m.passed for m in row.measured)} - set(BAD)
    print(f"\n{config.name}: stopped with some seed: {', '.join(sorted(stopped)) or 'none'}")
    sys.exit(bool(stopped & set(KNOWN) and not arguments.layers))


if __name__ == "__main__":
    in_one_line(main)
