"""What fails around a search, each time with real processes: it goes on, or stops with one clear line and is resumed.

EVONAS_FAULT_SECONDS=30 pytest tests/evonas/test_faults.py    # each database is gone as long as that
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
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
from evonas.session import POLL_SECONDS
from evonas.store.database import Database
from evonas.studies.replay import replay
from evonas.workers.outcome import Crash
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
from tests.workers import nodes_process

SECONDS = float(os.environ.get("EVONAS_FAULT_SECONDS", "2"))
HANGS_SECONDS = 20.0  # far above the second that an evaluation takes, on a busy machine too
GIB = 2**30
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def ended(driver: subprocess.Popen[str], status: int = 0) -> str:
    """The output of a process that ended with that exit status."""
    _, errors = driver.communicate(timeout=GIVE_UP_SECONDS + SECONDS)
    assert "Traceback" not in errors
    assert driver.returncode == status, errors
    return errors


# --------------------------------------------------------------------------- the database in a file


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


# --------------------------------------------------------------------------- workers


def worker_processes(driver: int, doing: str = "") -> list[psutil.Process]:
    """Ray's actors, as far as nobody has stopped them."""
    found = []
    for each in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):
            if f"ray::Worker{doing}" in " ".join(each.cmdline()) and each.status() != psutil.STATUS_STOPPED:
                found.append(each)
    return found


def is_alive(process: psutil.Process) -> bool:
    """One that was killed has no command line from then on, though it ends some time later."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.cmdline())
    return False


def two_workers(tiny: dict[str, Any], births: int, time_limit: float) -> dict[str, Any]:
    tiny |= {"cluster": {"address": "local"}, "workers": {"count": 2, "time_limit_seconds": time_limit, "retries": 1}}
    tiny["recipe"]["steps"] = 100
    tiny["evolution"] |= {"births": births, "duplicates": "evaluate", "audit_share": 0}
    tiny["evolution"]["rerank"]["top"] = 0
    return tiny


def busy_worker(driver: subprocess.Popen[str], folder: Path, outcomes: int) -> psutil.Process:
    """One that evaluates, once so many outcomes are recorded."""
    at_the_moment(driver, folder, OUTCOMES, outcomes)
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not (busy := worker_processes(driver.pid, ".evaluate")):
        assert time.monotonic() < give_up
    return busy[0]


def whole(folder: Path, births: int) -> tuple[list[str], Counter[int]]:
    """Kinds of the crashes, and attempts, of a run that lost nothing."""
    trained = Database.open(folder).reader().evaluations("search")
    assert Counter(each.birth for each in trained) == Counter(range(1, births + 1))
    assert replay(Database.open(folder).reader()) == []
    crashes = [each.evaluation.outcome.kind for each in trained if isinstance(each.evaluation.outcome, Crash)]
    return crashes, Counter(each.evaluation.attempts for each in trained)


TWO_CORES = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need two cores")


@pytest.mark.long
@pytest.mark.alone
@TWO_CORES
def test_workers_that_fail_cost_a_candidate_at_most(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Killed, by a segmentation fault, hung."""
    births, folder = 40, tmp_path / "run"
    driver = started("search", written(tmp_path, two_workers(tiny, births, HANGS_SECONDS)), "--run", str(folder))
    busy_worker(driver, folder, 5).kill()
    busy_worker(driver, folder, 15).send_signal(signal.SIGSEGV)
    busy_worker(driver, folder, 25).suspend()
    ended(driver)
    crashes, attempts = whole(folder, births)
    assert crashes == ["time_limit"]  # of the one that hung: the layer may be why
    assert attempts == {1: births - 2, 2: 2}


@pytest.mark.long
@pytest.mark.alone
@TWO_CORES
@pytest.mark.skipif(psutil.virtual_memory().available < 10 * GIB, reason="less than 10 GiB of memory are free")
def test_a_machine_out_of_memory_costs_a_worker(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray kills one when 3 GiB more than now are used; here another process takes them."""
    memory = psutil.virtual_memory()
    monkeypatch.setenv("RAY_memory_usage_threshold", str((memory.total - memory.available + 3 * GIB) / memory.total))
    births, folder = 40, tmp_path / "run"
    config = two_workers(tiny, births, 60.0)
    config["recipe"]["steps"] = 400
    driver = started("search", written(tmp_path, config), "--run", str(folder))
    busy_worker(driver, folder, 5)
    take = f"import time\nkept = bytearray(b'1') * {6 * GIB}\ntime.sleep({GIVE_UP_SECONDS})"
    with subprocess.Popen([sys.executable, "-c", take]) as other:
        busy: set[psutil.Process] = set()
        left: set[psutil.Process] = set()
        while all(is_alive(each) for each in left):
            assert other.poll() is None, "no worker was killed"
            time.sleep(0.02)
            was_busy, busy = busy, set(worker_processes(driver.pid, ".evaluate"))
            left = was_busy - busy  # by an answer, or by its death: of an idle one none would know
        assert count(folder, OUTCOMES) < births - 5, "the run ended before its worker did"
        other.kill()
    ended(driver)
    crashes, attempts = whole(folder, births)
    assert set(crashes) <= {"out_of_memory"}
    assert attempts[2] > 0


# --------------------------------------------------------------------------- nodes


@pytest.mark.long
@pytest.mark.alone
@TWO_CORES
def test_a_search_outlives_its_only_node_and_is_resumed_after_the_head_was_lost(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in nodes_process.SETTINGS.items():
        monkeypatch.setenv(name, value)
    births, folder = 40, tmp_path / "run"
    options = ("--num-cpus=0", "--include-dashboard=false")
    head, address = nodes_process.head(*options)
    nodes = [head, nodes_process.start(f"--address={address}")]
    try:
        config = two_workers(tiny, births, 60.0) | {"cluster": {"address": address}}
        config["workers"]["count"] = "auto"
        driver = at_work(lambda: started("search", written(tmp_path, config), "--run", str(folder)), folder)
        at_the_moment(driver, folder, OUTCOMES, 5)
        nodes_process.stop(nodes.pop())
        time.sleep(2 * POLL_SECONDS + SECONDS)
        assert count(folder, OUTCOMES) < births
        nodes.append(nodes_process.start(f"--address={address}"))
        at_the_moment(driver, folder, OUTCOMES, count(folder, OUTCOMES) + 5)
        nodes_process.kill_server(head)
        nodes_process.stop(nodes.pop())
        errors = ended(driver, 1)
        assert "the cluster's head, " in errors.splitlines()[-1]
        while nodes:
            nodes_process.stop(nodes.pop())
        head, _ = nodes_process.head(*options, address=address)
        nodes += [head, nodes_process.start(f"--address={address}")]
        ended(at_work(lambda: started("resume", str(folder)), folder))
    finally:
        for node in nodes:
            nodes_process.stop(node)
    crashes, attempts = whole(folder, births)
    assert crashes == []
    assert max(attempts) <= 2


def at_work(start: Callable[[], subprocess.Popen[str]], folder: Path) -> subprocess.Popen[str]:
    """Once the node that was started has joined, which a driver without a count does not wait for."""
    give_up, before = time.monotonic() + GIVE_UP_SECONDS, count(folder, BIRTHS)
    while True:
        driver = start()
        while driver.poll() is None and count(folder, BIRTHS) == before:
            time.sleep(0.1)
        if driver.poll() != 2:
            return driver
        assert "the cluster holds 0 such workers" in driver.communicate()[1]
        assert time.monotonic() < give_up
