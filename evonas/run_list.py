"""The runs of a folder or a database, a line each."""

import math
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evonas.config_file import load_config
from evonas.final import final_table
from evonas.ranking import advantage_read
from evonas.run_state import RunState, run_state
from evonas.search_space.errors import InputError, short
from evonas.store.address import CONFIG_FILE, DATABASE_FILE, Address, in_one_line
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import State
from evonas.store.schema import OlderSchema
from evonas.units import Unit


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list. The figures are those of the database when the list was made."""

    run: str  # as commands take it
    name: str
    state: RunState
    births: int = 0
    trained: int = 0  # candidates with a fitness
    best: float | None = None  # difference to BN-ReLU with fresh seeds, of the best candidate of the final table
    best_birth: int | None = None
    in_search: float | None = None  # the largest difference to BN-ReLU that the search measured: a lucky one
    started: float | None = None  # Unix seconds
    error: str = ""  # of an unreadable one
    unit: Unit = Unit.ACCURACY  # of the differences

    def as_json(self) -> dict[str, Any]:
        """All fields by name."""
        names = {name: f"{name}{self.unit.suffix}" for name in ("best", "in_search")}
        kept = [each.name for each in fields(self) if each.name != "unit"]
        return {names.get(name, name): getattr(self, name) for name in kept}


def runs(place: str | Path = "results") -> list[RunLine]:
    """The runs of a folder, a .db file or a database's URL, in the order in which they began.

    A folder is looked through one level deep, for run folders and .db files. A run that cannot be read is a line, too.
    Nothing is written: a database of an older version is not upgraded.
    Raises InputError for a place that is not there.
    """
    with in_one_line(str(place)):
        lines = _lines(str(place))
    return sorted(lines.values(), key=lambda line: (line.started or math.inf, line.run))


def _lines(place: str) -> "Lines":
    path = Path(place)
    if "://" in place:
        url = place.partition("#")[0]
        return _of_database(Address.of_url(url, None), url)
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise InputError(f"{short(place)}: no such folder, .db file or URL of a database")
    if _is_run(path):
        return _of_folder(path)
    lines: Lines = {}
    for each in path.glob("*.db"):
        lines |= _of_file(each)
    for each in path.iterdir():
        if _is_run(each):  # by its folder rather than by the database that it shares
            lines |= _of_folder(each)
    return lines


Lines = dict[tuple[str, str], RunLine]  # by database and name: each run once


def _is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, with a database of its own or a shared one."""
    if (folder / DATABASE_FILE).is_file():
        return True
    try:
        return (folder / CONFIG_FILE).is_file() and load_config(folder / CONFIG_FILE).store.url is not None
    except InputError:
        return False


def _of_folder(folder: Path) -> Lines:
    try:
        with closing(Database.open(folder, upgrades=False)) as database:
            reader = database.reader()
            return {_key(reader): _line(reader, str(folder))}
    except InputError as error:
        return _unreadable(str(folder), folder.name, error)


def _of_file(file: Path) -> Lines:
    return _of_database(Address.of_file(file, None, file.parent), f"sqlite:///{file}")


def _of_database(address: Address, url: str) -> Lines:
    try:
        with closing(Database.open(address, upgrades=False)) as database:
            readers = [database.reader(run.name) for run in database.runs()]
            return {_key(reader): _line(reader, f"{url}#{reader.name}") for reader in readers}
    except InputError as error:
        return _unreadable(url, "", error)


def _key(reader: Reader) -> tuple[str, str]:
    address = reader.address
    return str(address.path.resolve()) if address.is_file else address.where, reader.name


def _unreadable(reference: str, name: str, error: InputError) -> Lines:
    state = RunState.OLDER if isinstance(error, OlderSchema) else RunState.UNREADABLE
    return {(reference, name): RunLine(reference, name, state, error=str(error))}


def _line(reader: Reader, reference: str) -> RunLine:
    try:
        states, _ = reader.counts()
        rows = final_table(reader) if reader.finished else []
        best = next((row for row in rows if row.birth and row.difference is not None), None)
        return RunLine(
            reference,
            reader.name,
            run_state(reader),
            births=sum(states.values()),
            trained=states.get(State.EVALUATED, 0),
            best=best.shown.difference if best else None,
            best_birth=best.birth if best else None,
            in_search=advantage_read(leader[0], reader.config) if (leader := reader.top(1)) else None,
            started=reader.created,
            unit=reader.config.units.mean,
        )
    except InputError as error:
        return RunLine(reference, reader.name, RunState.UNREADABLE, started=reader.created, error=str(error))
