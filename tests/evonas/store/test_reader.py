"""What readers ask of a run."""

import re
import time
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from sqlalchemy import delete

from evonas.config import Config
from evonas.search_space.errors import InputError
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.store import loading, tables
from evonas.store.address import Address
from evonas.store.criteria import Criteria
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.records import Candidate, Event
from evonas.store.writer import Writer
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Point
from tests.evonas.store_cases import (
    CRASHED,
    FIT,
    IN_A_FILE,
    POINTS,
    REJECTED,
    S0,
    fit,
    propose,
    propose_and_record,
    record,
    told,
)


def test_the_spread_is_that_of_the_baselines_seeds(store: Writer, address: Address) -> None:
    assert Database(address).reader().spread() == {}
    last = Database(address).reader().config.recipe.steps

    def train(purpose: str, seed: int, accuracies: tuple[float, ...], name: str = "BN-ReLU") -> None:
        """One evaluation with so many seeds."""
        looks = [Point("resnet", step, a, 1.0, n) for n, a in enumerate(accuracies) for step in (1, last)]
        looks += [Point("mobilenet", last, 0.5, 1.0, n) for n in range(len(accuracies))]
        fitness = Fitness({"resnet": fmean(accuracies), "mobilenet": 0.5})
        store.record_beside(purpose, "x", seed, Evaluation(fitness, points=tuple(looks)), name=name)

    train("baseline", 0, (0.4, 0.6))
    assert Database(address).reader().spread() == {"resnet": (pytest.approx(0.02**0.5), 2), "mobilenet": (0.0, 2)}
    train("rerank", 2, (0.5,))
    train("rerank", 2, (0.0,), name="GN-ReLU")
    assert Database(address).reader().spread() == {"resnet": (pytest.approx(0.1), 3), "mobilenet": (0.0, 3)}


@IN_A_FILE
def test_a_run_without_the_event_of_its_start_began_when_it_was_created(store: Writer, address: Address) -> None:
    """A driver of an older version that was killed between the two leaves it."""
    propose_and_record(store, 1, FIT, 1, 0.0)
    with store.engine.begin() as connection:
        connection.execute(delete(tables.event))
    reader = Database(address).reader()
    assert reader.pace().driven == pytest.approx(time.time() - reader.created, abs=1.0)
    assert reader.pace().outcomes == 1


