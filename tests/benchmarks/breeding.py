"""The worth of each part of the search: short searches of one cheap task at equal core-seconds.

    python -m tests.benchmarks.breeding [CONFIG] --out DIR [--seconds 120] [--seeds 10] [--arm NAME ...] [--start NAME]
    python -m tests.benchmarks.breeding [CONFIG] --out DIR --report

An arm is a set of options. Every arm starts from scratch and from textbook layers; `edits one by one` takes the single
edits of the textbook layers in a drawn order. A search runs in one process with one thread until it has used its
core-seconds: trainings, driver, model and baseline. Layers that it found are those of another function than the known
ones. Each that led them for a time, by the arm's own measure, is trained afterwards with fresh seeds, as BN-ReLU,
BN-SiLU and BN-LeakyReLU are. Figures: core-seconds until one led that holds with the fresh seeds at BN-ReLU's mean
accuracy or above, or at the better control's; and the difference to BN-ReLU of the layer that the search puts first,
in accuracy and in likelihood. No two searches share fresh seeds. Every search is a line of DIR/results.jsonl; run
again, it goes on.
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
from evonas.evolution_config import Evolution
from evonas.final import contenders
from evonas.history import History
from evonas.progress import Watcher
from evonas.retraining import ungated
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.known import known
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.screening import Screening
from evonas.session import Stopped
from evonas.store.database import Database
from evonas.studies.results import ResultFile, Row
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Fitness, JudgedBy
from evonas.workers.protocol import Job, Protocol
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

TASK = Path(__file__).with_name("breeding.yaml")
TEXTBOOK = ["BN-ReLU", "GN-ReLU", "BN-SiLU", "BatchNorm", "GroupNorm", "ReLU", "SiLU", "tanh"]
EDITS = {"op": 1, "input": 1, "insert": 2, "delete": 1, "swap": 0.5, "cross": 1, "redraw": 0.5}
ENUMERATED = "edits one by one"
NEW: dict[str, Any] = {"operators": EDITS, "mutations": 1, "random_share": 0.1}
FAMILIES = {**NEW, "family_max": 3}
AGAIN = {**FAMILIES, "remeasure": {"share": 0.2, "leaders": 4, "seeds": 3}}
RUNG: dict[str, Any] = {"gate": "rung", "steps": 0.5, "keep": 0.5, "by": "loss"}  # steps as a share of the recipe's
MODEL = {"pool": 32, "unranked": 0.2, "after": 15, "refit": 8}
SURROGATE = {**AGAIN, "surrogate": {**MODEL, "novelty": 0}}
NOVELTY = {**AGAIN, "surrogate": MODEL}
ARMS: dict[str, dict[str, Any]] = {
    "random": {"random_share": 1.0},
    ENUMERATED: {"random_share": 1.0, "neighbours_of": TEXTBOOK},
    "paper": {"random_share": 0.2, "mutations": 2},
    "edits": NEW,
    "loss": NEW,
    "families": FAMILIES,
    "again": AGAIN,
    "racing": AGAIN,
    "surrogate": SURROGATE,
    "novelty": NOVELTY,
    "children": {**NOVELTY, "entrants": "fewer_children"},
}
BY_ACCURACY = {"random", ENUMERATED, "paper", "edits"}  # the other arms search by the late loss
RACING = {"racing", "surrogate", "novelty", "children"}  # arms with RUNG as their last gate
CONTROLS = ("BN-SiLU", "BN-LeakyReLU")
STARTS = {"scratch": [], "textbook": TEXTBOOK}
FRESH = 3  # seeds
BEST = 3
MEASURES = ("accuracy", "loss")


class Budget(Watcher):
    """Stops a search that has used its core-seconds, and keeps those of each outcome."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.origin, self.seconds = time.process_time(), seconds
        self.clock: dict[int, float] = {}  # seq -> core-seconds

    def progress(self, history: History) -> None:
        used = time.process_time() - self.origin
        self.clock.setdefault(history.outcomes, used)
        if used > self.seconds:
            raise Stopped


def search(raw: str, arm: str, start: str, seed: int, seconds: float, folder: str) -> Row:
    torch.set_num_threads(1)
    config = parse_config(raw)
    evolution = {**config.evolution.model_dump(mode="json"), **ARMS[arm], "warm_start": STARTS[start], "births": 10**6}
    evolution["rerank"] = {"top": BEST, "seeds": 1, "baselines": []}
    by: JudgedBy = "accuracy" if arm in BY_ACCURACY else "loss"
    place = Path(folder) / f"{arm}-{start}-{seed}".replace(" ", "_")
    values = {**config.model_dump(mode="json"), "name": place.name, "seed": seed, "evolution": evolution}
    values |= {"cluster": {"address": "in_process"}, "objectives": [by]}
    if arm in RACING:
        values["gates"] = [*values["gates"], {**RUNG, "steps": round(RUNG["steps"] * config.recipe.steps)}]
    budget = Budget(seconds)
    with suppress(Stopped):
        evonas.search(values, place, progress=False, watcher=budget)
    reader = Database.open(place).reader()
    protocol, fresh = ungated(reader.config), range(1000 + FRESH * seed, 1000 + FRESH * (seed + 1))

    def trained(text: str) -> dict[str, float]:
        """Means over the fresh seeds."""
        several = [trained_alone(text, protocol, each) for each in fresh]
        return {measure: fmean(each[measure] for each in several) for measure in MEASURES}

    ordered = sorted((each for each in reader.candidates() if each.seq), key=lambda each: each.seq or 0)
    found = [r for r in ordered if isinstance(r.outcome, Fitness) and r.equal_to is None and is_new(r.graph)]
    leading, highest = [], 0.0
    for record in found:
        assert isinstance(record.outcome, Fitness)
        if (score := record.outcome.mean_score(by)) > highest:
            leading.append(record)
            highest = score
    known_ones = {name: trained(LAYERS[name].text) for name in (BASELINE, *CONTROLS)}
    levels = {
        BASELINE: known_ones[BASELINE]["accuracy"],
        "controls": max(known_ones[name]["accuracy"] for name in CONTROLS),
    }
    reached: dict[str, float | None] = dict.fromkeys(levels)
    for record in leading:
        if None not in reached.values():
            break
        accuracy = trained(record.graph)["accuracy"]
        for name, level in levels.items():
            if reached[name] is None and accuracy >= level:
                reached[name] = budget.clock[record.seq or 0]
    chosen = [each.graph for each in contenders(reader) if each.birth and is_new(str(each.graph))]
    first = trained(str(chosen[0])) if chosen else None
    return {
        "arm": arm,
        "start": start,
        "seed": seed,
        "seconds": max(budget.clock.values(), default=0.0),
        "births": len(ordered),
        "trained": sum(isinstance(each.outcome, Fitness) and each.equal_to is None for each in ordered),
        "again": sum(each.operator == "again" for each in ordered),
        "leading": len(leading),
        "reached": reached,
        "known": known_ones,
        "formula": chosen[0].formula if chosen else None,
        "first": first,
    }


