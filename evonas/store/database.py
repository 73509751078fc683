"""A database of runs, opened once and passed on."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from evonas.config import Config
from evonas.config_file import load_config
from evonas.files import write
from evonas.search_space.errors import InputError, did_you_mean, short
from evonas.search_space.wording import counted
from evonas.store import tables
from evonas.store.address import CONFIG_FILE, DATABASE_FILE, Address, in_one_line
from evonas.store.engines import open_reader, open_writer
from evonas.store.ownership import Lock, own, this_driver
from evonas.store.reader import Reader
from evonas.store.records import Event
from evonas.store.rows import event_row
from evonas.store.schema import checked, prepare
from evonas.store.stored import Door, StoredRun
from evonas.store.writer import Writer


class RunExists(InputError):
    """The database holds a run of this name."""


class Database:
    """The database at an address. `reader` answers queries and never blocks the driver; `create` and `own` make this
    process the run's one driver.
    """

    def __init__(self, address: Address, *, upgrades: bool = True) -> None:
        self.address = address
        self._upgrades = upgrades

    @classmethod
    def begin(cls, config: Config, text: str, folder: Path | None, versions: dict[str, str]) -> tuple[Reader, Writer]:
        """Make a run's folder with the config's text, by default the next free `results/<name>-<nnn>`, and begin the
        run there, or where `store.url` says. Raises InputError where that cannot be; then no folder stays."""
        for number in count():
            made = Path("results") / f"{config.name}-{number:03d}" if folder is None else folder
            try:
                made.mkdir(parents=True)
            except OSError as error:
                if isinstance(error, FileExistsError) and folder is None and os.path.lexists(made):
                    continue  # otherwise a parent is no folder
                raise InputError(f"{short(str(made))}: cannot be made ({error.strerror})") from None
            try:
                database = cls(Address.of_run(made, config.store.url))
                write(made / CONFIG_FILE, text)
                writer = database.create(config, {**versions, "folder": str(made.absolute())})
            except Exception as error:  # a death is none: what it has begun is resumed
                shutil.rmtree(made, ignore_errors=True)
                if isinstance(error, RunExists) and folder is None:
                    continue
                raise
            return database.reader(), writer
        raise AssertionError("numbers have no end")

    @classmethod
    def open(cls, reference: str | Path | Address, *, upgrades: bool = True) -> "Database":
        """A database by the reference of one of its runs: a folder, a .db file, URL#run, or an Address. Raises
        InputError where nothing is there. An older schema is upgraded after saying so; without `upgrades`, it raises
        OlderSchema."""
        address = reference if isinstance(reference, Address) else locate(reference)
        database = cls(address, upgrades=upgrades)
        _ = database.engine  # opened and checked at once
        return database

    @cached_property
    def engine(self) -> Engine:
        """The readers' engine, after one look at the schema. Raises InputError where it cannot be read."""
        return checked(self.address, open_reader(self.address), upgrades=self._upgrades)

    def runs(self) -> list[StoredRun]:
        """All runs, in the order in which they were created."""
        door = Door(self.address.where, self.address.is_file)
        with self.engine.connect() as connection:
            return [door.run(row) for row in connection.execute(select(tables.run).order_by(tables.run.c.id))]

    def reader(self, run: str | None = None) -> Reader:
        """Queries on a run: the one that is named, that of the address, or the only one."""
        return Reader(self.engine, self.address, self._find(run or self.address.run))

    def create(self, config: Config, versions: dict[str, str]) -> Writer:
        """Begin a run under the address's name, in a database that is new or evonas' own, and drive it. Raises
        RunExists where it holds a run of this name."""
        address, name = self.address, self.address.run or self.address.folder.name
        with _writing(address, name, is_new=True) as (engine, lock):
            prepare(address, engine)
            return Writer(engine, _insert(engine, name, config, versions), 1, lock, config.baseline)

    def own(self, purpose: Event = Event.RESUMED) -> Writer:
        """Drive an existing run: go on with it, or (Event.VALIDATING) record beside it. Raises InputError with host and
        process of the driver that owns it now."""
        run = self._find(self.address.run)
        with _writing(self.address, run.name) as (engine, lock):
            writer = Writer(engine, run.id, _next_epoch(engine, run.id), lock, self.reader(run.name).config.baseline)
            writer.event(purpose, this_driver())
            return writer

    def close(self) -> None:
        if "engine" in self.__dict__:
            self.engine.dispose()

    def _find(self, name: str | None) -> StoredRun:
        """The run with this name, or the only one."""
        runs, where = self.runs(), self.address.where
        names = [run.name for run in runs]
        if not runs:
            raise InputError(f"{where}: holds no run; a driver that died before its first record leaves nothing")
        if name is None and len(runs) == 1:
            return runs[0]
        if name is None:
            raise InputError(f"{where}: {counted(len(runs), 'run')}; name one as URL#run: {', '.join(names)}")
        for run in runs:
            if run.name == name:
                return run
        raise InputError(f"{where}: no run '{name}'{did_you_mean(name, names)}")


