"""The amplification of candidates that older versions of evonas did not measure, and of layers that ignore x."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import evonas
from evonas.cli.query import amplification_text
from evonas.layers.fragility import fragility
from evonas.search_space.graph import Graph
from evonas.search_space.screening import amplifications
from tests.conftest import ROOT
from tests.evonas.cli.cases import Command

OLD = ROOT / "tests" / "evonas" / "databases" / "0003.db"


def test_an_older_candidate_is_measured_when_it_is_shown(command: Command, tmp_path: Path) -> None:
    run = evonas.open_run(shutil.copy(OLD, tmp_path / "run.db"))
    with closing(sqlite3.connect(tmp_path / "run.db")) as database:
        assert database.execute("SELECT count(amplification) FROM candidate").fetchone() == (0,)
    for birth in range(1, 31):
        record, of = run.candidate(birth), amplifications(run.graph(birth))
        measured = (record.amplification, record.amplification_constant, record.amplification_sample)
        assert measured == (of["position"], of["constant"], of["sample"])
    shown = command("show", tmp_path / "run.db", 1)
    assert f"amplification: {amplification_text(run.candidate(1), run.graph(1))}" in shown.lines
    assert any(line.startswith(f"fragility: {fragility(run.graph(1)):.3g}, ") for line in shown.lines)


def test_a_layer_that_ignores_x_amplifies_nothing(tmp_path: Path) -> None:
    record = evonas.open_run(shutil.copy(OLD, tmp_path / "run.db")).candidate(1)
    assert amplification_text(record, Graph.parse("tanh(v1)")) == "none, for the output does not depend on x"
    assert amplification_text(record, Graph.parse("tanh(x)")).endswith(" of one sample")
