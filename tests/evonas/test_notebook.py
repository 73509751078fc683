"""Graphs, candidates and runs as Python and a notebook show them."""

import re
import sys
from base64 import b64decode
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from evonas.progress import ProgressBar
from evonas.report.picture import draw
from evonas.run import Run, open_run
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex
from evonas.session import Session
from tests.conftest import TINY
from tests.evonas.search_cases import FakePool, configured, history_of, searched
from tests.evonas.store_cases import new_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("notebook")
    searched(folder, configured(TINY, births=30), FakePool(1))
    return open_run(folder)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x / std_hw(x)", "<Graph x / std_hw(x)>"),
        ("dead = exp(x)\na = scalar(0.5)\ntanh(a * x)", "<Graph a = scalar(0.5); tanh(a * x) (1 dead node)>"),
    ],
)
def test_a_graph_is_shown_by_its_formula(text: str, shown: str) -> None:
    graph = Graph.parse(text)
    assert repr(graph) == shown
    assert graph._repr_latex_() == rf"$\displaystyle {latex(graph)}$"


@pytest.mark.parametrize("text", ["x / std_hw(x)", "max(x, zero)"])
def test_a_graph_is_shown_with_its_picture(text: str, tmp_path: Path) -> None:
    graph = Graph.parse(text)
    shown = graph._repr_html_()
    assert f"<p>${latex(graph)}$</p>" in unescape(shown)
    (picture,) = re.findall(r"data:image/svg\+xml;base64,([^\"]*)", shown)
    draw(graph, tmp_path / "layer.svg")
    assert b64decode(picture) == (tmp_path / "layer.svg").read_bytes()


def test_without_a_painter_the_formula_is_shown_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evonas.search_space.picture.svg", None)
    assert Graph.parse("x / v1")._repr_html_() == r"<div><p>$\frac{x}{v_1}$</p></div>"


def test_a_candidate_is_shown_with_its_formula_and_its_picture(run: Run, tmp_path: Path) -> None:
    record = run.top(1)[0]
    shown = record._repr_html_()
    assert unescape(shown).count(repr(record)[1:-1]) == 1
    assert f"${latex(Graph.parse(record.graph))}$" in unescape(shown)
    (picture,) = re.findall(r"data:image/svg\+xml;base64,([^\"]*)", shown)
    draw(Graph.parse(record.graph), tmp_path / "layer.svg")
    assert b64decode(picture) == (tmp_path / "layer.svg").read_bytes()
    assert ElementTree.fromstring(b64decode(picture)).tag.endswith("svg")


def test_a_run_is_shown_with_its_best_few(run: Run) -> None:
    shown = unescape(run._repr_html_())
    assert repr(run)[1:-1] in shown
    assert shown.count("<img ") == 3
    assert all(repr(each)[1:-1] in shown for each in run.top(3))


def test_a_bar_tells_the_time_left(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    config = configured(tiny, births=100)
    history = history_of(config, (0.5, 0.5), (0.6, 0.6))
    history.full_seconds.clear()
    history.full_seconds.append(10.0)
    bar = ProgressBar()
    new_run(tmp_path / "run", config).close()
    bar.started(open_run(tmp_path / "run"), history, Session(FakePool(2)))
    assert (bar.seconds_left() or 0.0) >= 30.0  # the final table alone: BN-ReLU and 2 layers with 2 seeds on 2 workers
    bar.progress(history)
    bar.reranked(5, 6)
    assert bar.seconds_left() == pytest.approx(10.0 / 2)
    bar.ended()
    written = terminal.getvalue()
    assert "tiny:" in written
    assert "2 trained, best +50.0 points" in written
    assert "about 00:05 left" in written
