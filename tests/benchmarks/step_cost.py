"""What layers cost: a training on each proxy, over the same proxy with identity layers.

    python tests/benchmarks/step_cost.py configs/cifar10.yaml --out cost.jsonl [--run RUN | --cascade FILE] [--compile]

For every catalog graph and ten survivors (of a run, or what cascade.py's FILE accepted, random ones first): seconds of
a step, and with --compile the seconds to compile the layers and of a compiled step. The identity is timed before and
after each layer on the same proxy, since the machine changes. Every result is a line of FILE; run again, it goes on.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from statistics import median

import torch

from evonas.config import Config
from evonas.config_file import load_config
from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.store.database import Database
from evonas.studies.bench import IDENTITY, time_training, timed_recipe
from evonas.studies.results import ResultFile, Row
from evonas.workers import data
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

GOAL = 1.25


def survivors(run: str | None, cascade: Path | None, count: int = 10) -> dict[str, str]:
    if run:
        return {f"birth {r.birth}": r.graph for r in Database.open(run).reader().top(count)}
    if cascade is None:
        return {}
    rows = [json.loads(line) for line in cascade.read_text().splitlines()]
    accepted = [row for row in rows if row.get("cascade") == "accepted"]
    chosen = sorted(accepted, key=lambda row: (row["kind"] != "random", row["number"]))[:count]
    return {f"{row['kind']} {row['number']}": row["graph"] for row in chosen}


def measure(config: Config, text: str, steps: int, compiles: bool) -> Row:
    """Proxy -> seconds of an eager step and of one with identity layers, and of a compiled one with what its
    compilation took: from scratch for the first proxy; the others share it as far as their sites are alike."""
    images = data.load(config.data)

    def time(graph: str, proxy: str, compiled: bool = False) -> tuple[float, float]:
        execution = config.execution.model_copy(update={"compile_from_steps": 1 if compiled else "never"})
        recipe = timed_recipe(config, steps, execution)
        protocol = config.protocol.model_copy(update={"recipe": recipe, "execution": execution})
        return time_training(Graph.parse(graph), protocol, proxy, images, config.seed)

    found: Row = {}
    for proxy in config.proxies:
        before, (_, eager), after = time(IDENTITY, proxy)[1], time(text, proxy), time(IDENTITY, proxy)[1]
        found[proxy] = {"identity": (before + after) / 2, "eager": eager}
    for proxy in config.proxies if compiles else ():
        before, (first, fast), after = time(IDENTITY, proxy)[1], time(text, proxy, True), time(IDENTITY, proxy)[1]
        found[proxy] |= {"beside": (before + after) / 2, "compiled": fast, "compilation": first - fast}
    torch.compiler.reset()
    return found


def ratios(row: Row, steps: int, way: str) -> dict[str, float]:
    """Cost at the full budget over that with identity layers, by proxy, and of all proxies together."""
    found = row["proxies"]
    if way == "eager":
        costs = {proxy: (steps * each["eager"], steps * each["identity"]) for proxy, each in found.items()}
    else:
        costs = {
            proxy: (each["compilation"] + steps * each["compiled"], steps * each["beside"])
            for proxy, each in found.items()
        }
    costs["all"] = sum(own for own, _ in costs.values()), sum(identity for _, identity in costs.values())
    return {proxy: own / identity for proxy, (own, identity) in costs.items()}


def report(rows: list[Row], steps: int, way: str) -> None:
    table = {row["layer"]: ratios(row, steps, way) for row in rows}
    print(f"\n{way}, {steps} steps: cost over that with identity layers")
    for layer, found in table.items():
        print(f"  {layer:24} " + "  ".join(f"{proxy} {value:.2f}" for proxy, value in found.items()))
    for proxy in table["BN-ReLU"]:
        bound = max(GOAL, table["BN-ReLU"][proxy])
        known = {layer: found[proxy] for layer, found in table.items() if layer in LAYERS}
        survived = [found[proxy] for layer, found in table.items() if layer not in LAYERS]
        worst = max(known, key=lambda layer: known[layer])
        print(
            f"  {proxy}: {sum(value <= bound for value in known.values())} of {len(known)} catalog graphs within "
            f"{bound:.2f}, median {median(known.values()):.2f}, worst {worst} {known[worst]:.2f}"
            + (f"; median of {len(survived)} survivors {median(survived):.2f} (goal: {GOAL})" if survived else "")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run")
    parser.add_argument("--cascade", type=Path)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--budget", type=int, action="append", default=[], help="further budgets to report")
    parser.add_argument("--layer", action="append", default=[], help="of the catalog; all by default")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(arguments.config, arguments.set)
    print(machine())
    names = arguments.layer or [name for name in LAYERS.graphs if LAYERS[name].inputs == 1]
    layers = {name: LAYERS[name].text for name in dict.fromkeys(("BN-ReLU", *names))}
    layers |= survivors(arguments.run, arguments.cascade)
    source = arguments.run or (str(arguments.cascade) if arguments.cascade else None)
    file = ResultFile(arguments.out, config, steps=arguments.steps, compile=arguments.compile, survivors=source)
    done = {row["layer"] for row in file.rows}
    for layer, text in layers.items():
        if layer not in done:
            file.keep({"layer": layer, "proxies": measure(config, text, arguments.steps, arguments.compile)})
    kinds = Counter(layer.split()[0] for layer in layers if layer not in LAYERS)
    print("survivors: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    for steps in (config.recipe.steps, *arguments.budget):
        for way in ("eager", "compiled") if arguments.compile else ("eager",):
            report(file.rows, steps, way)


if __name__ == "__main__":
    in_one_line(main)
