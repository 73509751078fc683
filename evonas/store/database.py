"""Where runs are: addresses, engines, and the schema of what is found there."""

import logging
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from evonas.config_file import load_config
from evonas.search_space.errors import InputError, did_you_mean
from evonas.store import tables

BUSY_TIMEOUT_SECONDS = 60
CONNECT_SECONDS = 10  # to a database server
SILENT_SECONDS = 60  # of a network, before a connection counts as lost
CONFIG_FILE = "config.yaml"  # the resolved config in a run's folder
SERVER = "postgresql+psycopg"
EXPECTED = "expected sqlite:///path.db or postgresql://user@host/database"

_log = logging.getLogger("evonas")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a run is: a database, its name there (None: the only one), and the folder that its files are in."""

    url: URL
    run: str | None
    folder: Path

    @classmethod
    def of_file(cls, database: Path, run: str | None, folder: Path) -> "Address":
        return cls(URL.create("sqlite", database=str(database)), run, folder)

    @classmethod
    def of_url(cls, url: str, run: str | None, folder: Path | None = None) -> "Address":
        """Raises InputError for what is no URL of a database that can hold runs."""
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise InputError(f"'{url}': not a database URL; {EXPECTED}") from None
        if parsed.drivername in ("postgresql", "postgres", SERVER):
            if not parsed.database:
                raise InputError(f"'{parsed.render_as_string()}': names no database; {EXPECTED}")
            return cls(parsed.set(drivername=SERVER), run, folder or Path(run or "."))
        known = parsed.drivername in ("sqlite", "sqlite+pysqlite") and not parsed.query
        if not known or parsed.database in (None, "", ":memory:") or Path(str(parsed.database)).is_dir():
            raise InputError(f"'{parsed.render_as_string()}': runs are kept in SQLite or PostgreSQL; {EXPECTED}")
        parent = Path(str(parsed.database)).parent
        if not parent.is_dir():
            raise InputError(f"'{url}': there is no folder '{parent}'")
        beside = parent / run if run and (parent / run).is_dir() else parent
        return cls(parsed, run, folder or beside)

    @property
    def is_file(self) -> bool:
        """Whether the database is an SQLite file; else it is a server's."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path:
        """Of an SQLite file."""
        return Path(str(self.url.database))

    @property
    def absolute_url(self) -> str:
        url = self.url.set(database=str(self.path.absolute())) if self.is_file else self.url
        return url.render_as_string(hide_password=False)

    @property
    def where(self) -> str:
        """For messages: without the password."""
        return str(self.path) if self.is_file else self.url.set(drivername="postgresql").render_as_string()


def locate(reference: str | Path) -> Address:
    """RUN as a person writes it: a run's folder, a .db file, or URL#run. Raises InputError where nothing is there."""
    reference = str(reference)
    if "://" in reference:
        database, _, name = reference.partition("#")
        return Address.of_url(database, name or None)
    path = Path(reference)
    if path.is_file():
        return Address.of_file(path, None, path.parent)
    if (path / "run.db").is_file():
        return Address.of_file(path / "run.db", None, path)
    if (path / CONFIG_FILE).is_file() and (url := load_config(path / CONFIG_FILE).store.url):
        return Address.of_url(url, path.name, path)
    if path.is_dir():
        raise InputError(f"{reference}: no run.db in it; expected a run's folder, a .db file or URL#run")
    beside = [str(each.parent) for each in path.parent.glob("*/run.db")] if path.parent.is_dir() else []
    raise InputError(f"{reference}: no such run{did_you_mean(str(path), beside)}")


