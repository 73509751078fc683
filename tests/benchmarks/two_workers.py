"""Two Ray workers against two plain processes, over one process, on the same list of evaluations, in one run.

    python tests/benchmarks/two_workers.py configs/quickstart.yaml [--jobs 16] [--rounds 3]

Each round runs the list three times: in one process, in two plain ones that take turns at a queue, and in a RayPool of
two workers; starting processes and loading data is not timed. It prints the two gains over one process, and their
ratio.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import torch

from evonas.config_file import load_config
from evonas.search_space.catalog import LAYERS
from evonas.workers import data
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import Job, Protocol
from evonas.workers.ray_pool import RayPool
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

NAMES = ("BN-ReLU", "GN-ReLU", "BN-SiLU", "EvoNorm-B0", "EvoNorm-S0", "ReLU", "LayerNorm", "DyT")


def plain(job: Job) -> dict[str, float] | None:
    torch.set_num_threads(1)
    outcome = evaluate(job).outcome
    return outcome.accuracy if isinstance(outcome, Fitness) else None


def load(protocol: Protocol) -> None:
    torch.set_num_threads(1)
    data.load(protocol.data)
    time.sleep(2)  # so that each process takes one


def in_processes(count: int, protocol: Protocol, jobs: list[Job]) -> tuple[float, list[dict[str, float] | None]]:
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        list(pool.map(load, [protocol] * count))
        started = time.perf_counter()
        answers = list(pool.map(plain, jobs))
        return time.perf_counter() - started, answers


def in_ray(protocol: Protocol, jobs: list[Job]) -> tuple[float, list[dict[str, float] | None]]:
    pool = RayPool(protocol, count=2)
    try:
        for slot in pool._slots:
            pool._ray.get(slot.ready)
        answers: dict[int, dict[str, float] | None] = {}
        waiting = list(enumerate(jobs))
        running = 0
        started = time.perf_counter()
        while len(answers) < len(jobs):
            while waiting and running < pool.capacity:
                pool.submit(*waiting.pop(0))
                running += 1
            if (found := pool.next(60.0)) is not None:
                running -= 1
                outcome = found[1].outcome
                answers[found[0]] = outcome.accuracy if isinstance(outcome, Fitness) else None
        return time.perf_counter() - started, [answers[number] for number in range(len(jobs))]
    finally:
        pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    protocol = config.protocol.model_copy(update={"gates": ()})
    texts = [LAYERS[NAMES[number % len(NAMES)]].text for number in range(arguments.jobs)]
    jobs = [Job(graph=text, protocol=protocol, seed=number) for number, text in enumerate(texts)]
    print(machine())
    ratios = []
    for number in range(arguments.rounds):
        ways: dict[str, Callable[[], tuple[float, list[dict[str, float] | None]]]] = {
            "one process": lambda: in_processes(1, protocol, jobs),
            "two processes": lambda: in_processes(2, protocol, jobs),
            "two workers": lambda: in_ray(protocol, jobs),
        }
        found = {name: way() for name, way in ways.items()}
        assert len({str(answers) for _, answers in found.values()}) == 1, "they answered differently"
        one, two, workers = (seconds for seconds, _ in found.values())
        ratios.append(two / workers)
        print(
            f"round {number}: one process {one:.1f} s, two processes {two:.1f} s ({one / two:.2f} times), two workers "
            f"{workers:.1f} s ({one / workers:.2f} times); ratio of the gains {two / workers:.3f}",
            flush=True,
        )
    print(f"median ratio {median(ratios):.3f} (goal: 0.97); all answers equal, bit by bit")


if __name__ == "__main__":
    in_one_line(main)
