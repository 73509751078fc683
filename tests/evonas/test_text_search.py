"""A search in a language model and a vision transformer: its baseline, its figures in bits per byte, its split."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import evonas
from evonas.cli.main import app
from evonas.config import Config
from evonas.config_file import dump_config, parse_config
from evonas.report.run_view import document
from evonas.report.texts import accuracy_text, figure_text
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
    assert f"gpt {bits}" in show
    assert "to LayerNorm" in top
    assert "points against LayerNorm" in show
    assert "points against LayerNorm" in status
    assert "BN-ReLU" not in top + show + status
    assert r"\Delta$ LayerNorm" in invoke("top", folder, "--latex")
    assert json.loads(invoke("top", folder, "--json"))["top"][0]["accuracy"]["gpt"] < 2**-3  # what is recorded


def test_a_page_knows_the_baseline_and_what_is_in_bits(run: evonas.Run) -> None:
    (view,) = document(run)["runs"]
    assert view["baseline"]["name"] == "LayerNorm"
    assert view["in_bits"] == ["gpt"]
    assert "20000 bytes of embedded and 256 images of embedded" in " ".join(view["summary"])


def test_a_figure_in_bits_is_that_of_the_mean_and_its_spread_to_first_order() -> None:
    """d(-log2 p) = dp / (p ln 2)."""
    assert figure_text((0.25, None), in_bits=True) == "2.000"
    assert figure_text(None, in_bits=True) == "-"
    assert figure_text((0.0, 0.0), in_bits=True) == "inf"  # a likelihood that vanished
    mean, spread = 0.08, 1e-4
    both = bits_per_byte(mean - spread), bits_per_byte(mean + spread)
    assert figure_text((mean, spread), in_bits=True) == accuracy_text((bits_per_byte(mean), (both[0] - both[1]) / 2))
    assert figure_text((0.25, 0.5)) == accuracy_text((0.25, 0.5))


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
