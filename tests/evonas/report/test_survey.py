"""The values of a report, beside those that the command line tells."""

import base64
import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

import evonas
from evonas.config import Config
from evonas.report.page import packed
from evonas.report.panels import changes, mathml, panels
from evonas.report.run_view import document
from evonas.report.survey import Survey, columns_of
from evonas.run import Run
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex
from evonas.search_space.primitives import PRIMITIVES
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.workers.outcome import Fitness
from tests.conftest import ROOT

OLD = ROOT / "tests" / "evonas" / "databases" / "0003.db"  # 30 births of a tiny config, with audits and a final table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evonas.open_run(shutil.copy(OLD, tmp_path_factory.mktemp("run") / "run.db"))


@pytest.fixture(scope="module")
def survey(run: Run) -> Survey:
    return run.survey()


def test_columns_hold_the_records(run: Run, survey: Survey) -> None:
    columns = survey.candidates
    records = run.candidates(list(range(1, len(columns.state) + 1)))
    assert len(records) == run.status().births == 30
    for place, record in enumerate(records):
        assert columns.states.names[columns.state[place]] == record.state
        assert (columns.parent[place] or None, columns.equal_to[place] or None) == (record.parent, record.equal_to)
        assert (columns.seq[place] or None, bool(columns.batch[place])) == (record.seq, record.batch_dependent)
        accuracy = record.outcome.accuracy if isinstance(record.outcome, Fitness) else {}
        for proxy, values in columns.accuracy.items():
            assert values[place] == pytest.approx(accuracy.get(proxy), abs=1e-4)
        graph = Graph.parse(record.formula)
        live = {graph.nodes[value - len(graph.leaves)].op for value in graph.live if value >= len(graph.leaves)}
        assert (
            {columns.op_names.names[ord(letter) - ord("A")] for letter in columns.ops[place]} == live <= {*PRIMITIVES}
        )


def test_gates_and_operators_count_what_the_command_line_counts(run: Run, survey: Survey) -> None:
    columns = survey.candidates
    ends = Counter(columns.stops.names[each] for each in columns.stopped)
    assert {row.gate: row.stopped for row in run.funnel().rows if row.stopped} == {k: n for k, n in ends.items() if k}
    assert [row.figures() for row in survey.funnel.rows] == [row.figures() for row in run.funnel().rows]
    assert [row.figures() for row in survey.operators] == [row.figures() for row in run.operators()]
    edits = Counter(edit for each in columns.operator for edit in columns.operators.names[each].split("+"))
    assert edits == {row.operator: row.births for row in run.operators()}


def test_ancestors_are_those_of_the_run(run: Run) -> None:
    made = panels(run)
    for each in made["panels"]:
        line = [each["birth"]]
        while parent := made["ancestors"][line[-1]]["parent"]:
            line.append(parent)
        assert line == [record.birth for record in run.lineage(each["birth"])][::-1]
        told = "".join(text for text, _ in made["ancestors"][line[0]]["changes"])
        assert told == "; ".join(run.candidate(line[0]).formula.splitlines())


def test_columns_of_some_candidates_are_those_of_the_survey(run: Run, survey: Survey) -> None:
    births = [5, 2, 30]
    some, every = columns_of(run.reader, births), survey.candidates
    for n, birth in enumerate(births):
        i = every.birth.index(birth)
        assert some.birth[n] == birth
        for name in ("parent", "equal_to", "seq", "batch", "nodes", "advantage", "seconds", "at", "formula"):
            assert getattr(some, name)[n] == getattr(every, name)[i], name
        for places, column in (("states", "state"), ("stops", "stopped"), ("operators", "operator")):
            told = [getattr(each, places).names[getattr(each, column)[k]] for each, k in ((some, n), (every, i))]
            assert told[0] == told[1]
        mine, theirs = (
            {each.op_names.names[ord(letter) - ord("A")] for letter in each.ops[k]}
            for each, k in ((some, n), (every, i))
        )
        assert mine == theirs


@pytest.mark.parametrize(
    ("parent", "child", "new"),
    [
        ("x / std_hw(x)", "x / std_bhw(x)", ["std_bhw"]),
        ("x", "x", []),
        ("tanh(x)", "tanh(x) * x", [" * x"]),
        ("x * sigmoid(x)", "sigmoid(x)", []),
    ],
)
def test_changes_mark_what_the_parent_lacks(parent: str, child: str, new: list[str]) -> None:
    parts = changes(parent, child)
    assert "".join(text for text, _ in parts) == child
    assert [text for text, is_new in parts if is_new] == new


def test_every_line_of_a_formula_is_typeset() -> None:
    text = latex(Graph.parse("n0 = mean_bhw(x)\nn0 / (n0 + x)"))
    assert text.startswith(r"\begin{aligned}")
    typeset = mathml(text)
    assert typeset.count("<math") == 2
    assert "&amp;" not in typeset and "&#x00026;" not in typeset and "aligned" not in typeset


def test_a_document_is_json_of_plain_values(run: Run) -> None:
    value = document(run)
    assert json.loads(gzip.decompress(base64.b64decode(packed(value)))) == json.loads(json.dumps(value))
    view = value["runs"][0]
    assert view["summary"][0] == "The search has ended."
    assert {each.birth for each in run.front()} <= {panel["birth"] for panel in view["panels"]}
    assert all("<math" in panel["mathml"] and panel["picture"].startswith("<?xml") for panel in view["panels"])


def test_a_run_without_a_candidate_says_so(tmp_path: Path, config: Config) -> None:
    store = Database(Address.of_file(tmp_path / "run.db", "run", tmp_path)).create(config, {})
    lines = document(tmp_path)["runs"][0]["summary"]
    store.close()
    assert lines[0] == "The search is running: these are its records so far."
    assert lines[1] == "No candidate was trained to the full budget, so nothing was found."
    assert any(line.startswith("0 candidates of ") for line in lines)
    assert document(tmp_path)["runs"][0]["summary"][0].startswith("The search has not ended and nothing drives it")


def test_a_path_that_cannot_be_written_is_refused_before_the_records_are_read(tmp_path: Path) -> None:
    with pytest.raises(evonas.InputError, match="cannot be written"):
        evonas.write_report("no such run", tmp_path / "no" / "report.html")
    with pytest.raises(evonas.InputError, match="expected at least one"):
        evonas.write_report([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
