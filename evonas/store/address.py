"""Where runs are: a database, and the folder beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from evonas.config_file import load_config
from evonas.search_space.errors import InputError, did_you_mean

CONFIG_FILE = "config.yaml"  # the resolved config in a run's folder
DATABASE_FILE = "run.db"
SERVER = "postgresql+psycopg"
EXPECTED = "expected sqlite:///path.db or postgresql://user@host/database"


@dataclass(frozen=True, slots=True)
class Address:
    """The place of a run: its database, its name there (None: the only one), and the folder of its files."""

    url: URL
    run: str | None
    folder: Path

    @classmethod
    def of_file(cls, database: Path, run: str | None, folder: Path) -> "Address":
        return cls(URL.create("sqlite", database=str(database)), run, folder)

    @classmethod
    def of_url(cls, url: str, run: str | None, folder: Path | None = None) -> "Address":
        """Raises InputError unless `url` names a database that can hold runs."""
        with _in_one_line(url):
            try:
                parsed = make_url(url)
            except (ArgumentError, ValueError):  # ValueError: a port that is no number
                raise InputError(f"'{_short(url)}': not a database URL; {EXPECTED}") from None
            if parsed.drivername in ("postgresql", "postgres", SERVER):
                if not parsed.database:
                    raise InputError(f"'{parsed.render_as_string()}': names no database; {EXPECTED}")
                return cls(parsed.set(drivername=SERVER), run, folder or Path(run or "."))
            is_sqlite = parsed.drivername in ("sqlite", "sqlite+pysqlite") and not parsed.query
            if not is_sqlite or parsed.database in (None, "", ":memory:") or Path(str(parsed.database)).is_dir():
                shown = _short(parsed.render_as_string())
                raise InputError(f"'{shown}': runs are kept in SQLite or PostgreSQL; {EXPECTED}")
            parent = Path(str(parsed.database)).parent
            if not parent.is_dir():
                raise InputError(f"'{_short(url)}': there is no folder '{_short(str(parent))}'")
            beside = parent / run if run and (parent / run).is_dir() else parent
            return cls(parsed, run, folder or beside)

    @property
    def is_file(self) -> bool:
        """Whether the database is an SQLite file; otherwise it is a server's."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return Path(str(self.url.database))

    @property
    def absolute_url(self) -> str:
        url = self.url.set(database=str(self.path.absolute())) if self.is_file else self.url
        return url.render_as_string(hide_password=False)

    @property
    def where(self) -> str:
        """The database as messages name it, without the password."""
        return str(self.path) if self.is_file else self.url.set(drivername="postgresql").render_as_string()


def locate(reference: str | Path) -> Address:
    """RUN as a person writes it: a run's folder, a .db file, or URL#run. Raises InputError where nothing is there."""
    reference = str(reference)
    with _in_one_line(reference):
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
        raise InputError(f"{_short(reference)}: no such run{did_you_mean(str(path), beside)}")


@contextmanager
def _in_one_line(reference: str) -> Iterator[None]:
    """The door of every address: whatever the system or a library refuses becomes one short line."""
    try:
        if "\0" in reference:
            raise ValueError("it contains a NUL byte")
        yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).split("\n")[0]
        raise InputError(f"{_short(reference)}: no place of a run ({reason[:200]})") from None


def _short(text: str) -> str:
    text = text.replace("\0", "\\0").replace("\n", "\\n")
    return text if len(text) <= 200 else f"{text[:197]}..."
