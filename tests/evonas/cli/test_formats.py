"""Layers as CSV and LaTeX, from every command that lists some, and as a data frame."""

import csv
import io
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest

from evonas.listing import columns_of
from evonas.report.latex_table import escaped, latex_table
from evonas.run import Run, open_run
from evonas.search_space.catalog import LAYERS, ModuleLayer
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex
from evonas.search_space.primitives import PRIMITIVES
from evonas.views import LayerRow
from tests.conftest import ROOT
from tests.evonas.cli.cases import Command

OLD = ROOT / "tests" / "evonas" / "databases" / "0003.db"
LISTINGS = {
    "top": ("top", "RUN", "--all", "-n", "100"),
    "find": ("find", "RUN", "--uses", "add", "-n", "100"),
    "show": ("show", "RUN", "22"),
    "show rejected": ("show", "RUN", "1"),
    "lineage": ("lineage", "RUN", "22"),
}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(shutil.copy(OLD, tmp_path_factory.mktemp("old") / "run.db"))


def records(run: Run, name: str) -> list[Any]:
    of: dict[str, Any] = {
        "top": lambda: run.top(100, every=True),
        "find": lambda: run.find("add", n=100),
        "show": lambda: [run.candidate(22)],
        "show rejected": lambda: [run.candidate(1)],
        "lineage": lambda: run.lineage(22),
    }
    return list(of[name]())


@pytest.mark.parametrize("name", LISTINGS)
def test_csv_has_a_row_for_each_layer_with_the_values_of_python(name: str, command: Command, old: Run) -> None:
    words = [old.reference if word == "RUN" else word for word in LISTINGS[name]]
    answer = command(*words, "--csv")
    assert (answer.code, answer.err) == (0, "")
    rows, mine = list(csv.DictReader(io.StringIO(answer.out))), records(old, name)
    assert len(answer.lines) == 1 + len(rows)  # a formula is no line break
    assert [int(row["birth"]) for row in rows] == [each.birth for each in mine]
    for row, record in zip(rows, mine, strict=True):
        assert list(row) == columns_of(old.config.units)
        assert Graph.parse(row["graph"]) == Graph.parse(record.graph)
        figures = record.figures
        assert row["seeds"] == ("" if figures is None else str(figures.seeds))
        for proxy in old.config.proxies:
            accuracy = figures.accuracy[proxy][0] if figures else None
            assert row[f"accuracy_{proxy}"] == ("" if accuracy is None else repr(accuracy))
    frame = old.to_frame(mine)
    told = pandas.read_csv(io.StringIO(answer.out))
    assert list(told.columns) == list(frame.columns)
    for column in ("birth", "difference", "live_nodes", "seconds"):
        assert told[column].tolist() == pytest.approx(frame[column].astype(float).tolist(), nan_ok=True)


@pytest.mark.parametrize("name", LISTINGS)
def test_latex_has_a_line_of_as_many_cells_for_each_layer(name: str, command: Command, old: Run) -> None:
    words = [old.reference if word == "RUN" else word for word in LISTINGS[name]]
    answer = command(*words, "--latex")
    assert (answer.code, answer.err) == (0, "")
    if name in ("top", "find"):
        assert answer.out == old.latex(records(old, name)) + "\n"
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", answer.out)
    body = [line for line in answer.lines if line.endswith(r" \\") and r"\multicolumn" not in line]
    cells = [re.sub(r"\$[^$]*\$", "MATH", line).removesuffix(r" \\").split(" & ") for line in body]
    assert {len(each) for each in cells} == {len(columns)}
    births = [each[0] for each in cells[1:] if each[0]]
    assert births == [str(each.birth) for each in records(old, name)]
    for each in records(old, name):
        formula = " ".join(latex(Graph.parse(each.formula)).splitlines())
        assert f"${formula}$" in answer.out.replace(r"\begin{aligned}[t]", r"\begin{aligned}")
    assert [answer.out.count(each) for each in (r"\toprule", r"\bottomrule", r"\end{tabular}")] == [1, 1, 1]
    assert re.sub(r"\\[{}]", "", answer.out).count("{") == re.sub(r"\\[{}]", "", answer.out).count("}")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("my_net & 50 %", r"my\_net \& 50 \%"),
        ("a#b$c", r"a\#b\$c"),
        ("{x}", r"\{x\}"),
        ("a\\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("[2pt] a<b|c>", r"{[}2pt] a\textless{}b\textbar{}c\textgreater{}"),  # else an option of the line before
        ("*a", "{*}a"),  # else a part of its end
    ],
)
def test_a_name_is_escaped_character_by_character(text: str, written: str) -> None:
    assert escaped(text) == written
    row = LayerRow(None, "BN-ReLU", {text: (0.5, 0.25)}, 0.125, 0.0625, 3, 0, True, "", run=text)
    table = latex_table([row, LayerRow(7, "x", {text: None}, None, None, 2, 1, False, "")], [text])
    assert f"Run & Birth & {written} & $\\Delta$ BN-ReLU & Seeds & Layer" in table
    assert rf"{written} &  & $0.500 \pm 0.250$ & $+12.5 \pm 6.2$ & 3 & BN-ReLU \\" in table
    assert r" & 7 & -- & failed 1/2 & 2 & $x$ \\" in table


