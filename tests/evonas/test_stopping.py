"""Searches stopped or killed at any moment, and resumed: they end as the uninterrupted run."""

import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.config_file import parse_config
from evonas.history import History
from evonas.progress import Watcher
from evonas.run import Run
from evonas.store.database import Database
from evonas.store.writer import Writer
from evonas.studies.replay import replay
from evonas.workers.outcome import Crash, Fitness
from tests.conftest import TINY
from tests.evonas.driver_process import (
    BIRTHS,
    GIVE_UP_SECONDS,
    OUTCOMES,
    RERANKED,
    at_the_moment,
    logical,
    reranked,
    started,
    written,
)
from tests.evonas.search_cases import Killed, answer

TINY_CONFIG = parse_config(json.dumps(TINY))


# --------------------------------------------------------------------------- stopping, in this process


@dataclass
class Interrupts(Watcher):
    """Sends this process a signal once so many outcomes, or rerank evaluations, are recorded."""

    outcomes: int = 10**9
    rerank: int = 10**9
    number: signal.Signals = signal.SIGINT
    sent: bool = False

    def progress(self, history: History) -> None:
        self._send(history.outcomes >= self.outcomes)

    def reranked(self, done: int, total: int) -> None:
        self._send(done >= self.rerank)

    def _send(self, due: bool) -> None:
        if due and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(calm: Run, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with pytest.raises(evonas.Stopped):
        evonas.search(TINY_CONFIG, folder, watcher=Interrupts(outcomes=5, number=number))
    stopped = evonas.open_run(folder)
    assert not stopped.finished
    assert 5 <= len(logical(folder)) < len(logical(calm.reference))
    for outcomes in (15, 30):
        with pytest.raises(evonas.Stopped):
            evonas.resume(folder, watcher=Interrupts(outcomes=outcomes, number=number))
    with pytest.raises(evonas.Stopped):
        evonas.resume(folder, watcher=Interrupts(rerank=1, number=number))
    assert evonas.resume(folder).finished
    assert logical(folder) == logical(calm.reference)


def test_half_a_rerank_is_no_final_table(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"]["births"] = 15
    with pytest.raises(evonas.Stopped):
        evonas.search(tiny, tmp_path / "run", watcher=Interrupts(rerank=2))
    assert len(reranked(tmp_path / "run")) in (2, 3)
    assert evonas.open_run(tmp_path / "run").final_table() == []


def test_a_stopped_run_is_ended_when_asked_to(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"] |= {"rerank": {"top": 1, "seeds": 1}}
    with pytest.raises(evonas.Stopped):
        evonas.search(tiny, tmp_path / "run", watcher=Interrupts(outcomes=15))
    proposed = evonas.open_run(tmp_path / "run").status().births
    ended = evonas.resume(tmp_path / "run", end=True)
    assert (ended.finished, ended.status().births) == (True, proposed)
    assert ended.status().by_state.get("pending") is None
    assert [row.birth is None for row in ended.final_table()].count(False) == 1
    assert replay(Database.open(tmp_path / "run").reader()) == []
    before = logical(tmp_path / "run")
    evonas.resume(tmp_path / "run")
    assert logical(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("database", "committed", "stride"),
    [
        ("file", True, 5),
        ("file", False, 5),
        *(
            pytest.param(*case, 1, marks=pytest.mark.long)
            for case in itertools.product(("file", "server"), (False, True))
        ),
    ],
)
def test_deaths_at_any_commit_of_a_search_and_of_its_resume_leave_the_uninterrupted_run(
    tmp_path: Path,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    database: str,
    committed: bool,
    stride: int,
) -> None:
    """From its first record to its last, retraining included, with outcomes from a table."""
    monkeypatch.setattr("evonas.workers.pool.evaluate_safely", lambda job, device: answer(job))
    url = request.getfixturevalue("server_database") if database == "server" else None
    tiny["evolution"] |= {"births": 8, "rerank": {"top": 1, "seeds": 1}}
    tiny["store"] = {"url": url}
    expected = logical(evonas.search(tiny, tmp_path / "calm").reference)
    write, left = Writer._write, [0]

    def dying(store: Writer, work: Callable[[Any], Any]) -> None:
        left[0] -= 1
        if left[0] != 0 or committed:
            write(store, work)
        if left[0] == 0:
            assert store._lock is not None
            store._lock.release()  # what the system does
            store._lock = None  # a store without it is closed, and writes nothing
            store.engine.dispose()
            raise Killed

    monkeypatch.setattr(Writer, "seconds_to_flush", 0.0)
    monkeypatch.setattr(Writer, "_write", dying)
    for commit in range(1, 1000, stride):
        folder = tmp_path / f"run{commit}"
        run = f"{url}#{folder.name}" if url else folder
        left[0] = commit
        try:
            evonas.search(tiny, folder)
            break
        except Killed:
            left[0] = commit // 2 + 1
            with suppress(Killed):
                evonas.resume(run)
            left[0] = -1
            assert evonas.resume(run).finished
        assert logical(run) == expected, commit
    assert commit > 12


# --------------------------------------------------------------------------- stopping, from outside


def killed(driver: subprocess.Popen[str], folder: Path, query: str, reached: int) -> list[str]:
    """kill -9 at that moment; the logical records that survive."""
    at_the_moment(driver, folder, query, reached)
    driver.kill()
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    return logical(folder)


def asked_to_stop(
    driver: subprocess.Popen[str], folder: Path, query: str, reached: int, number: signal.Signals
) -> tuple[int, str, str]:
    """Ctrl-C reaches the whole group of a terminal, SIGTERM the driver alone; what it answers."""
    at_the_moment(driver, folder, query, reached)
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)
    else:
        driver.send_signal(number)
    output, errors = driver.communicate(timeout=GIVE_UP_SECONDS)
    return driver.returncode, output, errors


def stopped_well(answer: tuple[int, str, str], folder: Path) -> None:
    """It says how to go on, and exits with 130."""
    code, _, errors = answer
    assert errors.splitlines()[-1:] == [f"Stopped; nothing recorded is lost. Go on with: evonas resume {folder}"]
    assert "Traceback" not in errors
    assert "***" not in errors  # Ray's own report of a signal
    assert code == 130


def test_a_killed_and_a_stopped_driver_are_the_uninterrupted_run(
    calm: Run, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    """Processes of their own, as a terminal has them."""
    folder = tmp_path / "run"
    records = killed(started("search", written(tmp_path, tiny), "--run", str(folder)), folder, OUTCOMES, 5)
    assert 5 <= len(records) < len(logical(calm.reference))
    stopped_well(asked_to_stop(started("resume", str(folder)), folder, OUTCOMES, 15, signal.SIGINT), folder)
    assert evonas.resume(folder).finished
    assert logical(folder) == logical(calm.reference)


@pytest.mark.long
def test_eight_kills_and_resumes_are_the_uninterrupted_run(calm: Run, tmp_path: Path, tiny: dict[str, Any]) -> None:
    """At random moments; many more in tests/benchmarks/resume.py."""
    config, folder = written(tmp_path, tiny), tmp_path / "run"
    records = [killed(started("search", config, "--run", str(folder)), folder, BIRTHS, 1)]
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    print(f"seed {seed}")  # shown where this fails
    moments = [(rng.choice((BIRTHS, OUTCOMES)), reached) for reached in sorted(rng.sample(range(3, 37, 2), 6))]
    records += [killed(started("resume", str(folder)), folder, *moment) for moment in moments]
    killed(started("resume", str(folder)), folder, RERANKED, 4)  # two of BN-ReLU were there before the first birth
    during = reranked(folder)
    counts = [len(each) for each in records]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] < len(logical(folder))
    assert 4 <= len(during) < 6
    assert evonas.resume(folder).finished
    assert logical(folder) == logical(calm.reference)
    assert reranked(folder)[: len(during)] == during  # none repeated, none lost
    assert len(reranked(folder)) == len(set(reranked(folder))) == 6
    assert Database.open(folder).reader().versions["evonas"]


@dataclass
class Interrupted:
    """A Ray run that Ctrl-C, SIGTERM and kill -9 have stopped, one after another, and that then went on to its end."""

    folder: Path
    answers: dict[signal.Signals, tuple[int, str, str]]
    drivers: list[int]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    base = tmp_path_factory.mktemp("ray")
    config = json.loads(json.dumps(TINY)) | {"cluster": {"address": "local"}, "workers": {"count": 1}}
    path, folder = written(base, config), base / "run"
    answers, drivers = {}, []
    driver = started("search", path, "--run", str(folder))
    drivers.append(driver.pid)
    answers[signal.SIGINT] = asked_to_stop(driver, folder, BIRTHS, 3, signal.SIGINT)
    for reached, number in ((8, signal.SIGKILL), (12, signal.SIGTERM), (25, signal.SIGKILL)):
        driver = started("resume", str(folder))
        drivers.append(driver.pid)
        if number == signal.SIGKILL:
            killed(driver, folder, OUTCOMES, reached)
        else:
            answers[number] = asked_to_stop(driver, folder, OUTCOMES, reached, number)
    evonas.resume(folder)
    return Interrupted(folder, answers, drivers)


@pytest.mark.long
def test_an_interrupted_ray_run_is_the_uninterrupted_run(interrupted: Interrupted, calm: Run) -> None:
    assert logical(interrupted.folder) == logical(calm.reference)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_says_how_to_resume_and_exits_with_130(interrupted: Interrupted, number: signal.Signals) -> None:
    stopped_well(interrupted.answers[number], interrupted.folder)


@pytest.mark.long
def test_no_process_of_ray_outlives_its_driver(interrupted: Interrupted) -> None:
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while left := [line for pid in interrupted.drivers for line in _command_lines(f"_{pid}/")]:
        assert time.monotonic() < give_up, left
        time.sleep(0.2)


def _command_lines(part: str) -> list[str]:
    """Of all processes: those that name a driver's session, /tmp/ray/session_<time>_<pid>/."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if "/ray/session_" in text and part in text:
            lines.append(text)
    return lines


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need two cores")
def test_two_workers_whose_driver_is_killed_lose_no_birth_and_give_none_twice(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    tiny |= {"cluster": {"address": "local"}, "workers": {"count": 2}}
    tiny["evolution"]["births"] = births = 24
    killed(started("search", written(tmp_path, tiny), "--run", str(tmp_path / "run")), tmp_path / "run", OUTCOMES, 9)
    run = evonas.resume(tmp_path / "run")
    reader = Database.open(run.folder).reader()
    records = reader.candidates()
    assert [each.birth for each in records] == list(range(1, births + 1))
    assert sorted(each.seq or 0 for each in records) == list(range(1, births + 1))
    assert Counter(each.birth for each in reader.evaluations("search")) == Counter(range(1, births + 1))
    assert replay(Database.open(run.folder).reader()) == []
    assert not any(isinstance(each.outcome, Crash) for each in records)
    assert any(isinstance(each.outcome, Fitness) for each in records)
    assert all(each.birth - 1 - each.seen < 2 for each in records)
    times = Counter((birth, name) for birth, name, _ in set(reranked(run.folder)))
    assert set(times.values()) == {2}
    assert len(reranked(run.folder)) == sum(times.values())
