"""Databases that a bad disk, another program or a person has damaged, and the commands that must survive them.

    python -m tests.evonas.store.damage [--every N] [--only TEXT]

damages the committed database in every way, and runs every reading command on each: it must end within seconds, with
exit code 0, or with one line and exit code 2.
"""

import argparse
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

from click.testing import CliRunner
from sqlalchemy import Table

from evonas.cli.main import app
from evonas.final import contenders
from evonas.retelling import rebuild
from evonas.retraining import fresh_seeds, missing
from evonas.search_space.errors import InputError
from evonas.store import tables
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Event, Purpose
from tests.evonas.store_cases import training

WHOLE = Path(__file__).parents[1] / "databases" / "0003.db"
SECONDS_MAX = 10.0
BIRTH = 22  # on the front and in the final table
USED = "mean_ghw"  # by it
SEARCHED, TRAINED = f"birth = {BIRTH} AND purpose = 'search'", "purpose = 'baseline'"  # its evaluation, and BN-ReLU's
BESIDE = {"audit ": "purpose = 'audit'", "rerank ": f"birth = {BIRTH} AND purpose = 'rerank'"}
BESIDE["validate "] = "birth IS NOT NULL AND purpose = 'validate'"
VALUES = {
    "null": "NULL",
    "text": "'fitnes'",
    "empty": "''",
    "blob": "x'00ff80'",
    "no utf-8": "CAST(x'ff80' AS TEXT)",
    "nul": "CAST(x'61006200' AS TEXT)",
    "negative": "-1",
    "huge": "9223372036854775807",
    "infinite": "9e999",
    "far": "7e300",
    "nested": f"'{'[' * 20000}'",
    "an object": """'{"evonas": 7, "store": [], "folder": {}}'""",
}


@dataclass(frozen=True, slots=True)
class Damage:
    name: str
    apply: Callable[[Path], None]


def damages() -> Iterator[Damage]:
    """Each column with each value, columns renamed, tables dropped, lineages in a circle, files cut and flipped."""
    for table in tables.metadata.sorted_tables:
        for column in table.columns:
            for (whose, row), (name, value) in product(_rows(table).items(), VALUES.items()):
                yield Damage(f"{whose}{table.name}.{column.name} {name}", _set(table.name, column.name, value, row))
            rename = f'ALTER TABLE "{table.name}" RENAME COLUMN "{column.name}" TO "renamed"'
            yield Damage(f"{table.name}.{column.name} renamed", _execute(rename))
        yield Damage(f"{table.name} dropped", _execute(f'DROP TABLE "{table.name}"'))
        yield Damage(f"{table.name} empty", _execute(f'DELETE FROM "{table.name}"'))
    yield Damage("version dropped", _execute(f"DROP TABLE {tables.VERSION_TABLE}"))
    yield Damage("version of tomorrow", _execute(f"UPDATE {tables.VERSION_TABLE} SET version_num = '9999'"))
    for name, change in {
        "own parent": f"UPDATE candidate SET parent = birth WHERE birth = {BIRTH}",
        "circle of parents": "UPDATE candidate SET parent = 45 - birth WHERE birth IN (22, 23)",
        "later parent": f"UPDATE candidate SET parent = 30 WHERE birth = {BIRTH}",
        "own equal": f"UPDATE candidate SET equal_to = birth WHERE birth = {BIRTH}",
        "proposed late": f"UPDATE candidate SET seen = 1000 WHERE birth = {BIRTH}",
        "two outcomes": f"UPDATE evaluation SET birth = 23 WHERE {SEARCHED}",
        "outcomes swapped": "UPDATE evaluation SET seq = -seq; UPDATE evaluation SET seq = 31 + seq",
        "baseline crashed": f"UPDATE evaluation SET verdict='crash', gate='time_limit', message='' WHERE {TRAINED}",
        "baseline is gone": f"DELETE FROM evaluation WHERE {TRAINED}",
        "births with a gap": f"DELETE FROM candidate WHERE birth = {BIRTH}",
        "front of nobody": "UPDATE front SET birth = 999 WHERE birth = (SELECT max(birth) FROM front)",
        "front of a rejected": "UPDATE front SET birth = (SELECT min(birth) FROM candidate WHERE state = 'rejected')"
        " WHERE birth = (SELECT max(birth) FROM front)",
        "many graphs": "UPDATE candidate SET graph = 'x +', formula = 'y('",
        "unknown operation": "UPDATE candidate SET graph = 'tann(x)'",
    }.items():
        yield Damage(name, _execute(change))
    for share in (0, 1, 3, 7, 9):
        yield Damage(f"cut to {share} tenths", _cut(share / 10))
    for seed in range(60):
        yield Damage(f"flipped bytes {seed}", _flip(seed))