def test_the_seconds_of_all_drivers_are_counted_and_no_pause(
    store: Writer, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    driven = Database(address).reader().seconds_driven
    now += 500.0
    propose_and_record(store, 1, FIT, 1, 0.0)
    assert driven(is_running=False) == pytest.approx(500.0, abs=60.0)
    store.close()
    now += 100_000.0
    assert driven(is_running=False) == pytest.approx(500.0, abs=60.0)
    with closing(Database(address).own()) as second:
        now += 700.0
        propose_and_record(second, 2, FIT, 2, 0.0)
        now += 300.0
        assert driven(is_running=False) == pytest.approx(1200.0, abs=60.0)
        assert driven(is_running=True) == pytest.approx(1500.0, abs=60.0)
    with closing(Database(address).own(Event.VALIDATING)) as third:
        now += 10_000.0
        third.event(Event.STOPPED, "")
        assert driven(is_running=True) == pytest.approx(1200.0, abs=60.0)
    assert driven(is_running=False) == pytest.approx(1200.0, abs=60.0)


def test_the_pace_of_a_single_outcome_is_the_time_it_took(store: Writer, address: Address) -> None:
    propose_and_record(store, 1, FIT, 1, 0.0)
    assert Database(address).reader().pace().seconds == pytest.approx(FIT.seconds, abs=0.01)


def test_outcomes_are_told_in_their_order_with_what_their_gates_measured(store: Writer, address: Address) -> None:
    propose(store, 1, 2, 3)
    reached = {birth: Measurement("stability", "", birth / 8, 0.0, 3, True, 0.1) for birth in (1, 2)}
    for seq, birth in enumerate((2, 1), start=1):
        record(store, birth, Evaluation(FIT.outcome, (reached[birth],)), seq, 0.0)
    found = [(each.birth, each.seed, each.outcome, each.measurements) for each in Database(address).reader().outcomes()]
    assert found == [(2, 0, FIT.outcome, (reached[2],)), (1, 0, FIT.outcome, (reached[1],))]
    assert [each.birth for each in Database(address).reader().proposals()] == [1, 2, 3]


def test_a_dump_is_read_in_portions(store: Writer, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    for birth in range(1, 8):
        propose_and_record(store, birth, (FIT, REJECTED, CRASHED)[birth % 3], birth, None if birth % 3 else 0.5)
    propose(store, 8)
    whole = told(address)
    assert [row["birth"] for row in whole[1:]] == list(range(1, 9))
    assert [row.get("verdict") for row in whole[1:5]] == ["rejection", "crash", "fitness", "rejection"]
    for rows in (1, 3, 4, 8):
        monkeypatch.setattr(loading, "PORTION", rows)
        assert told(address) == whole


# --------------------------------------------------------------------------- queries


def test_top_is_by_advantage_or_by_one_proxy_and_of_equals_the_first(store: Writer, address: Address) -> None:
    for birth, (resnet, mobilenet, advantage) in enumerate(
        [(0.1, 0.9, 0.3), (0.4, 0.2, 0.1), (0.4, 0.4, 0.3), (0.3, 0.3, 0.2)], start=1
    ):
        propose_and_record(store, birth, fit(resnet, mobilenet), birth, advantage)
    propose_and_record(store, 5, REJECTED, 5, None)
    propose(store, 6)
    reader = Database(address).reader()
    assert [each.birth for each in reader.top()] == [1, 3, 4, 2]
    assert [each.birth for each in reader.top(2)] == [1, 3]
    assert [each.birth for each in reader.top(by="resnet")] == [2, 3, 4, 1]
    with pytest.raises(InputError, match=r"no proxy 'resnit'; did you mean 'resnet'\?"):
        reader.top(by="resnit")


def test_accuracies_are_told_in_the_configs_order_of_proxies(store: Writer, address: Address) -> None:
    assert list(Database(address).reader().config.proxies) == ["resnet", "mobilenet"]
    propose_and_record(store, 1, Evaluation(Fitness({"mobilenet": 0.1, "resnet": 0.2})), 1, 0.1)
    assert list(Database(address).reader().candidate(1).accuracy.items()) == [("resnet", 0.2), ("mobilenet", 0.1)]


def test_an_unknown_birth_says_which_there_are(store: Writer, address: Address) -> None:
    for birth in (1, 2):
        propose(store, birth)
    for birth in (0, -1, 3, 10**30):
        with pytest.raises(InputError, match=rf"no birth {birth}; expected 1 to 2"):
            Database(address).reader().candidate(birth)


def test_counts_are_of_this_runs_candidates_by_state_and_by_gate(store: Writer, address: Address) -> None:
    outcomes: list[Outcome] = [FIT.outcome, REJECTED.outcome, REJECTED.outcome, CRASHED.outcome]
    for birth, outcome in enumerate(outcomes, start=1):
        propose_and_record(store, birth, Evaluation(outcome), birth, None)
    propose(store, 5)
    store.record_beside("rerank", S0, 1, REJECTED, birth=1, name=None)
    states, gates = Database(address).reader().counts()
    assert states == {"evaluated": 1, "rejected": 2, "crashed": 1, "pending": 1}
    assert gates == {"stability": 2, "time_limit": 1}


def test_the_logical_dump_has_no_times_hosts_or_memory(tmp_path: Path, config: Config) -> None:
    dumps = []
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        address = Address.of_file(tmp_path / name / "run.db", name, tmp_path / name)
        store = Database(address).create(config, {"torch": name})
        gate = Measurement("quality", "resnet", 0.25, 0.1, 3, True, seconds)
        evaluation = Evaluation(FIT.outcome, (gate,), POINTS, seconds, 100 * seconds, f"host {name}")
        store.record_beside("baseline", S0, 0, evaluation, birth=None, name="ReLU")
        propose_and_record(store, 1, evaluation, 1, 0.1)
        propose(store, 2)
        record(store, 2, Evaluation(Crash("error", f"at {seconds}"), (), (), seconds), 2, None)
        if name == "b":
            store.close()
            store = Database(address).own()
            store.event("stopped", "and resumed")
        store.close()
        dumps.append((told(address), list(dump(Database(address).reader(), logical_only=False))))
    (logical_a, whole_a), (logical_b, whole_b) = dumps
    assert logical_a == logical_b
    assert whole_a != whole_b
    assert len(logical_a) == 4


# --------------------------------------------------------------------------- queries of a large run


def survivors(store: Writer, *rows: tuple[str, float, float, int | None]) -> None:
    """Births 1, 2 ... with formula, advantage, accuracy on resnet, and the birth that they inherit from."""
    for birth, (formula, advantage, resnet, equal_to) in enumerate(rows, start=1):
        graph = Graph.parse(formula)
        probed = Probed(f"f{birth}", f"f{birth}", 1.0)
        store.propose(Candidate.of(graph, probed, birth, seen=birth - 1, parent=birth - 1 or None, equal_to=equal_to))
        store.record(birth, graph, fit(resnet, 0.5), birth, 0, advantage, inherits=equal_to is not None)
    store.flush()


FOUR = (
    ("x / std_ghw(x)", 0.1, 0.4, None),
    ("x / std_bhw(x)", 0.3, 0.6, None),
    ("sigmoid(x) / std_ghw(x)", 0.2, 0.6, None),
    ("x / std_ghw(x)", 0.1, 0.4, 1),
    ("std_ghw(x) / std_bhw(x)", 0.05, 0.2, None),
)


def test_layers_are_found_by_what_they_use_and_lack(store: Writer, address: Address) -> None:
    survivors(store, *FOUR)
    store.set_front((2, 5))
    store.flush()
    reader = Database(address).reader()

    def found(*uses: str, by: str | None = None, **more: Any) -> list[int]:
        criteria = Criteria.of(uses, **more)
        ranked = [birth for birth, _ in reader.ranked(by, criteria)]
        assert reader.matching(range(1, 7), criteria).keys() == set(ranked)
        return ranked

    assert found() == [2, 3, 1, 5]  # the best first, each function once
    assert found(by="resnet") == [2, 3, 1, 5]
    assert found("std_ghw") == [3, 1, 5]
    assert found("std_ghw", batch_dependent=False) == [3, 1]
    assert found("std_ghw", "std_bhw") == [5]
    assert found("std_ghw", lacks=("sigmoid", "std_bhw")) == [1]
    assert found(lacks="std_ghw") == [2]
    assert found(batch_dependent=True) == [2, 5]
    assert found("std_*") == [2, 3, 1, 5]
    assert found("*_bhw", "sigmoid") == []
    assert found("std_*", lacks="*_bhw", by="resnet") == [3, 1]
    assert found(max_nodes=2) == [2, 1]
    assert found("std_ghw", minimum={"resnet": 0.4, "mobilenet": 0.5}) == [3, 1]
    assert found(minimum={"resnet": 0.41}) == [2, 3]
    assert found(front=True) == [2, 5]
    assert found("std_ghw", front=True, max_nodes=3) == [5]


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [("std_gwh", "did you mean 'std_ghw'?"), ("*_bwh", "did you mean '*_bhw'?"), ("sdt_*", "did you mean 'std_*'?")],
)
def test_a_pattern_that_matches_no_operation_names_the_nearest(pattern: str, nearest: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"no operation '{pattern}'; {nearest}")):
        Criteria.of(pattern)


