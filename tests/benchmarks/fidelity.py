"""All catalog graphs with several seeds, and survivors with one, on every proxy: how far early accuracies rank as late
ones do, and how layers compare.

    python tests/benchmarks/fidelity.py configs/cifar10.yaml --out fidelity.jsonl [--set data.source=folder ...]
    python tests/benchmarks/fidelity.py ... --table results/catalog-cifar10        # and the catalog's table, to commit

Survivors are random graphs and mutants of good layers that the config's gates accept, drawn until there are enough.
Catalog graphs are trained without gates. Rank correlations are Spearman's, over the survivors and the catalog graphs
with the first seed, with 95 % bootstrap intervals. Every result is a line of FILE; run again, it goes on.
"""

import argparse
import json
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import fmean, stdev

import numpy as np
import torch
from scipy.stats import bootstrap, spearmanr

from evonas.config import Config
from evonas.config_file import load_config
from evonas.search_space.catalog import LAYERS
from evonas.search_space.screening import Screening
from evonas.studies.results import ResultFile, Row
from evonas.workers.evaluation import evaluate
from evonas.workers.gates import screen
from evonas.workers.gates.base import Gate, RankedGate, TrainingGate
from evonas.workers.gates.quality import Quality
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import BaselinePoint, Job
from tests.benchmarks.cascade import baseline_points, candidates
from tests.benchmarks.machine import machine

Baseline = tuple[BaselinePoint, ...]