def _insert(engine: Engine, name: str, config: Config, versions: dict[str, str]) -> int:
    """The number of a new run, which stands in the table with the event of its start: one transaction."""
    now = time.time()
    row = {
        "name": name,
        "config": config.model_dump_json(),
        "seed": config.seed,
        "epoch": 1,
        "versions": json.dumps(versions),
        "created": now,
    }
    with engine.begin() as connection:
        run = int(connection.execute(insert(tables.run).values(row).returning(tables.run.c.id)).scalar_one())
        connection.execute(insert(tables.event), event_row(run, 1, now, Event.STARTED, this_driver()))
    return run


def _next_epoch(engine: Engine, run: int) -> int:
    """Take a run over: writes of older epochs are refused from now on."""
    mine = tables.run.c.id == run
    with engine.begin() as connection:
        connection.execute(update(tables.run).where(mine).values(epoch=tables.run.c.epoch + 1))
        return int(connection.execute(select(tables.run.c.epoch).where(mine)).scalar_one())


@contextmanager
def _writing(address: Address, run: str, *, is_new: bool = False) -> Iterator[tuple[Engine, Lock]]:
    """A run's engine and lock for a Writer; where none comes of it, both are let go."""
    if (
        address.is_file
        and not is_new
        and not all(os.access(path, os.W_OK) for path in (address.path, address.path.parent))
    ):
        reason = "the run is read-only; copy its folder to a place that can be written, and use the copy"
        raise InputError(f"{address.where}: {reason}")
    engine, lock = open_writer(address), None
    try:
        lock = own(address, run, engine)
        yield engine, lock
    except BaseException as error:
        is_there = isinstance(error, IntegrityError)
        if lock is not None:
            lock.release(remove=is_new and not is_there)
        engine.dispose()
        if is_there:
            message = f"{address.where}#{run}: this run exists; resume it, or choose another name"
            raise RunExists(message) from None
        if isinstance(error, DatabaseError):
            raise InputError(f"{address.where}: cannot be written ({error.orig})") from None
        raise


def locate(reference: str | Path) -> Address:
    """RUN as a person writes it: a run's folder, a .db file, or URL#run. Raises InputError where nothing is there."""
    reference = str(reference)
    with in_one_line(reference):
        if "://" in reference:
            database, _, name = reference.partition("#")
            return Address.of_url(database, name or None)
        path = Path(reference)
        if path.is_file():
            return Address.of_file(path, None, path.parent)
        if (path / DATABASE_FILE).is_file():
            return Address.of_file(path / DATABASE_FILE, None, path)
        if (path / CONFIG_FILE).is_file() and (url := load_config(path / CONFIG_FILE).store.url):
            return Address.of_url(url, path.name, path)
        if path.is_dir():
            raise InputError(f"{reference}: no {DATABASE_FILE} in it; expected a run's folder, a .db file or URL#run")
        beside = [str(each.parent) for each in path.parent.glob(f"*/{DATABASE_FILE}")] if path.parent.is_dir() else []
        raise InputError(f"{short(reference)}: no such run{did_you_mean(str(path), beside)}")
