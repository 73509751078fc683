"""`evaluate` and `runs` on the command line, and how their tables fit a terminal."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evonas.cli.layers import layer_table
from evonas.cli.main import app
from evonas.report.latex_table import latex_table
from evonas.retraining import figures
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store.records import Figures
from evonas.studies.evaluate import Judgement
from evonas.units import Units
from evonas.views import LayerRow, layer_row
from tests.conftest import TINY
from tests.evonas.search_cases import FakePool, configured, searched

FIGURES = Figures(3, 0, {"resnet": (0.5, 0.1), "mobilenet": (0.25, 0.05)}, 0.0125, 0.002, 3)


def test_every_part_of_a_cut_table_names_its_rows() -> None:
    table = layer_table([layer_row(text, FIGURES) for text in ("x / std_hw(x)", "x")], ["resnet", "mobilenet"])
    lines = [line for line, _ in table.lines(60)]
    assert all(len(line) <= 60 for line in lines)
    rows = [line.split() for line in lines if line.split()[:1] in (["1"], ["2"])]
    assert len(rows) >= 4  # two layers in at least two parts
    assert [row[0] for row in rows] == ["1", "2"] * (len(rows) // 2)
    whole = " ".join(line for line, _ in table.lines(None))
    for cell in ("0.500 ±0.100", "+1.2 ±0.2 (3)", "x / std_hw(x)"):
        assert cell in whole


@pytest.mark.parametrize(
    ("failed_with", "table", "text", "page"),
    [
        ((), "+20.0 ±10.0 (3)", "with 3 fresh seeds", "& 3 &"),
        ((2,), "+15.0 ±7.1 (2 of 3)", "with 2 of 3 ", "& 2 of 3 &"),
    ],
)
def test_the_seeds_beside_a_difference_are_those_that_it_has(
    failed_with: tuple[int, ...], table: str, text: str, page: str
) -> None:
    """With 3 seeds a layer leads BN-ReLU by 10, 30 and 20 points; BN-ReLU failed with none of them, or with the second:
    then the mean is that of 10 and 20, of standard deviation 50 ** 0.5."""
    mine = {seed: {"vgg": 0.5 + lead} for seed, lead in ((1, 0.1), (2, 0.3), (3, 0.2))}
    baseline = {seed: None if seed in failed_with else {"vgg": 0.5} for seed in mine}
    measured = figures(mine, baseline, Units(("vgg",)))
    assert (measured.seeds, measured.failed, measured.paired) == (3, 0, 3 - len(failed_with))
    row = layer_row("x", measured, 7)
    assert table in " ".join(line for line, _ in layer_table([row], ["vgg"]).lines(None))
    assert text in repr(Judgement("x", Graph.parse("x"), measured, 1.0))
    assert page in latex_table([replace(row, known_as="SiLU")], ["vgg"])


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


def test_runs_lists_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    searched(tmp_path / "a", configured(TINY, births=5), FakePool(1))
    monkeypatch.chdir(tmp_path)  # the whole path may be wider than the table
    answer = CliRunner().invoke(app, ["runs", "."])
    title, row = answer.stdout.splitlines()
    assert title.split() == ["run", "state", "births", "trained", "best", "birth", "started"]
    assert row.split()[:3] == ["a", "dead", "5"]
    (line,) = json.loads(CliRunner().invoke(app, ["runs", ".", "--json"]).stdout)
    assert (line["state"], line["births"], line["best"]) == ("dead", 5, None)


def test_a_table_of_two_proxies_with_fresh_seeds_is_one_part_at_80_columns() -> None:
    accuracy = {"mobilenet": (0.714, 0.004), "resnet": (0.671, 0.052)}
    fresh = LayerRow(1667, "tanh(x + mean_chw(v0))", accuracy, -0.125, 0.053, 2, 0, True, "1459")
    one_seed = LayerRow(17, "tanh(x)", {"mobilenet": (0.7, None), "resnet": (0.6, None)}, 0.0, None, 1, 0, False, "9")
    table = layer_table([fresh, one_seed], list(accuracy))
    lines = [line for line, _ in table.lines(80)]
    assert "" not in lines  # no second part
    assert all(len(line) <= 80 for line in lines)
    assert any("-12.5 ±5.3 (2)" in line for line in lines)
    assert any("+0.0 (1)" in line and line.endswith("tanh(x)") for line in lines)


def test_each_kind_of_rows_names_its_baseline() -> None:
    accuracy: dict[str, tuple[float, float | None] | None] = {"resnet": (0.5, None)}
    rows = [LayerRow(None, "BN-ReLU", accuracy, 0.0, None, 2, 0, fresh, "") for fresh in (True, False)]
    table = layer_table([*rows, replace(rows[1], birth=1)], ["resnet"])
    for width in (None, 80):
        both = [line for line, _ in table.lines(width)]
        layers = ["formula", "BN-ReLU, fresh seeds", "", "BN-ReLU, in the search", "BN-ReLU"]
        assert [line.split("  ")[-1] for line in both] == layers  # a blank line between the two kinds
    alone = [line for line, _ in layer_table([rows[0], replace(rows[0], birth=1)], ["resnet"]).lines(None)]
    assert alone[1].endswith("  BN-ReLU")
