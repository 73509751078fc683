"""What the driver costs: births a second through the real loop, store and pool contract, with workers that answer at
once from recorded outcomes.

    python tests/benchmarks/driver.py configs/cifar10.yaml --out DIR [--births 1000000] [--probe] [--optuna 2000]

The config gives space and evolution. An outcome is drawn by the layer's digest with the shares of recorded runs, and as
large as theirs; so is a fingerprint, unless --probe computes it. Prints seconds a
birth and the driver's memory over stretches of births, and the same number of proposals made by Optuna's NSGA-II on
SQLite beside them. One core: the pool is a queue in the same process.
"""

import argparse
import math
import resource
import time
from collections import deque
from hashlib import sha256
from pathlib import Path

import torch

from evonas import evolution
from evonas.config import BASELINE, Config
from evonas.config_file import load_config
from evonas.evolution import Search
from evonas.history import History
from evonas.store.database import Address
from evonas.store.queries import Reader
from evonas.store.store import Store
from search_space.catalog import catalog
from search_space.fingerprint import Probed
from search_space.graph import Graph
from search_space.screening import Check
from tests.benchmarks.machine import machine
from workers.outcome import Evaluation, Fitness, Measurement, Outcome, Point, Rejection
from workers.protocol import Job

DEAD = 0.60  # of the graphs are stopped by screening
UNFIT = 0.85  # of the others by a worker's gate; the rest is trained


def number_of(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8])


def recorded_probe(graph: Graph) -> Probed:
    """A fingerprint that digests decide; a share of the graphs does not depend on x."""
    return Probed(graph.digest, graph.digest, 0.0 if number_of(graph.digest) / 2**64 < DEAD else 1.0)


def recorded_outcome(config: Config, graph: str) -> Evaluation:
    """Stopped by the quality gate, or trained: with curves and measurements as long as a real one's."""
    number = number_of(graph)
    proxies, steps = list(config.proxies), config.recipe.steps
    quality = 0.5 * math.sqrt((number >> 40) % 8191 / 8191)  # few are good; proxies agree with correlation 0.7
    accuracy = {proxy: quality + 0.12 * ((number >> 7 * i) % 8191 / 8191) for i, proxy in enumerate(proxies)}
    if graph == str(catalog[BASELINE].graph):
        accuracy = dict.fromkeys(proxies, 0.5)
    elif number / 2**64 < UNFIT:
        low = Measurement("quality", proxies[0], 0.1, 0.2, 100, False, 1.0)
        points = (Point(proxies[0], 100, 0.1, 2.3),)
        return Evaluation(Rejection("quality", proxies[0], 0.1, 0.2, 100), (low,), points, 1.0, 500.0, "host", "cpu")
    gates = [Measurement("quality", proxy, 0.3, 0.2, 100, True, 1.0) for proxy in proxies]
    gates += [Measurement("stability", proxy, 10.0, 1e8, 20, True, 1.0) for proxy in proxies]
    points = tuple(Point(proxy, step, accuracy[proxy], 1.0) for proxy in proxies for step in (100, steps))
    costs = dict.fromkeys(proxies, 0.01), dict.fromkeys(proxies, 10.0)
    outcome: Outcome = Fitness(accuracy, *costs)
    return Evaluation(outcome, tuple(gates), points, 60.0, 500.0, "host", "cpu, x86_64, 1 thread")


class RecordedPool:
    """Two workers that answer at once."""

    capacity = 2

    def __init__(self, config: Config) -> None:
        self.config = config
        self.waiting: deque[tuple[int, str]] = deque()

    def submit(self, key: int, job: Job) -> None:
        self.waiting.append((key, job.graph))

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        key, graph = self.waiting.popleft()
        return key, recorded_outcome(self.config, graph)

    def close(self) -> None:
        pass


def memory_mb() -> float:
    """Resident now, not at its peak."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def simulate(config: Config, folder: Path, url: str | None, looks: list[int]) -> None:
    address = Address.of_url(url, folder.name, folder) if url else Address.of_file(folder / "run.db", "run", folder)
    store = Store.create(address, config, {})
    search = Search(config, store, RecordedPool(config), History(config), Reader(address).outcome)
    search.evaluate_baseline()
    last, since, used = 0, time.perf_counter(), time.process_time()
    left = list(looks)

    def look(history: History) -> None:
        nonlocal last, since, used
        if left and history.births >= left[0]:
            now, cpu = time.perf_counter(), time.process_time()
            births = history.births - last
            print(
                f"  births {last:9,} to {history.births:9,}: {births / (now - since):7.0f} a second, "
                f"{1e6 * (cpu - used) / births:6.0f} CPU microseconds each; {memory_mb():6.0f} MB; "
                f"{history.survivors} survivors, front {len(history.front)}",
                flush=True,
            )
            last, since, used = history.births, now, cpu
            left.pop(0)

    search.on_progress = look
    search.run()
    store.close()


def optuna_rate(count: int, folder: Path, parameters: int = 30) -> float:
    """Ask and tell a second, NSGA-II with three objectives, RDB storage on SQLite."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = f"sqlite:///{folder / 'optuna.db'}"
    study = optuna.create_study(
        storage=storage, directions=["maximize"] * 3, sampler=optuna.samplers.NSGAIISampler(seed=0)
    )
    started = time.perf_counter()
    for n in range(count):
        trial = study.ask()
        values = [trial.suggest_int(f"node{i}", 0, 23) for i in range(parameters)]
        study.tell(trial, [number_of(f"{n} {i} {values}") % 8191 / 8191 for i in range(3)])
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True, help="a folder to make; its database stays")
    parser.add_argument("--births", type=int, default=1_000_000)
    parser.add_argument("--url", help="a database instead of an SQLite file in DIR")
    parser.add_argument("--probe", action="store_true", help="compute the fingerprints")
    parser.add_argument("--optuna", type=int, default=0, metavar="N", help="also N proposals of Optuna")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(arguments.config, arguments.set)
    evolved = config.evolution.model_copy(update={"births": arguments.births, "minutes": None, "patience": None})
    config = config.model_copy(update={"evolution": evolved})
    if not arguments.probe:
        evolution.probe = recorded_probe
        evolution.check_finite = lambda graph: Check("finite", True, 1.0, 1.0)
    print(machine())
    arguments.out.mkdir(parents=True)
    looks = [n for n in (5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 900_000) if n < arguments.births]
    looks.append(arguments.births)
    print(f"{'computed' if arguments.probe else 'recorded'} fingerprints, {memory_mb():.0f} MB before the first birth")
    started = time.perf_counter()
    simulate(config, arguments.out, arguments.url, looks)
    rate = arguments.births / (time.perf_counter() - started)
    print(f"  all: {rate:.0f} births a second (goal: 2,000)")
    if arguments.optuna:
        theirs = optuna_rate(arguments.optuna, arguments.out)
        print(
            f"Optuna, NSGA-II on SQLite, {arguments.optuna} proposals: {theirs:.1f} a second; ratio {rate / theirs:.0f}"
        )


if __name__ == "__main__":
    main()
