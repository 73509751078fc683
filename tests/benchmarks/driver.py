"""What the driver costs: births a second through the real loop, store and pool contract, with workers that answer at
once from a recorded run.

    python -m tests.benchmarks.driver RUN --out DIR [--births 1000000] [--set evolution.population=2500] [--probe]

The config is RUN's, with what is --set. Each candidate gets one of RUN's evaluations, by its digest: as many are
stopped by screening as there, and the others have outcome, curves and measurements of one that a worker saw, the
accuracies of the trained moved by up to a point, so that no two are equal. Its digest stands for its fingerprint, and
its amplifications are 1, unless --probe computes both. Prints births a second and the driver's memory over stretches of
births, their growth since 10,000, and with --optuna N the first N births beside N proposals of Optuna's NSGA-II on
SQLite. One core: the pool is a queue in the same process.
"""

import argparse
import resource
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch

from evonas import proposal
from evonas.config import Config
from evonas.config_file import dump_config, parse_config
from evonas.evolution import Search
from evonas.history import History
from evonas.retraining import evaluate_baseline
from evonas.search_space import screening
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.search_space.screening import Degenerate, Screening
from evonas.session import Session
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Purpose
from evonas.workers.gates import screen
from evonas.workers.gates.base import Gate
from evonas.workers.gates.finite import Finite
from evonas.workers.outcome import Evaluation, Fitness, Measurement
from evonas.workers.protocol import Job
from tests.benchmarks.machine import machine
from tests.benchmarks.utilisation import SCREENED, seen_by_workers

ALIKE: dict[Degenerate, float] = {"position": 1.0, "constant": 1.0, "sample": 1.0}
MOVED = 0.01  # of accuracy


def number_of(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8])


class Recorded:
    """What a run recorded, told again by digest."""

    def __init__(self, reader: Reader) -> None:
        (self.baseline,) = (each.evaluation for each in reader.evaluations("baseline"))
        self.by_workers = [
            replace(
                each.evaluation, measurements=tuple(m for m in each.evaluation.measurements if m.gate not in SCREENED)
            )
            for each in seen_by_workers(reader)
        ]
        own = sum(each.equal_to is None for each in reader.candidates())
        self.screened = 1.0 - len(self.by_workers) / own

    def probe(self, graph: Graph) -> Probed:
        stopped = number_of(graph.digest) / 2**64 < self.screened
        return Probed(graph.digest, graph.digest, 0.0 if stopped else 1.0)

    def outcome(self, graph: str) -> Evaluation:
        number = number_of(graph)
        evaluation = self.by_workers[number % len(self.by_workers)]
        if not isinstance(evaluation.outcome, Fitness):
            return evaluation
        accuracy = {
            proxy: value + MOVED * ((number >> 16 * i) % 65521 / 32760 - 1)
            for i, (proxy, value) in enumerate(evaluation.outcome.accuracy.items(), start=1)
        }
        return replace(evaluation, outcome=replace(evaluation.outcome, accuracy=accuracy))


def screen_without_finite(gates: Sequence[Gate], layer: Screening) -> tuple[Measurement, ...]:
    """The recorded share passes; the layer is not run."""
    return screen([gate for gate in gates if not isinstance(gate, Finite)], layer)


class RecordedPool:
    """Two workers that answer at once."""

    capacity = 2

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.waiting: deque[tuple[int, str]] = deque()

    def submit(self, key: int, job: Job) -> None:
        self.waiting.append((key, job.graph))

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        key, graph = self.waiting.popleft()
        return key, self.recorded.outcome(graph) if key else self.recorded.baseline

    def close(self) -> None:
        pass


def memory_mb() -> float:
    """Resident now, not at its peak."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def simulate(
    config: Config, recorded: Recorded, folder: Path, url: str | None, looks: Sequence[int]
) -> dict[int, tuple[float, float, float]]:
    """At each look: seconds since the first birth, CPU seconds a birth since the last look, MB."""
    address = Address.of_url(url, folder.name, folder) if url else Address.of_file(folder / "run.db", "run", folder)
    store = Database(address).create(config, {})
    search = Search(config, Session(RecordedPool(recorded), store), History(config), Database(address).reader().outcome)
    evaluate_baseline(search.session, search.history, Purpose.BASELINE)
    last, since, used = 0, time.perf_counter(), time.process_time()
    left, found, began = list(looks), {}, since

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
            found[left.pop(0)] = now - began, (cpu - used) / births, memory_mb()
            last, since, used = history.births, now, cpu

    search.on_progress = look
    search.run()
    store.close()
    return found


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
    parser.add_argument("run")
    parser.add_argument("--out", type=Path, required=True, help="a folder to make; its database stays")
    parser.add_argument("--births", type=int, default=1_000_000)
    parser.add_argument("--url", help="a database instead of an SQLite file in DIR")
    parser.add_argument("--probe", action="store_true", help="compute the fingerprints")
    parser.add_argument("--optuna", type=int, default=0, metavar="N", help="also N proposals of Optuna")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reader = Database.open(arguments.run).reader()
    config = parse_config(dump_config(reader.config), "config", arguments.set)
    evolved = config.evolution.model_copy(update={"births": arguments.births, "minutes": None, "patience": None})
    config = config.model_copy(update={"evolution": evolved})
    recorded = Recorded(reader)
    if not arguments.probe:
        screening.probe = recorded.probe
        screening.amplifications = lambda graph: ALIKE
        proposal.screen = screen_without_finite
    print(machine())
    arguments.out.mkdir(parents=True)
    looks = [n for n in (5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 900_000) if n < arguments.births]
    looks = sorted({*looks, arguments.births, *([arguments.optuna] if arguments.optuna else [])})
    print(f"{'computed' if arguments.probe else 'recorded'} fingerprints, {memory_mb():.0f} MB before the first birth")
    found = simulate(config, recorded, arguments.out, arguments.url, looks)
    print(f"  all: {arguments.births / found[arguments.births][0]:.0f} births a second (goal: 2,000)")
    if 10_000 in found:
        early, late = found[10_000], found[arguments.births]
        cpu, memory = late[1] / early[1], late[2] / early[2]
        print(f"  the last stretch over that before 10,000: CPU {cpu:.2f}, memory {memory:.2f} (goal: 1.2)")
    if arguments.optuna:
        ours, theirs = arguments.optuna / found[arguments.optuna][0], optuna_rate(arguments.optuna, arguments.out)
        print(
            f"Optuna, NSGA-II on SQLite, {arguments.optuna} proposals: {theirs:.1f} a second; the first "
            f"{arguments.optuna} births: {ours:.0f}; ratio {ours / theirs:.0f}"
        )


if __name__ == "__main__":
    main()
