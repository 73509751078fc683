"""The schema of a database: its version, building it, and upgrading an older one."""

import logging
import os
import sqlite3
import weakref
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DatabaseError

from evonas.search_space.errors import InputError
from evonas.store import tables
from evonas.store.address import Address
from evonas.store.engines import copy_file, copy_unwritable, open_own_file, open_reader, open_writer
from evonas.store.ownership import own

_log = logging.getLogger("evonas")


def alembic_config(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


@cache
def schemas() -> tuple[str, ...]:
    """All versions, the newest first."""
    return tuple(each.revision for each in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def schema_of(engine: Engine, where: str) -> str | None:
    """The version of the schema; None on a server that has none yet. Raises InputError where it is not evonas' own."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(tables.VERSION_TABLE):
            if engine.dialect.name == "sqlite":
                raise InputError(f"{where}: not a database of evonas (no table {tables.VERSION_TABLE})")
            return None
        version = connection.execute(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")).scalar()
    if version not in schemas():
        raise InputError(
            f"{where}: schema {version!s:.40}, this evonas reads up to {schemas()[0]}; use the version that wrote it"
        )
    return str(version)


class OlderSchema(InputError):
    """The database is of an older version, and was not to be upgraded."""


def checked(address: Address, reader: Engine, *, upgrades: bool = True) -> Engine:
    """The readers' engine of a database of this version. One of an older version is upgraded, after saying so; in a
    read-only folder a copy is, which is read in its place. Without `upgrades`, raises OlderSchema. Raises InputError
    for a newer one, for what is no database of evonas, and where one of its runs is driven."""
    version = schema_of(reader, address.where)
    if version == schemas()[0]:
        return reader
    if version is None:
        raise InputError(f"{address.where}: no run of evonas in it")
    if not upgrades:
        raise OlderSchema(f"{address.where}: schema {version}; evonas status upgrades it to {schemas()[0]}")
    if address.is_file and not os.access(address.path.resolve().parent, os.W_OK):
        return _upgraded_copy(address, version)
    _upgrade(address, reader, version)
    return reader


def _upgrade(address: Address, reader: Engine, version: str) -> None:
    """Upgrades a database in its place, as the driver of all its runs."""
    with reader.connect() as connection:
        runs = [str(name) for name in connection.execute(text("SELECT name FROM run")).scalars()]
    with ExitStack() as locks:
        engine = open_writer(address)
        locks.callback(engine.dispose)
        for run in runs:
            try:
                lock = own(address, run, engine)
            except InputError as error:
                raise InputError(f"{error}; its schema {version} is upgraded when that ends") from None
            locks.callback(lock.release, remove=True)
        if schema_of(open_reader(address), address.where) == schemas()[0]:
            return  # another process upgraded it before its runs were locked here
        if address.is_file:
            _upgrade_file(address, version)
            return
        try:
            build_schema(engine)
        except (DatabaseError, ValueError) as error:
            raise InputError(_failed(address, version, error)) from None


def prepare(address: Address, writer: Engine) -> None:
    """Build the schema of a database that is new, and check that of an older one, as `checked` does."""
    if address.is_file and not address.path.exists():
        _build_file(address.path)
    elif not address.is_file and not inspect(writer).has_table(tables.VERSION_TABLE):
        build_schema(writer)
    else:
        checked(address, open_reader(address))


def build_schema(engine: Engine) -> None:
    """Runs the migrations that an empty or an older database lacks. On a server, drivers take turns, each in one
    transaction."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('evonas schema'))"))
        command.upgrade(alembic_config(connection), "head")
        connection.commit()


def _build_file(path: Path) -> None:
    """A new SQLite database, which appears once it is whole: a reader never meets a part of the schema."""
    path = path.resolve()
    new = path.with_name(f".{path.name}.{os.getpid()}")
    _remove(new)
    engine = open_own_file(new)
    try:
        build_schema(engine)
        try:
            path.hardlink_to(new)
        except FileExistsError:  # another run's driver was here first
            pass
        except OSError:  # a file system without links
            new.replace(path)
    finally:
        engine.dispose()
        _remove(new)


def _upgrade_file(address: Address, old: str) -> None:
    """Upgrades a copy, which then takes the file's place, so that a death at any moment leaves one or the other. The
    caller holds the locks of all its runs. Raises InputError where the copy cannot be written or upgraded."""
    path = address.path.resolve()
    copy = path.with_name(f".{path.name}.upgrading")
    _log.warning("%s: upgrading schema %s to %s", path, old, schemas()[0])
    try:
        _remove(copy)
        copy_file(path, copy)
        engine = open_own_file(copy)
        build_schema(engine)
        engine.dispose()
        copy.chmod(path.stat().st_mode)
        copy.replace(path)
    except (OSError, sqlite3.Error, DatabaseError, ValueError, RecursionError) as error:
        _remove(copy)
        raise InputError(_failed(address, old, error)) from None


def _upgraded_copy(address: Address, old: str) -> Engine:
    """The readers' engine of a temporary copy, which goes with it."""
    _log.warning("%s: schema %s in a read-only folder; reading an upgraded copy", address.path, old)
    folder = TemporaryDirectory(prefix="evonas-")
    copy = Path(folder.name) / address.path.name
    try:
        copy_unwritable(address.path, copy)
        engine = open_own_file(copy)
        build_schema(engine)
        engine.dispose()
    except (OSError, sqlite3.Error, DatabaseError, ValueError, RecursionError) as error:
        folder.cleanup()
        raise InputError(_failed(address, old, error)) from None
    engine = open_reader(Address.of_file(copy, address.run, address.folder))
    weakref.finalize(engine, folder.cleanup)
    return engine


def _remove(path: Path) -> None:
    """With what SQLite left beside it when it was killed."""
    for suffix in ("-journal", "-wal", "-shm", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _failed(address: Address, old: str, error: Exception) -> str:
    reason = " ".join(str(error.orig if isinstance(error, DatabaseError) else error).split())[:200]
    return f"{address.where}: schema {old} cannot be upgraded here ({reason})"
