"""One driver owns a run, by a lock that the system, or the database server, releases when its process dies."""

import fcntl
import hashlib
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from sqlalchemy import Connection, Engine, inspect, select, text
from sqlalchemy.exc import DBAPIError

from evonas.search_space.errors import InputError
from evonas.store import tables
from evonas.store.address import Address
from evonas.store.records import OPENING

GLANCE_SECONDS = 0.2  # longer than any look takes


class Lock(Protocol):
    """The right to write a run."""

    def renew(self) -> bool:
        """Whether the lock is held. A lock that a server lost with the connection is taken again if it is free."""

    def release(self, *, remove: bool = False) -> None:
        """Let the run go; with `remove`, delete the lock's file too."""


def this_driver() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def own(address: Address, run: str, engine: Engine) -> Lock:
    """The right to write a run through an engine, which outlives it. Raises InputError with host and process of the
    driver that owns the run now."""
    return _FileLock(address, run) if address.is_file else _ServerLock(address, run, engine)


def driver(address: Address, engine: Engine, run: str) -> str | None:
    """The driver that owns a run now; None where nobody does. Its lock is not taken: a file's is shared for an
    instant, a server's is looked up."""
    if not address.is_file:
        return _last_driver(engine, run) if _is_held(engine, run) else None
    try:
        with _lock_path(address, run).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "another driver"
    except OSError:  # nobody ever owned it from here
        pass
    return None


def _lock_path(address: Address, run: str) -> Path:
    database = address.path.resolve()  # a link to the database leads to the same lock
    return database.parent / f".{database.name}.{run}.lock"


def _key(run: str) -> int:
    """The number of a run's advisory lock."""
    return int.from_bytes(hashlib.sha256(f"evonas {run}".encode()).digest()[:8], signed=True)


def _is_held(engine: Engine, run: str) -> bool:
    key = _key(run) % 2**64  # PostgreSQL shows a lock's number as two halves
    query = text(
        "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND "
        "classid::bigint = :high AND objid::bigint = :low AND "
        "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with engine.connect() as connection:
        return connection.execute(query, {"high": key >> 32, "low": key % 2**32}).first() is not None


def _locked(file: IO[str]) -> bool:
    """Take a file's lock; one who looks whether a run is driven (`driver`) has it for an instant."""
    deadline = time.monotonic() + GLANCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(GLANCE_SECONDS / 10)


class _FileLock:
    """`flock` on a file beside the database."""

    def __init__(self, address: Address, run: str) -> None:
        path = _lock_path(address, run)
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.file: IO[str] = path.open("a+")
            except OSError as error:
                where, reason = address.where, f"{error.strerror}: {error.filename}"
                raise InputError(f"{where}: the run cannot be locked ({reason})") from None
            if not _locked(self.file):
                self.file.seek(0)
                owner = self.file.read().strip() or "another driver"
                self.file.close()
                raise InputError(f"{address.where}: the run is driven by {owner}") from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self.file.fileno()), path.stat()):
                    break
            self.file.close()  # its last owner removed it between opening and locking
        self.file.truncate(0)
        self.file.write(this_driver())
        self.file.flush()

    def renew(self) -> bool:
        return not self.file.closed

    def release(self, *, remove: bool = False) -> None:
        if remove:
            Path(self.file.name).unlink(missing_ok=True)
        self.file.close()


class _ServerLock:
    """PostgreSQL's advisory lock, held by a session that lives as long as the driver."""

    def __init__(self, address: Address, run: str, engine: Engine) -> None:
        self._engine = engine
        self._key = _key(run)
        self._session: Connection | None = None
        try:
            held = self.renew()
        except DBAPIError as error:
            raise InputError(f"{address.where}: does not answer ({_one_line(error)})") from None
        if not held:
            raise InputError(f"{address.where}: the run is driven by {_last_driver(engine, run)}")

    def renew(self) -> bool:
        if self._session is not None:
            try:
                self._session.execute(text("SELECT 1"))
                return True
            except DBAPIError:
                self._session.invalidate()
                self._session.close()
                self._session = None
        session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for name, value in (("idle", 30), ("interval", 10), ("count", 3)):  # a dead driver is noticed in a minute
            session.execute(text(f"SET tcp_keepalives_{name} = {value}"))
        if session.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}).scalar_one():
            self._session = session
            return True
        session.close()
        return False

    def release(self, *, remove: bool = False) -> None:
        if self._session is not None:
            self._session.invalidate()  # closed, not returned to a pool: with the session goes the lock
            self._session.close()
            self._session = None


def _last_driver(engine: Engine, run: str) -> str:
    """The driver that opened the run last."""
    if not inspect(engine).has_table(tables.event.name):
        return "another driver"
    e = tables.event.c
    query = select(e.message).join(tables.run, e.run == tables.run.c.id).where(tables.run.c.name == run)
    query = query.where(e.kind.in_(OPENING)).order_by(e.id.desc())
    with engine.connect() as connection:
        return connection.execute(query).scalars().first() or "another driver"


def _one_line(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())
