"""A search on the screen: the live table in terminals of any width, and short lines where there is none."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import evonas
from evonas.cli.display import Display
from evonas.cli.monitor import Monitor
from evonas.cli.search_table import SearchTable, cut, status_line
from evonas.cli.status import watch_run
from evonas.config import Config
from evonas.history import History
from evonas.overview import Overview, overview
from evonas.rank_correlation import RankCorrelation
from evonas.report.texts import core_time, one_line
from evonas.run import Run, open_run
from evonas.session import Session
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Event, Purpose
from evonas.store.writer import Writer
from evonas.workers.outcome import Evaluation, Fitness
from tests.evonas.cli.cases import LONG, Command, config_file, refused
from tests.evonas.search_cases import FakePool, configured
from tests.evonas.store_cases import CRASHED, FIT, REJECTED, candidate, fit, new_run, propose, record

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|4[0-7]|9[0-7]|[34]8;[0-9;]*)m")
FORMULA = one_line(evonas.Graph.parse(LONG).formula)
WIDTHS = (30, 48, 60, 72, 80, 100, 120, 200)


@dataclass
class Driven:
    """A run that this process drives by hand: BN-ReLU is 0.25 on each proxy, FIT's layer 0.375 in the mean."""

    run: Run
    store: Writer

    def trained(self, birth: int, seq: int, evaluation: Evaluation = FIT, text: str = LONG) -> None:
        self.store.propose(candidate(birth, text))
        advantage = (
            evaluation.outcome.mean_score("accuracy") - 0.25 if isinstance(evaluation.outcome, Fitness) else None
        )
        record(self.store, birth, evaluation, seq, advantage)


@pytest.fixture
def driven(tiny: dict[str, Any], tmp_path: Path) -> Iterator[Driven]:
    config = configured(tiny, births=20, surrogate={}, operators={"op": 1}, remeasure={})
    store = new_run(tmp_path / "run", config)
    store.record_beside(Purpose.BASELINE, "x", config.seed, fit(0.25, 0.25), name="BN-ReLU")
    yield Driven(open_run(tmp_path / "run"), store)
    store.close()


@pytest.fixture
def searching(driven: Driven) -> Overview:
    """Of 20 births one is trained, one stopped by a gate, one crashed, and one in flight."""
    driven.trained(1, 1)
    driven.trained(2, 2, REJECTED)
    driven.trained(3, 3, CRASHED)
    propose(driven.store, 4)
    return replace(overview(driven.run), busy=1, workers=2)


def table(view: Overview, width: int, encoding: str = "utf-8", **options: Any) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, **{"color_system": None, "legacy_windows": False} | options)
    console.print(SearchTable(view))
    file.seek(0)
    return file.read().splitlines()


def row(lines: list[str], label: str) -> str:
    (line,) = [line for line in lines[2:] if re.search(rf"(^|  ){label}( |$)", line)]
    return " ".join(line[line.index(label) :].split())


