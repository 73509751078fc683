"""Operators, entrants, founders and families: with a pool that answers from a table."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evonas.config import Config
from evonas.config_file import parse_config
from evonas.final import contenders
from evonas.history import History
from evonas.leaders import Leaders
from evonas.proposal import propose
from evonas.retelling import rebuild
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.selection import Population, Survivor
from evonas.shared import REMEASURE_SEEDS
from evonas.store.dump import dump
from evonas.store.records import Operator
from evonas.studies.replay import replay
from evonas.workers.outcome import Evaluation, Fitness
from evonas.workers.protocol import Job
from tests.conftest import TINY
from tests.evonas.search_cases import (
    EDITS,
    EVERYTHING,
    FakePool,
    answer,
    configured,
    five_incomparable,
    killed_and_resumed,
    known,
    searched,
    seeded,
)


def survivor(
    birth: int, fitness: float, family: str = "", function: int = 0, measured: int = 1, graph: str = "x"
) -> Survivor:
    outcome = Fitness({"resnet": fitness})
    return Survivor(birth, graph, "", (fitness,), family, function or birth, measured, outcome, fitness)


# --------------------------------------------------------------------------- operators


def test_children_name_their_edits_and_both_parents(tmp_path: Path, everything: Config) -> None:
    _, reader = searched(tmp_path, everything, FakePool(2, seeded))
    records = reader.candidates()
    used = Counter(each.operator for each in records)
    assert set(used) <= {*map(str, Operator), *EDITS}
    assert {"op", "input", "insert", "delete", "cross", "random", "catalog", "again"} <= set(used)
    for each in records:
        assert (each.second_parent is not None) == (each.operator == "cross")
        if each.second_parent is not None:
            assert each.birth in reader.children(each.second_parent)


def test_several_edits_are_named_in_their_order(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=80, mutations=2, random_share=0.1, operators={"op": 1, "insert": 1})
    _, reader = searched(tmp_path, config, FakePool(1))
    made = {each.operator for each in reader.candidates() if each.parent is not None}
    assert made <= {f"{a}+{b}" for a in ("op", "insert") for b in ("op", "insert")} | {"op", "insert"}
    assert any("+" in each for each in made)


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ({"inset": 1}, "unknown operator 'inset'; did you mean 'insert'"),
        ({"op": 0}, "expected an operator of a weight above 0"),
        ({}, "expected an operator of a weight above 0"),
    ],
)
def test_operators_that_cannot_work(tiny: dict[str, Any], operators: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configured(tiny, operators=operators)


# --------------------------------------------------------------------------- what is derived is derived again


def test_a_run_with_all_of_it_is_rebuilt_and_replayed(tmp_path: Path, everything: Config) -> None:
    search, reader = searched(tmp_path, everything, FakePool(3, seeded))
    assert rebuild(reader) == search.history
    assert replay(reader) == []


@pytest.mark.parametrize("after", [40])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, everything: Config, after: int) -> None:
    """With one worker, the same records."""
    _, calm = searched(tmp_path / "calm", everything, FakePool(1, seeded))
    reader = killed_and_resumed(tmp_path / "killed", everything, seeded, after)
    assert list(dump(reader)) == list(dump(calm))


# --------------------------------------------------------------------------- entrants


def test_children_are_the_births_with_a_parent_of_the_function(tmp_path: Path, tiny: dict[str, Any]) -> None:
    evolution = {key: value for key, value in EVERYTHING.items() if key != "surrogate"}
    config = configured(tiny, births=40, **evolution, duplicates="inherit")
    search, reader = searched(tmp_path, config, FakePool(3, seeded))
    function = {each.birth: each.equal_to or each.birth for each in reader.candidates()}
    children = Counter[int]()
    for each in reader.candidates():
        if each.operator != Operator.AGAIN:
            children.update({function[parent] for parent in (each.parent, each.second_parent) if parent})
    assert search.history.children == children
    members = search.history.population.members
    assert search.history.entrant_weights() == [1 / (1 + children[each.function]) for each in members]


def test_equal_candidates_and_a_new_mean_share_the_children_of_their_function(tiny: dict[str, Any]) -> None:
    config = configured(tiny, entrants="fewer_children", remeasure={"share": 0.1}, duplicates="inherit")
    history = History(config, baseline=Fitness({"resnet": 0.1, "mobilenet": 0.1}))
    x, cross, again = Graph.parse("tanh(x)"), Graph.parse("tanh(x) / x"), Operator.AGAIN

    def born(birth: int, graph: Graph = x, **fields: Any) -> list[float] | None:
        history.propose(replace(known(birth, graph), **fields))
        history.record(birth, Fitness({"resnet": birth / 10, "mobilenet": birth / 10}), ())
        return history.entrant_weights()

    assert born(1) == [1]
    assert born(2, cross, parent=1) == [1 / 2, 1]
    assert born(3, cross, parent=1, second_parent=1) == [1 / 3, 1, 1]  # one child
    assert born(4, cross, parent=1, second_parent=2) == [1 / 4, 1 / 2, 1, 1]
    assert born(5, equal_to=1, parent=3) == [1 / 4, 1 / 2, 1 / 2, 1, 1 / 4]
    assert born(6, equal_to=1, parent=1, operator=again) == [1 / 2, 1 / 2, 1, 1 / 4]  # in the place of births 1 and 5
    assert born(7, cross, parent=6) == [1 / 2, 1 / 2, 1, 1 / 5, 1]


def test_both_parents_are_drawn_by_their_children(tiny: dict[str, Any]) -> None:
    config = configured(tiny, entrants="fewer_children", random_share=0, mutations=1, operators={"cross": 1})
    history = five_incomparable(config)
    history.children = dict.fromkeys((1, 4, 5), 10**9)
    born = [propose(config, birth, history).candidate for birth in range(10, 22)]
    assert {each.parent for each in born} == {each.second_parent for each in born} == {2, 3}


def test_founders_breed_for_good_as_often_as_asked(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """The population is newer than the two layers of the warm start within a few births."""
    options = {**EVERYTHING, "random_share": 0.0, "population": 4, "operators": {"insert": 1, "delete": 1}}
    del options["surrogate"], options["remeasure"]
    parents = {}
    for share in (0.0, 0.5, 1.0):
        config = configured(tiny, births=60, **{**options, "founders_share": share})
        _, reader = searched(tmp_path / str(share), config, FakePool(1, seeded))
        parents[share] = [each.parent for each in reader.candidates() if each.birth > 20]
    assert not {1, 2} & set(parents[0.0])
    assert set(parents[1.0]) == {1, 2}
    assert 10 <= sum(each in (1, 2) for each in parents[0.5]) <= 30
    assert {1, 2} < set(parents[0.5])


def test_a_founder_has_the_fitness_of_all_its_seeds(tmp_path: Path, everything: Config) -> None:
    def respond(job: Job) -> Evaluation:
        """Tanh leads with the search's seed, and loses by others."""
        if Graph.parse(job.graph).digest != LAYERS["tanh"].graph.digest:
            return answer(job)
        score = 0.9 if job.seed > REMEASURE_SEEDS else 1.0
        return Evaluation(Fitness({"resnet": score, "mobilenet": score}))

    history = searched(tmp_path, everything, FakePool(2, respond))[0].history
    founders = {each.birth: each.fitness for each in history.founders.members}
    assert set(founders) == {1, 2}
    assert founders[2] != 1.0
    assert history.leaders is not None
    assert [founders[2]] == [each.fitness for each in history.leaders.members if each.function == 2]