def open_engine(address: Address, *, writable: bool) -> Engine:
    """Readers never block the writer and cannot write: SQLite has write-ahead logging and they open the file read-only,
    at a server their transactions are read-only."""
    if not address.is_file:
        return _open_server(address, writable)
    path = address.path
    if writable:
        engine = create_engine(address.url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
        event.listen(engine, "connect", _prepare_writer)
        return engine
    if not path.is_file():
        raise InputError(f"{path}: no such database")
    may_write_here = os.access(path.parent, os.W_OK)
    may_write = may_write_here or Path(f"{path}-wal").exists()
    query = {"mode": "ro", "uri": "true"} if may_write else {"immutable": "1", "uri": "true"}
    engine = create_engine(
        URL.create("sqlite", database=f"file:{quote(str(path.resolve()))}", query=query),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        poolclass=NullPool,  # a reader that waits holds no connection
    )
    unmapped = not may_write_here and Path(f"{path}-wal").exists() and not Path(f"{path}-shm").exists()
    hint = "; a killed driver's log lies beside it: open it once where the folder can be written" if unmapped else ""
    _explain(engine, f"{path}: not a database of evonas, or not readable{hint}")
    return engine


def _open_server(address: Address, writable: bool) -> Engine:
    options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "application_name": "evonas"}
    options |= {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
    options["tcp_user_timeout"] = 1000 * SILENT_SECONDS
    if not writable:
        options["options"] = "-c default_transaction_read_only=on"
    try:
        engine = create_engine(address.url, connect_args=options, poolclass=NullPool if not writable else None)
    except (ImportError, NoSuchModuleError):
        raise InputError("store.url: PostgreSQL needs psycopg: pip install 'evonas[postgresql]'") from None
    if not writable:
        _explain(engine, f"{address.where}: not readable")
    return engine


def _explain(engine: Engine, message: str) -> None:
    """A reader's errors are bad input."""

    @event.listens_for(engine, "handle_error")
    def _unreadable(context: ExceptionContext) -> None:
        raise InputError(f"{message} ({' '.join(str(context.original_exception).split())})") from None


def _prepare_writer(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # safe in WAL against any death of the process
    connection.execute("PRAGMA foreign_keys=ON")


def alembic_config(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def schema_of(engine: Engine, where: str) -> str | None:
    """The version of the schema, None where there is none yet. Raises InputError where it is not one of evonas."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(tables.VERSION_TABLE):
            if engine.dialect.name == "sqlite":
                raise InputError(f"{where}: not a database of evonas (no table {tables.VERSION_TABLE})")
            return None
        found = connection.execute(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")).scalar()
    if found not in schemas():
        raise InputError(
            f"{where}: schema {found}, this evonas reads up to {schemas()[0]}; use the version that wrote it"
        )
    return str(found)


@cache
def schemas() -> tuple[str, ...]:
    """All versions, the newest first."""
    return tuple(each.revision for each in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def build_schema(engine: Engine) -> None:
    """All migrations, of an empty or an older database; at a server in one transaction, one driver after the other."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('evonas schema'))"))
        command.upgrade(alembic_config(connection), "head")
        connection.commit()


def build_file(path: Path) -> None:
    """A new SQLite database, which is there once it is whole: a reader never meets a part of the schema."""
    path = path.resolve()
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    engine = create_engine(URL.create("sqlite", database=str(new)))
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
        new.unlink(missing_ok=True)


def upgrade_file(address: Address, old: str) -> None:
    """A copy is upgraded and then takes the file's place, so that no death of the process leaves anything half. The
    caller holds the locks of all its runs. Raises InputError where that cannot be written."""
    path = address.path.resolve()
    copy = path.with_name(f".{path.name}.upgrading")
    _log.warning("%s: upgrading schema %s to %s", path, old, schemas()[0])
    try:
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.execute("PRAGMA journal_mode=DELETE")  # a killed driver's log is folded in; fails while one reads
            source.backup(target)
        engine = create_engine(URL.create("sqlite", database=str(copy)))
        build_schema(engine)
        engine.dispose()
        copy.chmod(path.stat().st_mode)
        copy.replace(path)
    except (OSError, sqlite3.Error, DatabaseError) as error:
        copy.unlink(missing_ok=True)
        raise InputError(f"{path}: schema {old} cannot be upgraded here ({error})") from None


def has_run(address: Address, name: str) -> bool:
    """Whether the database, if there is one, holds a run of this name."""
    if address.is_file and not address.path.exists():
        return False
    engine = open_engine(address, writable=False)
    if schema_of(engine, address.where) is None:
        return False
    with engine.connect() as connection:
        return connection.execute(select(tables.run.c.id).where(tables.run.c.name == name)).first() is not None


def find_run(connection: Connection, name: str | None, where: str) -> Any:
    """The row of the run with this name, or of the only one."""
    rows = connection.execute(select(tables.run)).all()
    names = [row.name for row in rows]
    if name is None and len(rows) == 1:
        return rows[0]
    if name is None:
        raise InputError(f"{where}: {len(rows)} runs; name one as URL#run: {', '.join(names) or 'there is none'}")
    for row in rows:
        if row.name == name:
            return row
    raise InputError(f"{where}: no run '{name}'{did_you_mean(name, names)}")
