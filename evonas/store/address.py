"""The address of a run: a database, and the folder beside it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from evonas.search_space.errors import InputError, short

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
    def of_run(cls, folder: Path, url: str | None) -> "Address":
        """The place of a new run: SQLite in its folder, or the database at `url`."""
        return (
            cls.of_file(folder / DATABASE_FILE, None, folder) if url is None else cls.of_url(url, folder.name, folder)
        )

    @classmethod
    def of_url(cls, url: str, run: str | None, folder: Path | None = None) -> "Address":
        """Raises InputError unless `url` names a database that can hold runs."""
        with in_one_line(url):
            try:
                parsed = make_url(url)
            except (ArgumentError, ValueError):  # ValueError: a port that is no number
                raise InputError(f"'{short(url)}': not a database URL; {EXPECTED}") from None
            if parsed.drivername in ("postgresql", "postgres", SERVER):
                if not parsed.database:
                    raise InputError(f"'{parsed.render_as_string()}': names no database; {EXPECTED}")
                return cls(parsed.set(drivername=SERVER), run, folder or Path(run or "."))
            is_sqlite = parsed.drivername in ("sqlite", "sqlite+pysqlite") and not parsed.query
            if not is_sqlite or parsed.database in (None, "", ":memory:") or Path(str(parsed.database)).is_dir():
                shown = short(parsed.render_as_string())
                raise InputError(f"'{shown}': runs are kept in SQLite or PostgreSQL; {EXPECTED}")
            parent = Path(str(parsed.database)).parent
            if not parent.is_dir():
                raise InputError(f"'{short(url)}': there is no folder '{short(str(parent))}'")
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


@contextmanager
def in_one_line(reference: str) -> Iterator[None]:
    """The door of every address: whatever the system or a library refuses becomes one short line."""
    try:
        if "\0" in reference:
            raise ValueError("it contains a NUL byte")
        yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).split("\n")[0]
        raise InputError(f"{short(reference)}: no place of a run ({reason[:200]})") from None


def new_path(path: str | Path) -> Path:
    """A path at which something may be made. Raises InputError for one that the system cannot name."""
    with in_one_line(str(path)):
        path = Path(path)
        with suppress(FileNotFoundError):
            path.lstat()
        return path
