"""The size of a report on many births, and the seconds that it takes.

    python -m tests.benchmarks.report RUN --births 100000 --out DIR

The records of RUN, which has a database of its own, are told again and again, as later births of one search, until
there are so many. DIR/run.db is kept, for a look at the report in a browser.
"""

import argparse
import sqlite3
import time
from contextlib import closing
from pathlib import Path

SIZE_MAX_MB, SECONDS_MAX = 15.0, 30.0
SEARCH = "evaluation IN (SELECT id FROM evaluation WHERE purpose = 'search' AND id <= :ids)"
TOLD_AGAIN = {  # table -> which of its rows
    "candidate": "birth <= :births",
    "candidate_op": "birth <= :births",
    "evaluation": "purpose = 'search' AND id <= :ids",
    "score": SEARCH,
    "point": SEARCH,
    "measurement": SEARCH,
}
MOVED = {  # column -> what is added to it each time
    **dict.fromkeys(("birth", "parent", "second_parent", "equal_to"), "births"),
    **dict.fromkeys(("seq", "seen"), "outcomes"),
    **dict.fromkeys(("id", "evaluation"), "ids"),
    "at": "seconds",
}


def multiply(source: Path, target: Path, births: int) -> None:
    """Copy a database with one run, and tell its search again until it has so many births."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA foreign_keys = OFF")
        length = {
            "births": new.execute("SELECT max(birth) FROM candidate").fetchone()[0],
            "outcomes": new.execute("SELECT max(seq) FROM evaluation").fetchone()[0],
            "ids": new.execute("SELECT max(id) FROM evaluation").fetchone()[0],
            "seconds": new.execute("SELECT max(at) - min(at) FROM evaluation").fetchone()[0],
        }
        for table, rows in TOLD_AGAIN.items():
            names = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
            values = [f'"{name}" + :k * :{MOVED[name]}' if name in MOVED else f'"{name}"' for name in names]
            told = f"INSERT INTO {table} SELECT {', '.join(values)} FROM {table} WHERE {rows}"
            for k in range(1, -(-births // length["births"])):
                new.execute(told, length | {"k": k})
        new.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--births", type=int, default=100_000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    multiply(arguments.run / "run.db", arguments.out / "run.db", arguments.births)
    import evonas
    from tests.benchmarks.machine import machine

    print(machine())
    evonas.write_report(arguments.run, arguments.out / "small.html")  # imports and caches are warm afterwards
    started, used = time.perf_counter(), time.process_time()
    path = evonas.write_report(arguments.out, arguments.out / "report.html")
    seconds, cpu, size = time.perf_counter() - started, time.process_time() - used, path.stat().st_size / 1e6
    print(f"{arguments.births:,} births: {size:.1f} MB in {seconds:.1f} s ({cpu:.1f} s of a core)")
    print("as wanted" if size < SIZE_MAX_MB and cpu < SECONDS_MAX else "too large or too slow")


if __name__ == "__main__":
    main()
