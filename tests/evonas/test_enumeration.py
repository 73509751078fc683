"""First births: the whole catalog, and all single edits of some layers before evolution goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.cli.display import first_births
from evonas.config import Config
from evonas.config_file import dump_config, parse_config
from evonas.enumeration import enumerated
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.neighbourhood import neighbours
from evonas.search_space.space import PAPER_PRIMITIVES, Space
from evonas.space_config import SpaceConfig
from evonas.store.dump import dump
from evonas.studies.replay import replay
from tests.evonas.search_cases import FakePool, answer, configured, killed_and_resumed, searched

SPACE = {"nodes": 4, "primitives": ["neg", "tanh", "max"], "aggregations": ["mean"], "index_sets": ["hw"]}


@pytest.fixture
def raced(tiny: dict[str, Any]) -> Config:
    """All edits of `tanh(x)` and of a layer that is no birth, then evolution."""
    layers = {"warm_start": ["ReLU", "tanh"], "neighbours_of": ["tanh", "-x"]}
    again = {"remeasure": {"share": 0.5, "leaders": 2, "seeds": 3}, "operators": {"op": 1, "insert": 1}}
    return configured(tiny, births=50, space=SPACE, **layers, **again)


def test_every_edit_is_one_birth_after_the_warm_start(tmp_path: Path, raced: Config) -> None:
    space = raced.space.unconstrained
    first = {LAYERS[name].graph.digest for name in ("ReLU", "tanh")}
    of_tanh, of_neg = (neighbours(Graph.parse(text), space) for text in ("tanh(x)", "-x"))
    wanted = {*of_tanh, *of_neg} - first
    _, reader = searched(tmp_path, raced, FakePool(2))
    records = reader.candidates()
    births = records[2 : 2 + len(wanted)]
    assert [each.operator for each in records[:2]] == ["catalog", "catalog"]
    assert {each.digest for each in births} == wanted
    assert len({each.digest for each in births}) == len(births) > 20
    for each in births:
        made = of_tanh if each.digest in of_tanh else of_neg
        assert each.operator == made[each.digest].operator
        assert each.parent == (2 if made is of_tanh else None)
        assert len(Graph.parse(each.graph).nodes) == 4  # padded
    assert [each.digest for each in births] != [digest for digest in (*of_tanh, *of_neg) if digest in wanted]
    assert "again" in {each.operator for each in records[2 + len(wanted) :]}
    assert replay(reader) == []


def test_edits_of_one_function_are_trained_once(tmp_path: Path, raced: Config) -> None:
    pool = FakePool(1)
    _, reader = searched(tmp_path, raced, pool)
    edits = reader.candidates()[2 : 2 + len(enumerated(raced))]
    inherited = [each for each in edits if each.equal_to]
    assert inherited
    assert not {each.birth for each in inherited} & set(pool.submitted)
    for each in inherited:
        assert reader.candidate(each.equal_to or 0).fingerprint == each.fingerprint


@pytest.mark.parametrize("after", [9, 30])
def test_a_killed_enumeration_goes_on(tmp_path: Path, raced: Config, after: int) -> None:
    _, calm = searched(tmp_path / "calm", raced, FakePool(1))
    reader = killed_and_resumed(tmp_path / "killed", raced, answer, after)
    assert list(dump(reader)) == list(dump(calm))


def test_the_order_is_drawn_by_the_seed(raced: Config) -> None:
    other = raced.model_copy(update={"seed": 1})
    assert enumerated(other) != enumerated(raced)
    assert sorted(each.graph.digest for each in enumerated(other)) == sorted(e.graph.digest for e in enumerated(raced))


def test_edits_meet_the_constraints(tiny: dict[str, Any]) -> None:
    space = {"nodes": 10, "batch_dependent": False, "live_nodes_max": 3}
    config = configured(tiny, births=5, space=space, neighbours_of=["tanh"])
    graphs = [each.graph for each in enumerated(config)]
    assert graphs
    assert all(graph.live_nodes <= 3 and "bhw" not in graph.formula for graph in graphs)
    assert any("chw" in graph.formula for graph in graphs)


@pytest.mark.parametrize(
    ("evolution", "message"),
    [
        ({"neighbours_of": ["EvoNorm-S9"]}, "unknown layer 'EvoNorm-S9'"),
        ({"neighbours_of": ["sigmoid(x)"]}, "evolution.neighbours_of: sigmoid.x.: .*which the space lacks"),
        ({"warm_start": ["catalog", *(f"x + {n}" for n in range(99))], "births": 999}, "at most 100 layers, got"),
    ],
)
def test_first_births_that_cannot_be(tiny: dict[str, Any], evolution: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configured(tiny, space={**SPACE, "primitives": ["neg", "tanh", "max", "add"]}, **evolution)


# --------------------------------------------------------------------------- the whole catalog


@pytest.mark.parametrize(("more", "allowed"), [((), set()), (("erf",), {"Derf", "GELU"})])
def test_layers_of_erf_are_births_where_the_space_names_it(more: tuple[str, ...], allowed: set[str]) -> None:
    space = SpaceConfig(primitives=(*PAPER_PRIMITIVES, *more), leaves=("x", "zero", "v0", "v1", "scalar(0.5)", "0.5"))
    assert {"Derf", "GELU"} & {*space.of_catalog()[0]} == allowed


def test_catalog_stands_for_its_graphs_that_the_space_allows(tiny: dict[str, Any]) -> None:
    """Over neg, tanh, max and mean_hw only ReLU and tanh can be written; the resolved config names them."""
    config = configured(tiny, space=SPACE, warm_start=["-tanh(x)", "tanh", "catalog"])
    assert config.evolution.warm_start == ("-tanh(x)", "tanh", "ReLU")
    assert parse_config(dump_config(config)) == config
    lines = list(first_births(config))
    left_out = sum(not graph.takes_y for graph in LAYERS.graphs.values()) - 2
    assert lines[0].startswith(
        f"Warm start: 3 layers, 2 of the catalog; the space does not allow {left_out}: BN-ReLU, "
    )


def test_in_the_papers_space_most_of_the_catalog_comes_first(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=40, warm_start=["catalog"], space={"nodes": 10})
    names = config.evolution.warm_start
    assert {"BN-ReLU", "BN-LeakyReLU", "EvoNorm-B0", "GN-SiLU", "DyT"} <= set(names)
    assert not {"nGPT", "CrossNorm", "LayerNorm"} & set(names)  # of two inputs; over the axis c
    _, reader = searched(tmp_path, config, FakePool(1))
    assert [each.operator for each in reader.candidates()[: len(names)]] == ["catalog"] * len(names)


def test_without_a_catalog_nothing_is_said(tiny: dict[str, Any], raced: Config) -> None:
    assert list(first_births(configured(tiny, space={"nodes": 10}, warm_start=["tanh"]))) == []
    births = 2 + len(enumerated(raced))
    assert list(first_births(raced))[-1] == f"Births 3 to {births} are the single edits of tanh, -x."


# --------------------------------------------------------------------------- the list of edits


def test_neighbours_of_a_name_a_text_and_a_candidate(tmp_path: Path, tiny: dict[str, Any], raced: Config) -> None:
    """In the space of the config, of the run, or else of the paper."""
    searched(tmp_path, raced, FakePool(1))
    by_config = evonas.neighbours("tanh", raced)
    assert evonas.neighbours(f"{tmp_path}#2").edits == by_config.edits
    assert evonas.neighbours(Graph.parse("tanh(x)"), raced).edits == by_config.edits
    assert by_config.forms == len(neighbours(Graph.parse("tanh(x)"), raced.space.unconstrained))
    paper = evonas.neighbours("tanh")
    assert paper.forms == len(neighbours(Graph.parse("tanh(x)"), Space()))
    assert sum(paper.by_operator.values()) == len(paper.edits)
    told = json.loads(json.dumps(by_config.figures()))
    assert {"operator": "op", "formula": "-x"}.items() <= next(e for e in told["edits"] if e["formula"] == "-x").items()
    with pytest.raises(InputError, match="two inputs"):
        evonas.neighbours("nGPT")
