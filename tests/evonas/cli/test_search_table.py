"""The table of a search, in terminals of any width."""

import re
from dataclasses import replace

import pytest

import evonas
from evonas.cli.search_table import cut
from evonas.overview import Overview
from evonas.rank_correlation import RankCorrelation
from evonas.report.texts import core_time, one_line
from evonas.run_state import RunState
from tests.evonas.cli.cases import LONG
from tests.evonas.cli.driven import row, table

COLOURS = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|4[0-7]|9[0-7]|[34]8;[0-9;]*)m")
FORMULA = one_line(evonas.Graph.parse(LONG).formula)
WIDTHS = (30, 48, 60, 72, 80, 100, 120, 200)


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
        replace(searching, status=replace(many, state=RunState.DEAD, run="r" * 300), activity="dead"),
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
    assert searching.leading.leader is not None
    leader = replace(searching.leading.leader, difference_spread=0.01)
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
