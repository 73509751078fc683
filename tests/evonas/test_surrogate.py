"""The surrogate that ranks children: with a pool that answers from a table."""

from pathlib import Path
from random import Random
from statistics import fmean

from scipy.stats import spearmanr

from evonas.config import Config
from evonas.rank_correlation import STOPPED
from evonas.search_space.graph import Graph
from evonas.search_space.sampling import random_dependent_graph
from evonas.search_space.space import Space
from evonas.surrogate import Example, Surrogate
from evonas.workers.outcome import Fitness, Rejection
from tests.evonas.search_cases import FakePool, searched, seeded


def test_children_are_chosen_from_pools_once_there_are_examples(tmp_path: Path, everything: Config) -> None:
    _, reader = searched(tmp_path, everything, FakePool(1, seeded))
    records = reader.candidates()
    predicted = [each for each in records if each.predicted is not None]
    chosen = [each for each in predicted if each.pool is not None]
    assert chosen and len(chosen) < len(predicted)
    assert all(1 <= (each.pool or 0) <= 4 for each in chosen)
    assert all(each.operator not in ("again", "catalog") for each in predicted)
    assert min(each.seen for each in predicted) >= 10


def test_the_surrogate_ranks_what_its_features_tell() -> None:
    """Fitness is higher with every tanh: the forest sees that among graphs that it never met."""
    rng, space = Random(0), Space(primitives=("tanh", "neg", "add"), index_sets=("hw",))
    drawn = list({g.digest: g for g in (random_dependent_graph(space, rng) for _ in range(400))}.values())

    def worth(graph: Graph) -> float:
        return sum(node.op == "tanh" for node in graph.canonical().nodes) / 10

    surrogate = Surrogate(after=50, refit=1)
    known, new = drawn[:100], drawn[100:200]
    assert not surrogate.ready
    for graph in known:
        surrogate.add(Example(str(graph), None, worth(graph)))
    assert surrogate.ready
    expected = surrogate.predict(new, [None] * len(new))
    assert spearmanr(expected, [worth(graph) for graph in new]).statistic > 0.8
    assert surrogate.predict(new, [None] * len(new)) == expected


def test_what_was_stopped_is_expected_below_the_worst() -> None:
    surrogate = Surrogate(after=2, refit=1)
    for number in range(12):
        surrogate.add(Example(f"tanh(x) + {number + 1}", None, 0.5 + number / 100))
        surrogate.add(Example(f"exp(x) * {number + 2}", None, None))
    good, bad = surrogate.predict([Graph.parse("tanh(x) + 20"), Graph.parse("exp(x) * 20")], [None, None])
    assert good > 0.5 > bad


def test_unranked_candidates_that_a_worker_stopped_count_as_the_worst(tmp_path: Path, everything: Config) -> None:
    """A rank correlation over the survivors alone would leave out most of what the model has to tell apart."""
    search, reader = searched(tmp_path, everything, FakePool(1, seeded))
    unranked = [each for each in reader.candidates() if each.predicted is not None and each.pool is None]
    of_worker = [each for each in unranked if each.equal_to is None and isinstance(each.outcome, Fitness | Rejection)]
    expected = {
        each.birth: (each.predicted, fmean(each.accuracy.values()) if each.accuracy else STOPPED)
        for each in of_worker
        if not (isinstance(each.outcome, Rejection) and each.outcome.gate in ("depends_on_x", "finite"))
    }
    assert {STOPPED} < {measured for _, measured in expected.values()}
    assert reader.unranked() == list(expected.values())
    assert search.history.surrogate is not None
    assert search.history.surrogate.unranked == reader.unranked()
