"""docs/queries.md: each of its queries, run as it stands on SQLite and PostgreSQL, gives Python's values."""

import re
import shlex
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import make_url

from evonas.cli.main import app
from evonas.run import Run, open_run
from evonas.store import tables
from evonas.store.database import Database
from evonas.store.records import Purpose, Record
from evonas.workers.outcome import Rejection, Verdict
from tests.benchmarks.queries import copy
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"### (\d+)\. .*?```sql\n(.*?)```", PAGE, re.DOTALL))
OLD = ROOT / "tests" / "evonas" / "databases" / "0003.db"
Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search of 30 births, with audits, a final table and a validation."""
    return open_run(shutil.copy(OLD, tmp_path_factory.mktemp("run") / "run.db"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ask(request: pytest.FixtureRequest, run: Run) -> Iterator[Ask]:
    """The answers of a database with its records."""
    file = Path(run.reference)
    if request.param == "sqlite":
        with closing(sqlite3.connect(file)) as connection:
            yield lambda query: connection.execute(query).fetchall()
        return
    url = make_url(request.getfixturevalue("server"))
    mine = url.set(database="queries_page").render_as_string(hide_password=False)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as server:
        server.execute("CREATE DATABASE queries_page")
        copy(file, mine)
        with psycopg.connect(mine) as connection:
            yield lambda query: connection.execute(query).fetchall()
        server.execute("DROP DATABASE queries_page WITH (FORCE)")


def survivors(run: Run) -> list[Record]:
    """Each function once, the best by one seed first."""
    every = Database.open(run.reference).reader().candidates()
    mine = [each for each in every if each.advantage is not None and each.equal_to is None]
    return sorted(mine, key=lambda each: (-(each.advantage or 0.0), each.birth))


def best(run: Run) -> list[Any]:
    return [(each.birth, each.formula, each.advantage) for each in survivors(run)[:10]]


def final_table(run: Run) -> list[Any]:
    return [
        (row.birth, row.name, row.seeds, row.failed, row.difference, row.difference_spread) for row in run.final_table()
    ]


def accuracies(run: Run) -> list[Any]:
    baseline = run.baseline()
    return [
        (each.birth, proxy, each.accuracy[proxy], each.accuracy[proxy] - baseline[proxy])
        for each in Database.open(run.reference).reader().candidates()
        for proxy in sorted(each.accuracy)
    ]


def gates(run: Run) -> list[Any]:
    seconds: dict[str, float] = defaultdict(float)
    for each in Database.open(run.reference).reader().candidates():
        if isinstance(each.outcome, Rejection):
            seconds[each.outcome.gate] += each.seconds
    stopped = run.status().by_gate
    return [(gate, stopped[gate], seconds[gate]) for gate in sorted(stopped, key=lambda gate: (-stopped[gate], gate))]


def small_layers(run: Run) -> list[Any]:
    found = run.find("std_ghw", "*_bhw", max_nodes=8, n=100)
    order = sorted(found, key=lambda each: (-(each.advantage or 0.0), each.birth))
    return [(each.birth, each.live_nodes, each.formula, each.advantage) for each in order]


def ancestors(run: Run) -> list[Any]:
    return [(each.birth, each.parent, each.operator) for each in run.lineage(survivors(run)[0].birth)]


def operators(run: Run) -> list[Any]:
    every = {each.birth: each for each in Database.open(run.reference).reader().candidates()}
    children = [each for each in every.values() if each.parent and each.equal_to is None]
    rows = []
    for operator in sorted({each.operator for each in children}):
        mine = [each for each in children if each.operator == operator]
        trained = [each.advantage for each in mine if each.advantage is not None]
        above = sum(
            each.advantage is not None and each.advantage > (every[each.parent or 0].advantage or 0.0) for each in mine
        )
        rows.append((operator, len(mine), len(trained), above, max(trained, default=None)))
    return rows


def curve(run: Run) -> list[Any]:
    evaluation = run.evaluation(max(each.birth for each in survivors(run)))
    assert evaluation is not None
    points = sorted(evaluation.points, key=lambda each: (each.repeat, each.proxy, each.step))
    return [(each.proxy, each.step, each.accuracy, each.loss) for each in points]


def progress(run: Run) -> list[Any]:
    every = sorted(Database.open(run.reference).reader().candidates(), key=lambda each: each.seq or 0)
    so_far = accumulate((each.advantage for each in every), max_of)
    return [(each.seq, each.birth, most) for each, most in zip(every, so_far, strict=True)]


def max_of(a: float | None, b: float | None) -> float | None:
    return max((each for each in (a, b) if each is not None), default=None)


def times(run: Run) -> list[Any]:
    reader, rows = Database.open(run.reference).reader(), []
    for purpose in Purpose:
        for verdict in Verdict:
            mine = [
                each.evaluation
                for each in reader.evaluations(purpose)
                if type(each.evaluation.outcome).__name__.lower() == verdict
            ]
            if mine:
                seconds, memory = sum(each.seconds for each in mine), max(each.memory_mb for each in mine)
                rows.append((purpose, verdict, len(mine), seconds, memory))
    return sorted(rows, key=lambda row: -row[3])


EXPECTED = {
    "1": best,
    "2": final_table,
    "3": accuracies,
    "4": gates,
    "5": small_layers,
    "6": ancestors,
    "7": operators,
    "8": curve,
    "9": progress,
    "10": times,
}


@pytest.mark.parametrize("number", EXPECTED)
def test_a_query_of_the_page_gives_the_values_of_python(number: str, ask: Ask, run: Run) -> None:
    answer, expected = ask(QUERIES[number]), EXPECTED[number](run)
    if number == "2":  # the page has the formula as well
        answer = [(birth, name, *rest) for birth, name, _, *rest in answer]
    assert expected
    assert list(map(rounded, answer)) == list(map(rounded, expected))


def rounded(row: Iterable[Any]) -> list[Any]:
    """To 9 digits: sums and means depend on their order."""
    return [float(f"{value:.9g}") if isinstance(value, float) else value for value in row]


def test_the_commands_and_the_python_of_the_page_run(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run.reference, shutil.copy(run.reference, tmp_path / "other.db")]
    commands = [line for line in PAGE.splitlines() if line.startswith("evonas ")]
    assert len(commands) == 3
    for each in commands:
        words, references = shlex.split(each, comments=True)[1:], iter(runs)
        given = [str(next(references)) if word == "RUN" else word for word in words]
        assert CliRunner().invoke(app, given).exit_code == 0
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(re.sub(r"results/quickstart-00(\d)", lambda found: str(runs[int(found[1])]), block), {})
    assert capsys.readouterr().out.startswith(r"% \usepackage{amsmath, booktabs}")


def test_the_page_has_ten_queries_and_each_is_run() -> None:
    assert QUERIES.keys() == EXPECTED.keys()
    assert PAGE.count("```sql") == len(QUERIES) == 10


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=lambda table: table.name)
def test_the_page_explains_every_column(table: Any) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{table.name}` |")]
    named = {word for code in re.findall(r"`([^`]*)`", row) for word in re.findall(r"\w+", code)}
    assert {column.name for column in table.columns} <= named | ({"run"} if table.name != "event" else set())
