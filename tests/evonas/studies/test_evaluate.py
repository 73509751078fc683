"""`evaluate`: a layer of one's own on the proxies of a config, with a pool that answers from a table."""

from statistics import stdev
from typing import Any

import pytest

import evonas
from evonas.config import BASELINE, Config
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.graph import Graph
from evonas.session import Session, Stopped
from evonas.studies.evaluate import Judgement, judge
from evonas.workers.outcome import Crash, CrashKind, Evaluation, Fitness, Measurement, Point, Rejection
from evonas.workers.protocol import Job
from tests.evonas.search_cases import FakePool, configured

MINE = "x / rms_hw(x)"
NEVER = "x * zero"  # what a gate stops in the driver
LEADS = {1: 0.1, 2: 0.3, 3: 0.2}  # fresh seed -> of MINE over BN-ReLU, on resnet
PASSED = Measurement("quality", "resnet", 0.5, 0.1, 3, True, 0.5)
STOPPED = Measurement("quality", "mobilenet", 0.05, 0.1, 3, False, 0.5)


class Table:
    """BN-ReLU has 0.5 on each proxy. MINE leads on resnet by its seed, and is stopped by a gate."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> Evaluation:
        self.jobs.append(job)
        gates = job.protocol.gates
        match Graph.parse(job.graph).digest:
            case self.baseline:
                points = (Point("resnet", 3, 0.25, 2.0), Point("mobilenet", 3, 0.125, 2.0)) if gates else ()
                return Evaluation(Fitness({"resnet": 0.5, "mobilenet": 0.5}), (), points)
            case self.mine if gates:
                return Evaluation(Rejection("quality", "mobilenet", 0.05, 0.1, 3), (PASSED, STOPPED))
            case self.mine:
                return Evaluation(Fitness({"resnet": 0.5 + LEADS[job.seed], "mobilenet": 0.5}))
            case _:
                return Evaluation(Fitness({"resnet": 0.4, "mobilenet": 0.4}))

    baseline = LAYERS[BASELINE].graph.digest
    mine = Graph.parse(MINE).digest


@pytest.fixture
def config(tiny: dict[str, Any]) -> Config:
    return configured(tiny, rerank={"baselines": ["GN-ReLU"]})


def by_name(judgements: list[Judgement]) -> dict[str, Judgement]:
    return {each.name: each for each in judgements}


def test_differences_are_paired_by_seed_and_the_best_is_first(config: Config) -> None:
    judged = judge(config, Session(FakePool(2, Table())), [named_graph(MINE)], 3)
    assert [each.name for each in judged] == [MINE, BASELINE, "GN-ReLU"]
    mine, baseline, other = (each.figures for each in judged)
    assert mine.difference == pytest.approx((0.1 + 0.3 + 0.2) / 2 / 3)  # the mean over two proxies
    assert mine.difference_spread == pytest.approx(stdev(each / 2 for each in LEADS.values()))
    assert mine.accuracy["resnet"] == (pytest.approx(0.7), pytest.approx(0.1))
    assert (mine.seeds, mine.failed) == (3, 0)
    assert (baseline.difference, other.difference) == (0.0, pytest.approx(-0.1))


def test_what_the_gates_say_is_told_and_stops_nothing(config: Config) -> None:
    table = Table()
    judged = by_name(judge(config, Session(FakePool(1, table)), [named_graph(MINE), named_graph(NEVER)], 3))
    mine, never, baseline = judged[MINE], judged[NEVER], judged[BASELINE]
    assert mine.outcome == Rejection("quality", "mobilenet", 0.05, 0.1, 3)
    assert [each.gate for each in mine.measurements] == ["depends_on_x", "finite", "quality", "quality"]
    assert isinstance(never.outcome, Rejection)
    assert never.outcome.gate == never.measurements[-1].gate == "depends_on_x"
    assert never.figures.seeds == 3
    assert (baseline.outcome, baseline.measurements) == (None, ())
    asked = {job.graph for job in table.jobs if job.protocol.gates}
    assert str(Graph.parse(NEVER)) not in asked  # no worker is asked what the driver saw


def test_gates_compare_with_bn_relu_under_the_same_seed_and_trainings_have_fresh_ones(config: Config) -> None:
    table = Table()
    judge(config, Session(FakePool(1, table)), [named_graph(MINE)], 3)
    first, gated, *fresh = table.jobs
    assert Graph.parse(first.graph).digest == Table.baseline
    assert (gated.graph, gated.seed, first.seed) == (str(Graph.parse(MINE)), config.seed, config.seed)
    assert {(each.proxy, each.step, each.accuracy) for each in gated.baseline} == {
        ("resnet", 3, 0.25),
        ("mobilenet", 3, 0.125),
    }
    assert sorted(job.seed for job in fresh) == sorted([1, 2, 3] * 3)
    assert all(job.protocol.gates == () and job.protocol.recipe.seeds == 1 for job in fresh)


def test_progress_counts_every_training(config: Config) -> None:
    told: list[tuple[int, int]] = []
    judge(config, Session(FakePool(1, Table())), [named_graph(MINE)], 3, lambda *counts: told.append(counts))
    assert told == [(done, 11) for done in range(12)]  # BN-ReLU and MINE with the gates, three layers with three seeds


def test_what_is_known_of_the_layer_itself_is_told(config: Config) -> None:
    asked = [named_graph("x / std_hw(x)"), named_graph("EvoNorm-B0")]
    judged = by_name(judge(config, Session(FakePool(1, Table())), asked, 1))
    mine, known = judged["x / std_hw(x)"], judged["EvoNorm-B0"]
    assert mine.amplification == pytest.approx(1e-5**-0.5, rel=1e-4)  # four digits; std_hw is the root of eps
    assert (mine.batch_dependent, known.batch_dependent) == (False, True)
    assert (mine.live_nodes, known.live_nodes) == (2, 6)


def test_a_seed_that_fails_leaves_no_difference(config: Config) -> None:
    def respond(job: Job) -> Evaluation:
        if Graph.parse(job.graph).digest == Table.mine and job.seed == 2:
            return Evaluation(Crash(CrashKind.TIME_LIMIT, "hung"))
        return Table()(job)

    judged = by_name(judge(config, Session(FakePool(1, respond)), [named_graph(MINE)], 3))
    assert (judged[MINE].figures.failed, judged[MINE].figures.difference) == (1, None)
    assert list(judged)[-1] == MINE
    assert "failed" in repr(judged[MINE])


def test_its_text_is_one_line(config: Config) -> None:
    judged = by_name(judge(config, Session(FakePool(1, Table())), [named_graph(MINE)], 3))
    assert repr(judged[MINE]) == f"<{MINE}: +10.0 ±5.0 points with 3 fresh seeds, stopped by quality>"
    assert repr(judged["GN-ReLU"]) == "<GN-ReLU: -10.0 ±0.0 points with 3 fresh seeds>"


def test_ctrl_c_ends_it(config: Config) -> None:
    with pytest.raises(Stopped):
        judge(config, Session(FakePool(1, Table()), should_stop=lambda: True), [named_graph(MINE)], 3)


def test_from_python_it_trains_and_writes_nothing(
    tiny: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    judged = by_name(evonas.evaluate(MINE, tiny, seeds=1, settings=["gates=[finite]"]))
    assert set(judged) == {BASELINE, MINE}
    assert judged[MINE].outcome is not None
    assert isinstance(judged[MINE].outcome, Fitness)
    assert list(tmp_path.iterdir()) == []
