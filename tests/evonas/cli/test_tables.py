"""Tables in terminals of any width and in pipes: no column, no title and no cell is ever cut."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evonas.cli.tables import Column, TextTable, duration, figure_text

FORMULA = "x * sigmoid(v1 * x) / max(std_bhw(v0 + x * x), sqrt(mean_ghw(exp(v1 * x)) + rms_hw(log(v0 * x))))"


def shown(table: TextTable, width: int | None, encoding: str = "utf-8") -> list[str]:
    """The lines in a terminal of so many columns, or in a pipe."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    terminal = {"force_terminal": True, "width": width} if width else {"width": 10_000}
    Console(file=file, color_system=None, **terminal).print(table)  # type: ignore[arg-type]
    file.seek(0)
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in file.read().splitlines()]


def example() -> TextTable:
    table = TextTable(
        Column("gate", is_key=True),
        Column("saved at most", is_number=True),
        Column("formula", folds=True),
    )
    table.add("stability", "3 s", FORMULA)
    table.add("fit", "12 min 04 s", "x")
    return table


def test_a_wide_terminal_has_one_line_a_row() -> None:
    assert shown(example(), 140) == [
        "gate       saved at most  formula",
        f"stability            3 s  {FORMULA}",
        "fit          12 min 04 s  x",
    ]


def test_a_narrow_terminal_folds_the_formula_and_nothing_else() -> None:
    lines = shown(example(), 60)
    assert lines[0] == "gate       saved at most  formula"
    assert lines[1] == "stability            3 s  x * sigmoid(v1 * x) /"
    assert lines[-1] == "fit          12 min 04 s  x"
    assert " ".join(line[26:] for line in lines[1:-1]) == FORMULA


def test_titles_take_lines_where_that_saves_width() -> None:
    lines = shown(example(), 45)
    assert lines[:2] == ["              saved at", "gate              most  formula"]
    assert lines[2] == "stability          3 s  x * sigmoid(v1 * x) /"


def test_what_does_not_fit_is_cut_into_parts_with_the_key() -> None:
    table = TextTable(Column("gate", is_key=True), *(Column(f"number {i}", is_number=True) for i in range(5)))
    table.add("stability", *(str(10**i) for i in range(5)))
    table.add("fit", *"12345")
    assert shown(table, 26) == [
        "           number  number",
        "gate            0       1",
        "stability       1      10",
        "fit             1       2",
        "",
        "           number  number",
        "gate            2       3",
        "stability     100    1000",
        "fit             3       4",
        "",
        "gate       number 4",
        "stability     10000",
        "fit               5",
    ]


def test_what_is_wider_than_the_terminal_goes_on_below() -> None:
    table = TextTable(Column("a"))
    table.add("0123456789")
    assert shown(table, 4) == ["a", "0123", "4567", "89"]


def test_a_pipe_has_one_line_a_row_without_padding() -> None:
    table = TextTable(Column("name", is_key=True), Column("formula", folds=True))
    table.add("long", FORMULA * 30)
    table.add("two lines", "a = x\na * a")
    assert shown(table, None) == ["name       formula", f"long       {FORMULA * 30}", "two lines  a = x a * a"]


def test_prose_is_folded_in_a_pipe_too() -> None:
    table = TextTable(Column("name", is_key=True), Column("reason", folds=True, is_prose=True))
    table.add("long", "word " * 60)
    lines = shown(table, None)
    assert max(map(len, lines)) <= 120
    assert " ".join(line[6:] for line in lines[1:]) == " ".join(["word"] * 60)


def test_ascii_keeps_the_columns_below_each_other() -> None:
    table = TextTable(Column("a"), Column("b"))
    table.add("0.1 ±0.2", "x")
    table.add("0.1", "y")
    assert shown(table, 80, "ascii") == ["a          b", "0.1 +-0.2  x", "0.1        y"]


WORDS = st.text("abc ", max_size=14).map(lambda text: " ".join(text.split()) or "-")


@given(
    st.lists(st.tuples(WORDS, st.booleans()), min_size=1, max_size=9),
    st.lists(st.lists(WORDS, min_size=10, max_size=10), max_size=4),
    st.integers(1, 2),
    st.integers(64, 130),
)
def test_every_title_and_cell_is_there_at_any_width(
    titles: list[tuple[str, bool]], rows: list[list[str]], keys: int, width: int
) -> None:
    columns = [Column(title, is_number=right, is_key=i < keys) for i, (title, right) in enumerate(titles)]
    table = TextTable(*columns, Column("formula", folds=True))
    cells = [[f"{i}:{cell}" for i, cell in enumerate(row[: len(titles)])] for row in rows]
    for row in cells:
        table.add(*row, FORMULA)
    lines = shown(table, width)
    for cell in (cell for row in cells for cell in row):
        assert any(cell in line for line in lines)
    words = [word for line in lines for word in line.split()]
    for title, _ in titles:
        assert set(title.split()) <= set(words)
    assert all(len(line) <= width for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_a_table_without_rows_is_its_titles() -> None:
    assert shown(TextTable(Column("a"), Column("b")), 80) == ["a  b"]


def test_a_folded_column_is_the_last_one() -> None:
    with pytest.raises(AssertionError, match="last"):
        TextTable(Column("formula", folds=True), Column("a"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7260, "2 h 01 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_accuracies_have_their_spread() -> None:
    assert figure_text(None) == "-"
    assert figure_text((0.5, None)) == "0.500"
    assert figure_text((0.5, 0.0125)) == "0.500 ±0.013"
