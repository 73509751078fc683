"""Writers: what is recorded comes back whole, and a failure leaves nothing half."""

import math
import sqlite3
from contextlib import closing
from threading import Timer
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from evonas.config import Config
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store import engines, tables
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Purpose
from evonas.store.writer import StoreError, Writer
from evonas.workers.outcome import Evaluation, Fitness, Measurement, Point, Rejection
from tests.evonas.store_cases import (
    CRASHED,
    FIT,
    IN_A_FILE,
    REJECTED,
    S0,
    candidate,
    fit,
    propose,
    propose_and_record,
    record,
    told,
)

# --------------------------------------------------------------------------- round trips


def test_a_proposed_candidate_is_pending_and_comes_back_whole(store: Writer, address: Address) -> None:
    given = candidate(1, "n0 = exp(v0)\nn1 = n0 * x\nsigmoid(x)")  # with dead nodes
    store.propose(given)
    store.flush()
    found = Database(address).reader().candidate(1)
    assert found.graph == given.graph
    assert (found.formula, found.digest) == (given.formula, given.digest)
    assert (found.fingerprint, found.family, found.operator) == ("fingerprint 1", "family 1", "random")
    assert (found.state, found.outcome, found.seq, found.accuracy) == ("pending", None, None, {})


@pytest.mark.parametrize(
    ("evaluation", "state"),
    [(FIT, "evaluated"), (REJECTED, "rejected"), (CRASHED, "crashed")],
    ids=lambda v: str(v)[:9],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_an_outcome_comes_back_whole(
    store: Writer, address: Address, evaluation: Evaluation, state: str, at_once: bool
) -> None:
    advantage = 0.125 if evaluation is FIT else None
    if at_once:
        propose_and_record(store, 1, evaluation, 1, advantage)
    else:
        propose(store, 1)
        record(store, 1, evaluation, 1, advantage)
    reader = Database(address).reader()
    found = reader.candidate(1)
    assert (found.state, found.seq, found.outcome, found.advantage) == (state, 1, evaluation.outcome, advantage)
    assert (found.seconds, found.host) == (evaluation.seconds, evaluation.host)
    back = reader.evaluation_of(1)
    assert back is not None
    assert (back.outcome, back.measurements) == (evaluation.outcome, evaluation.measurements)
    assert sorted(back.points, key=str) == sorted(evaluation.points, key=str)
    assert (back.seconds, back.memory_mb, back.host) == (evaluation.seconds, evaluation.memory_mb, evaluation.host)
    assert (back.conditions, back.attempts) == (evaluation.conditions, evaluation.attempts)
    if isinstance(back.outcome, Fitness) and isinstance(evaluation.outcome, Fitness):
        assert back.outcome.step_seconds == evaluation.outcome.step_seconds


def test_an_evaluation_beside_the_search_is_no_outcome_of_it(store: Writer, address: Address) -> None:
    propose(store, 1)
    store.record_beside("rerank", S0, 5, FIT, birth=1, name=None)
    store.record_beside("baseline", "max(x, zero)", 0, FIT, birth=None, name="ReLU")
    reader = Database(address).reader()
    assert reader.candidate(1).outcome is None
    assert [(each.birth, each.seed) for each in reader.evaluations("rerank")] == [(1, 5)]
    assert [(each.name, each.formula) for each in reader.evaluations("baseline")] == [("ReLU", "max(x, zero)")]


@pytest.mark.parametrize("baseline_first", [False, True])
@pytest.mark.parametrize("purpose", [Purpose.RERANK, Purpose.VALIDATE])
def test_a_retraining_has_its_advantage_over_bn_relu_of_the_same_purpose_and_seed(
    store: Writer, address: Address, purpose: Purpose, baseline_first: bool
) -> None:
    propose(store, 1)
    baselines = [(5, fit(0.5, 0.25)), (6, fit(0.25, 0.25))]
    for seed, evaluation in baselines if baseline_first else ():
        store.record_beside(purpose, "x", seed, evaluation, name="BN-ReLU")
    store.record_beside(purpose, S0, 5, fit(0.75, 0.5), birth=1)  # +0.25 on both
    store.record_beside(purpose, S0, 6, fit(0.25, 0.5), birth=1)  # 0 and +0.25
    store.record_beside(purpose, S0, 7, fit(0.25, 0.5), birth=1)  # no BN-ReLU with this seed
    store.record_beside(purpose, S0, 6, REJECTED, name="GN-ReLU")
    other = Purpose.RERANK if purpose is Purpose.VALIDATE else Purpose.VALIDATE
    store.record_beside(other, "x", 7, fit(0.0, 0.0), name="BN-ReLU")
    for seed, evaluation in () if baseline_first else baselines:
        store.record_beside(purpose, "x", seed, evaluation, name="BN-ReLU")
    evaluations = Database(address).reader().evaluations(purpose)
    by_layer = {(each.birth, each.name, each.seed): each.advantage for each in evaluations}
    assert by_layer == {
        (1, None, 5): 0.25,
        (1, None, 6): 0.125,
        (1, None, 7): None,
        (None, "GN-ReLU", 6): None,
        (None, "BN-ReLU", 5): 0.0,
        (None, "BN-ReLU", 6): 0.0,
    }
    with store.engine.connect() as connection:
        view = text("SELECT birth, seeds, failed, advantage FROM retrained WHERE purpose = :p AND birth = 1")
        assert connection.execute(view, {"p": purpose}).all() == [(1, 3, 1, None)]
        connection.execute(text("SELECT advantage, spread FROM retrained")).all()


def test_infinity_survives(store: Writer, address: Address) -> None:
    measured = Measurement("finite", "", math.inf, 3.4e38, 0, False, 0.0)
    endless = Evaluation(
        Rejection("finite", "", math.inf, math.inf, 0), (measured,), (Point("resnet", 1, 0.1, math.inf),)
    )
    propose_and_record(store, 1, endless, 1, None)
    back = Database(address).reader().evaluation_of(1)
    assert back is not None
    assert (back.outcome, back.measurements, back.points) == (endless.outcome, endless.measurements, endless.points)


def test_the_config_and_the_versions_come_back(store: Writer, address: Address, config: Config) -> None:
    reader = Database(address).reader()
    assert reader.config == config
    assert reader.versions == {"evonas": "test"}
    assert not reader.finished
    store.finish()
    assert Database(address).reader().finished


def test_the_ops_of_live_nodes_are_recorded_for_queries(store: Writer) -> None:
    store.propose(candidate(1))
    store.record(1, Graph.parse("n0 = exp(x)\nx * sigmoid(v1 * x)"), FIT, 1, 0, 0.1)
    store.flush()
    with store.engine.connect() as connection:
        assert set(connection.execute(select(tables.candidate_op.c.op)).scalars()) == {"mul", "sigmoid"}


def test_one_seq_is_given_once(store: Writer, address: Address) -> None:
    propose_and_record(store, 1, FIT, 1, 0.1)
    with pytest.raises(Exception, match=r"(?i)unique"):
        propose_and_record(store, 2, FIT, 1, 0.1)
    assert [each.birth for each in Database(address).reader().candidates()] == [1]


def test_a_run_is_created_once(store: Writer, address: Address, config: Config) -> None:
    propose(store, 1)
    store.close()
    before = told(address)
    with pytest.raises(InputError, match="this run exists") as refusal:
        Database(address).create(config, {})
    assert told(address) == before
    again = Database(address).own()  # while `refusal` still holds the failed attempt's frames
    again.close()
    assert refusal


def test_foreign_keys_are_enforced(store: Writer) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        record(store, 7, FIT, 1, 0.1)


# --------------------------------------------------------------------------- transactions


@pytest.mark.parametrize("table", ["candidate", "candidate_op", "evaluation", "score", "point", "measurement"])
def test_a_failure_in_the_middle_of_a_write_leaves_nothing_half(store: Writer, address: Address, table: str) -> None:
    propose(store, 1)
    before = told(address)

    def fail(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(f"INSERT INTO {table} ") or (table, statement[:17]) == (
            "candidate",
            "UPDATE candidate ",
        ):
            raise RuntimeError("injected")

    event.listen(store.engine, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError, match="injected"):
        propose_and_record(store, 2, FIT, 1, 0.1)
    if table != "candidate_op":
        with pytest.raises(RuntimeError, match="injected"):
            record(store, 1, FIT, 1, 0.1)
    event.remove(store.engine, "before_cursor_execute", fail)
    assert told(address) == before
    record(store, 1, FIT, 1, 0.1)
    assert Database(address).reader().candidate(1).seq == 1


@IN_A_FILE
def test_a_database_that_another_program_locks_is_waited_for(store: Writer, address: Address) -> None:
    propose(store, 1)
    with closing(sqlite3.connect(address.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        Timer(0.2, other.execute, ["COMMIT"]).start()
        record(store, 1, FIT, 1, 0.1)
        assert not other.in_transaction, "the write did not wait"
    assert Database(address).reader().candidate(1).seq == 1


@IN_A_FILE
def test_a_full_disk_is_a_store_error_and_keeps_what_was_recorded(store: Writer, address: Address) -> None:
    propose(store, 1)
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    recorded = 1
    with pytest.raises(StoreError, match="full"):
        while recorded < 1000:
            store.set_front([recorded + 1])
            propose_and_record(store, recorded + 1, FIT, recorded, 0.1)
            recorded += 1
    with store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {2 * pages}")  # there is room again
    store.close()
    assert [each.birth for each in Database(address).reader().front()] == [recorded]
    records = Database(address).reader().candidates()
    assert [each.birth for each in records] == list(range(1, recorded + 1))
    assert all(each.outcome == FIT.outcome for each in records[1:])


def test_a_reader_is_not_blocked_by_a_writers_transaction(
    store: Writer, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_SECONDS", 0.1)  # a blocked reader raises instead of waiting
    propose(store, 1)
    with store.engine.begin() as connection:
        connection.execute(update(tables.candidate).values(live_nodes=7))
        assert [each.live_nodes for each in Database(address).reader().candidates()] == [5]
    assert [each.live_nodes for each in Database(address).reader().candidates()] == [7]


def test_a_writer_is_not_blocked_by_a_reader_in_the_middle_of_its_query(
    address: Address, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_SECONDS", 0.1)
    store = Database(address).create(config, {})
    for birth in (1, 2, 3):
        propose(store, birth)
    with Database(address).reader().engine.connect() as connection:
        rows = connection.execute(select(tables.candidate.c.birth).order_by(tables.candidate.c.birth))
        assert rows.fetchone() == (1,)
        propose(store, 4)
        assert [row.birth for row in rows][:2] == [2, 3]
    store.close()
    assert [each.birth for each in Database(address).reader().candidates()] == [1, 2, 3, 4]
