"""Wherever a layer is named, its text and RUN#BIRTH are taken, too."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import evonas
from evonas.config import Config
from evonas.config_file import dump_config, parse_config
from evonas.config_input import load_config
from evonas.final import contenders, final_table
from evonas.layers.resolve import candidate_reference, resolve
from evonas.retraining import baselines, fresh_seeds, retrain
from evonas.run import Run, open_run
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.session import Session
from evonas.store.database import Database
from evonas.store.records import Purpose
from tests.conftest import TINY
from tests.evonas.search_cases import PASSED, FakePool, answer, answering, configured, searched

TEXT = "max(v1 * x, x) / rms_hw(x)"
FORMULA = Graph.parse(TEXT).formula


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first birth is a text of the config."""
    folder = tmp_path_factory.mktemp("resolve")
    config = configured(TINY, births=3, warm_start=[TEXT], space={"nodes": 10})
    searched(folder, config, FakePool(1, answering(PASSED)))
    return folder


def changed(tiny: dict[str, Any], **evolution: Any) -> dict[str, Any]:
    return {**tiny, "evolution": {**tiny["evolution"], **evolution}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("results/a#7", ("results/a", 7)),
        ("sqlite:///a.db#run#7", ("sqlite:///a.db#run", 7)),
        ("run.db#12345678901234567890", ("run.db", 12345678901234567890)),
        ("x  # 7", None),
        ("a\nb#7", None),
        ("EvoNorm-S0", None),
        ("#7", None),
    ],
)
def test_a_reference_ends_with_its_birth(text: str, expected: tuple[str, int] | None) -> None:
    assert candidate_reference(text) == expected


@pytest.mark.parametrize("form", ["{folder}", "{folder}/run.db", "sqlite:///{folder}/run.db#run"])
def test_a_candidate_is_its_live_graph(folder: Path, form: str) -> None:
    named = resolve(f"{form.format(folder=folder)}#1")
    assert named.name == FORMULA
    assert named.graph.digest == Graph.parse(TEXT).digest


