"""Forward and backward of layers, of this checkout beside another, turn by turn in two processes.

    python tests/benchmarks/layer_times.py --other ../landed/.venv/bin/python [--turns 15] [--layer EvoNorm-B0 ...]

Prints the median over turns of the ratio of this checkout's time to the other's: below 1 is faster. Each has a thread
and they take turns, so that a busy machine slows both. The environment of a checkout is its folder `.venv`.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.machine import machine

SHAPES = ((128, 8, 28, 28), (128, 32, 7, 7), (64, 16, 32, 32))
# Older checkouts have search_space at their top.
WORKER = """
import sys, time, torch
try:
    from evonas.search_space.lowering import NormAct
    from evonas.search_space.graph import Graph
except ImportError:
    from search_space.lowering import NormAct
    from search_space.graph import Graph
torch.set_num_threads(1)
for line in sys.stdin:
    text, sizes = line.rstrip().split("|")
    shape = [int(size) for size in sizes.split()]
    layer = NormAct(Graph.parse(text), shape[1], groups=4)
    x, slope = torch.randn(shape).requires_grad_(), torch.randn(shape)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        torch.autograd.grad(layer(x), [x, *layer.parameters()], slope)
        times.append(time.perf_counter() - started)
    print(min(times[1:]), flush=True)
"""


def started(python: str) -> subprocess.Popen[str]:
    checkout = Path(python).absolute().parents[2]  # the first place of imports
    command, pipe = [python, "-c", WORKER], subprocess.PIPE
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=checkout, env=environment)


def seconds(worker: subprocess.Popen[str], text: str, shape: tuple[int, ...]) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{text}|{' '.join(map(str, shape))}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def main() -> None:
    from evonas.search_space.catalog import LAYERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", required=True, help="the Python of another checkout")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--layer", action="append", default=[])
    arguments = parser.parse_args()
    print(machine())
    own, other = started(sys.executable), started(arguments.other)
    for name in arguments.layer or ["BN-ReLU", "GN-ReLU", "EvoNorm-B0", "EvoNorm-S0"]:
        for shape in SHAPES:
            turns = []
            for turn in range(arguments.turns):
                pair = (own, other) if turn % 2 else (other, own)
                measured = {worker.pid: seconds(worker, LAYERS[name].text, shape) for worker in pair}
                turns.append((measured[own.pid], measured[other.pid]))
            ratio = statistics.median(first / second for first, second in turns)
            best = min(first for first, _ in turns) / min(second for _, second in turns)
            print(f"{name:12} {shape!s:20} median ratio {ratio:.3f}, of the minima {best:.3f}", flush=True)
    for worker in (own, other):
        worker.terminate()


if __name__ == "__main__":
    main()
