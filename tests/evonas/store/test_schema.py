"""The schema: migrations, databases of earlier versions, and what is none of evonas'."""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData

import evonas
from evonas.config import Config
from evonas.final import table
from evonas.run import open_run
from evonas.search_space.errors import InputError
from evonas.selection import Survivor, pareto_front
from evonas.store import schema, tables
from evonas.store.address import Address
from evonas.store.criteria import Criteria
from evonas.store.database import Database
from evonas.store.dump import dump, jsonable
from evonas.store.engines import open_writer
from evonas.store.ownership import own
from evonas.store.records import Purpose
from evonas.store.writer import Writer
from evonas.studies.replay import replay
from tests.evonas.store_cases import files

# --------------------------------------------------------------------------- schema


def test_migrations_build_exactly_the_tables(store: Writer) -> None:
    options = {"compare_type": True, "compare_server_default": True, "version_table": tables.VERSION_TABLE}
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
        assert len(compare_metadata(context, MetaData())) >= len(tables.metadata.tables)


DATABASES = Path(__file__).parents[1] / "databases"  # as earlier versions of evonas left them, of one config


@pytest.fixture(params=["0001", "0002", "0003"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(DATABASES / f"{request.param}.db", tmp_path / "run.db"))


def test_an_older_database_is_upgraded_after_saying_so_and_keeps_its_records(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(old)) as connection:
        before = connection.execute("SELECT birth, graph, state FROM candidate ORDER BY birth").fetchall()
        scores = connection.execute("SELECT count(*), sum(value) FROM score").fetchone()
        looks = connection.execute("SELECT count(*), sum(accuracy), sum(loss) FROM point").fetchone()
        gates = connection.execute("SELECT count(*), sum(threshold) FROM measurement WHERE value < 1e9").fetchone()
        (version,) = connection.execute(f"SELECT version_num FROM {tables.VERSION_TABLE}").fetchone()
    reader = Database.open(old).reader()
    assert f"upgrading schema {version} to {schema.schemas()[0]}" in caplog.text
    records = reader.candidates()
    assert [(r.birth, r.graph, r.state) for r in records] == before
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT count(*), sum(value) FROM score").fetchone() == pytest.approx(scores)
        assert connection.execute("SELECT count(*), sum(accuracy), sum(loss) FROM point").fetchone() == pytest.approx(
            looks
        )
        found = connection.execute("SELECT count(*), sum(threshold) FROM measurement WHERE value < 1e9").fetchone()
        assert found == pytest.approx(gates)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    survivors = [r for r in records if r.advantage is not None and r.equal_to is None]
    top = reader.top(3)
    assert [r.advantage for r in top] == sorted((r.advantage for r in survivors), reverse=True)[:3]
    front = {each.birth for each in reader.front()}
    kept = [Survivor(r.birth, "", "", tuple(r.accuracy.values())) for r in survivors]
    best = {each.objectives for each in pareto_front(kept)}
    assert {each.objectives for each in kept if each.birth in front} == best
    using = [birth for birth, _ in reader.ranked(criteria=Criteria.of("std_hw"))]
    assert using == [r.birth for r in reader.top(30) if "std_hw" in r.formula]
    assert [path.name for path in old.parent.iterdir()] == ["run.db"]
    caplog.clear()
    Database.open(old).reader()
    assert caplog.text == ""  # once


# Hashes of the logical dumps, as the versions that wrote the databases printed them.
DUMPS = {
    "0001": "628cd0ac3d12935aeb92d985fafddda96aed0e77c375c15514aa73137cdee9ad",
    "0002": "ca260c7dd726aa804ed5da96966358a564ff0f098f621e9caa6bd497c0bf85eb",
    "0003": "35d19a54450f5baf4141290c42f980b8a4e90ec3ecae4b5b8df2d9d3f3ef55fc",
}


def test_the_logical_dump_of_an_older_database_is_unchanged(old: Path) -> None:
    version = _schema(old)
    rows = dump(Database.open(old).reader())
    text = "\n".join(json.dumps(jsonable(row), sort_keys=True) for row in rows)
    assert hashlib.sha256(text.encode()).hexdigest() == DUMPS[version]


def test_sql_knows_the_retrained_figures_of_an_older_database(old: Path) -> None:
    """The view's means and spreads are those that the final table computes from the scores."""
    reader = Database.open(old).reader()
    with closing(sqlite3.connect(old)) as connection:
        query = "SELECT birth, name, seeds, failed, advantage, spread FROM retrained WHERE purpose = 'rerank'"
        view = {(birth, name): tuple(figures) for birth, name, *figures in connection.execute(query)}
    rows = table(reader, reader.evaluations(Purpose.RERANK))
    assert view.keys() == {(row.birth, row.name) for row in rows}
    assert view
    for row in rows:
        seeds, failed, advantage, spread = view[row.birth, row.name]
        assert (seeds, failed) == (row.seeds, row.failed)
        assert advantage == pytest.approx(row.difference)
        assert spread == (None if seeds < 2 else pytest.approx(row.difference_spread))


def test_an_upgraded_run_is_resumed_and_follows_from_its_records(old: Path) -> None:
    evonas.resume(old)
    assert replay(Database.open(old).reader()) == []


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = old.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(schema, "build_schema", fail)
    with pytest.raises(InputError, match=r"cannot be upgraded here \(disk I/O error\)"):
        Database.open(old).reader()
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir()] == ["run.db"]


