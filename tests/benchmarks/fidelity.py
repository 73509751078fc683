"""Survivors on every proxy: how far early accuracies and training losses rank layers as the full budget does.

    python tests/benchmarks/fidelity.py configs/cifar10.yaml --out fidelity.jsonl [--set data.source=folder ...]

Survivors are random graphs and mutants of good layers that the config's gates accept, drawn until there are enough; for
known layers, and a longer reference, there is `evonas fidelity`. Rank correlations are Spearman's, with 95 % bootstrap
intervals. Every result is a line of FILE; run again, it goes on.
"""

import argparse
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import fmean

import torch

from evonas.config import Config
from evonas.config_file import load_config
from evonas.search_space.screening import Screening
from evonas.studies.rankings import accuracy_at, mean_loss, rank_correlation
from evonas.studies.results import ResultFile, Row
from evonas.workers.evaluation import evaluate
from evonas.workers.gates import screen
from evonas.workers.gates.base import Gate, RankedGate, TrainingGate
from evonas.workers.gates.quality import Quality
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import BaselinePoint, Job
from tests.benchmarks.cascade import baseline_points, candidates
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

Baseline = tuple[BaselinePoint, ...]


def train(config: Config, rungs: tuple[int, ...], key: str, graph: str, baseline: Baseline) -> Row:
    """The learning curve of each proxy, through the config's gates; no accuracy where one of them, or a divergence,
    stopped it."""
    torch.set_num_threads(1)
    looks = [Quality(steps=steps, min_accuracy=0.0) for steps in rungs]
    trained = [gate for gate in config.gates if isinstance(gate, TrainingGate) and not isinstance(gate, RankedGate)]
    others: list[Gate] = [gate for gate in config.gates if not isinstance(gate, TrainingGate)]
    gates = (*others, *sorted([*trained, *looks], key=lambda gate: gate.steps))  # type: ignore[union-attr]
    protocol = config.protocol.model_copy(update={"gates": gates})
    evaluation = evaluate(Job(graph=graph, protocol=protocol, seed=config.seed, baseline=baseline))
    outcome = evaluation.outcome
    curves: dict[str, list[list[float]]] = {proxy: [] for proxy in config.proxies}
    for point in (each for each in evaluation.points if not each.repeat):
        curves[point.proxy].append([point.step, point.accuracy, point.loss])
    accuracy = outcome.accuracy if isinstance(outcome, Fitness) else None
    return {"key": key, "graph": graph, "accuracy": accuracy, "curves": curves, "seconds": evaluation.seconds}


def next_survivors(config: Config, known: int) -> list[tuple[str, str]]:
    """The drawn candidates that screening lets pass, each function once."""
    drawn, seen = [], set()
    for number, (kind, graph) in enumerate(candidates(config, known, known, seed=1)):
        screening = Screening(graph)
        probed, measurements = screening.probed, screen(config.gates, screening)
        if probed.fingerprint not in seen and all(each.passed for each in measurements):
            drawn.append((f"{kind} {number}", str(graph)))
        seen.add(probed.fingerprint)
    return Random(0).sample(drawn, len(drawn))


def correlation(a: list[float], b: list[float]) -> str:
    value, interval = rank_correlation(a, b)
    return "-" if value is None or interval is None else f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def report(config: Config, rows: list[Row], rungs: tuple[int, ...]) -> None:
    proxies, budget = list(config.proxies), config.recipe.steps
    late = {proxy: [row["accuracy"][proxy] for row in rows] for proxy in proxies}
    late["mean"] = [fmean(row["accuracy"].values()) for row in rows]
    print(f"\n{len(rows)} survivors: rank correlation with the accuracies at the full budget, {budget} steps")
    for step in (*rungs, budget):
        for measure in ("accuracy", "loss"):
            early = {proxy: [signal(row, proxy, measure, step) for row in rows] for proxy in proxies}
            early["mean"] = [fmean(each) for each in zip(*early.values(), strict=True)]
            shown = [f"{name} {correlation(early[name], late[name])}" for name in ("mean", *proxies)]
            print(f"  step {step:4} {measure:8}: {', '.join(shown)}")
    for one, other in combinations(proxies, 2):
        print(f"  {one} with {other}: {correlation(late[one], late[other])}")


def signal(row: Row, proxy: str, measure: str, step: int) -> float:
    """The accuracy at a step, or the mean training loss until then, negated."""
    points = row["curves"][proxy]
    return accuracy_at(points, step, 0.0) if measure == "accuracy" else -mean_loss(points, step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--survivors", type=int, default=60)
    parser.add_argument("--rung", type=int, action="append", default=[], help="steps; several of the budget by default")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    rungs = tuple(arguments.rung) or tuple(round(config.recipe.steps * share) for share in (0.16, 0.32, 0.5, 0.75))
    print(machine())
    file = ResultFile(arguments.out, config, space=config.space.model_dump(mode="json"), curves_at=rungs)
    rows = {row["key"]: row for row in file.rows}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        points = pool.submit(baseline_points, config).result()
        waiting = [each for each in next_survivors(config, 10 * arguments.survivors) if each[0] not in rows]
        running: set[Future[Row]] = set()
        while waiting or running:
            if sum(row["accuracy"] is not None for row in rows.values()) >= arguments.survivors:
                waiting = []
            while waiting and len(running) < 2 * (os.cpu_count() or 1):
                running.add(pool.submit(train, config, rungs, *waiting.pop(0), points))
            done, running = wait(running, return_when=FIRST_COMPLETED) if running else (set(), running)
            for each in done:
                row = each.result()
                rows[row["key"]] = row
                file.keep(row)
    report(config, [rows[key] for key in sorted(rows) if rows[key]["accuracy"]], rungs)


if __name__ == "__main__":
    in_one_line(main)