@pytest.fixture(autouse=True)
def looks_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a slow machine looks less often."""
    monkeypatch.setattr("evonas.cli.monitor.CPU_SHARE", 1e9)
    monkeypatch.setattr("evonas.cli.monitor.WALL_SHARE", 1e9)


# --------------------------------------------------------------------------- the table


def test_the_table_says_what_the_store_holds(searching: Overview) -> None:
    lines = table(searching, 120)
    assert lines[0].startswith("run: searching")
    assert lines[0].endswith("left")
    assert lines[1].endswith("  3 of 20 births, 1 trained")
    assert row(lines, "stability").startswith("stability 1 ")
    assert row(lines, "crashed").startswith("crashed 1 ")
    assert row(lines, "quality").startswith("quality 0 ")
    assert row(lines, "leads") == "leads birth 1 +12.5 (1) 0.500 0.250"
    assert row(lines, "BN-ReLU") == "BN-ReLU 0.250 0.250"
    assert row(lines, "control") == "control - - -"
    assert row(lines, "noise") == "noise -"
    assert row(lines, "workers") == "workers 1 of 2 busy, 62 core-seconds so far"  # 1.5 + 0.5 + 60
    assert row(lines, "surrogate") == "surrogate -"


def test_the_table_shows_the_control_the_noise_and_the_surrogate(searching: Overview) -> None:
    leader = searching.leading.leader
    assert leader is not None
    control = replace(
        leader, birth=None, what="EvoNorm-B0", difference=0.0125, difference_spread=0.011, seeds=3, paired=3
    )
    leading = replace(searching.leading, control=control, noise=(0.0096, 4))

    status = replace(searching.status, surrogate=RankCorrelation(0.614, 0.2, 0.8, 23))
    lines = table(replace(searching, leading=leading, status=status), 80)
    assert row(lines, "control") == "control EvoNorm-B0 +1.2 ±1.1 (3)"
    assert row(lines, "noise") == "noise ±1.0 points between seeds (4 layers)"
    assert row(lines, "surrogate") == "surrogate rank correlation 0.61 on 23 candidates"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_never_breaks_and_its_height_never_changes(searching: Overview, width: int) -> None:
    assert searching.leading.leader is not None
    nothing = replace(searching.leading, leader=None, baseline=None)
    known = replace(searching.leading.leader, known_as="affine of BN-second-moment", difference=-0.345, birth=99_999)
    many = replace(searching.status, births=99_999, births_wanted=100_000, retrained=7, retrainings=24)
    full = dict.fromkeys(searching.stopped, 12_345)
    views = [
        searching,
        replace(searching, leading=nothing, activity="training BN-ReLU", busy=None),
        replace(searching, leading=replace(searching.leading, leader=known), status=many),
        replace(searching, status=many, activity="retraining the best", stopped=full),
        replace(searching, status=replace(many, state="dead", run="r" * 300), activity="dead"),  # type: ignore[arg-type]
    ]
    shown = [table(view, width) for view in views]
    assert {len(lines) for lines in shown} == {len(shown[0])}
    assert [line for lines in shown for line in lines if len(line) > width] == []
    for lines in (shown[0], shown[3]):
        assert any("+12.5" in line for line in lines)
    assert any("-34.5" in line for line in shown[2])


def test_in_a_narrow_terminal_columns_go_one_after_the_other(searching: Overview) -> None:
    shown = {width: table(searching, width) for width in (120, 80, 60, 36)}
    for part, widths in (
        ("█  ", {120}),  # the bar of a gate's count, between it and the leaders
        ("  0.500", {120}),  # accuracies
        ("finite            0    control", {80}),  # gates beside what leads: with bars at 120, below it at 60
        ("leads", {120, 80, 60}),
        ("(1)", {120, 80, 60}),
        ("+12.5", {120, 80, 60, 36}),
    ):
        assert {width for width, lines in shown.items() if any(part in line for line in lines[2:])} == widths, part
    assert len(shown[80]) <= len(shown[120]) < len(shown[60])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_of_ascii_alone_keeps_its_columns(searching: Overview, width: int) -> None:
    leader = replace(searching.leading.leader, difference_spread=0.01)  # type: ignore[type-var]
    lines = table(replace(searching, leading=replace(searching.leading, leader=leader)), width, "ascii")
    assert [line for line in lines if len(line) > width] == []
    assert any("+12.5 +-1.0 (1)" in line for line in lines)
    assert any(line.rstrip().endswith("...") for line in lines)  # the formula
    assert lines[1].startswith("#")


def test_a_long_formula_ends_with_an_ellipsis(searching: Overview) -> None:
    (line,) = [line for line in table(searching, 80) if "formula" in line]
    start = line.index("formula") + 11
    assert line.endswith("…")
    assert FORMULA.startswith(line[start:-1])


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("x + y", 5, "x + y"), ("x + y", 4, "x +…"), ("x + y", 1, "…"), ("x + y", 0, ""), ("界界", 3, "界…")],
)
def test_a_cut_text_is_as_wide_as_it_may_be(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.4, "1 core-seconds"), (182.0, "3.0 core-minutes"), (9000.0, "2.5 core-hours")]
)
def test_the_cost_is_said_in_a_unit_that_fits(seconds: float, text: str) -> None:
    assert core_time(seconds) == text


def test_the_bar_is_that_of_births_of_minutes_or_of_the_final_table(searching: Overview) -> None:
    def filled(view: Overview) -> float:
        line = table(view, 134)[1]
        return line.count("█") / (line.count("█") + line.count("░"))

    assert filled(searching) == 3 / 20
    passed = replace(searching.status, seconds_passed=45.0)
    assert filled(replace(searching, minutes=1.0, status=passed)) == 0.75
    retrained = replace(searching.status, retrained=3, retrainings=12)
    assert filled(replace(searching, status=retrained, activity="retraining the best")) == 0.25


def test_no_color_is_respected(searching: Overview, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = {"force_terminal": True, "color_system": "auto"}
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert COLOURS.search("\n".join(table(searching, 80, **terminal)))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOURS.search("\n".join(table(searching, 80, **terminal)))


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
