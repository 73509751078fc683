"""What a person sees of a search at a glance, against the records themselves."""

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evonas.config import Config
from evonas.overview import CRASHED, overview
from evonas.rank_correlation import RankCorrelation
from evonas.run import Run, open_run
from evonas.store.records import Event, Operator, Purpose, State
from evonas.workers.outcome import Crash, Fitness, Rejection
from tests.conftest import TINY
from tests.evonas.search_cases import EVERYTHING, FakePool, configured, searched, seeded
from tests.evonas.store_cases import FIT, REJECTED, candidate, fit, new_run, propose, record


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search with every option, whose candidates are judged and whose final table is still to come."""
    folder = tmp_path_factory.mktemp("overview") / "run"
    searched(folder, configured(TINY, births=60, **EVERYTHING), FakePool(2, seeded))
    return open_run(folder)


def test_all_of_it_follows_from_the_records(run: Run) -> None:
    view, records = overview(run), run.reader.candidates()
    outcomes = [each.outcome for each in records]
    gates = [each.gate for each in outcomes if isinstance(each, Rejection)]
    assert (view.outcomes, view.status.births) == (len(records), 60)
    assert view.trained == sum(isinstance(each, Fitness) for each in outcomes)
    assert view.stopped[CRASHED] == sum(isinstance(each, Crash) for each in outcomes)
    assert {name: n for name, n in view.stopped.items() if n and name != CRASHED} == Counter(gates)
    assert list(view.stopped) == ["depends_on_x", "finite", "quality", "stability", "diverged", CRASHED]
    assert view.has_surrogate
    assert view.status.surrogate == RankCorrelation.of(run.reader.unranked())


def test_what_leads_is_what_top_lists_first_and_the_control_is_known(run: Run) -> None:
    leading, (best,) = overview(run).leading, run.top(1)
    assert leading.leader is not None and leading.control is not None and leading.baseline is not None
    assert leading.leader.birth == best.birth
    assert best.figures is not None
    assert leading.leader.difference == best.figures.difference
    trained = [each.evaluation.outcome for each in run.reader.evaluations(Purpose.BASELINE)]
    assert leading.leader.seeds == leading.baseline.seeds == len(trained) == 3
    resnet = fmean(each.accuracy["resnet"] for each in trained if isinstance(each, Fitness))
    assert leading.baseline.accuracy["resnet"] is not None
    assert leading.baseline.accuracy["resnet"][0] == pytest.approx(resnet)
    assert leading.noise == run.seed_noise()
    names = [each for each in run.reader.candidates() if each.operator == Operator.CATALOG]
    assert [each.birth for each in names] == [1, 2]  # BN-ReLU, which is no control, and tanh
    assert leading.control.birth == 2


def test_what_leads_is_read_again_only_after_a_training(config: Config, tmp_path: Path) -> None:
    store = new_run(tmp_path / "run", config)
    run = open_run(tmp_path / "run")
    views = [overview(run)]

    def look() -> bool:
        """Whether what leads was read again."""
        views.append(overview(run, views[-1]))
        return views[-1].leading is not views[-2].leading

    assert (views[0].activity, views[0].leading.leader) == ("training BN-ReLU", None)
    store.record_beside(Purpose.BASELINE, "x", config.seed, fit(0.25, 0.25), name="BN-ReLU")
    assert look()
    assert views[-1].activity == "searching"
    propose(store, 1, 2)
    record(store, 1, REJECTED, 1)
    assert not look()
    record(store, 2, FIT, 2, 0.125)
    assert overview(run, views[-1], is_brief=True).leading is views[-1].leading
    assert look()
    leader = views[-1].leading.leader
    assert leader is not None
    assert (leader.birth, leader.difference) == (2, pytest.approx(0.375 - 0.25))
    store.close()


def test_the_final_table_is_as_long_as_the_candidates_that_there_are(tiny: dict[str, Any], tmp_path: Path) -> None:
    """Two layers are wanted with two seeds each; one was trained. With BN-ReLU that is four trainings, not six."""
    config = configured(tiny, births=1)
    store = new_run(tmp_path / "run", config)
    run = open_run(tmp_path / "run")
    store.record_beside(Purpose.BASELINE, "x", config.seed, fit(0.25, 0.25), name="BN-ReLU")
    store.propose(candidate(1, "x"))
    record(store, 1, FIT, 1, 0.125)
    assert run.status().retrainings == 6
    store.event(Event.EVOLVED, "1 birth")
    status = run.status()
    assert (status.retrainings, status.retrained) == (4, 0)
    assert status.seconds_left == pytest.approx(4 * 1.5)  # what FIT took, on one worker
    store.record_beside(Purpose.RERANK, "x", config.seed + 1, fit(0.25, 0.25), name="BN-ReLU")
    assert overview(run).activity == "retraining the best"
    assert run.status().seconds_left == pytest.approx(3 * 1.5)
    store.close()


def test_a_finished_run_is_judged_by_its_final_table(config: Config, tmp_path: Path) -> None:
    store = new_run(tmp_path / "run", config)
    store.record_beside(Purpose.BASELINE, "x", config.seed, fit(0.25, 0.25), name="BN-ReLU")
    propose(store, 1)
    record(store, 1, FIT, 1, 0.125)
    for seed in (1, 2):
        for name, accuracy in (("BN-ReLU", 0.25), ("EvoNorm-B0", 0.5), ("GN-ReLU", 0.375)):
            store.record_beside(Purpose.RERANK, "x", seed, fit(accuracy, accuracy), name=name)
        store.record_beside(Purpose.RERANK, "x", seed, fit(0.75, 0.5), birth=1)
    store.finish()
    store.close()
    view = overview(open_run(tmp_path / "run"))
    assert view.leading.control is not None and view.leading.leader is not None
    assert (view.activity, view.is_running, view.status.by_state) == ("finished", False, {State.EVALUATED: 1})
    assert (view.leading.control.what, view.leading.control.difference) == ("EvoNorm-B0", pytest.approx(0.25))
    assert (view.leading.leader.difference, view.leading.leader.seeds) == (pytest.approx(0.375), 2)
    assert view.leading.leader.is_fresh