def test_entrants_that_are_uniform_leave_no_trace(tiny: dict[str, Any]) -> None:
    """Dumps of runs from before the option stay as they were."""
    assert not {"entrants", "founders_share"} & set(configured(tiny).evolution.model_dump())
    assert configured(tiny, entrants="fewer_children").evolution.model_dump()["entrants"] == "fewer_children"


# --------------------------------------------------------------------------- families


def test_the_worst_of_a_full_family_gives_way_and_the_oldest_of_all() -> None:
    population = Population(size=3, family_max=2)
    for each in (survivor(1, 0.5, "a"), survivor(2, 0.7, "a"), survivor(3, 0.6, "a")):
        population.add(each)
    assert [each.birth for each in population.members] == [2, 3]
    population.add(survivor(4, 0.1, "a"))
    assert [each.birth for each in population.members] == [2, 3]
    population.add(survivor(5, 0.1, "b", graph="x / std_hw(x)"))
    population.add(survivor(6, 0.1, "c", graph="square(x)"))
    assert [each.birth for each in population.members] == [3, 5, 6]


@pytest.mark.parametrize(
    ("graph", "members"),
    [
        ("3 * x + v0", [2, 3]),  # equal but for an affine of each channel: the worst gives way
        ("x + 0.05 * abs(x)", [2, 3]),  # nearly: 0.05 of what has a correlation of 0 with x
        ("x + 0.5 * abs(x)", [1, 2, 3]),
        ("x / std_hw(x)", [1, 2, 3]),
    ],
)
def test_layers_with_nearly_equal_outputs_are_one_family(graph: str, members: list[int]) -> None:
    population = Population(size=9, family_max=2)
    for each in (survivor(1, 0.5, "a"), survivor(2, 0.7, "b"), survivor(3, 0.6, "c", graph=graph)):
        population.add(each)
    assert [each.birth for each in population.members] == members


