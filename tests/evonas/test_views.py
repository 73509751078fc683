"""The values that people are shown."""

import json
from collections import deque
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evonas.config import Config
from evonas.store.records import RECENT, Cost, Pace
from evonas.views import seconds_left
from tests.evonas.search_cases import configured

RECORDED = Path(__file__).parent / "recorded"


def paced(**values: float) -> Pace:
    return Pace(**({"seconds": 0.0, "outcomes": 0, "spent": 0.0, "full_seconds": 6.0, "driven": 0.0} | values))


@pytest.fixture
def config(tiny: dict[str, Any]) -> Config:
    return configured(tiny, births=1800, random_share=0.25)


def test_a_birth_costs_its_evaluation_and_the_time_in_which_no_worker_is_busy(config: Config) -> None:
    costs = {True: Cost(400, 400.0), False: Cost(200, 20.0)}
    pace = paced(seconds=300.0, outcomes=600, spent=420.0)
    child = (400.0 + 720 * 0.14 * 6.0) / (400 + 720)  # 0.6 of the 1200 births to come cost as in finished searches
    a_birth = (0.25 * 0.1 + 0.75 * child) / 2 + (300.0 - 420.0 / 2) / 600
    found = seconds_left(config, costs, pace, outcomes=600, births=1800, retrained=2, workers=2)
    assert found == pytest.approx(1200 * a_birth + 4 * 6.0 / 2)  # the best two and BN-ReLU, with two seeds, less two


def test_what_finished_searches_cost_counts_less_the_nearer_the_end(config: Config) -> None:
    costs = {True: Cost(100, 100.0), False: Cost()}
    left = seconds_left(config, costs, paced(), outcomes=1799, births=1800, retrained=6, workers=1)
    assert left == pytest.approx(0.75 * (100.0 + 0.6 * 0.14 * 6.0) / 100.6)
    assert seconds_left(config, costs, paced(), outcomes=1800, births=1800, retrained=6, workers=1) == 0.0
    assert seconds_left(config, {}, paced(), outcomes=1800, births=1800, retrained=9, workers=1) == 0.0


def test_before_the_first_outcome_the_cost_is_that_of_finished_searches(config: Config) -> None:
    left = seconds_left(config, {}, paced(), outcomes=0, births=100, retrained=6, workers=1)
    assert left == pytest.approx(75 * 0.14 * 6.0)


def test_minutes_end_the_births_and_the_retraining_follows(tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=1800, random_share=0.0, minutes=2.0)
    left = seconds_left(config, {}, paced(driven=90.0), outcomes=0, births=1000, retrained=4, workers=1)
    assert left == pytest.approx(30.0 + 12.0)


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECORDED.glob("*.json"))])
def test_from_a_fifth_of_a_recorded_run_on_the_estimate_is_within_a_factor_of_one_and_a_half(
    tiny: dict[str, Any], name: str
) -> None:
    """The last thirty seconds are left out: an evaluation takes six."""
    run = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    outcomes = [(kind, float(seconds), float(at)) for kind, seconds, at in map(str.split, run["outcomes"])]
    top = run["retrainings"] // 2 - 1  # beside BN-ReLU, with two seeds
    config = configured(tiny, births=len(outcomes), random_share=run["random_share"], rerank={"top": top, "seeds": 2})
    newest: deque[tuple[bool, float]] = deque(maxlen=RECENT)
    full, spent, ratios = deque([run["baseline_seconds"]], maxlen=100), 0.0, []
    for number, (kind, seconds, at) in enumerate(outcomes, start=1):
        newest.append((kind[0] == "1", seconds))
        spent += seconds
        if kind[1] == "1":
            full.append(seconds)
        costs = {True: Cost(), False: Cost()}
        for has_parent, each in newest:
            costs[has_parent] += each
        pace = paced(seconds=at - outcomes[0][2], outcomes=number, spent=spent, full_seconds=fmean(full), driven=at)
        left = seconds_left(
            config,
            costs,
            pace,
            outcomes=number,
            births=len(outcomes),
            retrained=0,
            workers=run["workers"],
        )
        if number >= len(outcomes) / 5 and run["ended"] - at > 30:
            ratios.append(left / (run["ended"] - at))
    assert len(ratios) > len(outcomes) / 2
    assert 1 / 1.5 < min(ratios) <= max(ratios) < 1.5