def test_an_upgrade_that_fails_loses_nothing_of_a_killed_drivers_log(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last commits are in the log beside the file, until that is folded in."""
    killed = tmp_path / "killed" / "run.db"
    killed.parent.mkdir()
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("UPDATE run SET name = 'in-the-log'")
        connection.commit()
        for name in ("run.db", "run.db-wal"):
            shutil.copy(old.parent / name, killed.parent / name)
    assert b"in-the-log" not in killed.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        with pytest.raises(InputError, match="no space left"):
            Database.open(killed).reader()
    assert [path.name for path in killed.parent.iterdir()] == ["run.db"]
    assert Database.open(killed).reader().name == "in-the-log"


def test_an_older_database_in_a_read_only_folder_is_read_through_an_upgraded_copy(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Path(shutil.copy(old, tmp_path / "other.db"))
    expected = [list(dump(Database.open(other).reader())) for _ in range(2)][1]
    other.unlink()
    before = old.read_bytes()
    caplog.clear()
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: not mode & os.W_OK)
    database = Database.open(old)
    assert f"schema {_schema(old)} in a read-only folder; reading an upgraded copy" in caplog.text
    reader = database.reader()
    assert list(dump(reader)) == expected
    assert reader.trainings() == []
    with pytest.raises(InputError, match=r"run\.db: the run is read-only; copy its folder"):
        database.own()
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir()] == ["run.db"]


def test_a_database_whose_run_is_driven_is_upgraded_later(old: Path) -> None:
    address = Address.of_file(old, None, old.parent)
    lock = own(address, f"schema-{_schema(old)}", open_writer(address))
    with pytest.raises(InputError, match=r"is driven by .*; its schema 000. is upgraded when that ends"):
        Database.open(old).reader()
    lock.release(remove=True)
    assert Database.open(old).reader().top(1)


def _schema(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute(f"SELECT version_num FROM {tables.VERSION_TABLE}").fetchone()[0])


# --------------------------------------------------------------------------- what is not evonas'


def _random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def _text(path: Path) -> None:
    path.write_text("name: quickstart\n")


def _empty(path: Path) -> None:
    path.touch()


def _other_schema(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE run (id INTEGER, name TEXT)")
        connection.execute("INSERT INTO run VALUES (1, 'theirs')")
    connection.close()


def _other_alembic(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    connection.close()


def _newer(path: Path) -> None:
    _with_version(path, "9999")


def _half_migrated(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {tables.VERSION_TABLE} (version_num TEXT)")
    connection.close()


def _with_version(path: Path, version: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {tables.VERSION_TABLE} (version_num TEXT)")
        connection.execute(f"INSERT INTO {tables.VERSION_TABLE} VALUES ('{version}')")
    connection.close()


FOREIGN = (_random_bytes, _text, _empty, _other_schema, _other_alembic, _newer, _half_migrated)
OPENINGS: dict[str, Callable[[Path, Config], Any]] = {
    "file": lambda path, config: Database.open(path).reader(),
    "url": lambda path, config: open_run(f"sqlite:///{path}#a"),
    "resume": lambda path, config: Database.open(path).own(),
    "create": lambda path, config: Database(Address.of_file(path, "mine", path.parent)).create(config, {}),
}


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("make", FOREIGN, ids=lambda each: each.__name__.strip("_"))
def test_a_database_that_is_not_evonas_is_refused_in_one_line_and_left_as_it_is(
    tmp_path: Path, config: Config, make: Callable[[Path], None], opening: str
) -> None:
    path = tmp_path / "theirs.db"
    make(path)
    before = files(tmp_path)
    with pytest.raises(InputError) as refusal:
        OPENINGS[opening](path, config)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "reference", ["none", "none.db", "none/run.db", "sqlite:///{}/none.db", "sqlite:///{}/none.db#a"]
)
@pytest.mark.parametrize("opening", ["read", "resume"])
def test_opening_what_is_not_there_creates_nothing(tmp_path: Path, reference: str, opening: str) -> None:
    there = reference.format(tmp_path) if "{" in reference else str(tmp_path / reference)
    with pytest.raises(InputError) as refusal:
        Database.open(there).own() if opening == "resume" else Database.open(there).reader()
    assert "none" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["mysql://localhost/evonas", "nonsense://x", "sqlite://", "://", "sqlite:///x.db?mode=ro", "sqlite:////usr"]
)
def test_a_url_of_another_kind_is_refused_and_says_what_is_expected(url: str) -> None:
    with pytest.raises(InputError, match=r"expected sqlite:///path\.db"):
        Database.open(url).reader()