def test_the_first_of_each_family_and_of_those_that_trained_alike_is_distinct(store: Writer, address: Address) -> None:
    losses = ((1.0, 2.0), (1.0, 2.0), (1.0, 2.5), None, None)
    for birth, (family, loss) in enumerate(zip("abcdd", losses, strict=True), start=1):
        graph, proxies = Graph.parse(f"x * {birth}.5"), ("resnet", "mobilenet")
        store.propose(Candidate.of(graph, Probed(f"f{birth}", family, 1.0), birth, seen=0))
        fitness = Fitness({"resnet": 0.5, "mobilenet": 0.5}, loss=dict(zip(proxies, loss, strict=True)) if loss else {})
        store.record(birth, graph, Evaluation(fitness), birth, 0, 0.1)
    store.flush()
    reader = Database(address).reader()
    assert list(reader.distinct(reader.ranked())) == [1, 3, 4]  # 2 trained as 1 did; equal accuracies alone are chance
    assert [each.birth for each in reader.families(9)] == [1, 2, 3, 4]


def test_a_lineage_is_told_from_its_root_and_children_by_birth(store: Writer, address: Address) -> None:
    survivors(store, *FOUR)
    assert [each.birth for each in Database(address).reader().lineage(3)] == [1, 2, 3]
    assert Database(address).reader().children(3) == [4]
    with pytest.raises(InputError, match="no birth 9"):
        Database(address).reader().lineage(9)


def test_the_front_is_what_the_driver_said_last(store: Writer, address: Address) -> None:
    survivors(store, *FOUR)
    for births in ((1, 3), (3, 2), (2, 3)):
        store.set_front(births)
        store.flush()
        front = [each.birth for each in Database(address).reader().front()]
        assert front == sorted(births, key=lambda b: -FOUR[b - 1][1])
    store.close()
    again = Database(address).own()
    again.set_front((5,))
    again.close()
    assert [each.birth for each in Database(address).reader().front()] == [5]
