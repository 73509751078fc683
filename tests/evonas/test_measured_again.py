"""Leaders that are measured again, with further seeds or for more steps: with a pool that answers from a table."""

import json
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.config import Config
from evonas.config_file import parse_config
from evonas.final import contenders
from evonas.history import History
from evonas.leaders import comparable
from evonas.run import LISTED_MAX
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.shared import REMEASURE_SEEDS
from evonas.store.reader import Reader
from evonas.store.records import Operator, Purpose
from evonas.studies.replay import replay
from evonas.views import layer_rows, lengths
from evonas.workers.outcome import Evaluation, Fitness, Rejection
from evonas.workers.protocol import Job
from tests.evonas.search_cases import (
    FakePool,
    answer,
    configured,
    searched,
    seeded,
)


def test_leaders_are_measured_with_seeds_of_their_own(tmp_path: Path, everything: Config) -> None:
    asked: dict[str, list[int]] = {}

    def respond(job: Job) -> Evaluation:
        asked.setdefault(Graph.parse(job.graph).digest, []).append(job.seed)
        return seeded(job)

    search, reader = searched(tmp_path, everything, FakePool(1, respond))
    again = [each for each in reader.candidates() if each.operator == "again"]
    assert len(again) > 5
    for each in again:
        first = reader.candidate(each.equal_to or 0)
        seeds = asked[first.digest]
        assert each.parent == first.birth
        assert seeds[0] == everything.seed or first.operator == "catalog"  # BN-ReLU is the baseline, too
        assert len(set(seeds[-2:])) == len(seeds[-2:])
        assert all(seed == everything.seed or seed > REMEASURE_SEEDS for seed in seeds)
    leaders = search.history.leaders
    assert leaders is not None
    assert {each.equal_to for each in again} - set(leaders.outcomes) == fallen(reader)
    seed_of = {each.birth: each.seed for each in reader.evaluations(Purpose.SEARCH)}
    for function, outcomes in leaders.outcomes.items():
        mine = [r for r in reader.candidates() if function in (r.birth, r.equal_to) and r.accuracy]
        assert outcomes == {seed_of[r.birth]: r.outcome for r in mine}