def test_without_a_bound_the_population_is_the_newest_survivors() -> None:
    population = Population(size=2)
    for birth in (1, 2, 3):
        population.add(survivor(birth, 0.5, "a"))
    assert [each.birth for each in population.members] == [2, 3]


def test_a_function_measured_again_takes_its_old_place() -> None:
    population = Population(size=5)
    population.add(survivor(1, 0.9))
    population.add(survivor(2, 0.5))
    population.add(survivor(3, 0.6, function=1, measured=2))
    assert [(each.birth, each.fitness) for each in population.members] == [(2, 0.5), (3, 0.6)]
    population.drop(1)
    assert [each.birth for each in population.members] == [2]


# --------------------------------------------------------------------------- the race


def test_a_race_on_a_proxy_that_is_not_there() -> None:
    with pytest.raises(InputError, match="gates: no proxy 'resnt'; did you mean 'resnet'"):
        parse_config(json.dumps({**TINY, "gates": [{"rung": {"steps": 3, "proxy": "resnt"}}]}))


def test_the_steps_of_a_race_on_one_proxy_may_exceed_those_of_later_gates() -> None:
    gates = [{"rung": {"steps": 3, "proxy": "resnet"}}, {"quality": {"steps": 2, "min_accuracy": 0.1}}]
    assert [gate.label for gate in parse_config(json.dumps({**TINY, "gates": gates})).gates] == ["rung 3", "quality 2"]


# --------------------------------------------------------------------------- layers that train alike


def test_layers_that_train_alike_are_one_family_one_leader_and_one_contender(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    """Such as x * sigmoid(x) and x * max(v0, sigmoid(x)), whose v0 starts at 0 and gets no gradient."""
    config = configured(tiny, births=40, **{**EVERYTHING, "remeasure": {"share": 0.01, "leaders": 3, "seeds": 2}})
    same = Fitness({"resnet": 0.75, "mobilenet": 0.5}, loss={"resnet": 0.1, "mobilenet": 0.2})

    def respond(job: Job) -> Evaluation:
        found = answer(job)
        return replace(found, outcome=same) if isinstance(found.outcome, Fitness) else found

    search, reader = searched(tmp_path, config, FakePool(1, respond))
    functions = [each for each in reader.candidates() if each.accuracy and each.equal_to is None]
    assert len(functions) > 5
    assert {each.family for each in search.history.population.members} == {functions[0].family}
    assert len(search.history.population.members) == EVERYTHING["family_max"]
    assert [each.function for each in (search.history.leaders or Leaders(0, 0)).members] == [functions[0].birth]
    assert [each.birth for each in contenders(reader) if each.birth] == [functions[0].birth]
    assert rebuild(reader) == search.history
    assert replay(reader) == []