DOCUMENT = r"""\documentclass{article}
\usepackage{amsmath}
\IfFileExists{booktabs.sty}{\usepackage{booktabs}}{\let\toprule\hline\let\midrule\hline\let\bottomrule\hline}
\begin{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    """Every formula of the catalog, every primitive, names of any letters, and a table of all signs of ASCII."""
    letters = ("λ_1 = scalar(1)\nλ_1 * x", "Ωé = vector(1)\nΩé * x", "θ = scalar(1)\nsqrt(θ * x)")
    graphs = [*LAYERS.graphs.values(), *map(Graph.parse, letters)]
    graphs += [Graph.parse(f"{op}(x{', v1' * (row.arity - 1)})") for op, row in PRIMITIVES.items()]
    formulas = [latex(each) for each in graphs]
    formulas += [row.latex for row in LAYERS.values() if isinstance(row, ModuleLayer)]
    signs = "".join(map(chr, range(32, 127))) + "éσ"
    first = LayerRow(None, "BN-ReLU", {signs: (0.5, 0.25)}, 0.125, 0.0625, 3, 0, True, "", run=signs)
    rows = [LayerRow(1, each.formula, {signs: None}, None, None, 2, 1, False, "", signs) for each in graphs]
    body = "\n\n".join(f"${each}$\n\\[{each}\\]" for each in formulas)
    document = f"{DOCUMENT}{body}\n\n{latex_table([first, *rows], [signs])}\n\\end{{document}}\n"
    (tmp_path / "all.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout


def test_no_layer_is_a_header_alone(command: Command, old: Run) -> None:
    arguments = ("find", old.reference, "--uses", "exp")
    assert command(*arguments, "--csv").out == ",".join(columns_of(old.config.units)) + "\n"
    assert command(*arguments, "--json").out == "[]\n"
    assert command(*arguments).lines[-3] == "No survivor matches."


def test_a_frame_has_every_candidate_and_its_own_types(old: Run) -> None:
    frame = old.to_frame()
    assert frame.birth.tolist() == list(range(1, 31))
    by_state = frame.groupby("state").size().to_dict()
    assert by_state == old.status().by_state
    for record in old.top(100, every=True):
        row = frame[frame.birth == record.birth].iloc[0]
        assert record.figures is not None
        assert (row.fresh, row.seeds) == (record.retrained is not None, record.figures.seeds)
        assert row.difference == record.figures.difference
        assert row.live_nodes == record.live_nodes
    assert all(math.isnan(each) for each in frame.difference[frame.state == "rejected"])


def test_without_pandas_a_frame_is_one_clear_line(old: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"to_frame needs pandas: pip install 'evonas\[pandas\]'"):
        old.to_frame()


def test_records_are_a_list_shown_a_line_each_and_as_a_table(old: Run) -> None:
    found = old.top(2)
    assert found == list(found)
    assert repr(found) == "\n".join(map(repr, found))
    shown = found._repr_html_()
    assert shown.count("<tr>") == 3
    assert all(f"<td>{each.birth}</td>" in shown for each in found)
    line = old.lineage(22)  # whose first members a gate stopped
    table = re.findall(r"<tr>(.*?)</tr>", line._repr_html_())
    assert len({each.count("<td>") + each.count("<th>") for each in table}) == 1
    assert len(table) == 1 + len(line)
    assert (repr(old.find("exp")), old.find("exp")._repr_html_()) == ("<no candidate>", "<p>no candidate</p>")


def test_a_stored_run_answers_by_folder_file_and_url(command: Command, old: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(old.reference, folder / "run.db")
    answers = [
        command("top", place, "--csv").out.replace(place, "RUN")
        for place in map(str, (folder, folder / "run.db", f"sqlite:///{folder}/run.db"))
    ]
    assert len(answers[0].splitlines()) > 2
    assert answers[0] == answers[1] == answers[2]
