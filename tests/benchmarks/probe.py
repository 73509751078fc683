"""How many graphs does the probe take a second, beside another revision, and are the keys the same?

    python -m tests.benchmarks.probe --revision v0.1.0 [--graphs 1000] [--rounds 3]

Both revisions probe the same graphs in turns, on one thread, in processes of their own: random graphs of the paper's
space that depend on x, dense graphs (tests.search_space.graphs: learned scalars, numbers, a second input) and the
catalog's. Seconds are CPU time, with the canonical form and without the parsing. Prints the best round of each set,
the ratio, and how many fingerprints, families and changes differ.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from evonas.search_space.catalog import LAYERS
from evonas.search_space.sampling import random_dependent_graph
from evonas.search_space.space import Space
from tests.benchmarks.machine import machine
from tests.search_space.graphs import woven

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys, time
import torch
torch.set_num_threads(1)
try:
    from evonas.search_space.fingerprint import probe
    from evonas.search_space.graph import Graph
except ModuleNotFoundError:  # until November 2026
    from search_space.fingerprint import probe
    from search_space.graph import Graph
texts = json.load(sys.stdin)
for text in texts[:20]:
    probe(Graph.parse(text))
graphs = [Graph.parse(text) for text in texts]
started = time.process_time()
probed = [probe(graph) for graph in graphs]
seconds = time.process_time() - started
print(json.dumps([seconds, [[each.fingerprint, each.family, each.change] for each in probed]]))
"""


def probed(tree: Path, texts: list[str]) -> tuple[float, list[tuple[str, str, float]]]:
    """CPU seconds, and the keys of each graph, by the probe of a source tree."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(texts),
        env=os.environ | {"PYTHONPATH": str(tree)},
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, keys = json.loads(done.stdout)
    return seconds, [tuple(each) for each in keys]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default="HEAD", help="the git revision to compare with")
    parser.add_argument("--graphs", type=int, default=1000, help="in each set")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    space = Space()
    sets = {
        "random": [random_dependent_graph(space, Random(seed)) for seed in range(arguments.graphs)],
        "dense": [woven(Random(seed)) for seed in range(arguments.graphs)],
        "catalog": list(LAYERS.graphs.values()),
    }
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", arguments.revision], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        for name, graphs in sets.items():
            texts = [str(graph) for graph in graphs]
            best, keys = {}, {}
            for _ in range(arguments.rounds):
                for which, tree in (("before", Path(folder)), ("now", ROOT)):
                    seconds, keys[which] = probed(tree, texts)
                    best[which] = min(seconds, best.get(which, seconds))
            rates = {which: len(texts) / seconds for which, seconds in best.items()}
            pairs = list(zip(keys["before"], keys["now"], strict=True))
            different = [sum(before[i] != now[i] for before, now in pairs) for i in range(3)]
            print(
                f"{name:8} {len(texts):6} graphs: {arguments.revision} {rates['before']:6.0f} a second, "
                f"now {rates['now']:6.0f}, ratio {rates['now'] / rates['before']:.1f}; different: "
                "{} fingerprints, {} families, {} changes".format(*different),
                flush=True,
            )


if __name__ == "__main__":
    main()
