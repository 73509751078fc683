"""The runs that a server shows, each under a short name."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from evonas.comparison import short_names
from evonas.run import Run
from evonas.run_list import RunLine, runs
from evonas.search_space.errors import InputError, NotThere, did_you_mean
from evonas.store.database import Database


class Places:
    """Folders, .db files and databases with runs. Names that clients send lead to these runs, and to nothing else."""

    def __init__(self, places: Sequence[str | Path]) -> None:
        self._places = [str(each) for each in places]
        self._lines: dict[str, RunLine] = {}  # by the name for clients
        self._opened: dict[tuple[str, float | None], Run] = {}  # by reference and begin: a name may be used again
        self._lock = Lock()

    def lines(self) -> dict[str, RunLine]:
        """All runs as they are now, by the names that clients ask for. Raises InputError for a place that is not
        there."""
        found = {line.run: line for place in self._places for line in _runs_of(place)}
        names = [each.replace("/", ":") for each in short_names(list(found))] if found else []
        self._lines = dict(zip(names, found.values(), strict=True))
        return self._lines

    def run(self, name: str) -> Run:
        """A run by its name. Raises NotThere where there is none, and InputError where it cannot be read. An older
        database is not upgraded: nothing is written."""
        with self._lock:
            line = self._lines.get(name) or self.lines().get(name)  # it may be new
            if line is None:
                raise NotThere(f"no run '{name:.100}'{did_you_mean(name, self._lines)}")
            key = line.run, line.started
            if key not in self._opened:
                self._opened[key] = Run(Database.open(line.run, upgrades=False).reader(), line.run)
            return self._opened[key]


def _runs_of(place: str) -> list[RunLine]:
    """The runs of a place, of URL#run the one that it names."""
    found, (_, hash_, name) = runs(place), place.partition("#")
    if "://" not in place or not hash_:
        return found
    named = [line for line in found if line.name == name]
    if not named:
        raise InputError(f"{place}: no run '{name}'{did_you_mean(name, [line.name for line in found])}")
    return named