def is_new(graph: str) -> bool:
    return known(Screening(Graph.parse(graph)).probed).same_as is None


def trained_alone(graph: str, protocol: Protocol, seed: int) -> dict[str, float]:
    """Mean accuracy and likelihood of a layer; those of guessing where it fails."""
    outcome = evaluate(Job(graph=graph, protocol=protocol, seed=seed)).outcome
    if not isinstance(outcome, Fitness):
        return dict.fromkeys(MEASURES, 0.1)
    return {"accuracy": outcome.mean_score("accuracy"), "loss": outcome.mean_score("loss")}


def interval(values: Any) -> tuple[float, float]:
    """The 95 % interval of a sample's mean, by bootstrap."""
    means = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def report(rows: list[Row], seconds: float) -> None:
    """A search that never got there counts with twice its core-seconds, so that ratios are lower bounds."""

    def times(mine: list[Row], name: str) -> Any:
        return np.array([row["reached"][name] or 2 * seconds for row in mine])

    def until(mine: list[Row], name: str) -> str:
        values = times(mine, name)
        shown = f"{median(values):.0f}" if median(values) <= 1.1 * seconds else f"> {seconds:.0f}"
        return f"{shown} ({sum(values <= 1.1 * seconds)}/{len(values)})"

    def gain(mine: list[Row], measure: str) -> str:
        both = [(row["first"], row["known"][BASELINE]) for row in mine if row["first"]]
        if not both:
            return "none found"
        values = np.array([first[measure] - base[measure] for first, base in both])
        low, high = interval(values)
        lacking = f", {len(mine) - len(both)} without" if len(both) < len(mine) else ""
        return f"{100 * values.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{lacking}"

    print(f"{'start':9} {'arm':17} runs  trained  s to {BASELINE:9}  s to controls  the first: accuracy    likelihood")
    of_arm: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        of_arm.setdefault((row["start"], row["arm"]), []).append(row)
    for start in STARTS:
        for arm in ARMS:
            if mine := of_arm.get((start, arm)):
                print(
                    f"{start:9} {arm:17} {len(mine):4} {fmean(row['trained'] for row in mine):8.0f}  "
                    f"{until(mine, BASELINE):14}  {until(mine, 'controls'):13}  {gain(mine, 'accuracy'):22} "
                    f"{gain(mine, 'loss')}"
                )
    print(f"\nCore-seconds to {BASELINE}'s level, as multiples of an arm's, geometric mean over seeds:")
    for start in STARTS:
        for other in ("random", ENUMERATED, "paper"):
            for arm in ARMS:
                theirs, mine = ({row["seed"]: row for row in of_arm.get((start, each), [])} for each in (other, arm))
                seeds = sorted(theirs.keys() & mine.keys())
                if arm in BY_ACCURACY - {"edits"} or not seeds:
                    continue
                ratios = np.log(
                    times([theirs[each] for each in seeds], BASELINE) / times([mine[each] for each in seeds], BASELINE)
                )
                low, high = np.exp(interval(ratios))
                print(f"{start:9} {other:17} / {arm:10} {np.exp(ratios.mean()):5.1f} [{low:.1f}, {high:.1f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=str(TASK))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120.0)
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
    sizes = config.evolution.model_dump(include={"births", "population", "tournament_share"})
    if config.evolution != Evolution(**sizes):
        raise InputError(
            f"{arguments.config}: expected an evolution with births, population and tournament_share alone"
        )
    if not arguments.report:
        print(machine())
        done = {(row["arm"], row["start"], row["seed"]) for row in file.rows}
        jobs = [
            (arm, start, seed)
            for seed in range(arguments.seeds)
            for start in arguments.start or STARTS
            for arm in arguments.arm or ARMS
            if (arm, start, seed) not in done and (arm, start) != (ENUMERATED, "scratch")
        ]
        with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            runs = [pool.submit(search, raw, *job, arguments.seconds, str(arguments.out)) for job in jobs]
            for each in as_completed(runs):
                file.keep(each.result())
                print(file.rows[-1], flush=True)
    report(file.rows, arguments.seconds)


if __name__ == "__main__":
    in_one_line(main)