def train(
    config: Config, rungs: tuple[int, ...], key: str, graph: str, seed: int, baseline: Baseline | None = None
) -> Row:
    """The accuracies at the rungs and at the full budget; None at the end where it was stopped or diverged. With a
    baseline the config's gates are asked."""
    torch.set_num_threads(1)
    looks: list[Gate] = [Quality(steps=steps, min_accuracy=0.0) for steps in rungs]
    if baseline is not None:
        trained = [gate for gate in config.gates if isinstance(gate, TrainingGate)]
        mine = [gate for gate in trained if not isinstance(gate, RankedGate)]
        others = [gate for gate in config.gates if not isinstance(gate, TrainingGate)]
        looks = [*others, *sorted([*mine, *looks], key=lambda gate: gate.steps)]  # type: ignore[union-attr]
    protocol = config.protocol.model_copy(update={"gates": tuple(looks)})
    found = evaluate(Job(graph=graph, protocol=protocol, seed=seed, baseline=baseline or ()))
    fitness = found.outcome.accuracy if isinstance(found.outcome, Fitness) else None
    points = [[p.proxy, p.step, p.accuracy] for p in found.points]
    return {"key": key, "graph": graph, "seed": seed, "accuracy": fitness, "points": points, "seconds": found.seconds}


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
    value = spearmanr(a, b).statistic
    interval = bootstrap(
        (a, b), lambda x, y: spearmanr(x, y).statistic, paired=True, vectorized=False, n_resamples=1000,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return f"{value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def report_fidelity(config: Config, rows: list[Row], rungs: tuple[int, ...]) -> None:
    proxies = list(config.proxies)
    trained = [row for row in rows if row["accuracy"] and row["seed"] == config.seed]
    groups = {
        "survivors and catalog graphs": trained,
        "survivors": [row for row in trained if row["key"] not in LAYERS],
        "catalog graphs": [row for row in trained if row["key"] in LAYERS],
    }
    for name, mine in groups.items():
        if len(mine) < 3:
            continue
        at = [{(p, s): a for p, s, a in row["points"]} for row in mine]
        print(f"\n{name} ({len(mine)}): rank correlation with the full budget, {config.recipe.steps} steps")
        for step in rungs:
            shown = [
                f"{proxy} {correlation([each[proxy, step] for each in at], [r['accuracy'][proxy] for r in mine])}"
                for proxy in proxies
            ]
            early = [fmean(each[proxy, step] for proxy in proxies) for each in at]
            late = [fmean(row["accuracy"].values()) for row in mine]
            print(f"  step {step:4}: mean over proxies {correlation(early, late)}; " + ", ".join(shown))
        for one, other in combinations(proxies, 2):
            pair = [[row["accuracy"][proxy] for row in mine] for proxy in (one, other)]
            print(f"  {one} with {other}: {correlation(*pair)}")


def catalog_table(config: Config, rows: list[Row]) -> str:
    """Markdown: mean and spread over seeds of every catalog graph, by the paired difference to BN-ReLU."""
    by_layer: dict[str, dict[int, dict[str, float] | None]] = {}
    for row in rows:
        if row["key"] in LAYERS:
            by_layer.setdefault(row["key"], {})[row["seed"]] = row["accuracy"]
    lines: list[tuple[float, str]] = []
    for layer, seeds in by_layer.items():
        scores = [each for each in seeds.values() if each]
        pairs = [(own, by_layer["BN-ReLU"][seed]) for seed, own in seeds.items() if own]
        differences = [100 * fmean(own[p] - bn[p] for p in own) for own, bn in pairs if bn]
        cells = [_cell([each[proxy] for each in scores]) for proxy in config.proxies]
        whole = len(scores) == len(seeds)
        difference = _cell(differences, 1) if whole else f"failed on {len(seeds) - len(scores)} of {len(seeds)} seeds"
        order = -fmean(differences) if whole and differences else 1000.0
        lines.append((order, f"| {layer} | {' | '.join(cells)} | {difference} |"))
    header = f"| layer | {' | '.join(config.proxies)} | to BN-ReLU, points |"
    return "\n".join([header, "|" + " --- |" * (len(config.proxies) + 2), *(line for _, line in sorted(lines))])


def _cell(values: list[float], digits: int = 3) -> str:
    if not values:
        return "-"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="of the catalog graphs")
    parser.add_argument("--survivors", type=int, default=60)
    parser.add_argument("--rung", type=int, action="append", default=[], help="steps; several of the budget by default")
    parser.add_argument("--table", type=Path, help="a folder for the catalog's table and figures")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    rungs = tuple(arguments.rung) or tuple(round(config.recipe.steps * share) for share in (0.16, 0.32, 0.5, 0.75))
    print(machine())
    file = ResultFile(arguments.out, config, space=config.space.model_dump(mode="json"), rungs=rungs)
    rows = {(row["key"], row["seed"]): row for row in file.rows}
    names = [name for name in LAYERS.graphs if LAYERS[name].inputs == 1]
    seeds = range(config.seed, config.seed + arguments.seeds)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        points = pool.submit(baseline_points, config).result()
        jobs: list[tuple[str, str, int, Baseline | None]]
        jobs = [(name, LAYERS[name].text, seed, None) for seed in seeds for name in names]
        drawn = next_survivors(config, 10 * arguments.survivors)
        jobs += [(key, graph, config.seed, points) for key, graph in drawn]
        waiting = [job for job in jobs if (job[0], job[2]) not in rows]
        running: set[Future[Row]] = set()
        while waiting or running:
            found = sum(1 for row in rows.values() if row["key"] not in LAYERS and row["accuracy"])
            if found >= arguments.survivors:
                waiting = [job for job in waiting if job[0] in LAYERS]
            while waiting and len(running) < 2 * (os.cpu_count() or 1):
                running.add(pool.submit(train, config, rungs, *waiting.pop(0)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                row = each.result()
                rows[row["key"], row["seed"]] = row
                file.keep(row)
    told = sorted(rows.values(), key=lambda row: (row["key"], row["seed"]))
    report_fidelity(config, told, rungs)
    table = catalog_table(config, told)
    print(f"\n{table}")
    if arguments.table:
        arguments.table.mkdir(parents=True, exist_ok=True)
        (arguments.table / "table.md").write_text(table + "\n")
        figures = [{k: v for k, v in row.items() if k != "graph"} for row in told if row["key"] in LAYERS]
        (arguments.table / "figures.jsonl").write_text("".join(json.dumps(each) + "\n" for each in figures))


if __name__ == "__main__":
    main()
