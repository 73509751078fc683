"""Engines: a server that does not answer, or goes away."""

from typing import Any

import pytest
from sqlalchemy import create_engine, text

from evonas.search_space.errors import InputError
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.writer import TakenOver, Writer
from tests.evonas.store_cases import FIT, propose, propose_and_record


def test_a_server_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(InputError, match=r"postgresql://nobody:\*\*\*@127.0.0.1:1/none: not readable"):
        Database.open("postgresql://nobody:secret@127.0.0.1:1/none#run").reader()


SERVER = pytest.mark.parametrize("address", ["postgresql"], indirect=True)


def disconnect(address: Address) -> None:
    """End every session of the database, as a restart of the server does."""
    engine = create_engine(address.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        connection.execute(text(others + "AND pid <> pg_backend_pid()"))
    engine.dispose()


@SERVER
def test_a_lost_connection_loses_nothing_and_keeps_the_run(store: Writer, address: Address) -> None:
    propose(store, 1)
    for seq, birth in enumerate((2, 3, 4), start=1):
        disconnect(address)
        propose_and_record(store, birth, FIT, seq, 0.1)
    assert [each.birth for each in Database(address).reader().candidates()] == [1, 2, 3, 4]
    with pytest.raises(InputError, match="the run is driven by process"):
        Database(address).own()


@SERVER
def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    store: Writer, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = store.engine.dialect.do_commit
    lost: list[int] = []

    def commit_and_lose(connection: Any) -> None:
        commit(connection)
        if not lost:
            lost.append(1)
            raise store.engine.dialect.dbapi.OperationalError("the answer was lost")

    monkeypatch.setattr(store.engine.dialect, "do_commit", commit_and_lose)
    propose_and_record(store, 1, FIT, 1, 0.1)
    monkeypatch.undo()
    propose_and_record(store, 2, FIT, 2, 0.1)
    assert lost
    assert [each.birth for each in Database(address).reader().candidates()] == [1, 2]


@SERVER
def test_who_lost_the_run_with_its_connection_writes_nothing_more(store: Writer, address: Address) -> None:
    propose(store, 1)
    assert store._lock is not None
    store._lock.release()
    owner = Database(address).own()
    disconnect(address)
    with pytest.raises(TakenOver):
        propose(store, 2)
    propose(owner, 2)
    owner.close()