def _execute(statements: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP VIEW IF EXISTS retrained")
            connection.executescript(statements)
            connection.commit()

    return apply


def _rows(table: Table) -> dict[str, str]:
    """Whose row, and the condition that finds it: the candidate's that the commands look at, BN-ReLU's, and those of
    trainings beside the search, which no gate measures."""
    evaluations = {"": SEARCHED, "baseline ": TRAINED, **BESIDE}
    if table is tables.evaluation:
        return evaluations
    if "evaluation" in table.columns:
        measured = {"": SEARCHED, "baseline ": TRAINED} if table is tables.measurement else evaluations
        of = "evaluation = (SELECT min(id) FROM evaluation WHERE {})"
        return {whose: of.format(condition) for whose, condition in measured.items()}
    return {"": f"birth = {BIRTH}" if "birth" in table.columns else "true"}


def _set(table: str, column: str, value: str, row: str) -> Callable[[Path], None]:
    """In the first such row, of a copy of the table that has no constraints."""

    def apply(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP VIEW IF EXISTS retrained")
            connection.execute(f'CREATE TABLE copied AS SELECT * FROM "{table}"')
            connection.execute(f'DROP TABLE "{table}"')
            connection.execute(f'ALTER TABLE copied RENAME TO "{table}"')
            first = f'(SELECT min(rowid) FROM "{table}" WHERE {row})'
            changed = connection.execute(f'UPDATE "{table}" SET "{column}" = {value} WHERE rowid = {first}')
            assert changed.rowcount == 1
            connection.commit()

    return apply


def _cut(share: float) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return apply


def _flip(seed: int) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        rng, content = Random(seed), bytearray(path.read_bytes())
        for _ in range(20):
            content[rng.randrange(100 if seed % 3 == 0 else 0, len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    return apply


COMMANDS = (
    *(("status", "RUN"), ("top", "RUN"), ("top", "RUN", "--by", "resnet"), ("top", "RUN", "--front")),
    *(("show", "RUN", "BIRTH"), ("find", "RUN", "--uses", USED), ("lineage", "RUN", "BIRTH"), ("funnel", "RUN")),
    *(
        ("dump", "RUN"),
        ("dump", "RUN", "--logical"),
        ("replay", "RUN"),
        ("export", "RUN", "BIRTH", "--no-compile", "-o", "OUT"),
    ),
    ("resume", "RUN"),
)


def prepared(folder: Path) -> Path:
    """The committed database, of the newest schema, with a validation of its candidate."""
    path = Path(shutil.copy(WHOLE, folder / "run.db"))
    database = Database.open(path)
    reader = database.reader()
    store = database.own(Event.VALIDATING)
    for name, birth in (("BN-ReLU", None), (None, BIRTH)):
        store.record_training(training(name or reader.candidate(BIRTH).formula, name=name, birth=birth))
    store.close()
    with closing(sqlite3.connect(path)) as connection:  # as the version that wrote it left it
        connection.execute("DELETE FROM event WHERE kind = 'validating' AND id = (SELECT max(id) FROM event)")
        connection.commit()
    database.close()
    return path


def read_as_resume(reader: Reader) -> None:
    """All that a resume reads before it trains."""
    rebuild(reader)
    missing(reader, Purpose.RERANK, contenders(reader), fresh_seeds(reader.config))


def fault(command: tuple[str, ...], run: Path) -> str | None:
    """The fault in how a command ended; None where there is none."""
    began = time.monotonic()
    try:
        if command[0] == "resume":
            read_as_resume(Database.open(run).reader())
        else:
            given = {"RUN": str(run), "BIRTH": str(BIRTH), "OUT": str(run.with_name("layer.py"))}
            result = CliRunner().invoke(app, [given.get(word, word) for word in command])
            if isinstance(result.exception, Exception) and result.stdout:
                return f"printed before its error {result.exception}: {result.stdout[:200]}"
            if isinstance(result.exception, Exception):
                raise result.exception
            if result.exit_code not in ((0, 1, 2) if command[0] == "replay" else (0, 2)):  # 1: it tells differences
                return f"exit code {result.exit_code}"
    except InputError as error:
        if "\n" in str(error) or len(str(error)) > 1000:
            return f"not one short line: {str(error)[:2000]}"
        if str(run) not in str(error):
            return f"names no database: {error}"
    except Exception:
        return "\n".join(traceback.format_exc().splitlines()[-5:])
    seconds = time.monotonic() - began
    return f"{seconds:.1f} s" if seconds > SECONDS_MAX else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    faults = tried = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = prepared(folder).read_bytes()
        for number, damage in enumerate(damages()):
            if number % arguments.every or arguments.only not in damage.name:
                continue
            path = folder / str(number) / "run.db"
            path.parent.mkdir()
            path.write_bytes(whole)
            damage.apply(path)
            for command in COMMANDS:
                tried += 1
                if found := fault(command, path):
                    faults += 1
                    print(f"{damage.name}: {' '.join(command)}\n{found}\n", flush=True)
            shutil.rmtree(path.parent)
    print(f"{tried} commands, {faults} faults")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
