"""The surrogate that ranks children: with a pool that answers from a table."""

import math
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest
from scipy.stats import spearmanr

from evonas.config import Config
from evonas.evolution_config import Surrogate as SurrogateOptions
from evonas.rank_correlation import stopped_at
from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.sampling import random_dependent_graph
from evonas.search_space.space import Space
from evonas.search_space.start import Starts
from evonas.surrogate import Example, Surrogate, features
from evonas.workers.outcome import Fitness, Rejection
from tests.benchmarks.queries import plans
from tests.evonas.search_cases import EVERYTHING, FakePool, configured, searched, seeded


def test_children_are_chosen_from_pools_once_there_are_examples(tmp_path: Path, everything: Config) -> None:
    _, reader = searched(tmp_path, everything, FakePool(1, seeded))
    records = reader.candidates()
    predicted = [each for each in records if each.predicted is not None]
    chosen = [each for each in predicted if each.pool is not None]
    assert chosen and len(chosen) < len(predicted)
    assert all(1 <= (each.pool or 0) <= 4 for each in chosen)
    assert all(each.operator not in ("again", "catalog") for each in predicted)
    assert min(each.seen for each in predicted) >= 10


def test_older_runs_propose_what_they_proposed() -> None:
    """The model draws features at random: with another number of them it would rank otherwise."""
    assert features("x").shape == features("erf(x)").shape == (158,)


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


def test_what_was_stopped_is_expected_below_the_worst_and_the_earlier_the_lower() -> None:
    surrogate = Surrogate(after=2, refit=1)
    for number in range(12):
        surrogate.add(Example(f"tanh(x) + {number + 1}", None, 0.5 + number / 100))
        surrogate.add(Example(f"exp(x) * {number + 2}", None, None, -1.0))
        surrogate.add(Example(f"sigmoid(x) / {number + 2}", None, None, -3.0))
    children = [Graph.parse(each) for each in ("tanh(x) + 20", "exp(x) * 20", "sigmoid(x) / 20")]
    good, bad, worse = surrogate.predict(children, [None] * 3)
    assert good > 0.5 > bad > worse


def test_unranked_candidates_rank_below_the_trained_by_the_gate_that_stopped_them(
    tmp_path: Path, everything: Config
) -> None:
    """A rank correlation over the survivors alone would leave out most of what the model has to tell apart."""
    of_pools = everything.evolution.model_copy(update={"surrogate": SurrogateOptions(pool=4, after=10, unranked=0.7)})
    config = everything.model_copy(update={"evolution": of_pools})
    search, reader = searched(tmp_path, config, FakePool(1, seeded))
    unranked = [each for each in reader.candidates() if each.predicted is not None and each.pool is None]
    gates = [gate.gate for gate in everything.gates]
    expected = []
    for each in unranked:
        if each.equal_to is None and isinstance(each.outcome, Fitness):
            expected.append((each.predicted, fmean(each.accuracy.values())))
        elif isinstance(each.outcome, Rejection) and each.outcome.gate not in ("depends_on_x", "finite"):
            expected.append((each.predicted, gates.index(each.outcome.gate) - len(gates)))
    assert min(measured for _, measured in expected) < 0 < max(measured for _, measured in expected)
    assert reader.unranked() == expected
    assert any("SEARCH score USING PRIMARY KEY" in line for line in plans(reader, reader.unranked))  # not quadratic
    assert search.history.surrogate is not None
    assert search.history.surrogate.unranked == reader.unranked()


def test_what_gates_stop_is_ranked_by_how_far_it_came() -> None:
    gates = ("signal", "quality", "rung")
    figures = [
        stopped_at(gate, value, gates)
        for gate, value in (
            ("signal", 5.0), ("quality", 0.3), ("quality", 0.5), ("diverged", math.inf),
            ("rung", math.nan), ("rung", 0.2), ("rung", 0.4), ("rung", math.inf),
        )
    ]  # fmt: skip
    assert figures == pytest.approx([-3, -2, -2, -1, -1, -0.8, -0.6, -0.001])


@pytest.mark.parametrize("refit", [4, 100])
def test_it_is_fitted_as_soon_as_it_may_choose_and_then_each_so_many_examples(refit: int) -> None:
    """Survivors may come after many that were stopped."""
    surrogate, fits = Surrogate(after=2, refit=refit), []
    for number in range(20):
        surrogate.add(Example(f"tanh(x) + {number}", None, 0.5 + number / 100 if number > 4 else None))
        if surrogate.ready:
            surrogate.predict([Graph.parse("tanh(x)")], [None])
            fits.append(surrogate._fitted)
    assert fits == [7 + (n // refit) * refit for n in range(len(fits))]


def test_a_birth_starts_otherwise_than_all_before_it(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """The model expects of a near copy what it knows of the layer, so that copies would be ranked first."""
    novelty, starts = 0.3, Starts()
    options = {**EVERYTHING, "surrogate": {"pool": 16, "after": 10, "refit": 8, "novelty": novelty}}
    _, reader = searched(tmp_path, configured(tiny, births=60, **options), FakePool(1, seeded))
    distances = []
    for record in sorted(reader.candidates(), key=lambda each: each.birth):
        if record.equal_to is None:
            if record.predicted is not None:
                distances.append(starts.distance(record.graph))
            starts.add(record.graph)
    assert len(distances) > 10
    assert min(distances) >= novelty


def test_no_layer_of_the_catalog_is_too_near_another_for_the_default() -> None:
    """But for the approximation of GELU."""
    starts, least = Starts(), math.inf
    for name, graph in LAYERS.graphs.items():
        if LAYERS[name].inputs == 1 and name != "GELU-tanh":
            least = min(least, starts.distance(str(graph)))
            starts.add(str(graph))
    assert SurrogateOptions().novelty < least < 0.3
