"""What layers cost: a training on each proxy, over the same proxy with identity layers.

    python tests/benchmarks/step_cost.py configs/cifar10.yaml --out cost.jsonl [--run RUN | --cascade FILE] [--compile]

For every catalog graph and ten survivors (of a run, or what cascade.py's FILE accepted, random ones first): seconds of
a step, and with --compile the seconds to compile the layers from scratch and of a compiled step. The identity is timed
before and after each layer on the same proxy, since the machine changes. Cost at the full budget: the cheaper
of steps eager, and compilation and steps compiled. Every result is a line of FILE; run again, it goes on.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import torch

from evonas.config import Config
from evonas.config_file import load_config
from evonas.store.queries import Reader
from evonas.studies.bench import IDENTITY, time_training, timed_recipe
from search_space.catalog import catalog
from search_space.graph import Graph
from tests.benchmarks.machine import machine
from workers import data

GOAL = 1.25


def survivors(run: str | None, cascade: Path | None, count: int = 10) -> dict[str, str]:
    if run:
        return {f"birth {r.birth}": r.graph for r in Reader.open(run).top(count)}
    if cascade is None:
        return {}
    rows = [json.loads(line) for line in cascade.read_text().splitlines()]
    accepted = [row for row in rows if row.get("cascade") == "accepted"]
    chosen = sorted(accepted, key=lambda row: (row["kind"] != "random", row["number"]))[:count]
    return {f"{row['kind']} {row['number']}": row["graph"] for row in chosen}


def measure(config: Config, text: str, proxy: str, steps: int, compiled: bool) -> dict[str, float]:
    images = data.load(config.data)

    def time(graph: str, compiles: bool = False) -> tuple[float, float]:
        execution = config.execution.model_copy(update={"compile_from_steps": 1 if compiles else "never"})
        protocol = config.protocol.model_copy(update={"recipe": timed_recipe(config, steps), "execution": execution})
        return time_training(Graph.parse(graph), protocol, proxy, images, config.seed)

    before, (_, eager), after = time(IDENTITY)[1], time(text), time(IDENTITY)[1]
    found = {"identity": (before + after) / 2, "eager": eager}
    if compiled:
        first, fast = time(text, compiles=True)
        torch.compiler.reset()
        found |= {
            "compiled": fast,
            "compile_seconds": first - fast,
            "identity": (before + after + time(IDENTITY)[1]) / 3,
        }
    return found


def ratio(found: dict[str, float], steps: int) -> float:
    ways = [steps * found["eager"]]
    if "compiled" in found:
        ways.append(found["compile_seconds"] + steps * found["compiled"])
    return min(ways) / (steps * found["identity"])


def report(config: Config, rows: list[dict[str, Any]], budgets: list[int]) -> None:
    for budget in budgets:
        print(f"\nat {budget} steps: cost over that with identity layers, by proxy")
        table = {(row["layer"], row["proxy"]): ratio(row, budget) for row in rows}
        layers = list(dict.fromkeys(row["layer"] for row in rows))
        for layer in layers:
            shown = "  ".join(f"{proxy} {table[layer, proxy]:.2f}" for proxy in config.proxies)
            print(f"  {layer:24} {shown}")
        for proxy in config.proxies:
            bound = max(GOAL, table["BN-ReLU", proxy])
            known = {layer: table[layer, proxy] for layer in layers if layer in catalog}
            found = [table[layer, proxy] for layer in layers if layer not in catalog]
            within = sum(value <= bound for value in known.values())
            worst = max(known, key=lambda layer: known[layer])
            print(
                f"  {proxy}: {within} of {len(known)} catalog graphs within {bound:.2f}, median "
                f"{median(known.values()):.2f}, worst {worst} {known[worst]:.2f}"
                + (f"; survivors' median {median(found):.2f} (goal: {GOAL})" if found else "")
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
    names = arguments.layer or [name for name in catalog.graphs if catalog[name].inputs == 1]
    layers = {name: catalog[name].text for name in dict.fromkeys(("BN-ReLU", *names))}
    layers |= survivors(arguments.run, arguments.cascade)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    done = {(row["layer"], row["proxy"]) for row in rows}
    with arguments.out.open("a") as file:
        for layer, text in layers.items():
            for proxy in config.proxies:
                if (layer, proxy) not in done:
                    found = measure(config, text, proxy, arguments.steps, arguments.compile)
                    rows.append({"layer": layer, "proxy": proxy, **found})
                    file.write(json.dumps(rows[-1]) + "\n")
                    file.flush()
    report(config, rows, [config.recipe.steps, *arguments.budget])


if __name__ == "__main__":
    main()
