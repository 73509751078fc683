"""A driver as a process of its own, and what its database says meanwhile and in the end."""

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from evonas.store.database import Database
from evonas.store.dump import dump, jsonable

EVONAS = str(Path(sys.executable).with_name("evonas"))
GIVE_UP_SECONDS = 120.0  # on a process that hangs
_started: list[subprocess.Popen[str]] = []


def logical(reference: str | Path) -> list[str]:
    """The logical dump without its first row, the config."""
    return [json.dumps(jsonable(row)) for row in dump(Database.open(reference).reader())][1:]


def written(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path)


def reranked(reference: str | Path) -> list[tuple[int | None, str | None, int]]:
    return [(each.birth, each.name, each.seed) for each in Database.open(reference).reader().evaluations("rerank")]


def started(*arguments: str) -> subprocess.Popen[str]:
    """A driver in a session of its own, as a terminal would start it."""
    pipe = subprocess.PIPE
    _started.append(subprocess.Popen([EVONAS, *arguments], stdout=pipe, stderr=pipe, text=True, start_new_session=True))
    return _started[-1]


def stop_all() -> None:
    """Of a test that failed; a later one would be held by what goes on, or be told of it."""
    while _started:
        with _started.pop() as driver:
            driver.kill()


def count(folder: Path, query: str) -> int:
    """What a reader beside the driver sees; 0 before there is a database."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True, timeout=5)) as connection:
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


BIRTHS = "SELECT count(*) FROM candidate"
OUTCOMES = "SELECT count(*) FROM evaluation WHERE purpose = 'search'"
RERANKED = "SELECT count(*) FROM evaluation WHERE purpose = 'rerank'"


def at_the_moment(driver: subprocess.Popen[str], folder: Path, query: str, reached: int) -> None:
    """Wait until the database holds so many rows while the driver lives."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while count(folder, query) < reached:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.005)
    assert driver.poll() is None, "the run ended before it could be stopped"
