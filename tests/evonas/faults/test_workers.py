"""Workers and nodes that fail."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from evonas.session import POLL_SECONDS
from evonas.store.database import Database
from evonas.studies.replay import replay
from evonas.workers.outcome import Crash
from tests.evonas.driver_process import (
    BIRTHS,
    GIVE_UP_SECONDS,
    OUTCOMES,
    at_the_moment,
    count,
    started,
    written,
)
from tests.evonas.faults.cases import SECONDS, ended
from tests.workers import nodes_process

HANGS_SECONDS = 20.0  # far above the second that an evaluation takes, on a busy machine too
GIB = 2**30


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