def test_what_has_several_seeds_is_compared_after_each_of_them(
    tmp_path: Path, everything: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, compared = History._compare, list[int]()

    def checked(history: History) -> None:
        leaders, baseline = history.leaders, history.baseline
        assert leaders and baseline
        alone = [each for each in leaders.members if each.function not in leaders.outcomes]
        single = [tuple(each.outcome.accuracy.values()) for each in alone if each.outcome]
        baselines = {seed: tuple(each.accuracy.values()) for seed, each in {0: baseline, **history.baselines}.items()}
        several = {
            name: {seed: tuple(each.accuracy.values()) for seed, each in outcomes.items()}
            for name, outcomes in leaders.outcomes.items()
        }
        assert len(baselines) > 1
        compare(history)
        expected = comparable(several, single, baselines, 0)
        for each in (*history.population.members, *history.front, *leaders.members):
            if each.function in expected and each.measured > 1:
                assert each.objectives == expected[each.function]
                assert each.fitness == pytest.approx(sum(each.objectives) / len(each.objectives))
                compared.append(each.function)

    monkeypatch.setattr(History, "_compare", checked)
    searched(tmp_path, everything, FakePool(1, seeded))
    assert len(set(compared)) > 3


def fallen(reader: Reader) -> set[int]:
    """The functions that a further seed stopped."""
    again = [each for each in reader.candidates() if each.operator == Operator.AGAIN]
    return {each.equal_to or 0 for each in again if isinstance(each.outcome, Rejection)}


def test_a_leader_is_compared_with_the_baseline_of_each_seed(tmp_path: Path, everything: Config) -> None:
    """A seed that makes every network worse by the same changes neither advantages nor the search."""
    worse = 0.1

    def respond(job: Job) -> Evaluation:
        found = answer(job)
        if not isinstance(found.outcome, Fitness):
            return found
        lower = worse * (job.seed > REMEASURE_SEEDS)
        return Evaluation(Fitness({p: 0.2 + 0.5 * a - lower for p, a in found.outcome.accuracy.items()}))

    _, reader = searched(tmp_path / "worse", everything, FakePool(1, respond))
    again = [each for each in reader.candidates() if each.operator == "again"]
    assert len(again) > 5
    for each in again:
        first = reader.candidate(each.equal_to or 0)
        assert each.advantage == pytest.approx(first.advantage)
        assert sum(each.accuracy.values()) == pytest.approx(sum(first.accuracy.values()) - 0.2)
    assert replay(reader) == []
    worse = 0.0
    _, calm = searched(tmp_path / "calm", everything, FakePool(1, respond))
    assert [each.graph for each in calm.candidates()] == [each.graph for each in reader.candidates()]


def test_a_leader_that_a_further_seed_stops_falls(tmp_path: Path, everything: Config) -> None:
    def respond(job: Job) -> Evaluation:
        if job.seed > REMEASURE_SEEDS:
            return Evaluation(Rejection("diverged", "resnet", float("inf"), float("inf"), 3))
        return answer(job)

    search, reader = searched(tmp_path, everything, FakePool(1, respond))
    fallen = {each.equal_to for each in reader.candidates() if each.operator == "again"}
    history = search.history
    assert fallen
    assert not fallen & {each.function for each in history.population.members}
    assert not fallen & {each.function for each in history.founders.members}
    assert not fallen & {each.birth for each in history.front}
    assert not fallen & {each.birth for each in reader.front()}
    assert history.best is not None
    assert history.best.birth not in fallen
    assert not fallen & {each.birth for each in contenders(reader)}


def test_every_training_with_a_further_seed_is_as_long_as_the_baselines(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Inherited fitnesses get a further seed now and then, too, where all trainings are equally long."""
    lengths: dict[int, set[int]] = {}

    def respond(job: Job) -> Evaluation:
        lengths.setdefault(job.seed, set()).add(job.protocol.recipe.steps)
        return answer(job)

    few = {"nodes": 2, "primitives": ["neg", "max"], "aggregations": [], "index_sets": [], "leaves": ["x", "zero"]}
    options = {"births": 300, "space": few, "duplicates": "inherit", "rerank": {"top": 0, "seeds": 1}}
    for steps in (6, 9):
        remeasure = {"share": 0.1, "leaders": 2, "seeds": 3, "steps": steps}
        lengths.clear()
        searched(tmp_path / str(steps), configured(tiny, **options, remeasure=remeasure), FakePool(1, respond))
        further = {seed: steps for seed, steps in lengths.items() if seed > REMEASURE_SEEDS}
        assert set(map(tuple, further.values())) == {(steps,)}
        assert (len(further) > 2) == (steps == 6)


def test_leaders_cannot_be_trained_longer_than_the_baseline_can(tmp_path: Path, everything: Config) -> None:
    def respond(job: Job) -> Evaluation:
        return answer(job) if job.protocol.recipe.steps == 6 else Evaluation(Rejection("diverged", "resnet", 0, 0, 8))

    raw = json.loads(everything.model_dump_json())
    raw["evolution"]["remeasure"]["steps"] = 9
    with pytest.raises(InputError, match=r"^evolution\.remeasure\.steps: BN-ReLU fails with 9 steps$"):
        searched(tmp_path, parse_config(json.dumps(raw)), FakePool(1, respond))


def test_a_leader_that_loses_when_it_is_trained_longer_leads_no_more(tmp_path: Path, everything: Config) -> None:
    def respond(job: Job) -> Evaluation:
        is_tanh = Graph.parse(job.graph).digest == LAYERS["tanh"].graph.digest
        if is_tanh or job.protocol.recipe.steps > 6:
            score = 1.0 if job.protocol.recipe.steps == 6 else 0.2 if is_tanh else 0.6
            return Evaluation(Fitness({"resnet": score, "mobilenet": score}))
        return answer(job)

    births = {}
    for steps in (6, 9):
        raw = json.loads(everything.model_dump_json())
        raw["evolution"]["remeasure"] |= {"steps": steps}
        reader = searched(tmp_path / str(steps), parse_config(json.dumps(raw)), FakePool(1, respond))[1]
        assert len(reader.measured_again()[2]) == (3 if steps == 6 else 2)
        births[steps] = [each.birth for each in contenders(reader)]
    assert births[6][0] == 2
    assert 2 not in births[9]


def test_accuracies_of_leaders_are_those_of_their_longer_trainings(tmp_path: Path, everything: Config) -> None:
    """0.9 after 9 steps, less after 6: a mean over both lengths would be neither."""

    def respond(job: Job) -> Evaluation:
        found = answer(job)
        if isinstance(found.outcome, Fitness) and job.protocol.recipe.steps == 9:
            return Evaluation(Fitness({"resnet": 0.9, "mobilenet": 0.9}))
        return found

    raw = json.loads(everything.model_dump_json())
    raw["evolution"]["remeasure"] |= {"steps": 9, "seeds": 2}
    searched(tmp_path, parse_config(json.dumps(raw)), FakePool(1, respond))
    run = evonas.open_run(tmp_path)
    leaders = {each.birth for each in run.reader.candidates() if each.birth in run.reader.measured_again()}
    rows = layer_rows(run.reader, run.top(LISTED_MAX), ())
    assert leaders
    assert {row.accuracy["resnet"] for row in rows if row.birth in leaders} == {(0.9, None)}
    assert {row.accuracy["resnet"] for row in rows if row.is_repeated and not row.birth} == {(0.9, None)}
    by_accuracy = [each.birth in leaders for each in run.top(LISTED_MAX, by="resnet")]
    assert by_accuracy == sorted(by_accuracy, reverse=True)
    assert all(row.accuracy["resnet"][0] < 0.9 for row in rows if row.birth and row.birth not in leaders)


@pytest.mark.parametrize("key", ["remeasure", "rerank"])
def test_leaders_are_trained_as_long_as_all_at_least(tiny: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=rf"evolution\.{key}\.steps: expected at least the recipe's 6, got 5"):
        configured(tiny, **{key: {"steps": 5}})
    assert "steps" not in configured(tiny, **{key: {}}).evolution.model_dump()[key]
    assert lengths(configured(tiny, **{key: {}})) == ""
    assert configured(tiny, **{key: {"steps": 6}}).evolution.model_dump()[key]["steps"] == 6


def test_the_final_table_takes_the_best_means(tmp_path: Path, everything: Config) -> None:
    def respond(job: Job) -> Evaluation:
        """The better a layer is with one seed, the worse it is with others."""
        found = answer(job)
        is_baseline = Graph.parse(job.graph).digest == LAYERS["BN-ReLU"].graph.digest
        if isinstance(found.outcome, Fitness) and job.seed > REMEASURE_SEEDS and not is_baseline:
            return Evaluation(Fitness({name: (1 - each) / 2 for name, each in found.outcome.accuracy.items()}))
        return found

    _, reader = searched(tmp_path, everything, FakePool(1, respond))
    again = reader.measured_again()
    best_by_one_seed = reader.families(1)[0].birth
    assert best_by_one_seed in again
    chosen = [each.birth for each in contenders(reader) if each.birth]
    assert best_by_one_seed != chosen[0]
