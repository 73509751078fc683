"""Train these and record them, with a pool that answers from a table."""

from typing import Any

import pytest

from evonas.retraining import train
from evonas.search_space.catalog import LAYERS
from evonas.session import Session, Stopped, Ticket
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Purpose
from evonas.store.writer import Writer
from evonas.workers.outcome import Crash, Evaluation, Fitness
from evonas.workers.protocol import Job
from tests.evonas.search_cases import CRASHED, PASSED, FakePool, configured


def tickets(tiny: dict[str, Any], *seeds: int, purpose: Purpose | None = None) -> list[Ticket]:
    protocol = configured(tiny).protocol
    job = LAYERS["GN-ReLU"].text
    return [Ticket(Job(graph=job, protocol=protocol, seed=seed), purpose, name="GN-ReLU") for seed in seeds]


def by_seed(seeds: dict[int, list[Evaluation]]) -> Any:
    return lambda job: seeds[job.seed].pop(0)


def test_all_are_trained_and_recorded_as_many_at_once_as_the_pool_takes(tiny: dict[str, Any], store: Writer) -> None:
    pool = FakePool(3, lambda job: Evaluation(Fitness({"resnet": job.seed / 10, "mobilenet": 0.5})))
    done = list(train(Session(pool, store), tickets(tiny, *range(7))))
    assert sorted(ticket.job.seed for ticket, _ in done) == list(range(7))
    assert all(e.outcome.accuracy["resnet"] == t.job.seed / 10 for t, e in done if isinstance(e.outcome, Fitness))
    assert pool.most == 3


def test_each_is_recorded_beside_the_search_with_its_purpose_name_and_seed(
    tiny: dict[str, Any], store: Writer, address: Address
) -> None:
    for _ in train(Session(FakePool(1, lambda job: PASSED), store), tickets(tiny, 4, 5, purpose=Purpose.RERANK)):
        pass
    (one, other) = Database(address).reader().evaluations(Purpose.RERANK)
    assert [(each.name, each.birth, each.seed) for each in (one, other)] == [("GN-ReLU", None, 4), ("GN-ReLU", None, 5)]
    assert one.formula == LAYERS["GN-ReLU"].graph.formula
    assert one.evaluation.outcome == PASSED.outcome


def test_what_crashes_is_tried_once_more(tiny: dict[str, Any]) -> None:
    answers = {0: [CRASHED, PASSED], 1: [CRASHED, CRASHED], 2: [PASSED]}
    done = list(train(Session(FakePool(2, by_seed(answers))), tickets(tiny, 0, 1, 2)))
    ended = [(ticket.job.seed, isinstance(evaluation.outcome, Crash)) for ticket, evaluation in done]
    assert sorted(ended) == [(0, False), (0, True), (1, True), (1, True), (2, False)]
    assert not any(answers.values())


def test_nothing_is_begun_once_it_was_asked_to_stop(tiny: dict[str, Any]) -> None:
    pool = FakePool(2, lambda job: PASSED)
    with pytest.raises(Stopped):
        list(train(Session(pool, should_stop=lambda: True), tickets(tiny, 0, 1)))
    assert not pool.running


def test_there_is_room_while_the_pool_takes_another_job(tiny: dict[str, Any]) -> None:
    session = Session(FakePool(2))
    rooms = []
    for ticket in tickets(tiny, 0, 1):
        rooms.append(session.has_room)
        session.submit(ticket)
    assert (rooms, session.has_room, session.running) == ([True, True], False, 2)
    session.next()
    assert (session.has_room, session.running) == (True, 1)


def test_the_writer_hears_the_stop_signal(store: Writer) -> None:
    session = Session(FakePool(1), store, lambda: True)
    assert store.should_stop is session.should_stop


def test_whoever_waits_is_told(tiny: dict[str, Any]) -> None:
    session, waits = Session(FakePool(1, lambda job: PASSED)), list[int]()
    (ticket,) = tickets(tiny, 3)
    session.submit(ticket)
    assert session.next(lambda: waits.append(1)) == (ticket, PASSED)
    assert waits == [1]
