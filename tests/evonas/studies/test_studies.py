"""Studies beside the search: the funnel, the noise, the bench."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import beta

from evonas.config import Config
from evonas.config_file import parse_config
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.session import Session
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Candidate
from evonas.studies import bench
from evonas.studies.bench import IDENTITY, BenchRow, best_execution, time_training, timed_recipe, timings
from evonas.studies.funnel import funnel
from evonas.studies.noise import measure_noise
from evonas.workers import step
from evonas.workers.data import load
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Outcome, Point, Rejection
from evonas.workers.pool import InProcessPool
from evonas.workers.protocol import Execution, Job
from tests.workers.tape import Tape

# --------------------------------------------------------------------------- funnel


FULL = {"resnet": 0.5, "mobilenet": 0.5}


def measured(gate: str, passed: bool, seconds: float) -> Measurement:
    return Measurement(gate, "resnet", 1.0, 0.5, 0, passed, seconds)


@pytest.fixture
def recorded(tmp_path: Path, tiny: dict[str, Any]) -> Reader:
    """Two stopped by finite, three by the second loss gate, one that diverged, one fitness, one that inherits."""
    losses_at = [{"loss": {"steps": steps}} for steps in (2, 3)]
    config = parse_config(json.dumps({**tiny, "gates": ["finite", *losses_at]}))
    address = Address.of_file(tmp_path / "run.db", "run", tmp_path)
    store = Database(address).create(config, {})
    last = config.recipe.steps
    for purpose, seed, more in (("baseline", 0, 0.125), ("rerank", 1, -0.125)):  # the mean over its seeds is FULL
        looks = tuple(Point(proxy, last, accuracy + more, 1.0) for proxy, accuracy in FULL.items())
        found = Evaluation(Fitness({each.proxy: each.accuracy for each in looks}), points=looks, seconds=10.0)
        store.record_beside(purpose, "x", seed, found, name="BN-ReLU")
    finite = measured("finite", False, 0.5)
    passed = measured("finite", True, 0.25)
    losses = measured("loss", True, 1.0), measured("loss", False, 2.0)
    told: list[Evaluation] = [
        *[Evaluation(Rejection("finite", "", 1.0, 0.5, 0), (finite,), seconds=0.5)] * 2,
        *[Evaluation(Rejection("loss", "resnet", 1.0, 0.5, 3), (passed, *losses), seconds=4.0)] * 3,
        Evaluation(Rejection("diverged", "resnet", math.inf, math.inf, 1), (passed,), seconds=1.0),
        Evaluation(Fitness(FULL), (passed, losses[0], measured("loss", True, 2.0)), seconds=20.0),
        Evaluation(Rejection("finite", "", 1.0, 0.5, 0), (), seconds=0.0),
    ]
    for birth, evaluation in enumerate(told, start=1):
        equal_to = 1 if birth == len(told) else None
        graph = Graph.parse("x")
        store.propose(Candidate.of(graph, Probed(f"f{birth}", "", 1.0), birth, seen=0, equal_to=equal_to))
        store.record(birth, graph, evaluation, birth, 0, None)
    far, lost = Rejection("diverged", "resnet", math.inf, math.inf, 1), Crash("time_limit", "hung")
    audits: list[Outcome] = [far, lost]
    audits += [Fitness({proxy: a + lead for proxy, a in FULL.items()}) for lead in (-0.0199, -0.0201, 0.3)]
    for birth, outcome in enumerate(audits, start=1):
        store.record_beside("audit", "x", 0, Evaluation(outcome), birth=birth)
    store.close()
    return Database(address).reader()


def test_the_funnel_counts_what_each_gate_asked_stopped_spent_and_saved(recorded: Reader) -> None:
    rows = {row.gate: row for row in funnel(recorded).rows}
    assert list(rows) == ["finite", "loss 2", "loss 3", "diverged"]
    assert {name: (row.asked, row.stopped) for name, row in rows.items()} == {
        "finite": (7, 2),
        "loss 2": (4, 0),
        "loss 3": (4, 3),
        "diverged": (5, 1),  # of those that trained
    }
    assert [row.spent for row in rows.values()] == [2 * 0.5 + 5 * 0.25, 4.0, 8.0, 0.75]
    full = funnel(recorded).full_seconds
    assert full == (10 + 20) / 2  # of the baseline and of the fitness
    assert [row.saved for row in rows.values()] == [2 * (full - 0.5), 0.0, 3 * (full - 4), full - 1]


def test_the_funnel_tells_false_rejects_with_an_exact_interval(recorded: Reader) -> None:
    rows = {row.gate: row for row in funnel(recorded).rows}
    assert (rows["finite"].audits, rows["loss 3"].audits) == ([False], [True, False, True])
    assert rows["loss 2"].interval is None
    low, high = rows["loss 3"].interval or (0.0, 0.0)
    assert low == pytest.approx(beta.ppf(0.025, 2, 2))  # Clopper and Pearson's, of 2 in 3
    assert high == pytest.approx(beta.ppf(0.975, 3, 1))
    assert rows["finite"].interval == (0.0, pytest.approx(1 - 0.025))
    stricter = {row.gate: row for row in funnel(recorded, within=0.0).rows}
    assert stricter["loss 3"].audits == [False, False, True]


# --------------------------------------------------------------------------- noise


class TablePool(InProcessPool):
    """BN-ReLU has accuracies 0.5, 0.6, 0.7 by its seed; the other layer is 0.1 better, and fails with the third."""

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        key, job = self._waiting.popleft()
        base = 0.5 + job.seed / 10
        outcome: Outcome = Fitness({"resnet": base, "mobilenet": 0.5})
        if Graph.parse(job.graph).digest != LAYERS["BN-ReLU"].graph.digest:
            outcome = Fitness({"resnet": base + 0.1, "mobilenet": 0.5 + base / 10})
            outcome = Crash("error", "no") if job.seed == 2 else outcome
        assert (job.protocol.gates, job.protocol.recipe.seeds) == ((), 1)
        return key, Evaluation(outcome)


def test_noise_is_the_spread_over_seeds_and_of_paired_differences(config: Config) -> None:
    rows = {
        (row.layer, row.proxy): row
        for row in measure_noise(config, Session(TablePool(config.protocol)), [named_graph("GN-ReLU")], 3)
    }
    assert list(rows) == [(n, p) for n in ("BN-ReLU", "GN-ReLU") for p in ("resnet", "mobilenet", "mean")]
    bn, gn = rows["BN-ReLU", "resnet"], rows["GN-ReLU", "resnet"]
    assert bn.accuracies == (0.5, 0.6, 0.7)
    assert (bn.mean, bn.spread) == (pytest.approx(0.6), pytest.approx(0.1))
    low, high = bn.interval or (0.0, 0.0)
    assert (low, high) == (pytest.approx(0.1 * (2 / 7.377759) ** 0.5), pytest.approx(0.1 * (2 / 0.0506356) ** 0.5))
    assert (gn.accuracies, gn.failed) == ((0.6, 0.7), 1)
    assert gn.difference_spread == pytest.approx(0.0, abs=1e-12)
    assert rows["GN-ReLU", "mobilenet"].difference_spread == pytest.approx(0.01 / 2**0.5)
    assert bn.difference_spread is None
    assert rows["BN-ReLU", "mean"].accuracies == pytest.approx((0.5, 0.55, 0.6))


def test_noise_trains_as_a_search_does(config: Config) -> None:
    (row, *_) = measure_noise(config, Session(InProcessPool(config.protocol)), (), 2)
    ungated = config.protocol.model_copy(update={"gates": ()})
    alone = [evaluate(Job(graph=LAYERS["BN-ReLU"].text, protocol=ungated, seed=seed)).outcome for seed in (0, 1)]
    assert [{"resnet": a} for a in row.accuracies] == [
        {"resnet": each.accuracy["resnet"]} for each in alone if isinstance(each, Fitness)
    ]


# --------------------------------------------------------------------------- bench


def test_bench_times_every_way_to_run(config: Config) -> None:
    rows = list(timings(config, [named_graph("BN-ReLU")], 2, "cpu", compiled=False))
    ways = {(r.proxy, r.layer, r.channels_last, r.dtype, r.compiled) for r in rows}
    assert len(ways) == len(rows) == 2 * 2 * 2 * 2
    assert {r.layer for r in rows} == {IDENTITY, "BN-ReLU"}
    assert all(0 < r.step_seconds < 10 and r.compile_seconds == 0 for r in rows)


def row(compiled: bool, step: float, compile_: float = 0.0, last: bool = False, layer: str = "BN-ReLU") -> BenchRow:
    return BenchRow(layer, "resnet", last, "float32", compiled, step, compile_)


@pytest.mark.parametrize(("steps", "compiles"), [(99, False), (101, True)])
def test_compiling_pays_from_its_seconds_over_the_gain(steps: int, compiles: bool) -> None:
    rows = [row(False, 0.5), row(True, 0.25, 25.0), row(False, 1.0, last=True), row(False, 1e-6, layer=IDENTITY)]
    execution, from_steps, totals = best_execution(rows, steps)
    assert from_steps == 100
    assert execution == Execution(compile_from_steps=100 if compiles else "never")
    assert totals["float32, channels first, eager"] == pytest.approx(0.5 * steps)
    assert min(totals.values()) == pytest.approx(min(0.5 * steps, 25 + 0.25 * steps))


def captured(compiled: bool, step: float, setup: float) -> BenchRow:
    return BenchRow("BN-ReLU", "resnet", False, "float32", compiled, step, setup, captured=True)


def test_graphs_are_chosen_where_they_are_fastest_and_compiling_pays_beside_them() -> None:
    """16 s for 100 steps captured, 14 + 5 s compiled and captured: the 15 s more pay after 150 steps, at 0.1 s each."""
    rows = [row(False, 0.5), row(True, 0.25, 25.0), captured(False, 0.15, 1.0), captured(True, 0.05, 16.0)]
    execution, from_steps, totals = best_execution(rows, 100)
    assert execution == Execution(cuda_graphs=True)
    assert from_steps == pytest.approx(150)
    assert totals["float32, channels first, eager, captured"] == pytest.approx(16)
    assert best_execution(rows, 200)[0] == Execution(compile_from_steps=150, cuda_graphs=True)


def test_a_captured_step_is_timed_once_it_is_captured(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "CudaGraph", Tape)
    monkeypatch.setattr(step, "check_graphs", lambda *_: None)
    execution = Execution(cuda_graphs=True)
    recipe = timed_recipe(config, 2, execution)
    assert recipe.steps == step.WARM_UP + 1 + 2
    protocol = config.protocol.model_copy(update={"recipe": recipe, "execution": execution})
    clock = iter([0.0, 9.0] * (step.WARM_UP + 1) + [0.0, 2.0] * 2)  # before and after each step
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr("evonas.workers.training.time", SimpleNamespace(perf_counter=lambda: 0.0))
    first, each = time_training(LAYERS["BN-ReLU"].graph, protocol, "resnet", load(config.data), 0)
    assert (first, each) == (2 + (step.WARM_UP + 1) * (9 - 2), 2)


def test_compiling_that_gains_nothing_never_pays() -> None:
    execution, from_steps, _ = best_execution([row(False, 0.02), row(True, 0.03, 1.0)], 10**6)
    assert from_steps == math.inf
    assert execution.compile_from_steps == "never"
    assert best_execution([row(False, 0.02)], 10)[1] == math.inf  # nothing was compiled
