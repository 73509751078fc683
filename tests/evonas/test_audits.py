"""Rungs and audits: who is stopped by the others, and who is trained all the same."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from evonas.config import BASELINE
from evonas.config_file import parse_config
from evonas.evolution import Search
from evonas.history import History
from evonas.retelling import rebuild, replayed
from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.session import Stopped
from evonas.store.database import Database
from evonas.workers.outcome import Evaluation, Fitness, Measurement, Rejection
from evonas.workers.protocol import Job
from tests.evonas.search_cases import (
    FakePool,
    Traced,
    configured,
    known,
    rung_answer,
    searched,
)

# --------------------------------------------------------------------------- rungs


def test_a_rungs_threshold_is_the_least_of_the_best_share_of_earlier_ones(tiny: dict[str, Any]) -> None:
    history = History(parse_config(json.dumps({**tiny, "gates": [{"rung": {"steps": 3, "keep": 0.4, "after": 5}}]})))
    thresholds = []
    for birth, accuracy in enumerate([0.5, 0.1, 0.4, 0.2, 0.3, 0.9], start=1):
        history.propose(known(birth, LAYERS[BASELINE].graph))
        measured = Measurement("rung", "", accuracy, 0.0, 3, True, 0.0)
        other = Measurement("quality", "resnet", 0.99, 0.0, 3, True, 0.0)
        history.record(birth, Rejection("stability", "resnet", 1e9, 1e8, 1), (other, measured))
        thresholds.append([(each.steps, each.value) for each in history.thresholds()])
    assert thresholds == [[], [], [], [], [(3, 0.4)], [(3, 0.4)]]  # the best two of five, three of six, rounded up


@pytest.mark.parametrize("capacity", [1, 3])
def test_the_thresholds_are_those_of_the_outcomes_seen(tmp_path: Path, tiny: dict[str, Any], capacity: int) -> None:
    """Recorded with the candidate, recomputed from the records, and the same after a resume."""
    raw = {**tiny, "gates": [{"rung": {"steps": 3, "keep": 0.5, "after": 4}}]}
    config = configured(raw, births=60)
    _, reader = searched(tmp_path, config, FakePool(capacity, rung_answer))
    again = History(config)
    thresholds = []
    for record in replayed(reader, again):
        evaluation = reader.evaluation_of(record.birth)
        rungs = [m for m in evaluation.measurements if m.gate == "rung"] if evaluation else []
        if not rungs:
            continue
        (measured,) = rungs
        expected = again.thresholds()
        assert measured.threshold == (expected[0].value if expected else 0.0)
        thresholds.append(measured.threshold)
    assert thresholds[0] == 0.0
    assert thresholds[-1] > 0.0
    assert again.stopped_by["rung"] > 5


# --------------------------------------------------------------------------- audits


def audit_answer(job: Job) -> Evaluation:
    """Without gates everything is trained; with them every second layer is stopped."""
    number = int.from_bytes(sha256(job.graph.encode()).digest()[:4], "big")
    if job.protocol.gates and Graph.parse(job.graph).digest != LAYERS[BASELINE].graph.digest and number % 2:
        return Evaluation(Rejection("quality", "resnet", 0.0, 0.1, 3))
    return Evaluation(Fitness({"resnet": 0.5, "mobilenet": number % 100 / 100}))


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_share_of_the_rejected_is_audited_outside_the_population(
    tmp_path: Path, tiny: dict[str, Any], capacity: int
) -> None:
    config = configured(tiny, births=80, audit_share=0.5)
    pool = FakePool(capacity, audit_answer)
    search, reader = searched(tmp_path, config, pool)
    assert pool.most <= capacity
    rejected = [r for r in reader.candidates() if isinstance(r.outcome, Rejection) and r.equal_to is None]
    audited = reader.evaluations("audit")
    births = [each.birth for each in audited]
    assert len(births) == len(set(births))
    assert set(births) <= {r.birth for r in rejected}
    assert 0.3 * len(rejected) < len(births) < 0.7 * len(rejected)
    assert {r.outcome.gate for r in rejected if r.birth in births} >= {"depends_on_x", "quality"}
    assert not {each.birth for each in search.history.population.members} & set(births)
    assert not {r.parent for r in reader.candidates()} & set(births)
    for each in audited:
        assert isinstance(each.evaluation.outcome, Fitness)
        assert each.advantage == search.history.advantage(each.evaluation.outcome)
    assert rebuild(reader).audits.waiting == {}  # all are done


def test_every_gate_is_audited_about_as_often(tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=1, audit_share=0.1)
    history, audits = History(config), {"depends_on_x": 0, "quality": 0}
    graph = LAYERS[BASELINE].graph
    for birth in range(1, 2001):
        history.propose(known(birth, graph))
        gate = "quality" if birth % 10 == 0 else "depends_on_x"
        outcome = Rejection(gate, "", 0.0, 0.1, 0)
        history.record(birth, outcome, ())
        audits[gate] += birth in history.audits.waiting
    assert 70 < audits["quality"] < 130
    assert 70 < audits["depends_on_x"] < 130


def test_a_gate_that_stops_few_is_audited_whole_and_the_others_make_up_the_share(tiny: dict[str, Any]) -> None:
    graph = LAYERS[BASELINE].graph
    for share, wanted in ((0.5, {"quality": 20, "depends_on_x": 980}), (1.0, {"quality": 20, "depends_on_x": 1980})):
        config = configured(tiny, births=1, audit_share=share)
        history, audits = History(config), {"depends_on_x": 0, "quality": 0}
        for birth in range(1, 2001):
            history.propose(known(birth, graph))
            gate = "quality" if birth % 100 == 50 else "depends_on_x"
            outcome = Rejection(gate, "", 0.0, 0.1, 0)
            history.record(birth, outcome, ())
            audits[gate] += birth in history.audits.waiting
        assert audits["quality"] == wanted["quality"]
        assert audits["depends_on_x"] == pytest.approx(wanted["depends_on_x"], rel=0.1)


def test_audits_do_not_change_the_search(tmp_path: Path, tiny: dict[str, Any]) -> None:
    told = []
    for share in (0.0, 0.5):
        config = configured(tiny, births=60, audit_share=share)
        _, reader = searched(tmp_path / str(share), config, FakePool(1, audit_answer))
        told.append([(r.graph, r.outcome, r.seq, r.seen, r.parent) for r in reader.candidates()])
    assert told[0] == told[1]


def test_an_audit_that_was_in_flight_is_made_again(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=40, audit_share=0.5)
    pool = FakePool(2, audit_answer)
    with pytest.raises(Stopped):
        searched(tmp_path, config, pool, should_stop=lambda: min(pool.submitted, default=0) < 0)
    reader = Database.open(tmp_path).reader()
    (waiting,) = {-birth for birth in pool.submitted if birth < 0}
    assert waiting in rebuild(reader).audits.waiting
    store = Database.open(tmp_path).own()
    try:
        Search(config, Traced(FakePool(2, audit_answer), store), rebuild(reader), reader.outcome).run()
    finally:
        store.close()
    assert waiting in {each.birth for each in Database.open(tmp_path).reader().evaluations("audit")}
