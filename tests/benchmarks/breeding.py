"""The worth of each part of the search: short searches of one cheap task at equal core-seconds.

    python -m tests.benchmarks.breeding CONFIG --out DIR [--seconds 300] [--seeds 10] [--arm NAME ...] [--start NAME]
    python -m tests.benchmarks.breeding CONFIG --out DIR --report

An arm is a set of options; every arm starts from scratch and from textbook layers. A search runs in one process with
one thread until it has used its core-seconds, the driver's own among them. Then its best three are trained with fresh
seeds beside BN-ReLU. Figures: core-seconds until a candidate that is no known layer first reached BN-ReLU (with the
search's seed, in the likelihood exp(-late loss), whatever the arm searches by), and until one reached the better of
BN-SiLU and BN-LeakyReLU; the best of the three with fresh seeds, in accuracy and in likelihood, against BN-ReLU with
the same seeds. Every search is a line of DIR/results.jsonl; run again, it goes on.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

import evonas
from evonas.config import BASELINE
from evonas.config_file import parse_config
from evonas.final import contenders
from evonas.history import History
from evonas.progress import Watcher
from evonas.retraining import ungated
from evonas.search_space.catalog import LAYERS
from evonas.session import Stopped
from evonas.store.database import Database
from evonas.studies.results import ResultFile, Row
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import Job, Protocol
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

TEXTBOOK = ["BN-ReLU", "GN-ReLU", "BN-SiLU", "BatchNorm", "GroupNorm", "ReLU", "SiLU", "tanh"]
EDITS = {"op": 1, "input": 1, "insert": 2, "delete": 1, "swap": 0.5, "cross": 1, "redraw": 0.5}
NEW: dict[str, Any] = {"operators": EDITS, "mutations": 1, "random_share": 0.1}
FAMILIES = {**NEW, "family_max": 3}
AGAIN = {**FAMILIES, "remeasure": {"share": 0.2, "leaders": 6, "seeds": 4}}
RUNG: dict[str, Any] = {"gate": "rung", "steps": 0.5, "keep": 0.5, "by": "loss"}  # steps as a share of the recipe's
SURROGATE = {**AGAIN, "surrogate": {"pool": 32, "unranked": 0.2, "after": 15, "refit": 8}}
ARMS: dict[str, dict[str, Any]] = {
    "random": {"random_share": 1.0},
    "paper": {"random_share": 0.2, "mutations": 2},
    "edits": NEW,
    "loss": NEW,
    "families": FAMILIES,
    "again": AGAIN,
    "racing": AGAIN,
    "surrogate": SURROGATE,
    "children": {**SURROGATE, "entrants": "fewer_children"},
}
BY_ACCURACY = {"random", "paper", "edits"}  # the other arms search by the late loss
RACING = {"racing", "surrogate", "children"}  # arms with RUNG as their last gate
CONTROLS = ("BN-SiLU", "BN-LeakyReLU")
STARTS = {"scratch": [], "textbook": TEXTBOOK}
FRESH = 3  # seeds of the best, and of BN-ReLU
BEST = 3


class Budget(Watcher):
    """Stops a search that has used its core-seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.until = time.process_time() + seconds

    def progress(self, history: History) -> None:
        if time.process_time() > self.until:
            raise Stopped


