"""How fast is the search space, and what do its keys tell apart?

    python tests/benchmarks/identity.py                    # 20,000 random graphs of the paper's space

Rates are of one core, with the rate of drawing alone beside them. Counts: graphs that are distinct by text, digest,
fingerprint and family. Then 10,000 pairs made by exact rewrites (tests.search_space.graphs, which shares no code with
the product), and how many of them the digest keeps apart; and the graphs of different digests that the fingerprint
merges, each run beside the first of its fingerprint on 10 other inputs (other shapes, other scales, 1x1; training and
evaluation), and how many of them differ by more than 1e-3 of the largest value.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from random import Random

import torch
from torch import Tensor

from evonas.search_space.analysis import analyse, depends_on_x
from evonas.search_space.fingerprint import Probed, probe
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.sampling import random_dependent_graph, random_graph
from evonas.search_space.space import Space
from tests.benchmarks.machine import machine
from tests.search_space.graphs import rewritten, twin

OTHER = (  # shape, scale, shift
    ((4, 8, 3, 5), 1.0, 0.0),
    ((4, 8, 3, 5), 3.0, -1.0),
    ((2, 8, 1, 1), 1.0, 0.3),
    ((16, 8, 1, 1), 0.5, 0.0),
    ((3, 12, 4, 4), 0.1, 0.0),
    ((2, 12, 7, 1), 2.0, 1.0),
    ((5, 16, 2, 2), 0.02, 0.01),
    ((2, 4, 9, 9), 1.5, -0.5),
    ((8, 4, 2, 3), 5.0, 0.0),
    ((6, 20, 2, 5), 1.0, 2.0),
)
DIFFERENCE_MAX = 1e-3  # of the largest value


def rate(what: str, work: Callable[[], int], repeats: int = 3) -> None:
    """The best of some repeats: this machine has other work."""
    best = 0.0
    for _ in range(repeats):
        started = time.perf_counter()
        count = work()
        best = max(best, count / (time.perf_counter() - started))
    print(f"{what}: {best:,.0f} a second", flush=True)


@torch.no_grad()
def outputs(graph: Graph, number: int) -> Iterable[Tensor]:
    """Training twice, then evaluation, on another input, with other values of the learned parameters."""
    shape, scale, shift = OTHER[number]
    generator = torch.Generator().manual_seed(number)
    layer = NormAct(graph, shape[1], groups=4).double()
    for name, parameter in sorted(layer.named_parameters()):
        if name not in ("weight", "bias"):
            own = torch.Generator().manual_seed(sum(name.encode()))
            parameter.add_(torch.randn(parameter.shape, generator=own, dtype=torch.float64) * 0.5)
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) * scale + shift for _ in range(3)]
    yield layer(inputs[0])
    yield layer(inputs[1])
    yield layer.eval()(inputs[2])


def difference(first: Graph, second: Graph) -> float:
    """The largest relative difference; infinite where one is finite and the other not."""
    worst = 0.0
    for number in range(len(OTHER)):
        for a, b in zip(outputs(first, number), outputs(second, number), strict=True):
            if not torch.equal(a.isfinite(), b.isfinite()):
                return float("inf")
            a, b = (torch.where(each.isfinite(), each, 0.0) for each in (a, b))
            largest = float(torch.maximum(a.abs().max(), b.abs().max()))
            worst = max(worst, float((a - b).abs().max()) / largest if largest else 0.0)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first graph")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space, count = Space(), arguments.graphs
    print(machine())

    drawn = [random_graph(space, Random(arguments.seed + number)) for number in range(count)]
    rng = Random(0)
    rate("drawn", lambda: len([random_graph(space, rng) for _ in range(count)]))
    rate("drawn and analysed", lambda: len([analyse(random_graph(space, rng)) for _ in range(count)]))
    fresh = [[random_graph(space, rng) for _ in range(count // 4)] for _ in range(3)]
    rate("digests", lambda: len([graph.digest for graph in fresh.pop()]))
    few = drawn[: count // 20]
    rate("fingerprints", lambda: len([probe(graph) for graph in few]))

    passing = sum(map(depends_on_x, drawn))
    print(f"depend on x by analysis: {passing} of {count}")
    live = Counter(graph.live_nodes for graph in drawn)
    conditioned = Counter(random_dependent_graph(space, rng).live_nodes for _ in range(count))
    print("live nodes, all draws:             ", dict(sorted(live.items())))
    print("live nodes, sampler depends_on_x:  ", dict(sorted(conditioned.items())))

    probed: dict[str, Probed] = {}
    by_fingerprint: dict[str, dict[str, Graph]] = defaultdict(dict)
    for graph in drawn:
        found = probed.setdefault(graph.digest, probe(graph) if graph.digest not in probed else probed[graph.digest])
        by_fingerprint[found.fingerprint][graph.digest] = graph
    families = {each.family for each in probed.values()}
    print(
        f"distinct of {count}: text {len(set(map(str, drawn)))}, digest {len(probed)}, "
        f"fingerprint {len(by_fingerprint)}, family {len(families)}",
        flush=True,
    )

    apart = changed = 0
    for seed in range(arguments.pairs):
        graph = drawn[seed % count]
        other = twin(rewritten(graph, Random(seed)), Random(seed))
        apart += other.digest != graph.digest
        changed += str(other) != str(graph)
    print(f"pairs made by exact rewrites: {arguments.pairs}, {changed} of other text; kept apart: {apart}", flush=True)

    merged, differ = 0, []
    for digests in by_fingerprint.values():
        first, *others = digests.values()
        for other in others:
            merged += 1
            if (worst := difference(first, other)) > DIFFERENCE_MAX:
                differ.append((worst, first.formula, other.formula))
    print(f"pairs merged by the fingerprint alone: {merged}; differing by more than {DIFFERENCE_MAX}: {len(differ)}")
    for each in sorted(differ, reverse=True)[:20]:
        print("   ", each)


if __name__ == "__main__":
    main()