@pytest.mark.parametrize(
    ("form", "message"),
    [("{folder}#4", "no birth 4; expected 1 to 3"), ("{folder}", "#BIRTH"), ("{folder}/none#1", "no such run")],
)
def test_a_candidate_that_is_not_there_is_bad_input(folder: Path, form: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(form.format(folder=folder))


@pytest.mark.parametrize("text", ["x#", "results/none#", "results/none#best", "x/v1#-1", "sqlite:///a.db#run#x"])
def test_a_hash_without_a_birth_is_bad_input(text: str) -> None:
    with pytest.raises(InputError, match=f"^{text}: expected RUN#BIRTH with the number of a birth"):
        resolve(text)
    assert resolve("x # the input").name == "x"


def test_a_candidate_is_a_layer(folder: Path) -> None:
    x = torch.randn(4, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.maximum(x, x) / (x.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(evonas.layer(f"{folder}#1", 8)(x), expected, atol=1e-6)


# --------------------------------------------------------------------------- configs


def test_a_loaded_config_holds_names_and_formulas_alone(folder: Path, tiny: dict[str, Any]) -> None:
    layers = ["EvoNorm-S0", TEXT, f"{folder}#1"]
    raw = changed(tiny, warm_start=layers, rerank={"baselines": layers})
    config = load_config({**raw, "space": {"nodes": 10}})
    assert config.evolution.warm_start == config.evolution.rerank.baselines == ("EvoNorm-S0", FORMULA, FORMULA)
    assert parse_config(dump_config(config)) == config  # without the run
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_a_setting_may_name_a_candidate(folder: Path, tiny: dict[str, Any]) -> None:
    config = load_config(tiny, [f"evolution.rerank.baselines=['{folder}#1']"])
    assert config.evolution.rerank.baselines == (FORMULA,)


def test_a_stored_config_opens_no_run(folder: Path, tiny: dict[str, Any]) -> None:
    """Only a person who loads a config names a run; what is stored is data."""
    with pytest.raises(InputError, match=r"evolution\.warm_start"):
        parse_config(json.dumps(changed(tiny, warm_start=[f"{folder}#1"])))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("x + y", "takes two inputs"),
        ("x / stdhw(x)", "unknown primitive 'stdhw'; did you mean 'std_hw'"),
        ("BN-RELU", "did you mean 'BN-ReLU'"),
        ("nowhere#1", "nowhere: no such run"),
    ],
)
def test_what_is_no_layer_is_told_with_its_key(tiny: dict[str, Any], layer: str, message: str) -> None:
    with pytest.raises(InputError, match=f"evolution.rerank.baselines: .*{message}"):
        load_config(changed(tiny, rerank={"baselines": [layer]}))


# --------------------------------------------------------------------------- searches


def test_a_text_of_the_config_is_the_first_birth(folder: Path) -> None:
    run = open_run(folder)
    first = run.candidate(1)
    assert (first.operator, first.parent, first.formula) == ("text", None, FORMULA)
    assert len(Graph.parse(first.graph).nodes) == 10
    assert run.replay() == []


def test_a_baseline_that_is_a_text_stands_in_the_final_table_by_its_formula(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    config = configured(tiny, births=4, rerank={"top": 1, "seeds": 2, "baselines": ["GN-ReLU", TEXT]})
    assert [each.name for each in baselines(config)] == ["BN-ReLU", "GN-ReLU", FORMULA]
    searched(tmp_path, config, FakePool(1))
    database = Database.open(tmp_path)
    store = database.own()
    chosen, seeds = contenders(database.reader()), fresh_seeds(config)
    retrain(Session(FakePool(2, answer), store), database.reader(), Purpose.RERANK, chosen, seeds)
    store.finish()
    store.close()
    reader = database.reader()
    named = {row.name: row for row in final_table(reader) if row.birth is None}
    assert set(named) == {"BN-ReLU", "GN-ReLU", FORMULA}
    assert named[FORMULA].formula == FORMULA
    again = {each.name: each.graph.digest for each in contenders(reader) if each.name}
    assert again[FORMULA] == Graph.parse(TEXT).digest
    rows = Run(reader, tmp_path).rows([])
    assert [row.what for row in rows] == ["BN-ReLU"]


# --------------------------------------------------------------------------- export


@pytest.mark.parametrize("form", [TEXT, "EvoNorm-B0", "{folder}#1"])
def test_any_layer_is_exported(folder: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / "layer.py"
    evonas.export(form.format(folder=folder), path, compiled=False)
    module: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), module)
    x = torch.randn(4, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    mine, theirs = evonas.layer(form.format(folder=folder), 8), module["EvolvedLayer"](8)
    assert torch.equal(mine(x), theirs(x))
    assert ("birth 1 of run" in path.read_text().lower()) == form.startswith("{")


def test_a_graph_is_exported(tmp_path: Path) -> None:
    evonas.export(Graph.parse(TEXT), tmp_path / "layer.py", compiled=False)
    assert "rms_hw" in (tmp_path / "layer.py").read_text()


def test_a_record_is_exported_with_the_groups_of_its_run(folder: Path, tmp_path: Path) -> None:
    path, (record, *_) = tmp_path / "layer.py", open_run(folder).lineage(1)
    for each in (record, open_run(folder).candidate(1)):
        evonas.export(each, path, compiled=False)
        mine, its = (text.partition("import torch") for text in (path.read_text(), open_run(folder).source(1)))
        assert mine[1:] == its[1:]
        assert "Checked against float64" in mine[0] and "Checked" not in its[0]
    with pytest.raises(InputError, match="a record or RUN#BIRTH, got 17"):
        evonas.export(17, path)  # type: ignore[arg-type]


def test_the_groups_of_a_file_are_those_that_judged_it(tmp_path: Path) -> None:
    text = "x / std_ghw(x)"
    raw = {**TINY, "proxies": {name: {**proxy, "groups": 2} for name, proxy in TINY["proxies"].items()}}
    config = configured(raw, births=1, warm_start=[text], space={"nodes": 10})
    searched(tmp_path / "run", config, FakePool(1, answering(PASSED)))
    run = open_run(tmp_path / "run")
    for layer in (f"{tmp_path / 'run'}#1", run.candidate(1), *run.top(1)):
        evonas.export(layer, tmp_path / "layer.py", compiled=False)
        assert "groups: int = 2," in (tmp_path / "layer.py").read_text()
    evonas.export(run.graph(1), tmp_path / "layer.py", compiled=False)
    assert "groups: int = 32," in (tmp_path / "layer.py").read_text()


@pytest.mark.parametrize("layer", ["PRepBN", "EvoNorm-S9"])
def test_what_is_no_graph_is_not_exported(tmp_path: Path, layer: str) -> None:
    with pytest.raises(InputError, match=layer):
        evonas.export(layer, tmp_path / "layer.py")
    assert list(tmp_path.iterdir()) == []


def test_an_export_into_no_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        evonas.export(TEXT, tmp_path / "none" / "layer.py")
