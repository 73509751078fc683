"""A search on the screen: when the table is drawn, and short lines where there is no terminal."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import evonas
from evonas.cli.display import Display
from evonas.cli.monitor import Monitor
from evonas.cli.search_table import status_line
from evonas.cli.status import watch_run
from evonas.config import Config
from evonas.history import History
from evonas.overview import Overview, overview
from evonas.report.texts import one_line
from evonas.run import Run
from evonas.session import Session
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Event
from tests.evonas.cli.cases import LONG, Command, config_file, refused
from tests.evonas.cli.driven import Driven, row, table
from tests.evonas.search_cases import FakePool
from tests.evonas.store_cases import fit

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FORMULA = one_line(evonas.Graph.parse(LONG).formula)


@pytest.fixture(autouse=True)
def looks_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a slow machine looks less often."""
    monkeypatch.setattr("evonas.cli.monitor.CPU_SHARE", 1e9)
    monkeypatch.setattr("evonas.cli.monitor.WALL_SHARE", 1e9)


# --------------------------------------------------------------------------- lines


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Piped:
    """A display without a terminal, and its clock."""

    display: Display
    file: io.StringIO
    clock: Clock
    history: History

    def after(self, seconds: int) -> list[str]:
        """The new lines of these seconds, in which the search has progress once a second."""
        begun = len(self.file.getvalue().splitlines())
        for _ in range(seconds):
            self.clock.now += 1.0
            self.display.progress(self.history)
        return self.file.getvalue().splitlines()[begun:]


@pytest.fixture
def piped(driven: Driven) -> Piped:
    file, clock, history = io.StringIO(), Clock(), History(driven.run.config)
    display = Display(Console(file=file, width=10_000, markup=False, highlight=False), clock)
    display.starting()
    display.started(driven.run, history, Session(FakePool(2)))
    return Piped(display, file, clock, history)


def test_a_pipe_gets_one_short_line_every_ten_seconds(driven: Driven, piped: Piped) -> None:
    head, first = piped.file.getvalue().splitlines()
    assert head == f"tiny: 20 births on 2 proxies, 2 workers, in {driven.run.reference}"
    assert first == "0 of 20 births, 0 trained"
    assert piped.after(30) == ["0 of 20 births, 0 trained"] * 3
    driven.trained(1, 1)
    lines = piped.after(10)
    assert re.fullmatch(r"1 of 20 births, 1 trained, best \+12\.5 points \(birth 1, 1 seed\), about .* left", lines[-1])
    assert max(map(len, lines)) < 121


def test_a_pipe_gets_a_line_for_each_new_leader_and_each_crash(driven: Driven, piped: Piped) -> None:
    piped.after(5)
    driven.trained(1, 1)
    (line,) = piped.after(1)
    assert line.startswith(f"new leader: birth 1, +12.5 points against BN-ReLU with 1 seed: {FORMULA[:40]}")
    assert len(line) == 120
    driven.trained(2, 2, fit(0.25, 0.25))  # no leader
    driven.store.event(Event.CRASH, "birth 3: time_limit: no answer\n within 60 s")
    assert piped.after(1) == ["crashed: birth 3: time_limit: no answer within 60 s"]
    assert piped.after(1) == []
    driven.trained(3, 3, fit(1.0, 0.5), "x")
    assert piped.after(1) == [
        "new leader: birth 3, affine of BN-second-moment, +50.0 points against BN-ReLU with 1 seed: x"
    ]


def test_a_pipe_gets_the_last_state_whenever_it_is_reached(driven: Driven, piped: Piped) -> None:
    driven.trained(1, 1)
    driven.store.event(Event.STOPPED, "asked to stop")
    driven.store.close()
    piped.display.stop()
    piped.display.stop()
    expected = r"1 of 20 births, 1 trained, best \+12\.5 points \(birth 1, 1 seed\), stopped after \d+ s"
    assert [bool(re.fullmatch(expected, line)) for line in piped.file.getvalue().splitlines()] == [False, False, True]


def test_the_final_table_has_a_line_of_its_own(searching: Overview) -> None:
    status = replace(searching.status, retrained=3, retrainings=24, seconds_left=50.0)
    line = status_line(replace(searching, activity="retraining the best", status=status))
    assert line == "retraining the best: 3 of 24 trainings, about 50 s left"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()
    monitor = Monitor(Console(file=file, force_terminal=True, width=80, markup=False, highlight=False))
    monitor.start()
    monitor.follow(driven.run)
    monitor.stop()
    assert CONTROL.search(file.getvalue()) is None
    assert file.getvalue().splitlines() == ["0 of 20 births, 0 trained"] * 2


def test_a_run_that_cannot_be_read_does_not_end_its_search(driven: Driven, piped: Piped) -> None:
    (Path(driven.run.folder) / "run.db").rename(Path(driven.run.folder) / "gone.db")
    assert piped.after(20) == []
    (Path(driven.run.folder) / "gone.db").rename(Path(driven.run.folder) / "run.db")
    assert piped.after(10) == ["0 of 20 births, 0 trained"]


