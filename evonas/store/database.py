"""Where runs are: addresses, engines, and the check of what is found there."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from evonas.config_file import load_config
from evonas.store import tables
from search_space.errors import InputError, did_you_mean

BUSY_TIMEOUT_SECONDS = 60
CONFIG_FILE = "config.yaml"  # the resolved config in a run's folder


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
            raise InputError(f"'{url}': not a database URL; expected sqlite:///path.db") from None
        if parsed.drivername not in ("sqlite", "sqlite+pysqlite") or parsed.database in (None, "", ":memory:"):
            raise InputError(f"'{url}': this version of evonas keeps runs in SQLite files; expected sqlite:///path.db")
        parent = Path(str(parsed.database)).parent
        if not parent.is_dir():
            raise InputError(f"'{url}': there is no folder '{parent}'")
        beside = parent / run if run and (parent / run).is_dir() else parent
        return cls(parsed, run, folder or beside)

    @property
    def path(self) -> Path:
        return Path(str(self.url.database))

    @property
    def absolute_url(self) -> str:
        return self.url.set(database=str(self.path.absolute())).render_as_string(hide_password=False)

    @property
    def where(self) -> str:
        """For messages."""
        return str(self.path)


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
    """SQLite with write-ahead logging, so that readers never block the writer; readers open the file read-only."""
    path = address.path
    if writable:
        engine = create_engine(address.url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
        event.listen(engine, "connect", _prepare_writer)
        return engine
    if not path.is_file():
        raise InputError(f"{path}: no such database")
    may_write = os.access(path.parent, os.W_OK) or Path(f"{path}-wal").exists()
    query = {"mode": "ro", "uri": "true"} if may_write else {"immutable": "1", "uri": "true"}
    engine = create_engine(
        URL.create("sqlite", database=f"file:{quote(str(path.resolve()))}", query=query),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        poolclass=NullPool,  # a reader that waits holds no connection
    )

    @event.listens_for(engine, "handle_error")
    def _unreadable(context: ExceptionContext) -> None:
        raise InputError(f"{path}: not a database of evonas, or not readable ({context.original_exception})") from None

    return engine


def _prepare_writer(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # safe in WAL against any death of the process
    connection.execute("PRAGMA foreign_keys=ON")


def check_schema(engine: Engine, where: str) -> None:
    """Raises InputError when the database is not one of evonas, or of another version."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(tables.VERSION_TABLE):
            raise InputError(f"{where}: not a database of evonas (no table {tables.VERSION_TABLE})")
        found = connection.execute(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")).scalar()
    known = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if found != known:
        raise InputError(f"{where}: schema {found}, this evonas reads {known}; use the version that wrote it")


def alembic_config(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def has_run(address: Address, name: str) -> bool:
    """Whether the database, if there is one, holds a run of this name."""
    if not address.path.exists():
        return False
    engine = open_engine(address, writable=False)
    check_schema(engine, address.where)
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
