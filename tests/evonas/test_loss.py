"""A search by the training loss in place of the accuracy, and records that have no loss."""

import math
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evonas.config import Config
from evonas.ranking import with_figures
from evonas.retelling import rebuild
from evonas.retraining import train_for_leaders
from evonas.search_space.graph import Graph
from evonas.shared import Shared, measured_again
from evonas.studies.replay import replay
from evonas.views import candidate_rows
from evonas.workers.outcome import Evaluation, Fitness
from evonas.workers.protocol import Job
from tests.evonas.search_cases import EVERYTHING, FakePool, configured, searched, seeded


def lossy(job: Job) -> Evaluation:
    """A loss on each proxy that has nothing to do with the accuracy."""
    found = seeded(job)
    if not isinstance(found.outcome, Fitness):
        return found
    number = int.from_bytes(sha256(f"loss {Graph.parse(job.graph).digest} {job.seed}".encode()).digest()[:4], "big")
    loss = {"resnet": 0.5 + number % 97 / 50, "mobilenet": 0.5 + number // 97 % 97 / 50}
    return replace(found, outcome=replace(found.outcome, loss=loss))


@pytest.fixture
def by_loss(tiny: dict[str, Any]) -> Config:
    return configured({**tiny, "objectives": ["loss"]}, births=60, **EVERYTHING)


def likelihood(outcome: Fitness) -> float:
    return fmean(math.exp(-loss) for loss in outcome.loss.values())


def test_a_search_by_loss_ranks_by_likelihood_and_shows_accuracies(tmp_path: Path, by_loss: Config) -> None:
    search, reader = searched(tmp_path, by_loss, FakePool(2, lossy))
    baseline = search.history.baseline
    assert baseline is not None
    first = [r for r in reader.candidates() if isinstance(r.outcome, Fitness) and r.equal_to is None]
    assert len(first) > 20
    for record in first:
        assert isinstance(record.outcome, Fitness)
        assert record.advantage == pytest.approx(likelihood(record.outcome) - likelihood(baseline))
        (row,) = candidate_rows(reader, with_figures(reader, [record], {}))
        accuracies = [record.accuracy[proxy] - accuracy for proxy, accuracy in baseline.accuracy.items()]
        assert row.difference == pytest.approx(fmean(accuracies))
    assert search.history.leaders is not None
    assert search.history.baselines
    seed_of = {each.birth: each.seed for each in reader.evaluations("search")}
    for function, outcomes in search.history.leaders.outcomes.items():
        mine = [r for r in reader.candidates() if function in (r.birth, r.equal_to)]
        assert outcomes == {seed_of[r.birth]: r.outcome for r in mine if isinstance(r.outcome, Fitness)}
    assert [each.fitness for each in search.history.leaders.members] == sorted(
        (each.fitness for each in search.history.leaders.members), reverse=True
    )
    for predicted, measured in reader.unranked():
        assert 0 < predicted < 1
        assert measured < 0 or any(
            measured == pytest.approx(likelihood(r.outcome)) for r in first if isinstance(r.outcome, Fitness)
        )
    assert search.history.surrogate is not None
    assert sorted(search.history.surrogate.unranked) == sorted(reader.unranked())


def test_a_search_by_loss_is_rebuilt_and_replayed(tmp_path: Path, by_loss: Config) -> None:
    search, reader = searched(tmp_path, by_loss, FakePool(3, lossy))
    assert rebuild(reader) == search.history
    assert replay(reader) == []


def test_the_front_is_of_the_likelihoods(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured({**tiny, "objectives": ["loss", "nodes"]}, births=60)
    _, reader = searched(tmp_path, config, FakePool(1, lossy))
    points = {
        r.birth: (*(-loss for loss in r.outcome.loss.values()), -r.live_nodes)
        for r in reader.candidates()
        if isinstance(r.outcome, Fitness) and r.equal_to is None
    }
    front = {
        birth
        for birth, mine in points.items()
        if not any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in points.values())
    }
    assert {each.birth for each in reader.front()} == front


# --------------------------------------------------------------------------- records from before the loss


def test_a_mean_with_a_record_from_before_the_loss_has_none() -> None:
    """Such as a candidate of an older version, which an equal one inherits after a resume."""
    before = Shared(uses=1, measured=1, fitness=Fitness({"resnet": 0.5}))
    mean = measured_again(before, Fitness({"resnet": 0.7}, loss={"resnet": 1.0}))
    assert mean.fitness == Fitness({"resnet": pytest.approx(0.6)})


def test_an_outcome_is_moved_by_what_both_records_of_the_baseline_have() -> None:
    outcome = Fitness({"resnet": 0.5}, loss={"resnet": 1.0})
    old, new = Fitness({"resnet": 0.4}), Fitness({"resnet": 0.3}, loss={"resnet": 2.0})
    assert outcome.moved(new, old) == Fitness({"resnet": pytest.approx(0.6)}, loss={"resnet": 1.0})
    assert outcome.moved(new, new) == outcome
    low = Fitness({"resnet": 0.9}, loss={"resnet": 4.0})
    assert outcome.moved(low, new) == Fitness({"resnet": 0.0}, loss={"resnet": 0.0})


def test_a_run_that_began_before_goes_on_without_the_baseline_of_further_seeds(tmp_path: Path, by_loss: Config) -> None:
    search, reader = searched(tmp_path, by_loss, FakePool(1, lossy))
    history = rebuild(reader)
    assert history.baselines
    history.baselines.clear()
    train_for_leaders(search.session, reader, history)  # whose store is closed: nothing may be asked of it
    assert history.baselines == {}
