"""Ownership: one driver at a time, the next once it is dead; who lost a run writes nothing more."""

import fcntl
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from evonas.config import Config
from evonas.search_space.errors import InputError
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.engines import open_writer
from evonas.store.ownership import own
from evonas.store.records import Event, Purpose
from evonas.store.writer import TakenOver, Writer
from tests.evonas.store_cases import (
    FIT,
    IN_A_FILE,
    S0,
    propose,
    propose_and_record,
    record,
    reference,
    told,
)

WRITES: dict[str, Callable[[Writer], None]] = {
    "propose": lambda store: propose(store, 2),
    "record": lambda store: record(store, 1, FIT, 1, 0.1),
    "propose_and_record": lambda store: propose_and_record(store, 2, FIT, 1, 0.1),
    "record_beside": lambda store: store.record_beside("rerank", S0, 1, FIT, birth=1, name=None),
    "finish": lambda store: store.finish(),
    "event": lambda store: store.event("crash", "late"),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_owner_writes_nothing(store: Writer, address: Address, write: str) -> None:
    propose(store, 1)
    assert store._lock is not None
    store._lock.release()  # as on a file system that lost the lock
    owner = Database(address).own()
    before = told(address)
    with pytest.raises(TakenOver):
        WRITES[write](store)
    assert told(address) == before
    assert not Database(address).reader().finished
    late = [each.evaluation.outcome for each in Database(address).reader().evaluations("superseded")]
    assert late == ([FIT.outcome] if "record" in write else [])  # what it found out is kept beside the run
    WRITES[write](owner)  # the owner may
    owner.close()


@IN_A_FILE
def test_a_link_to_the_database_leads_to_the_same_lock(address: Address, store: Writer, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(address.path)
    with pytest.raises(InputError, match="the run is driven by process"):
        Database.open(tmp_path / "link.db").own()


def test_each_take_over_is_a_new_epoch(address: Address, config: Config) -> None:
    store = Database(address).create(config, {})
    assert store.epoch == 1
    for epoch in (2, 3):
        store.close()
        store = Database(address).own()
        assert store.epoch == epoch
    store.close()


@pytest.mark.parametrize(("event", "purpose"), [(Event.RESUMED, Purpose.RERANK), (Event.VALIDATING, Purpose.VALIDATE)])
def test_a_finished_run_stays_finished(address: Address, config: Config, event: Event, purpose: Purpose) -> None:
    database = Database(address)
    store = database.create(config, {})
    store.finish()
    store.close()
    reader, before = database.reader(), list(dump(database.reader(), logical_only=False))
    ended = [run.finished for run in database.runs()]
    store = database.own(event)
    assert reader.finished  # a driver that dies here, or later, leaves it so
    store.record_beside(purpose, S0, 5, FIT, name="BN-ReLU")
    assert reader.finished
    store.finish()
    store.close()
    assert [run.finished for run in database.runs()] == ended
    assert len(list(dump(reader, logical_only=False))) == len(before) + 2  # the take-over, the evaluation


def taken_over_soon(address: Address) -> Writer:
    """A server notices within moments that a driver is dead."""
    for _ in range(100):
        with suppress(InputError):
            return Database.open(reference(address)).own()
        time.sleep(0.05)
    raise AssertionError("the run is still owned")


_OWNER = """
import sys
from pathlib import Path
from evonas.store.database import Database
store = Database.open(sys.argv[1]).own()
print("mine", flush=True)
sys.stdin.read()
"""


def test_a_second_driver_is_refused_with_host_and_process_until_the_first_is_dead(
    address: Address, config: Config
) -> None:
    Database(address).create(config, {}).close()
    command = [sys.executable, "-c", _OWNER, reference(address)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mine\n"
        before = told(address)
        for _ in range(2):  # a refusal leaves the owner's name in place
            with pytest.raises(InputError) as refusal:
                Database.open(reference(address)).own()
            assert f"{owner.pid}" in str(refusal.value)
            assert platform.node() in str(refusal.value)
            assert "\n" not in str(refusal.value)
        assert told(address) == before
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        store = taken_over_soon(address)
        assert store.epoch == 3
        store.close()


@IN_A_FILE
def test_a_lock_whose_file_its_last_owner_removed_is_none(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, opened = fcntl.flock, []

    def late(file: Any, operation: int) -> None:
        opened.append(file.name)
        if len(opened) == 1:  # between opening and locking
            Path(file.name).unlink()
        flock(file, operation)

    monkeypatch.setattr("evonas.store.ownership.fcntl.flock", late)
    lock = own(address, "run", open_writer(address))
    assert len(opened) == 2
    with pytest.raises(InputError, match="the run is driven by process"):
        own(address, "run", open_writer(address))
    lock.release()


@IN_A_FILE
def test_a_look_at_the_lock_refuses_no_driver(address: Address) -> None:
    lock = own(address, "run", open_writer(address))
    lock.release()
    (path,) = address.path.parent.glob(".*.lock")
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        own(address, "run", open_writer(address)).release()
