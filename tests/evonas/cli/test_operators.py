"""The table of operators, against hand arithmetic and against what the search itself saw."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from evonas.config_file import parse_config
from evonas.history import History
from evonas.overview import overview
from evonas.pending import Pending
from evonas.rank_correlation import RankCorrelation
from evonas.retelling import replayed, restore_baseline
from evonas.run import Run, open_run
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Candidate, Recorded
from evonas.studies.operators import names, operators
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Rejection
from tests.evonas.cli.cases import Command, strict
from tests.evonas.search_cases import EVERYTHING, FakePool, configured, searched, seeded


def fit(accuracy: float) -> Evaluation:
    return Evaluation(Fitness({"resnet": accuracy, "mobilenet": accuracy}), seconds=10.0)


STOPPED = Evaluation(
    Rejection("finite", "", 1.0, 0.5, 0), (Measurement("finite", "", 1.0, 0.5, 0, False, 0.5),), seconds=0.5
)
BIRTHS = (  # operator, parent, equal_to, seen, seed, evaluation; BN-ReLU has 0.4
    ("catalog", None, None, 0, 0, fit(0.4)),
    ("insert", 1, None, 1, 0, fit(0.5)),
    ("again", 2, 2, 2, 1_000_001, fit(0.3)),  # another seed: no child is compared with it
    ("insert+op", 2, None, 2, 0, fit(0.45)),
    ("op", 2, None, 3, 0, fit(0.55)),
    ("mutation", 2, None, 5, 0, STOPPED),
    ("op", 6, 1, 6, 0, Evaluation(Fitness({"resnet": 0.4, "mobilenet": 0.4}))),  # inherits
    ("insert+insert", 6, None, 7, 0, fit(0.2)),  # its parent has no accuracy
    ("delete", 1, None, 8, 0, Evaluation(Crash("worker_died", "gone"), seconds=1.0)),
)


def test_operators_by_hand(tmp_path: Path, tiny: dict[str, Any]) -> None:
    address = Address.of_file(tmp_path / "run.db", "run", tmp_path)
    store = Database(address).create(parse_config(json.dumps({**tiny, "gates": ["finite"]})), {})
    for birth, (operator, parent, equal_to, seen, seed, evaluation) in enumerate(BIRTHS, start=1):
        graph = Graph.parse("x")
        probed = Probed(f"f{birth}", "", 1.0)
        of = {"seen": seen, "operator": operator, "parent": parent, "equal_to": equal_to}
        store.propose(Candidate.of(graph, probed, birth, **of))
        accuracy = evaluation.outcome.mean_score("accuracy") if isinstance(evaluation.outcome, Fitness) else None
        advantage = None if accuracy is None else accuracy - 0.4
        store.record(birth, graph, evaluation, birth, seed, advantage, inherits=equal_to == 1)
    store.propose(Candidate.of(Graph.parse("x"), Probed("f", "", 1.0), 10, seen=9))  # pending
    store.close()
    rows = {row.operator: row for row in operators(Database(address).reader())}
    assert list(rows) == ["redraw", "op", "insert", "delete", "catalog", "random", "again"]
    counts = {
        name: (row.births, row.inherited, row.stopped, row.crashed, row.trained, row.improved, row.compared)
        for name, row in rows.items()
    }
    assert counts == {
        "redraw": (1, 0, 1, 0, 0, 0, 0),
        "op": (3, 1, 0, 0, 2, 1, 2),
        "insert": (3, 0, 0, 0, 3, 1, 2),
        "delete": (1, 0, 0, 1, 0, 0, 0),
        "catalog": (1, 0, 0, 0, 1, 0, 0),
        "random": (1, 0, 0, 0, 0, 0, 0),
        "again": (1, 0, 0, 0, 1, 0, 0),
    }
    assert {name: row.seconds for name, row in rows.items()} == {
        "redraw": 0.5,
        "op": 20.0,
        "insert": 30.0,
        "delete": 1.0,
        "catalog": 10.0,
        "random": 0.0,
        "again": 10.0,
    }
    assert rows["insert"].mean_advantage == pytest.approx((0.1 + 0.05 - 0.2) / 3)
    assert (rows["insert"].best, rows["insert"].best_advantage) == (2, pytest.approx(0.1))
    assert (rows["redraw"].mean_advantage, rows["redraw"].best) == (None, None)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every operator, a surrogate and leaders that are measured again."""
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("everything")
    surrogate = {"pool": 2, "after": 10, "refit": 40, "unranked": 0.6}
    searched(folder, configured(TINY, births=120, **{**EVERYTHING, "surrogate": surrogate}), FakePool(2, seeded))
    return open_run(folder)


