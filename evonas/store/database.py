"""A database of runs, opened once and passed on."""

from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine, inspect, select
from sqlalchemy.exc import DatabaseError

from evonas.config import Config
from evonas.search_space.errors import InputError, did_you_mean
from evonas.store import tables
from evonas.store.address import Address, locate
from evonas.store.engines import open_reader, open_writer
from evonas.store.ownership import own
from evonas.store.reader import Reader
from evonas.store.records import Event
from evonas.store.schema import build_file, build_schema, check_schema, schema_of
from evonas.store.stored import Door, StoredRun
from evonas.store.writer import Writer


class Database:
    """The database at an address: the one place that opens engines. `reader` answers queries and never blocks the
    driver; `create` and `own` make this process the run's one driver.
    """

    def __init__(self, address: Address) -> None:
        self.address = address

    @classmethod
    def open(cls, reference: str | Path | Address) -> "Database":
        """A database by the reference of one of its runs: a folder, a .db file, URL#run, or an Address. Raises
        InputError where nothing is there, and upgrades an older schema after saying so."""
        database = cls(reference if isinstance(reference, Address) else locate(reference))
        assert database.engine  # opened and checked at once
        return database

    @cached_property
    def engine(self) -> Engine:
        """The readers' engine, after one look at the schema. Raises InputError where it cannot be read."""
        engine = open_reader(self.address)
        check_schema(self.address, engine)
        return engine

    def runs(self) -> list[StoredRun]:
        """All runs, in the order in which they were created."""
        door = Door(self.address.where, self.address.is_file)
        with self.engine.connect() as connection:
            return [door.run(row) for row in connection.execute(select(tables.run).order_by(tables.run.c.id))]

    def has_run(self, name: str) -> bool:
        """Whether the database is there and holds a run of this name."""
        if self.address.is_file and not self.address.path.exists():
            return False
        if not self.address.is_file and schema_of(open_reader(self.address), self.address.where) is None:
            return False
        c = tables.run.c
        with self.engine.connect() as connection:
            return connection.execute(select(c.id).where(c.name == name)).first() is not None

    def reader(self, run: str | None = None) -> Reader:
        """Queries on a run: the one that is named, that of the address, or the only one."""
        return Reader(self.engine, self.address, self._find(run or self.address.run))

    def create(self, config: Config, versions: dict[str, str]) -> Writer:
        """Begin a run under the address's name, in a database that is new or evonas' own, and drive it."""
        address, name = self.address, self.address.run or self.address.folder.name
        if self.has_run(name):
            raise InputError(f"{address.where}#{name}: this run exists; resume it, or choose another name")
        lock = own(address, name)
        try:
            if address.is_file and not address.path.exists():
                build_file(address.path)
            engine = open_writer(address)
            if not address.is_file and not inspect(engine).has_table(tables.VERSION_TABLE):
                build_schema(engine)
            assert self.engine  # checks the schema
            return Writer.begin(engine, lock, name, config, versions)
        except DatabaseError as error:
            lock.release(remove=True)
            raise InputError(f"{address.where}: cannot be written ({error.orig})") from None
        except BaseException:
            lock.release(remove=True)
            raise

    def own(self, purpose: Event = Event.RESUMED) -> Writer:
        """Drive an existing run: go on with it, or (Event.VALIDATING) record beside it. Raises InputError with host and
        process of the driver that owns it now."""
        run = self._find(self.address.run)
        lock = own(self.address, run.name)
        try:
            return Writer.take_over(open_writer(self.address), lock, run.id, purpose)
        except DatabaseError as error:
            lock.release()
            raise InputError(f"{self.address.where}: cannot be written ({error.orig})") from None
        except BaseException:
            lock.release()
            raise

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
            raise InputError(f"{where}: {len(runs)} runs; name one as URL#run: {', '.join(names)}")
        for run in runs:
            if run.name == name:
                return run
        raise InputError(f"{where}: no run '{name}'{did_you_mean(name, names)}")
