"""`evaluate` and `runs` on the command line, and how their tables fit a terminal."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evonas.cli.evaluate import _table
from evonas.cli.main import app
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store.records import Figures
from evonas.studies.evaluate import Judgement
from tests.conftest import TINY
from tests.evonas.search_cases import FakePool, configured, searched

FIGURES = Figures(3, 0, {"resnet": (0.5, 0.1), "mobilenet": (0.25, 0.05)}, 0.0125, 0.002)


def test_every_part_of_a_cut_table_names_its_rows() -> None:
    judgements = [Judgement(text, Graph.parse(text), FIGURES, 316.2) for text in ("x / std_hw(x)", "x")]
    lines = [line for line, _ in _table(judgements, ["resnet", "mobilenet"]).lines(60)]
    assert all(len(line) <= 60 for line in lines)
    rows = [line.split() for line in lines if line.split()[:1] in (["1"], ["2"])]
    assert len(rows) >= 4  # two layers in at least two parts
    assert [row[0] for row in rows] == ["1", "2"] * (len(rows) // 2)
    whole = " ".join(line for line, _ in _table(judgements, ["resnet", "mobilenet"]).lines(None))
    for cell in ("0.500 ±0.100", "+1.2 ±0.2 (3)", "316", "x / std_hw(x)"):
        assert cell in whole


def test_evaluate_prints_what_python_answers(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "gates": ["depends_on_x"]}))
    answer = CliRunner().invoke(app, ["evaluate", "v0 * v1", str(path), "--seeds", "1", "--json"])
    assert answer.exit_code == 0
    told = {row["layer"]: row for row in json.loads(answer.stdout)}
    assert set(told) == {"BN-ReLU", "v0 * v1"}
    assert told["v0 * v1"]["stopped_by"]["gate"] == "depends_on_x"
    assert told["v0 * v1"]["seeds"] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "tiny.yaml"], "expected a layer and a config"),
        (["evaluate", "x / stdhw(x)", "tiny.yaml"], "did you mean 'std_hw'"),
        (["noise", "tiny.yaml", "--layer", "x + y"], "--layer .*two inputs"),
        (["runs", "nowhere"], "no such folder"),
    ],
)
def test_bad_input_is_told(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_runs_lists_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    searched(tmp_path / "a", configured(TINY, births=5), FakePool(1))
    answer = CliRunner().invoke(app, ["runs", str(tmp_path)])
    title, row = answer.stdout.splitlines()
    assert title.split() == ["run", "state", "births", "trained", "best", "birth", "started"]
    assert row.split()[:3] == [str(tmp_path / "a"), "dead", "5"]
    (line,) = json.loads(CliRunner().invoke(app, ["runs", str(tmp_path), "--json"]).stdout)
    assert (line["state"], line["births"], line["best"]) == ("dead", 5, None)
