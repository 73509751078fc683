"""Can a config's proxies see normalization, and how far does one seed rank layers as another does?

    python tests/benchmarks/proxies.py configs/quickstart.yaml                  # BN-ReLU against plain ReLU, 3 seeds
    python tests/benchmarks/proxies.py configs/quickstart.yaml --run RUN        # and the survivors with a second seed

A training that diverges counts with the accuracy of guessing. The pooled spread is the root of the mean variance.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import fmean, variance

import torch
from scipy.stats import spearmanr

from evonas.config import Config
from evonas.config_file import load_config
from evonas.search_space.catalog import LAYERS
from evonas.store.database import Database
from evonas.workers import data
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import Job
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine


def accuracy(config: Config, text: str, seed: int, proxy: str) -> float:
    torch.set_num_threads(1)
    protocol = config.protocol.model_copy(update={"gates": (), "proxies": {proxy: config.proxies[proxy]}})
    outcome = evaluate(Job(graph=text, protocol=protocol, seed=seed)).outcome
    return outcome.accuracy[proxy] if isinstance(outcome, Fitness) else 1 / data.load(config.data).classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--run")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    print(machine())
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for proxy in config.proxies:
            jobs = [(name, seed) for name in ("BN-ReLU", "ReLU") for seed in range(arguments.seeds)]
            futures = [pool.submit(accuracy, config, LAYERS[name].text, seed, proxy) for name, seed in jobs]
            found = [each.result() for each in futures]
            bn, relu = found[: arguments.seeds], found[arguments.seeds :]
            pooled = ((variance(bn) + variance(relu)) / 2) ** 0.5
            difference = fmean(bn) - fmean(relu)
            print(
                f"{proxy}: BN-ReLU {[round(v, 3) for v in bn]}, ReLU {[round(v, 3) for v in relu]}: difference "
                f"{difference:.3f}, pooled spread {pooled:.3f}, ratio {difference / pooled:.1f} (wanted: above 2)",
                flush=True,
            )
        if arguments.run:
            reader = Database.open(arguments.run).reader()
            records = {tuple(r.accuracy.values()): r for r in reader.top(10_000)}.values()
            second: dict[str, list[float]] = {}
            for proxy in config.proxies:
                futures = [pool.submit(accuracy, config, r.graph, config.seed + 1, proxy) for r in records]
                second[proxy] = [each.result() for each in futures]
                first = [r.accuracy[proxy] for r in records]
                print(
                    f"{proxy}: rank correlation of two seeds over {len(first)} survivors "
                    f"{spearmanr(first, second[proxy]).statistic:.2f}"
                )
            means = (
                [fmean(r.accuracy.values()) for r in records],
                [fmean(v) for v in zip(*second.values(), strict=True)],
            )
            print(f"mean over proxies: rank correlation {spearmanr(*means).statistic:.2f}")


if __name__ == "__main__":
    in_one_line(main)
