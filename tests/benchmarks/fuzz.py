"""How long reading a hostile text takes, and how much memory: python tests/benchmarks/fuzz.py [--seed 0]

Ten thousand fuzzed texts (tests/search_space/fuzz.py), each read three times; the fastest counts, for the machine is
shared. Prints for each kind how many are graphs, the median, the 99th percentile and the slowest; and the growth of the
process.
"""

import argparse
import resource
import time

import numpy as np

from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from tests.benchmarks.machine import machine
from tests.search_space import fuzz


def seconds(text: str) -> tuple[float, bool]:
    start = time.perf_counter()
    try:
        Graph.parse(text)
    except InputError:
        return time.perf_counter() - start, False
    return time.perf_counter() - start, True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times: dict[str, list[float]] = {}
    graphs: dict[str, int] = {}
    slowest = (0.0, "")
    for kind, text in fuzz.texts("/nonexistent/canary", seed):
        tries = [seconds(text) for _ in range(3)]
        best = min(tries)[0]
        times.setdefault(kind, []).append(1000 * best)
        graphs[kind] = graphs.get(kind, 0) + tries[0][1]
        slowest = max(slowest, (best, text))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{machine()}; seed {seed}")
    print(f"{'kind':10} {'texts':>6} {'graphs':>6} {'median':>9} {'99 %':>9} {'slowest':>9}  (milliseconds)")
    for kind, values in times.items():
        low, high = np.percentile(values, [50, 99])
        print(f"{kind:10} {len(values):6} {graphs[kind]:6} {low:9.3f} {high:9.3f} {max(values):9.3f}")
    print(f"the slowest: {slowest[1][:60]!r}, {len(slowest[1])} characters")
    print(f"the process grew by {grown / 1024:.1f} MiB, of which the longest text is 1 MiB")


if __name__ == "__main__":
    main()
