"""A database that is locked, full, gone or silent, and a clock that steps back."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine, text

import evonas
from evonas.run import Run
from evonas.store.database import Database
from tests.conftest import TINY, postgresql
from tests.evonas.driver_process import (
    BIRTHS,
    EVONAS,
    GIVE_UP_SECONDS,
    OUTCOMES,
    at_the_moment,
    count,
    logical,
    started,
    written,
)
from tests.evonas.faults.cases import SECONDS, ended

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


# --------------------------------------------------------------------------- the database in a file


@pytest.mark.long
def test_a_locked_database_is_waited_for(calm: Run, tmp_path: Path, tiny: dict[str, Any]) -> None:
    folder = tmp_path / "run"
    driver = started("search", written(tmp_path, tiny), "--run", str(folder))
    at_the_moment(driver, folder, OUTCOMES, 5)
    with closing(sqlite3.connect(folder / "run.db", isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = count(folder, BIRTHS)
        time.sleep(SECONDS)
        assert count(folder, BIRTHS) == before
        other.execute("COMMIT")
    ended(driver)
    assert logical(folder) == logical(calm.reference)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here (root only)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk_stops_the_search_in_one_line_and_it_is_resumed(
    calm: Run, small_disk: Path, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    folder = small_disk / "run"
    driver = started("search", written(tmp_path, tiny), "--run", str(folder))
    at_the_moment(driver, folder, OUTCOMES, 5)
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    errors = ended(driver, 1)
    assert "the database cannot be written: database or disk is full" in errors.splitlines()[-1]
    assert 5 <= count(folder, OUTCOMES) < TINY["evolution"]["births"]
    ballast.unlink()
    assert evonas.resume(folder).finished
    assert logical(folder) == logical(calm.reference)


# --------------------------------------------------------------------------- the database at a server


def killed_and_started_again(server: Any) -> Iterator[None]:
    postmaster = psutil.Process(server.get_pid())
    postmaster.send_signal(signal.SIGQUIT)  # an immediate shutdown: sessions are cut, nothing is written any more
    postmaster.wait(GIVE_UP_SECONDS)
    yield
    server.ensure_postgres_running()


def silent(server: Any) -> Iterator[None]:
    """As behind a network that lets nothing through: connections stay, and nobody answers."""
    postmaster = psutil.Process(server.get_pid())
    processes = [postmaster, *postmaster.children(recursive=True)]
    for each in processes:
        each.suspend()
    yield
    for each in reversed(processes):
        with suppress(psutil.NoSuchProcess):
            each.resume()


@pytest.fixture
def server() -> Iterator[Any]:
    """A real one of this test's own."""
    with postgresql() as started:
        yield started


def searching(server: Any, folder: Path, tiny: dict[str, Any]) -> subprocess.Popen[str]:
    """A driver that has recorded some outcomes at a server."""
    url = server.get_uri()
    driver = started("search", written(folder, tiny | {"store": {"url": url}}), "--run", str(folder / "run"))
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    give_up = time.monotonic() + GIVE_UP_SECONDS
    reached = 0
    while reached < 5 and time.monotonic() < give_up:
        time.sleep(0.005)
        with suppress(Exception), engine.connect() as connection:  # the tables come with the driver
            reached = connection.execute(text(OUTCOMES)).scalar_one()
    engine.dispose()
    assert 5 <= reached < TINY["evolution"]["births"], "the run ended before its server did"
    return driver


@pytest.mark.long
@pytest.mark.parametrize("fault", [killed_and_started_again, silent])
def test_a_server_that_is_gone_is_waited_for(
    fault: Callable[[Any], Iterator[None]], server: Any, calm: Run, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    driver = searching(server, tmp_path, tiny)
    gone = fault(server)
    next(gone)
    time.sleep(SECONDS)
    assert driver.poll() is None
    next(gone, None)
    ended(driver)
    assert logical(f"{server.get_uri()}#run") == logical(calm.reference)


@pytest.mark.long
def test_who_waits_for_a_server_can_be_stopped(server: Any, calm: Run, tmp_path: Path, tiny: dict[str, Any]) -> None:
    driver = searching(server, tmp_path, tiny)
    gone = killed_and_started_again(server)
    next(gone)
    time.sleep(SECONDS)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 1
    assert "the database cannot be written: " in errors.splitlines()[-1]
    next(gone, None)
    assert evonas.resume(f"{server.get_uri()}#run").finished
    assert logical(f"{server.get_uri()}#run") == logical(calm.reference)


# --------------------------------------------------------------------------- the clock


@pytest.mark.long
@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed: apt-get install faketime")
def test_a_clock_that_steps_back_changes_nothing(calm: Run, tmp_path: Path, tiny: dict[str, Any]) -> None:
    folder, offset = tmp_path / "run", tmp_path / "offset"
    offset.write_text("+0")
    environment = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    driver = subprocess.Popen(
        [EVONAS, "search", written(tmp_path, tiny), "--run", str(folder)],
        env={**os.environ, **environment, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    at_the_moment(driver, folder, OUTCOMES, 5)
    offset.write_text("-3h")
    ended(driver)
    times = [each.at for each in Database.open(folder).reader().evaluations("search")]
    assert min(later - earlier for earlier, later in pairwise(times)) < -3600
    assert logical(folder) == logical(calm.reference)
