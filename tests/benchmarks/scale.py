"""A discrete-event simulation of many workers: how busy the driver and the workers are, and what gives way next.

    python tests/benchmarks/scale.py RUN [--driver-ms 4.5] [--scale 100] [--plot docs/scale.png]

The worker times are those of RUN's candidates that a worker saw, drawn with replacement and times --scale (a
quickstart's are seconds; the paper's, hours). The driver does one thing at a time: --driver-ms for each birth (measured
by tests/benchmarks/driver.py --probe), of which RUN's share needs no worker, and --message-ms for each job it sends and
each answer it reads. A worker waits from its answer until the driver has found it another candidate.
"""

import argparse
import heapq
from dataclasses import dataclass
from pathlib import Path
from random import Random

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from evonas.store.queries import Reader
from tests.benchmarks.machine import machine
from tests.benchmarks.utilisation import seen_by_workers

WORKERS = (10, 30, 100, 300, 1000, 2000, 5000, 10000, 20000)


@dataclass(frozen=True, slots=True)
class Outcome:
    driver: float  # share of the time that it works
    idle: float  # share of the workers' time that they wait


def simulate(workers: int, times: list[float], per_job: float, answers: int, rng: Random) -> Outcome:
    """`per_job`: seconds of the driver from a worker's answer to its next job, births without a worker included."""
    free_at = worked = waited = trained = 0.0
    mean = sum(times) / len(times)
    events = [(mean * rng.random(), n) for n in range(workers)]  # when a worker asks for a job
    heapq.heapify(events)
    warm_until = answers // 2
    began = 0.0
    for served in range(answers):
        asked, worker = heapq.heappop(events)
        start = max(asked, free_at)
        free_at = start + per_job
        seconds = rng.choice(times)
        heapq.heappush(events, (free_at + seconds, worker))
        if served == warm_until:
            began = free_at
        if served > warm_until:
            worked += per_job
            waited += free_at - asked
            trained += seconds
    return Outcome(worked / (free_at - began), waited / (waited + trained))


def measured(run: str) -> tuple[list[float], float]:
    """Seconds of the candidates that a worker saw, and births for each of them."""
    reader = Reader.open(run)
    times = [each.evaluation.seconds for each in seen_by_workers(reader)]
    return times, sum(reader.counts()[0].values()) / len(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--driver-ms", type=float, default=4.5, help="of a birth, fingerprint and store included")
    parser.add_argument("--message-ms", type=float, default=1.0, help="of a job sent and its answer read, by Ray")
    parser.add_argument("--scale", type=float, action="append", default=[], help="of the worker times")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    times, births = measured(arguments.run)
    per_job = (births * arguments.driver_ms + arguments.message_ms) / 1000
    mean = sum(times) / len(times)
    print(machine())
    print(
        f"{len(times)} measured evaluations, mean {mean:.2f} s; {births:.2f} births for each, "
        f"{1000 * per_job:.1f} ms of the driver"
    )
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for scale in arguments.scale or [1.0, 10.0, 100.0, 1000.0]:
        rows = []
        for workers in WORKERS:
            scaled = [scale * each for each in times]
            rows.append(simulate(workers, scaled, per_job, max(20_000, 8 * workers), Random(0)))
            print(
                f"  evaluations of {scale * mean:8.1f} s, {workers:6} workers: "
                f"driver {rows[-1].driver:6.1%} busy, workers {rows[-1].idle:6.1%} idle"
            )
        axes.plot(WORKERS, [100 * each.idle for each in rows], marker="o", label=f"{scale * mean:.3g} s an evaluation")
        print(f"    the driver is the limit from {mean * scale / per_job:.0f} workers on")
    axes.set(xscale="log", xlabel="workers", ylabel="workers' idle time, %", ylim=(0, 100))
    axes.axvline(5000, color="grey", linewidth=0.8, linestyle=":")
    axes.set_title(f"One driver, {1000 * per_job:.1f} ms for each job")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    if arguments.plot:
        figure.savefig(arguments.plot, dpi=150)


if __name__ == "__main__":
    main()
