"""A discrete-event simulation of many workers: how busy the driver and the workers are, and what gives way next.

    python -m tests.benchmarks.scale RUN --driver-ms 3.5 [--scale 100] [--plot docs/scale.png]

The worker times are those of RUN's candidates that a worker saw, drawn with replacement and times --scale (a
quickstart's are seconds; the paper's, hours). The driver does one thing at a time: --driver-ms for each birth (as
tests/benchmarks/driver.py --probe tells), of which RUN's share needs no worker, --message-ms for each job it sends and
each answer it reads, and for each look at its workers what a look at 5,000 takes here, in proportion. A worker waits
from its answer until the driver has found it another candidate.
"""

import argparse
import heapq
import time
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from evonas.config import BASELINE, Config
from evonas.search_space.catalog import LAYERS
from evonas.store.database import Database
from evonas.workers.protocol import Job
from evonas.workers.ray_pool import RayPool
from tests.benchmarks.machine import machine
from tests.benchmarks.utilisation import seen_by_workers

LOOKED_AT = 5000
WORKERS = (10, 30, 100, 300, 1000, 2000, 5000, 10000, 20000)


@dataclass(frozen=True, slots=True)
class Outcome:
    driver: float  # share of the time that it works
    idle: float  # share of the workers' time that they wait


def simulate(workers: int, times: list[float], per_job: float, per_look: float, answers: int, rng: Random) -> Outcome:
    """`per_job`: seconds of the driver from a worker's answer to its next job, births without a worker included. A look
    finds all answers that are there."""
    free_at = worked = waited = trained = 0.0
    mean = sum(times) / len(times)
    events = [mean * rng.random() for _ in range(workers)]  # when workers ask for a job
    heapq.heapify(events)
    served, began = 0, 0.0
    while served < answers:
        start = max(events[0], free_at)
        free_at = start + per_look
        while events[0] <= start:
            asked, seconds = events[0], rng.choice(times)
            free_at += per_job
            heapq.heapreplace(events, free_at + seconds)
            served += 1
            waited, trained = waited + free_at - asked, trained + seconds
        worked += free_at - start
        if served <= answers // 2:  # until it is in full swing
            worked = waited = trained = 0.0
            began = free_at
    return Outcome(worked / (free_at - began), waited / (waited + trained))


def seconds_of_a_look(config: Config, workers: int) -> float:
    """RayPool at so many busy workers: here one actor, at which as many jobs wait."""
    pool = RayPool(config.protocol, count=1)
    (slot,) = pool._slots
    job = Job(graph=str(LAYERS[BASELINE].graph), protocol=config.protocol, seed=0)
    pool._ray.get(slot.ready)
    pool._slots = [
        replace(slot, started=True, key=key, job=job, result=slot.actor.evaluate.remote(job), since=time.monotonic())
        for key in range(workers)
    ]
    looks = 0
    started = time.perf_counter()
    while time.perf_counter() - started < 2.0 and pool.next(0.0) is None:
        looks += 1
    seconds = (time.perf_counter() - started) / looks
    pool._slots = [slot]
    pool.close()
    return seconds


def measured(run: str) -> tuple[list[float], float]:
    """Seconds of the candidates that a worker saw, and births for each of them."""
    reader = Database.open(run).reader()
    times = [each.evaluation.seconds for each in seen_by_workers(reader)]
    return times, sum(reader.counts()[0].values()) / len(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--driver-ms", type=float, required=True, help="of a birth, fingerprint and store included")
    parser.add_argument("--message-ms", type=float, default=0.4, help="of a job sent and its answer read, by Ray")
    parser.add_argument("--scale", type=float, action="append", default=[], help="of the worker times")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    times, births = measured(arguments.run)
    look = seconds_of_a_look(Database.open(arguments.run).reader().config, LOOKED_AT) / LOOKED_AT
    per_job = (births * arguments.driver_ms + arguments.message_ms) / 1000
    mean = sum(times) / len(times)
    print(machine())
    print(f"{len(times)} measured evaluations, mean {mean:.2f} s; {births:.2f} births for each")
    print(
        f"{1000 * per_job:.1f} ms of the driver for each, of which {births * arguments.driver_ms:.1f} ms to propose, "
        f"screen and record; a look at {LOOKED_AT} workers {1000 * look * LOOKED_AT:.1f} ms"
    )
    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(8, 6), layout="constrained")
    for scale in arguments.scale or [1.0, 10.0, 100.0, 1000.0]:
        rows = []
        for workers in WORKERS:
            scaled = [scale * each for each in times]
            rows.append(simulate(workers, scaled, per_job, look * workers, max(20_000, 8 * workers), Random(0)))
            print(
                f"  evaluations of {scale * mean:8.1f} s, {workers:6} workers: "
                f"driver {rows[-1].driver:6.1%} busy, workers {rows[-1].idle:6.1%} idle"
            )
        above.plot(WORKERS, [100 * each.driver for each in rows], marker="o", label=f"{scale * mean:.3g} s")
        below.plot(WORKERS, [100 * each.idle for each in rows], marker="o")
        print(f"    the driver is the limit from {mean * scale / per_job:.0f} workers on")
    for axes, what in ((above, "driver busy, %"), (below, "workers idle, %")):
        axes.set(xscale="log", ylabel=what, ylim=(0, 102))
        axes.axvline(5000, color="grey", linewidth=0.8, linestyle=":")
        axes.grid(alpha=0.3)
    below.set_xlabel("workers")
    above.set_title(f"One driver, {1000 * per_job:.1f} ms for each evaluation")
    figure.legend(loc="outside right upper", title="an evaluation takes", frameon=False)
    if arguments.plot:
        figure.savefig(arguments.plot, dpi=150)


if __name__ == "__main__":
    main()
