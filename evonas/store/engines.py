"""Engines: how SQLite files and PostgreSQL servers are opened, for reading and for writing."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import NullPool

from evonas.search_space.errors import InputError
from evonas.store.address import Address

BUSY_TIMEOUT_SECONDS = 60
CONNECT_SECONDS = 10  # to a database server
SILENT_SECONDS = 60  # of a network, before a connection counts as lost


def open_reader(address: Address) -> Engine:
    """An engine that cannot write and never blocks the writer. SQLite has write-ahead logging, and the file is opened
    read-only; a server's transactions are read-only. Every error of the database is an InputError.
    """
    if not address.is_file:
        return _open_server(address, read_only=True)
    path = address.path
    if not path.is_file():
        raise InputError(f"{path}: no such database")
    path = path.resolve()
    # NullPool: a reader that waits holds no connection
    engine = create_engine("sqlite://", creator=lambda: _connect_reader(path), poolclass=NullPool)
    _explain(engine, f"{address.path}: not a database of evonas, or not readable")
    return engine


def open_writer(address: Address) -> Engine:
    if not address.is_file:
        return _open_server(address, read_only=False)
    engine = create_engine(address.url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _prepare_writer)
    return engine


def open_own_file(path: Path) -> Engine:
    """An engine for a file that nobody else opens. SQLite keeps no log beside it."""
    return create_engine(URL.create("sqlite", database=str(path)))


def copy_file(path: Path, copy: Path) -> None:
    """Copy a whole SQLite file. A killed driver's log is folded in first, which fails while one reads."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.execute("PRAGMA journal_mode=DELETE")
        source.backup(target)


def copy_unwritable(path: Path, copy: Path) -> None:
    """Copy a whole SQLite file of a read-only folder."""
    with closing(_connect_reader(path.resolve())) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _connect_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection. A driver that was killed while it opened or closed the file leaves a rollback journal,
    which no read-only connection may play back: a writable one does it first.
    """
    beside = [Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-journal")]
    may_write = os.access(path.parent, os.W_OK)
    # In a folder that is read-only and holds the file alone, nothing changes, and SQLite must make no file beside it.
    connection = _connect(path, "mode=ro" if may_write or any(beside) else "immutable=1")
    try:
        connection.execute("PRAGMA schema_version").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK and may_write and os.access(path, os.W_OK):
            with closing(_connect(path, "mode=rw")) as writable:
                writable.execute("PRAGMA schema_version").fetchone()  # plays the journal back
            return _connect(path, "mode=ro")
        if any(beside) and not may_write:
            raise sqlite3.OperationalError(
                f"{error}; a killed driver left its log beside the file: run any evonas command on it once where the "
                "folder can be written, or copy the whole folder there"
            ) from None
        raise


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?{mode}", timeout=BUSY_TIMEOUT_SECONDS, uri=True)


def _open_server(address: Address, *, read_only: bool) -> Engine:
    options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "application_name": "evonas"}
    options |= {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
    options["tcp_user_timeout"] = 1000 * SILENT_SECONDS
    if read_only:
        options["options"] = "-c default_transaction_read_only=on"
    try:
        engine = create_engine(address.url, connect_args=options, poolclass=NullPool if read_only else None)
    except (ImportError, NoSuchModuleError):
        raise InputError("store.url: PostgreSQL needs psycopg: pip install 'evonas[postgresql]'") from None
    if read_only:
        _explain(engine, f"{address.where}: not readable")
    return engine


def _explain(engine: Engine, message: str) -> None:
    """A reader's errors are bad input."""

    @event.listens_for(engine, "handle_error")
    def _unreadable(context: ExceptionContext) -> None:
        raise InputError(f"{message} ({' '.join(str(context.original_exception).split())[:400]})") from None


def _prepare_writer(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # safe in WAL against any death of the process
    connection.execute("PRAGMA foreign_keys=ON")