def search(raw: str, arm: str, start: str, seed: int, seconds: float, folder: str) -> Row:
    torch.set_num_threads(1)
    config = parse_config(raw)
    evolution = {**config.evolution.model_dump(mode="json"), **ARMS[arm], "warm_start": STARTS[start], "births": 10**6}
    evolution["rerank"] = {"top": BEST, "seeds": 1, "baselines": []}
    values = {**config.model_dump(mode="json"), "name": f"{arm}-{start}-{seed}", "seed": seed, "evolution": evolution}
    values["cluster"] = {"address": "in_process"}
    values["objectives"] = ["accuracy" if arm in BY_ACCURACY else "loss"]
    if arm in RACING:
        values["gates"] = [*values["gates"], {**RUNG, "steps": round(RUNG["steps"] * config.recipe.steps)}]
    place = Path(folder) / f"{arm}-{start}-{seed}"
    began = time.process_time()
    with suppress(Stopped):
        evonas.search(values, place, progress=False, watcher=Budget(seconds))
    used = time.process_time() - began
    reader = Database.open(place).reader()
    protocol = ungated(reader.config)
    of_seed = {name: trained_alone(LAYERS[name].text, protocol, seed) for name in (BASELINE, *CONTROLS)}
    level = {BASELINE: of_seed[BASELINE][1], "controls": max(of_seed[name][1] for name in CONTROLS)}
    reached: dict[str, float | None] = dict.fromkeys(level)
    spent, trained, stopped, best = 0.0, 0, 0, []
    ordered = sorted((each for each in reader.candidates() if each.seq), key=lambda each: each.seq or 0)
    total = sum(each.seconds for each in ordered)
    for record in ordered:
        spent += record.seconds * used / max(total, 1e-9)  # with its share of the driver's seconds
        trained += record.accuracy != {} and record.equal_to is None
        stopped += record.outcome is not None and not record.accuracy
        if not isinstance(record.outcome, Fitness) or record.equal_to is not None or record.formula in _known():
            continue
        likelihood = record.outcome.mean_score("loss")
        best.append(likelihood - of_seed[BASELINE][1])
        for name, needed in level.items():
            if reached[name] is None and likelihood >= needed:
                reached[name] = spent
    chosen = [each for each in contenders(reader) if each.birth]
    fresh = range(seed + 1000, seed + 1000 + FRESH)
    layers = {BASELINE: LAYERS[BASELINE].text} | {each.graph.formula: str(each.graph) for each in chosen}
    true = {name: [trained_alone(text, protocol, each) for each in fresh] for name, text in layers.items()}
    return {
        "arm": arm, "start": start, "seed": seed, "seconds": used, "births": len(ordered), "trained": trained,
        "stopped": stopped, "reached": reached, "best_seen": max(best, default=None), "true": true,
    }  # fmt: skip


def _known() -> set[str]:
    return {graph.formula for graph in LAYERS.graphs.values()}


def trained_alone(graph: str, protocol: Protocol, seed: int) -> tuple[float, float]:
    """Mean accuracy and likelihood of a layer; those of guessing where it fails."""
    outcome = evaluate(Job(graph=graph, protocol=protocol, seed=seed)).outcome
    return (outcome.mean_score("accuracy"), outcome.mean_score("loss")) if isinstance(outcome, Fitness) else (0.1, 0.1)


def report(rows: list[Row], seconds: float) -> None:
    def interval(values: list[float]) -> str:
        drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
        low, high = np.percentile(drawn, [2.5, 97.5])
        return f"{100 * fmean(values):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"

    def until(mine: list[Row], name: str) -> str:
        """The median over runs, where those that never got there count as more than the budget."""
        values = [row["reached"][name] or 2 * seconds for row in mine]
        middle = median(values)
        shown = f"{middle:.0f}" if middle <= seconds else f"> {seconds:.0f}"
        return f"{shown} ({sum(v <= seconds * 1.1 for v in values)}/{len(values)})"

    def gain(row: Row, measure: int) -> list[float]:
        """The mean difference to BN-ReLU of those that are no known layer, the arm's own first at the beginning."""
        baseline = row["true"][BASELINE]
        others = [mine for name, mine in row["true"].items() if name != BASELINE and name not in _known()]
        return [fmean(mine[measure] - base[measure] for mine, base in zip(o, baseline, strict=True)) for o in others]

    print("start     arm        runs  trained  s to BN-ReLU    s to controls   its best: accuracy     likelihood")
    for start in STARTS:
        for arm in ARMS:
            mine = [row for row in rows if (row["start"], row["arm"]) == (start, arm)]
            if not mine:
                continue
            first = [interval([next(iter(gain(row, measure)), -0.2) for row in mine]) for measure in (0, 1)]
            trained = fmean(row["trained"] for row in mine)
            print(
                f"{start:9} {arm:10} {len(mine):4} {trained:8.0f}  {until(mine, BASELINE):15} "
                f"{until(mine, 'controls'):15} {first[0]:22} {first[1]}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arm", action="append", choices=list(ARMS))
    parser.add_argument("--start", action="append", choices=list(STARTS))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    raw = Path(arguments.config).read_text(encoding="utf-8")
    config = parse_config(raw)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = ResultFile(arguments.out / "results.jsonl", config, seconds=arguments.seconds)
    if not arguments.report:
        print(machine())
        done = {(row["arm"], row["start"], row["seed"]) for row in file.rows}
        jobs = [
            (arm, start, seed)
            for seed in range(arguments.seeds)
            for start in arguments.start or STARTS
            for arm in arguments.arm or ARMS
            if (arm, start, seed) not in done
        ]
        with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            runs = [pool.submit(search, raw, *job, arguments.seconds, str(arguments.out)) for job in jobs]
            for each in as_completed(runs):
                file.keep(each.result())
                print(file.rows[-1], flush=True)
    report(file.rows, arguments.seconds)


if __name__ == "__main__":
    in_one_line(main)