def test_looks_take_a_small_share_of_the_time(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the counts takes half a second here, one at what leads four more: each kind a fifth of the time."""
    clock, counts, leaders = Clock(), list[float](), list[float]()

    def slow(run: Run, before: Overview | None = None, *, is_brief: bool = False) -> Overview:
        (counts if is_brief else leaders).append(clock.now)
        clock.now += 0.5 if is_brief else 4.5
        found = overview(run, before, is_brief=is_brief)
        return found if is_brief else replace(found, leading=replace(found.leading))

    monkeypatch.setattr("evonas.cli.monitor.overview", slow)
    monkeypatch.setattr("evonas.cli.monitor.WALL_SHARE", 0.2)
    monitor = Monitor(Console(file=io.StringIO()), clock)
    monitor.follow(driven.run)
    while clock.now < 150.0:
        clock.now += 0.5
        monitor.look()
    assert leaders == [100.0, 129.0]  # the first look after 104.5 + 4.5 / 0.2
    assert counts[:4] == [105.0, 108.0, 111.0, 114.0]  # 105.5 + 0.5 / 0.2
    assert len(counts) <= 50 * 0.2 / 0.5


# --------------------------------------------------------------------------- the terminal after it


def test_ctrl_c_leaves_a_clean_terminal_and_says_how_to_go_on(
    driven: Driven, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(*given: Any, watcher: Display, **options: Any) -> None:
        watcher.starting()
        watcher.started(driven.run, History(driven.run.config), Session(FakePool(2)))
        raise evonas.Stopped

    monkeypatch.setattr(evonas, "search", search, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    monkeypatch.setenv("TERM", "xterm-256color")
    answer = command("search", config_file(tmp_path))
    assert answer.code == 130
    assert answer.err == f"Stopped; nothing recorded is lost. Go on with: evonas resume {driven.run.reference}\n"
    assert (answer.out.count("\x1b[?25l"), answer.out.count("\x1b[?25h")) == (1, 1)  # the cursor
    assert answer.out.rindex("\x1b[?25h") > answer.out.rindex("BN-ReLU")
    assert CONTROL.sub("", answer.out).endswith("\n")


# --------------------------------------------------------------------------- evonas status --watch


@pytest.fixture
def steps(driven: Driven) -> Callable[..., Callable[[float], None]]:
    """A sleep in which the driver goes on: each time by one step."""

    def sleeping(*do: Callable[[], None]) -> Callable[[float], None]:
        left = list(do)
        return lambda seconds: left.pop(0)()

    return sleeping


def test_a_watched_run_ends_with_its_driver(
    driven: Driven, steps: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    def end() -> None:
        driven.store.finish()
        driven.store.close()

    assert watch_run(driven.run.reference, 0.0, steps(lambda: driven.trained(1, 1), end)) == 0
    first, leader, last = capfd.readouterr().out.splitlines()
    assert first == "0 of 20 births, 0 trained"
    assert leader.startswith("new leader: birth 1, ")
    assert re.fullmatch(
        r"1 of 20 births, 1 trained, best \+12\.5 points \(birth 1, 1 seed\), finished after \d+ s", last
    )


@pytest.mark.parametrize("state", ["stopped", "dead"])
def test_a_watched_run_says_how_it_ended(
    driven: Driven, steps: Callable[..., Any], capfd: pytest.CaptureFixture[str], state: str
) -> None:
    def end() -> None:
        if state == "stopped":
            driven.store.event(Event.STOPPED, "asked to stop")
        driven.store.close()  # else without a word, as a driver that is killed

    assert watch_run(driven.run.reference, 0.0, steps(end)) == 1
    first, *lines = capfd.readouterr().out.splitlines()
    assert (first, len(lines)) == ("0 of 20 births, 0 trained", 2)
    assert re.fullmatch(rf"0 of 20 births, 0 trained, {state} after \d+ s", lines[-2])
    assert lines[-1] == f"{state}; go on with: evonas resume {driven.run.reference}"


def test_a_watched_run_in_a_terminal_is_the_table_of_its_search(
    driven: Driven, searching: Overview, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven.store.close()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    answer = command("status", driven.run.reference, "--watch", "0.5")
    assert answer.code == 1
    shown = CONTROL.sub("", answer.out)
    assert "run: dead: its driver is gone" in shown
    expected = table(replace(searching, busy=None), 80)
    for label in ("leads", "stability", "formula", "workers"):
        assert row(expected, label) in " ".join(shown.split())


def test_watch_refuses_what_it_cannot_do(command: Command, driven: Driven) -> None:
    run = driven.run.reference
    refused(command("status", "--watch", run), f"'{run}': expected seconds, such as 5; RUN stands before --watch")
    refused(command("status", run, "--watch", "0"), "'0': expected 0.1 seconds at least")
    refused(command("status", run, "--watch", "--json"), "--watch: takes no --json")


def test_a_run_at_a_server_is_watched_by_its_url(
    server_database: str, config: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    address = Address.of_url(server_database, "run", Path("run"))
    store = Database(address).create(config, {})

    def end(seconds: float) -> None:
        store.close()

    assert watch_run(f"{address.absolute_url}#run", 0.0, end) == 1
    assert "dead after" in capfd.readouterr().out.splitlines()[-2]