def test_children_improve_on_their_parents_as_the_search_saw_them(everything: Run) -> None:
    """The parent's fitness of the history, when the child was proposed, is that of the records alone."""
    reader, improved, compared = everything.reader, Counter[str](), Counter[str]()
    history, edits = History(reader.config), {}

    def on_outcome(pending: Pending, recorded: Recorded) -> None:
        if isinstance(recorded.outcome, Fitness) and pending.parent_fitness is not None and pending.equal_to is None:
            for name in names(edits[recorded.birth]):
                compared[name] += 1
                improved[name] += recorded.outcome.mean_score("accuracy") > pending.parent_fitness + 1e-9

    restore_baseline(reader, history)
    for candidate in replayed(reader, history, on_outcome):
        edits[candidate.birth] = candidate.operator
    rows = everything.operators()
    assert {row.operator: row.compared for row in rows if row.compared} == dict(compared)
    assert {row.operator: row.improved for row in rows if row.compared} == dict(improved)
    assert sum(compared.values()) > 30


# --------------------------------------------------------------------------- the surrogate's honesty


def test_rank_correlation_and_its_interval_by_hand() -> None:
    """Ranks 1 2 3 4 5 and 2 1 4 3 5: rho = 1 - 6 * 4 / (5 * 24) = 0.8; atanh 0.8 = 1.098612, error
    sqrt(1.32 / 2) = 0.812404, and tanh of their sum and difference."""
    found = RankCorrelation.of([(1, 20), (2, 10), (3, 40), (4, 30), (5, 50)])
    assert found is not None
    assert found.value == pytest.approx(0.8)
    assert (found.low, found.high) == (pytest.approx(-0.4571, abs=1e-4), pytest.approx(0.9908, abs=1e-4))
    perfect = RankCorrelation.of([(n, n) for n in range(5)])
    assert perfect is not None
    assert (perfect.value, perfect.low, perfect.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "pairs", [[], [(1, 2), (2, 3), (3, 4)], [(1, n) for n in range(9)], [(n, 1) for n in range(9)]]
)
def test_too_little_says_nothing(pairs: list[tuple[float, float]]) -> None:
    assert RankCorrelation.of(pairs) is None


def test_what_is_shown_of_the_surrogate_is_of_the_unranked(command: Command, everything: Run) -> None:
    """In the records, in what a running search shows, in `status` and in `funnel`."""
    records = everything.reader.candidates()
    pairs = everything.reader.unranked()
    found = everything.status().surrogate
    assert found is not None
    assert found.pairs == len(pairs) > 3
    assert found.value == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
    assert strict(command("status", everything.folder, "--json").out)["surrogate"] == found.figures()
    assert overview(everything).status.surrogate == found  # which the table of a running search shows
    told = strict(command("funnel", everything.folder, "--json").out)
    assert told["surrogate"] == found.figures()
    assert told["operators"] == [row.figures() for row in everything.operators()]
    shown = command("funnel", everything.folder)
    assert f"on {len(pairs)} candidates that it did not rank" in " ".join(shown.out.split())
    assert [line.split()[:2] for line in shown.lines if line.startswith(("insert ", "cross "))] == [
        [row.operator, str(row.births)] for row in everything.operators() if row.operator in ("insert", "cross")
    ]
    assert told["inherited"] == sum(each.equal_to is not None and each.operator != "again" for each in records)
