"""A search in a language model and a vision transformer: its baseline, its figures in bits per byte, its split."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import evonas
from evonas.cli.display import print_end
from evonas.cli.main import app
from evonas.config import Config
from evonas.config_file import dump_config, parse_config
from evonas.report.run_view import document
from evonas.search_space.errors import InputError
from evonas.store.records import Purpose
from evonas.workers.outcome import bits_per_byte
from tests.conftest import TINY

TEXT: dict[str, Any] = {
    **copy.deepcopy(TINY),
    "name": "text",
    "space": {"index_sets": ["c"], "nodes": 4},
    "text": {"train": 20_000, "validation": 500, "test": 500, "context": 16},
    "recipe": {"batch_size": 8, "steps": 6, "learning_rate": 0.01, "optimizer": "adamw", "clip": 1.0},
    "baseline": "LayerNorm",
    "proxies": {
        "gpt": {"architecture": "gpt", "width": 16, "depth": 1, "heads": 2},
        "vit": {"architecture": "vit", "width": 16, "depth": 1, "heads": 2},
    },
    "gates": ["depends_on_x", "finite", {"quality": {"steps": 3, "of_baseline": 0.1}}],
    "evolution": {"births": 5, "population": 4, "warm_start": ["RMSNorm", "DyT"], "rerank": {"top": 1, "seeds": 2}},
}
# DyT's scalar is a leaf of the space
TEXT["space"] = {"index_sets": ["c"], "nodes": 4, "leaves": ["x", "zero", "v0", "v1", "scalar(0.5)"]}
TEXT["space"]["primitives"] = ["add", "mul", "div", "max", "neg", "sigmoid", "tanh"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> evonas.Run:
    return evonas.search(TEXT, run=tmp_path_factory.mktemp("text") / "run", progress=False)


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_layers_are_compared_with_the_configs_baseline(run: evonas.Run) -> None:
    evaluations = run.reader.evaluations(Purpose.BASELINE)
    assert {each.name for each in evaluations} == {"LayerNorm"}
    rows = run.final_table()
    (baseline,) = (row for row in rows if row.name == "LayerNorm")
    assert baseline.difference == 0.0
    assert all(row.difference is not None for row in rows if not row.failed)
    assert {row.baseline for row in run.rows(run.top(3))} == {"LayerNorm"}
    assert run.baseline().keys() == {"gpt", "vit"}


def test_a_run_replays_and_its_test_text_is_opened_by_validate_alone(run: evonas.Run) -> None:
    assert run.replay() == []
    assert run.validated() == set()
    rows = evonas.validate(run.reference)
    assert {row.name for row in rows if row.name} == {"LayerNorm"}
    assert run.validated()


def test_tables_show_bits_per_byte_and_the_baseline(run: evonas.Run) -> None:
    folder = str(run.reference)
    top, show, status = invoke("top", folder), invoke("show", folder, "1"), invoke("status", folder)
    accuracy = run.candidate(1).accuracy["gpt"]
    bits = f"{bits_per_byte(accuracy):.3f}"
    assert 3 < bits_per_byte(accuracy) < 9
    assert f"accuracy, on gpt bits per byte gpt {bits}" in show
    assert "to LayerNorm" in top
    assert "points of fitness against LayerNorm" in show
    assert "points of fitness against LayerNorm" in status
    assert "BN-ReLU" not in top + show + status
    assert r"\Delta$ LayerNorm" in invoke("top", folder, "--latex")


def test_each_proxy_has_its_unit_and_a_mean_over_both_kinds_is_a_fitness(
    run: evonas.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    print_end(run, Path("absent"))
    told = " ".join(capsys.readouterr().out.split())
    assert "validation accuracy, on gpt bits per byte, mean ± standard deviation over seeds" in told
    assert "difference in points of fitness (accuracy, or of text 2^-bits), mean over proxies" in told
    (first, *_) = json.loads(invoke("top", str(run.reference), "--json"))["top"]
    record = run.candidate(first["birth"])
    assert first["accuracy"] == {"vit": record.accuracy["vit"]}
    assert first["bits_per_byte"] == {"gpt": pytest.approx(bits_per_byte(record.accuracy["gpt"]))}
    assert record.figures
    assert first["retrained"]["difference"] == record.figures.difference  # a fitness, as it is recorded
    for row in run.final_table():
        for proxy, bits in (("gpt", True), ("vit", False)):
            figure, recorded = row.shown.values[proxy], row.accuracy[proxy]
            assert figure
            assert recorded
            assert figure[0] > 2 if bits else figure == recorded


def test_a_study_of_both_kinds_says_what_each_column_is(run: evonas.Run) -> None:
    told = " ".join(invoke("validate", str(run.reference), "--steps", "4", "--seeds", "2").split())
    assert "test accuracy, on gpt bits per byte on" in told
    assert "mean: over the proxies, of accuracy and 2^-(bits per byte)" in told
    points = "points of fitness (accuracy, or of text 2^-bits) for the mean"
    assert f"Differences in {points}, on gpt in bits per byte, on others in points of accuracy, with" in told


def test_a_page_knows_the_baseline_and_what_is_in_bits(run: evonas.Run) -> None:
    (view,) = document(run)["runs"]
    assert view["baseline"]["name"] == "LayerNorm"
    assert view["in_bits"] == ["gpt"]
    assert "20000 bytes of embedded and 256 images of embedded" in " ".join(view["summary"])


# --------------------------------------------------------------------------- the config


def test_a_plain_config_has_no_trace_of_text_and_baseline(tiny: dict[str, Any]) -> None:
    config = parse_config(json.dumps(tiny))
    assert config.baseline == "BN-ReLU"
    assert not {"text", "baseline"} & config.model_dump(mode="json").keys()
    assert parse_config(dump_config(config)) == config


def test_a_config_of_text_round_trips() -> None:
    config = parse_config(json.dumps(TEXT))
    assert parse_config(dump_config(config)) == config
    assert config.in_bits == ("gpt",)
    assert config.protocol.used_data == (config.text, config.data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"baseline": "LayerNrm"},
            "baseline: no graph 'LayerNrm' of one input in the catalog; did you mean 'LayerNorm'",
        ),
        ({"baseline": "nGPT"}, "baseline: no graph 'nGPT' of one input"),
        ({"space": {"index_sets": ["c", "hw"]}}, "space.index_sets: over hw a layer sees the bytes after a position"),
        ({"proxies": {"gpt": {"architecture": "gpt", "heads": 3}}}, "heads: 3 do not divide the width, 64"),
        ({"proxies": {"vit": {"architecture": "vit", "width": 6, "heads": 2}}}, "width: expected a multiple of 4"),
        (
            {"proxies": {"gpt": {"architecture": "gpt", "dual_patch_norm": True}}},
            "proxies.gpt.dual_patch_norm: unknown key; expected one of",
        ),
        (
            {"proxies": {"gpt": {"architecture": "gpt", "placement": "deep_norm"}}},
            "proxies.gpt.placement: expected .* got 'deep_norm'; did you mean 'deepnorm'",
        ),
        (
            {"proxies": {"gpt": {"architecture": "gpt", "placement": "ngpt", "gpas": True}}},
            "proxies.gpt.gpas: true, but the stream of placement ngpt is normalised",
        ),
    ],
)
def test_a_config_that_cannot_be_is_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_config(json.dumps({**TEXT, **change}))
    assert "\n" not in str(caught.value)


def test_a_vit_alone_may_reduce_over_its_tokens() -> None:
    vit = {"vit": TEXT["proxies"]["vit"]}
    config = parse_config(json.dumps({**TEXT, "proxies": vit, "space": {"index_sets": ["c", "hw", "chw", "ghw"]}}))
    assert config.in_bits == ()


def test_runs_with_several_baselines_are_no_one_ranking(run: evonas.Run, tmp_path: Path) -> None:
    other = evonas.search({**TEXT, "baseline": "RMSNorm"}, run=tmp_path / "other", progress=False)
    compared = evonas.compare([run, other])
    assert not compared.is_one_ranking
    assert "LayerNorm or RMSNorm" in compared.text
    assert Config.model_validate_json(other.config.model_dump_json()) == replace_baseline(run.config)


def replace_baseline(config: Config) -> Config:
    return config.model_copy(update={"baseline": "RMSNorm"})
