"""Trainings under settings of their own, beside the search: in a file and at a server."""

from dataclasses import replace

import pytest

from evonas.search_space.errors import InputError
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.writer import StoreError, Writer
from tests.evonas.store_cases import FIT, propose_and_record, training

FIRST = training("tanh(x)", name="tanh")
DIVERGED = training("tanh(x)", 2, name="tanh", accuracy=None, loss=None, split=None)


def test_what_is_recorded_is_read_again(store: Writer, address: Address) -> None:
    store.record_training(FIRST)
    store.record_training(DIVERGED)
    assert Database(address).reader().trainings() == [FIRST, DIVERGED]
    assert (FIRST.counted_fitness, DIVERGED.counted_fitness) == (0.5, 0.1)


def test_a_later_driver_goes_on(store: Writer, address: Address) -> None:
    propose_and_record(store, 1, FIT, 1)
    store.record_training(FIRST)
    store.close()
    later = Database(address).own()
    later.record_training(replace(DIVERGED, birth=1, name=None))
    later.close()
    assert [each.birth for each in Database(address).reader().trainings()] == [None, 1]


def test_the_same_training_is_not_recorded_twice(store: Writer, address: Address) -> None:
    store.record_training(FIRST)
    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        store.record_training(FIRST)
    assert Database(address).reader().trainings() == [FIRST]


def test_a_driver_that_lost_the_run_records_none(store: Writer, address: Address) -> None:
    store.record_training(FIRST)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE run SET epoch = epoch + 1")
    with pytest.raises(StoreError, match="another driver has taken the run over"):
        store.record_training(DIVERGED)
    assert Database(address).reader().trainings() == [FIRST]


def test_the_logical_dump_has_what_does_not_depend_on_the_machine(store: Writer, address: Address) -> None:
    store.record_training(DIVERGED)
    store.record_training(FIRST)
    rows = [row for row in dump(Database(address).reader()) if "setting" in row]
    assert [row["seed"] for row in rows] == [1, 2]
    assert not {"seconds", "conditions", "epoch", "at"} & rows[0].keys()
    assert (rows[0]["purpose"], rows[0]["accuracy"], rows[1]["accuracy"]) == ("validate", 0.5, None)
    whole = [row for row in dump(Database(address).reader(), logical_only=False) if "setting" in row]
    assert whole[0]["seconds"] == 2.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("purpose = 'valid'", "training 1: purpose 'valid' is unknown; did you mean 'validate'?"),
        ("judged_on = 'train'", "training 1: judged_on 'train' is unknown"),
        ("accuracy = 1.5", r"training 1: accuracy is 1\.5, not 0\.0 to 1\.0"),
        ("protocol = '[]'", "training 1: protocol is no JSON object"),
        ("protocol = '{}'", "training 1: its protocol has no data"),
        ("steps = 0", "training 1: steps is 0, not 1 or more"),
    ],
)
def test_a_damaged_row_is_one_line(store: Writer, address: Address, change: str, message: str) -> None:
    store.record_training(FIRST)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE training SET {change}")
    with pytest.raises(InputError, match=message):
        Database(address).reader().trainings()
