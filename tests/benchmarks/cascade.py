"""The cascade of a config's gates against the paper's protocol (quality and stability alone), on the same candidates.

    python tests/benchmarks/cascade.py configs/cifar10.yaml --out cascade.jsonl [--set data.source=folder ...]

Random graphs and mutants of good layers, each judged by both protocols, one after the other in one process; times are
CPU seconds of one thread. A candidate that computes what an earlier one did inherits its outcome in the cascade. Rungs
are not asked: they compare candidates with each other, not with BN-ReLU. What the paper's gates accept and the cascade
stops is trained to the full budget with fresh seeds, beside BN-ReLU. Every result is a line of FILE; run again, it goes
on.
"""

import argparse
import math
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import torch
from scipy.stats import binomtest

from evonas.config import Config
from evonas.config_file import load_config
from evonas.search_space.catalog import LAYERS
from evonas.search_space.fingerprint import probe
from evonas.search_space.graph import Graph
from evonas.search_space.mutation import mutate
from evonas.search_space.screening import Screening
from evonas.studies.results import ResultFile
from evonas.workers import data
from evonas.workers.evaluation import evaluate
from evonas.workers.gates import screen
from evonas.workers.gates.base import RankedGate
from evonas.workers.gates.quality import Quality
from evonas.workers.gates.stability import Stability
from evonas.workers.outcome import Fitness, Outcome, Rejection
from evonas.workers.protocol import BaselinePoint, Job, Protocol
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

GOOD = ("BN-ReLU", "BN-SiLU", "GN-ReLU", "EvoNorm-B0", "EvoNorm-S0")
PAPER = (Quality(steps=100, min_accuracy=0.2), Stability())
NEAR = 0.02  # below BN-ReLU's accuracy: a rejected layer that reaches this was rejected wrongly
FRESH = (101, 102, 103)


def candidates(config: Config, random: int, mutants: int, seed: int) -> list[tuple[str, Graph]]:
    rng = Random(f"cascade {seed}")
    space = config.space.unconstrained
    drawn = [("random", config.space.draw(rng)) for _ in range(random)]
    changed = [
        mutate(LAYERS[rng.choice(GOOD)].graph, space, rng, config.evolution.mutations)[0] for _ in range(mutants)
    ]
    return [*drawn, *(("mutant", graph) for graph in changed)]


def judge(config: Config, graph: str, baseline: tuple[BaselinePoint, ...], is_duplicate: bool) -> dict[str, Any]:
    """Both protocols' verdicts and CPU seconds."""
    torch.set_num_threads(1)
    data.load(config.data)
    parsed = Graph.parse(graph)
    found: dict[str, Any] = {}
    started = time.process_time()
    paper = config.protocol.model_copy(update={"gates": PAPER})
    found["paper"] = told(evaluate(Job(graph=graph, protocol=paper, seed=config.seed)).outcome)
    found["paper_seconds"] = time.process_time() - started
    started = time.process_time()
    measurements = screen(config.gates, Screening(parsed))
    if measurements and not measurements[-1].passed:
        found["cascade"] = f"rejected by {measurements[-1].gate}"
    elif is_duplicate:
        found["cascade"] = "inherits"
    else:
        job = Job(graph=graph, protocol=config.protocol, seed=config.seed, baseline=baseline)
        found["cascade"] = told(evaluate(job).outcome)
    found["cascade_seconds"] = time.process_time() - started
    return found


def told(outcome: Outcome) -> str:
    match outcome:
        case Fitness():
            return "accepted"
        case Rejection("diverged", _, _, _, step):
            return f"rejected by diverged at step {step}"
        case Rejection():
            return f"rejected by {outcome.gate}"
        case _:
            return "crashed"


def ungated(protocol: Protocol, graph: str, seed: int) -> dict[str, float] | None:
    torch.set_num_threads(1)
    outcome = evaluate(Job(graph=graph, protocol=protocol.model_copy(update={"gates": ()}), seed=seed)).outcome
    return outcome.accuracy if isinstance(outcome, Fitness) else None


def baseline_points(config: Config) -> tuple[BaselinePoint, ...]:
    torch.set_num_threads(1)
    job = Job(graph=LAYERS["BN-ReLU"].text, protocol=config.protocol, seed=config.seed)
    points = evaluate(job).points
    return tuple(BaselinePoint(proxy=p.proxy, step=p.step, accuracy=p.accuracy) for p in points)


def report(rows: list[dict[str, Any]], fresh: dict[tuple[str, int], dict[str, float] | None]) -> None:
    for kind in ("random", "mutant", "all"):
        mine = [row for row in rows if kind in (row["kind"], "all")]
        if not mine:
            continue
        print(f"\n{kind}: {len(mine)} candidates")
        for name in ("paper", "cascade"):
            print(f"  {name}: {dict(Counter(row[name].split(' at step')[0] for row in mine).most_common())}")
        rejected = {
            name: [row[f"{name}_seconds"] for row in mine if row[name].startswith("rejected")]
            for name in ("paper", "cascade")
        }
        means = {name: fmean(seconds) if seconds else math.nan for name, seconds in rejected.items()}
        print(
            f"  CPU seconds per rejected candidate: paper {means['paper']:.2f}, cascade {means['cascade']:.3f}, "
            f"ratio {means['paper'] / means['cascade']:.0f} (goal: 50)"
        )
        totals = {name: sum(row[f"{name}_seconds"] for row in mine) for name in ("paper", "cascade")}
        accepted = sum(row["cascade_seconds"] for row in mine if row["cascade"] == "accepted")
        ceiling = totals["paper"] / accepted if accepted else math.inf
        print(
            f"  all: paper {totals['paper']:.0f} s, cascade {totals['cascade']:.0f} s: ratio "
            f"{totals['paper'] / totals['cascade']:.1f}, ceiling {ceiling:.1f} (only the accepted cost)"
        )
        by_gate: dict[str, list[float]] = {}
        for row in mine:
            by_gate.setdefault(row["cascade"].split(" at step")[0], []).append(row["cascade_seconds"])
        for verdict, seconds in by_gate.items():
            print(f"    {verdict:24} {len(seconds):4}  {sum(seconds):8.1f} s")
    stopped = [row for row in rows if row["cascade"].startswith("rejected")]
    disputed = [row for row in stopped if row["paper"] == "accepted"]
    wrong, wrong_by = 0, Counter[str]()
    for row in disputed:
        differences = []
        for seed in FRESH:
            own, bn = fresh.get((row["graph"], seed)), fresh.get((LAYERS["BN-ReLU"].text, seed))
            if bn:  # BN-ReLU itself may fail with a seed
                differences.append(fmean(own[p] - bn[p] for p in bn) if own else -1.0)
        wrong += fmean(differences) > -NEAR
        text = Graph.parse(row["graph"]).formula.replace("\n", "; ")
        print(f"  {row['cascade']}, accepted by the paper's gates: {100 * fmean(differences):+.1f} points: {text}")
        wrong_by[row["cascade"]] += fmean(differences) > -NEAR
    for verdict, count in Counter(row["cascade"].split(" at step")[0] for row in stopped).most_common():
        of_gate = sum(n for name, n in wrong_by.items() if name.split(" at step")[0] == verdict)
        print(f"  {verdict}: {of_gate} of {count} wrong, upper 95 % bound {100 * upper_bound(of_gate, count):.1f} %")
    bound = upper_bound(wrong, len(stopped))
    print(
        f"\nfalse rejects (accepted by the paper's gates, full budget over {len(FRESH)} fresh seeds above BN-ReLU's "
        f"minus {100 * NEAR:g} points): {wrong} of {len(stopped)} stopped, upper 95 % bound {100 * bound:.2f} %; "
        f"{len(disputed)} disputed"
    )


def upper_bound(wrong: int, of: int) -> float:
    """Of the rate, one-sided, 95 % (Clopper and Pearson)."""
    return float(binomtest(wrong, of).proportion_ci(0.90, "exact").high) if of else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--random", type=int, default=500)
    parser.add_argument("--mutants", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the candidates")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    config = config.model_copy(
        update={"gates": tuple(gate for gate in config.gates if not isinstance(gate, RankedGate))}
    )
    print(machine())
    file = ResultFile(
        arguments.out,
        config,
        space=config.space.model_dump(mode="json"),
        candidates=[arguments.random, arguments.mutants, config.evolution.mutations, arguments.seed],
    )
    rows = {row["number"]: row for row in file.rows if "number" in row}
    fresh = {(row["fresh"], row["seed"]): row["accuracy"] for row in file.rows if "fresh" in row}
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        drawn = candidates(config, arguments.random, arguments.mutants, arguments.seed)
        seen: set[str] = set()
        duplicates = []
        for _, graph in drawn:
            duplicates.append((mark := probe(graph).fingerprint) in seen)
            seen.add(mark)
        points = pool.submit(baseline_points, config).result()
        order = Random(0).sample(range(len(drawn)), len(drawn))  # so that a part of them is already a sample
        judged = {
            pool.submit(judge, config, str(drawn[number][1]), points, duplicates[number]): number
            for number in order
            if number not in rows
        }
        for done in as_completed(judged):
            number = judged[done]
            kind, graph = drawn[number]
            rows[number] = {"number": number, "kind": kind, "graph": str(graph), **done.result()}
            file.keep(rows[number])
        disputed = [
            row["graph"]
            for row in rows.values()
            if row["cascade"].startswith("rejected") and row["paper"] == "accepted"
        ]
        wanted = [(graph, seed) for graph in (LAYERS["BN-ReLU"].text, *disputed) for seed in FRESH]
        trained = {
            pool.submit(ungated, config.protocol, *key): key for key in dict.fromkeys(wanted) if key not in fresh
        }
        for each in as_completed(trained):
            key = trained[each]
            fresh[key] = each.result()
            file.keep({"fresh": key[0], "seed": key[1], "accuracy": fresh[key]})
    report([rows[number] for number in sorted(rows)], fresh)


if __name__ == "__main__":
    in_one_line(main)
