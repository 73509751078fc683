"""The loop and its decisions, with a pool that answers from a table instead of training."""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from evonas import evolution
from evonas.config import BASELINE, Config
from evonas.config_file import parse_config
from evonas.evolution import CRASHES_MAX, History, Search, Stopped, is_audited, propose
from evonas.history import REMEASURE_AFTER, REMEASURE_SEEDS
from evonas.run import rebuild, retold
from evonas.store import store as store_module
from evonas.store.database import Address, locate
from evonas.store.queries import Reader
from evonas.store.records import Candidate, Record
from evonas.store.store import Store
from search_space.analysis import depends_on_x
from search_space.catalog import catalog
from search_space.errors import InputError
from search_space.fingerprint import Probed, probe
from search_space.graph import Graph
from search_space.sampling import random_graph
from search_space.space import Space
from workers.outcome import Crash, Evaluation, Fitness, Measurement, Point, Rejection
from workers.protocol import Job

ONLY_NEG = {"nodes": 1, "primitives": ["neg"], "aggregations": [], "index_sets": [], "leaves": ["x"]}  # only -x
ONLY_BATCH = {"nodes": 3, "primitives": [], "aggregations": ["rms"], "index_sets": ["bhw"], "leaves": ["x"]}
SMALL = {"nodes": 2, "primitives": ["neg", "add", "max", "sigmoid"], "aggregations": ["std"], "index_sets": ["hw"]}
PASSED = Evaluation(Fitness({"resnet": 0.5, "mobilenet": 0.5}))
CRASHED = Evaluation(Crash("worker_died", "gone"))


def answer(job: Job) -> Evaluation:
    """A made-up outcome that is a function of the layer: mostly fitness, some rejections, a few crashes."""
    digest = Graph.parse(job.graph).digest
    number = int.from_bytes(sha256(digest.encode()).digest()[:4], "big")
    if digest == catalog[BASELINE].graph.digest:
        return Evaluation(Fitness({"resnet": 0.4, "mobilenet": 0.3}), (), (Point("resnet", 3, 0.2, 2.0),))
    if number % 20 == 0:
        return CRASHED
    if number % 20 < 5:
        measured = Measurement("quality", "resnet", 0.05, 0.1, 3, False, 0.0)
        return Evaluation(Rejection("quality", "resnet", 0.05, 0.1, 3), (measured,))
    return Evaluation(Fitness({"resnet": number % 101 / 100, "mobilenet": number // 101 % 101 / 100}))


class FakePool:
    """Answers each job once, in a random order; refuses more than `capacity` at once, as a pool does."""

    def __init__(self, capacity: int = 1, respond: Callable[[Job], Evaluation] = answer, seed: int = 0) -> None:
        self.capacity = capacity
        self.respond = respond
        self.rng = Random(seed)
        self.running: dict[int, Job] = {}
        self.submitted: list[int] = []
        self.most = 0

    def submit(self, key: int, job: Job) -> None:
        assert key not in self.running
        assert len(self.running) < self.capacity, "more in flight than the pool holds"
        self.running[key] = job
        self.submitted.append(key)
        self.most = max(self.most, len(self.running))

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        if not self.running:
            return None
        key = self.rng.choice(sorted(self.running))
        return key, self.respond(self.running.pop(key))

    def close(self) -> None:
        self.running.clear()


def answering(*evaluations: Evaluation) -> Callable[[Job], Evaluation]:
    """BN-ReLU passes; the candidates get these outcomes in turn, the last for all that follow."""
    left = list(evaluations)

    def respond(job: Job) -> Evaluation:
        if Graph.parse(job.graph).digest == catalog[BASELINE].graph.digest:
            return PASSED
        return left.pop(0) if len(left) > 1 else left[0]

    return respond


def configured(tiny: dict[str, Any], **evolution: Any) -> Config:
    space = evolution.pop("space", {})
    raw = {**tiny, "space": space, "evolution": {**tiny["evolution"], **evolution}}
    return parse_config(json.dumps(raw))


def searched(folder: Path, config: Config, pool: FakePool, **options: Any) -> tuple[Search, Reader]:
    """A search to its end, in a new store."""
    address = Address.of_file(folder / "run.db", "run", folder)
    store = Store.create(address, config, {})
    search = Search(config, store, pool, History(config), Reader(address).outcome, **options)
    try:
        search.evaluate_baseline()
        search.run()
    finally:
        search.store.close()
    return search, Reader(address)


def known(birth: int, graph: Graph, fingerprint: str = "") -> Candidate:
    return Candidate.of(graph, Probed(fingerprint or f"fingerprint of {birth}", "", 1.0), birth, seen=0)


def history_of(config: Config, *objectives: tuple[float, ...]) -> History:
    """A memory in which births 1, 2 ... survived, in this order."""
    history = History(config, baseline={"resnet": 0.1, "mobilenet": 0.1})
    for birth, each in enumerate(objectives, start=1):
        history.propose(known(birth, random_graph(Space(), Random(birth))))
        history.record(birth, Fitness(dict(zip(("resnet", "mobilenet"), each, strict=True))), ())
    return history


def five_incomparable(config: Config) -> History:
    return history_of(config, *((n / 10, -n / 10) for n in range(5)))


def timeless(measurements: tuple[Measurement, ...]) -> list[Measurement]:
    return [replace(each, seconds=0.0) for each in measurements]


# --------------------------------------------------------------------------- propose


def test_propose_is_a_function_of_config_birth_and_history(tiny: dict[str, Any]) -> None:
    config = configured(tiny, random_share=0.3)
    history = five_incomparable(config)
    before = copy.deepcopy(history)
    for birth in range(6, 30):
        random.seed(birth)
        torch.manual_seed(birth)
        _, one, measured_one = propose(config, birth, history)
        random.random(), torch.rand(1)
        _, other, measured_other = propose(config, birth, copy.deepcopy(history))
        assert one == other
        assert timeless(measured_one) == timeless(measured_other)
    assert history == before


def test_another_birth_or_another_seed_is_another_candidate(tiny: dict[str, Any]) -> None:
    history = five_incomparable(configured(tiny))
    drawn = {propose(configured(tiny), birth, history)[0] for birth in range(6, 26)}
    drawn |= {propose(configured({**tiny, "seed": 1}), birth, history)[0] for birth in range(6, 26)}
    assert len(drawn) == 40


def test_a_candidate_says_how_many_outcomes_it_was_proposed_after(tiny: dict[str, Any]) -> None:
    history = five_incomparable(configured(tiny))
    history.propose(known(6, random_graph(Space(), Random(0))))
    assert propose(configured(tiny), 7, history)[1].seen == 5


def test_random_share_1_is_random_search(tiny: dict[str, Any]) -> None:
    config = configured(tiny, random_share=1.0)
    history = five_incomparable(config)
    candidates = [propose(config, birth, history)[1] for birth in range(6, 46)]
    assert {(each.operator, each.parent) for each in candidates} == {("random", None)}


def test_the_sampler_of_the_config_draws_the_random_graphs(tiny: dict[str, Any]) -> None:
    config = configured(tiny, random_share=1.0, duplicates="evaluate", space={"nodes": 10, "sampler": "depends_on_x"})
    drawn = [propose(config, birth, History(config))[0] for birth in range(1, 30)]
    assert all(depends_on_x(graph) for graph in drawn)
    config = configured(tiny, random_share=1.0, duplicates="evaluate", space={"nodes": 10, "leaves": ["x", 0.5]})
    drawn = [propose(config, birth, History(config))[0] for birth in range(1, 30)]
    assert any("0.5" in graph.formula for graph in drawn)
    assert not any(name in str(graph) for graph in drawn for name in ("v0", "v1", "zero"))


def test_random_share_0_mutates_as_soon_as_there_is_a_survivor(tiny: dict[str, Any]) -> None:
    config = configured(tiny, random_share=0.0)
    assert propose(config, 1, History(config))[1].operator == "random"
    operators = {propose(config, birth, five_incomparable(config))[1].operator for birth in range(6, 26)}
    assert operators == {"mutation"}


def test_random_share_decides_how_many_are_random(tiny: dict[str, Any]) -> None:
    config = configured(tiny, random_share=0.25, duplicates="evaluate")
    history = five_incomparable(config)
    operators = [propose(config, birth, history)[1].operator for birth in range(6, 206)]
    assert 25 <= operators.count("random") <= 75  # 50 expected; the seed is fixed, so this never flickers


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_every_one_of_the_newest_survivors_becomes_a_parent_and_no_older_one(
    tiny: dict[str, Any], share: float
) -> None:
    config = configured(tiny, random_share=0.0, population=3, tournament_share=share, duplicates="evaluate")
    history = five_incomparable(config)
    parents = {propose(config, birth, history)[1].parent for birth in range(6, 86)}
    assert parents == {3, 4, 5}


def test_selection_average_takes_the_best_of_a_tournament_of_all(tiny: dict[str, Any]) -> None:
    means = [0.9, 0.2, 0.6, 0.4]  # the first is best, but too old
    config = configured(tiny, random_share=0.0, population=3, tournament_share=1.0, selection="average")
    history = history_of(config, *((mean, mean) for mean in means))
    assert {propose(config, birth, history)[1].parent for birth in range(5, 25)} == {3}


def test_what_the_screening_gates_measured_comes_with_the_candidate(tiny: dict[str, Any]) -> None:
    config, rejected, passed = configured(tiny), 0, 0
    for birth in range(1, 31):
        _, _, measured = propose(config, birth, History(config))
        gates = [each.gate for each in measured]
        assert gates == ["depends_on_x", "finite"][: len(gates)]
        assert [each.passed for each in measured[:-1]] == [True] * (len(measured) - 1)
        rejected, passed = rejected + (not measured[-1].passed), passed + measured[-1].passed
        assert measured[-1].passed or measured[-1].gate in ("depends_on_x", "finite")
        assert not measured[-1].passed or len(gates) == 2
    assert rejected and passed


def test_a_parent_of_one_live_node_has_children_that_are_new(tiny: dict[str, Any]) -> None:
    """Nine of ten of its mutations change dead nodes alone; they accumulate until the function changes."""
    config = configured(tiny, random_share=0.0, duplicates="mutate_again", space={"nodes": 10})
    nodes = [f"n{i} = exp(v1)" for i in range(9)]
    parent = Graph.parse("\n".join([*nodes, "tanh(x)"]))
    history = History(config)
    history.propose(known(1, parent, probe(parent).fingerprint))
    history.record(1, Fitness({"resnet": 0.5, "mobilenet": 0.5}), ())
    for birth in range(2, 42):
        _, candidate, _ = propose(config, birth, history)
        assert candidate.parent == 1
        assert candidate.equal_to is None
        assert candidate.fingerprint not in history.functions
        history.propose(candidate)
        history.record(birth, Rejection("quality", "resnet", 0.1, 0.2, 3), ())


# --------------------------------------------------------------------------- the loop


def equals_before(records: list[Record], candidate: Record) -> list[Record]:
    """Earlier births that are the same function and had an outcome other than a crash when it was proposed."""
    return [
        each
        for each in records[: candidate.birth - 1]
        if each.fingerprint == candidate.fingerprint
        and each.seq is not None
        and each.seq <= candidate.seen
        and not isinstance(each.outcome, Crash)
    ]


@pytest.mark.parametrize(("duplicates", "births"), [("evaluate", 2000), ("inherit", 300), ("mutate_again", 300)])
def test_no_birth_is_lost_or_twice_and_the_store_knows_all_that_the_loop_knows(
    tmp_path: Path, tiny: dict[str, Any], duplicates: str, births: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity, population = 4, 10
    config = configured(tiny, births=births, population=population, duplicates=duplicates, space={"nodes": 4})
    address = Address.of_file(tmp_path / "run.db", "run", tmp_path)
    monkeypatch.setattr(Store, "seconds_to_flush", 0.0)  # whenever the loop waits

    class Checking(FakePool):
        checked = 0

        def next(self, timeout: float) -> tuple[int, Evaluation] | None:
            if self.of is not None and self.of.births >= 100 * (self.checked + 1):
                self.checked += 1
                assert rebuild(Reader(address)) == self.of
            return super().next(timeout)

        of: History | None = None

    pool = Checking(capacity)
    search, reader = searched(tmp_path, config, pool, on_progress=lambda history: setattr(pool, "of", history))
    records = reader.candidates()
    assert pool.checked >= births // 100 - 1  # at its end the loop waits no more
    assert rebuild(reader) == search.history
    assert [each.birth for each in records] == list(range(1, births + 1))
    assert sorted(each.seq or 0 for each in records) == list(range(1, births + 1))
    assert len(reader.evaluations("search")) == births
    assert len({each.birth for each in reader.evaluations("search")}) == births
    assert pool.most == capacity
    assert len(pool.submitted) > births / 10
    assert len(pool.submitted) == len(set(pool.submitted))
    assert not search.history.pending
    mutated = [each for each in records if each.parent is not None]
    assert len(mutated) > births / 5
    by_seq = sorted(records, key=lambda each: each.seq or 0)
    for each in mutated:
        trained = [r.birth for r in by_seq[: each.seen] if isinstance(r.outcome, Fitness)]
        assert each.parent in trained[-population:]
        assert each.operator == "mutation"
    for each in records:
        assert each.seen <= (each.seq or 0) - 1
        assert each.birth - 1 - each.seen < capacity  # the others had outcomes


@pytest.mark.parametrize("capacity", [1, 2, 6])
def test_a_run_goes_on_with_more_or_fewer_workers(tmp_path: Path, tiny: dict[str, Any], capacity: int) -> None:
    config = configured(tiny, births=40, duplicates="evaluate")
    counted: list[int] = []
    with pytest.raises(Stopped):
        searched(
            tmp_path,
            config,
            FakePool(4),
            should_stop=lambda: counted[-1:] >= [15],
            on_progress=lambda h: counted.append(h.outcomes),
        )
    in_flight = [each.birth for each in Reader.open(tmp_path).candidates() if each.state == "pending"]
    assert len(in_flight) >= 3
    pool, store = FakePool(capacity), Store.take_over(locate(tmp_path))
    Search(config, store, pool, rebuild(Reader.open(tmp_path)), Reader.open(tmp_path).outcome).run()
    store.close()
    records = Reader.open(tmp_path).candidates()
    assert [each.birth for each in records] == list(range(1, 41))
    assert sorted(each.seq or 0 for each in records) == list(range(1, 41))
    assert pool.submitted[: len(in_flight)] == in_flight
    assert pool.most == capacity
    for birth in in_flight:  # what the driver had screened is screened again
        evaluation = Reader.open(tmp_path).evaluation_of(birth)
        assert evaluation is not None
        assert [each.gate for each in evaluation.measurements][:2] == ["depends_on_x", "finite"]


class Killed(BaseException):
    """As kill -9: nothing is caught, nothing is written after it."""


@pytest.mark.parametrize("committed", [False, True])
def test_a_death_at_any_commit_leaves_the_uninterrupted_run(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Before the transaction, or just after it, at each of them in turn."""
    raw = {**tiny, "gates": [*tiny["gates"], {"rung": {"steps": 3, "keep": 0.5, "after": 4}}]}
    config = configured(raw, births=26, population=5, duplicates="inherit", audit_share=0.3, space={"nodes": 4})
    _, calm = searched(tmp_path / "calm", config, FakePool(1, rung_answer))
    expected = list(calm.dump())
    write, left = Store._write, [0]

    def dying(store: Store, work: Callable[[Any], Any]) -> None:
        left[0] -= 1
        if left[0] == 0 and not committed:
            raise Killed
        write(store, work)
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(Store, "seconds_to_flush", 0.0)
    monkeypatch.setattr(Store, "_write", dying)
    deaths = 0
    for commit in range(2, 1000):  # the first makes the run
        folder = tmp_path / f"{commit}"
        address = Address.of_file(folder / "run.db", "run", folder)
        left[0] = commit
        store = Store.create(address, config, {})
        search = Search(config, store, FakePool(1, rung_answer), History(config), Reader(address).outcome)
        try:
            search.evaluate_baseline()
            search.run()
        except Killed:
            deaths += 1
            left[0] = 0
        if store._lock is not None:  # what the system does
            store._lock.release()
        store.engine.dispose()
        if deaths < commit - 1:
            break
        store = Store.take_over(address)
        search = Search(config, store, FakePool(1, rung_answer), rebuild(Reader(address)), Reader(address).outcome)
        search.evaluate_baseline()
        search.run()
        store.close()
        for told, wanted in zip(Reader(address).dump(), expected, strict=True):
            assert told == wanted, commit
    assert deaths > 15


def test_no_candidate_is_proposed_while_all_workers_are_busy(tmp_path: Path, tiny: dict[str, Any]) -> None:
    _, reader = searched(tmp_path, configured(tiny, births=60), FakePool(1))
    assert [each.seen for each in reader.candidates()] == list(range(60))


def test_what_needs_no_worker_is_written_all_the_same(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands in a row may be screened; a kill costs moments of them, and a reader sees them come."""
    stopped = Measurement("finite", "", 1.0, 0.5, 0, False, 0.0)
    monkeypatch.setattr(evolution, "screen", lambda *_: (stopped,))
    unwritten: list[int] = []

    def look(history: History) -> None:
        if history.births % 300 == 0 and history.births:
            reader = Reader(Address.of_file(tmp_path / "run.db", "run", tmp_path))
            unwritten.append(history.births - len(reader.candidates()))

    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 1e9)
    monkeypatch.setattr(store_module, "FLUSH_CANDIDATES", 100)
    pool = FakePool(1)
    searched(tmp_path, configured(tiny, births=1000, duplicates="evaluate"), pool, on_progress=look)
    assert pool.submitted == [0]  # BN-ReLU
    assert len(unwritten) >= 3
    assert max(unwritten) <= 100


def test_progress_is_told_at_every_outcome(tmp_path: Path, tiny: dict[str, Any]) -> None:
    told: list[int] = []
    searched(tmp_path, configured(tiny, births=30), FakePool(2), on_progress=lambda h: told.append(h.outcomes))
    assert set(told) >= set(range(1, 31))


def test_screening_asks_no_worker(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(2)
    _, reader = searched(tmp_path, configured(tiny, births=60, duplicates="evaluate"), pool)
    screened = {
        each.birth
        for each in reader.candidates()
        if isinstance(each.outcome, Rejection) and each.outcome.gate in ("depends_on_x", "finite")
    }
    assert screened
    assert set(pool.submitted) - {0} == set(range(1, 61)) - screened


def test_a_screened_candidate_keeps_the_measurements_of_workers_and_driver(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    _, reader = searched(tmp_path, configured(tiny, births=60), FakePool(1))
    stopped = [r for r in reader.candidates() if isinstance(r.outcome, Rejection) and r.outcome.gate == "quality"]
    assert stopped
    for each in stopped:
        evaluation = reader.evaluation_of(each.birth)
        assert evaluation is not None
        gates = [measurement.gate for measurement in evaluation.measurements]
        assert gates == ["depends_on_x", "finite", "quality"] or each.equal_to is not None


def test_every_job_carries_the_baselines_points_at_the_quality_steps(tmp_path: Path, tiny: dict[str, Any]) -> None:
    jobs: list[Job] = []

    def noting(job: Job) -> Evaluation:
        jobs.append(job)
        points = (Point("resnet", 3, 0.2, 2.0), Point("resnet", 6, 0.5, 1.0), Point("mobilenet", 3, 0.1, 2.0))
        return replace(PASSED, points=points)

    config = configured(tiny, births=12)
    searched(tmp_path, config, FakePool(1, noting))
    assert jobs[0].baseline == ()
    assert len(jobs) > 1
    for job in jobs[1:]:
        assert [(p.proxy, p.step, p.accuracy) for p in job.baseline] == [("resnet", 3, 0.2), ("mobilenet", 3, 0.1)]
        assert (job.seed, job.protocol) == (config.seed, config.protocol)


def test_the_baseline_is_trained_before_all_else_and_recorded(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(3)
    search, reader = searched(tmp_path, configured(tiny, births=5), pool)
    assert pool.submitted[0] == 0
    (baseline,) = reader.evaluations("baseline")
    assert (baseline.name, baseline.birth, baseline.seed) == (BASELINE, None, 0)
    assert search.history.baseline == {"resnet": 0.4, "mobilenet": 0.3}


def test_advantage_is_the_mean_difference_to_the_baseline(tmp_path: Path, tiny: dict[str, Any]) -> None:
    search, reader = searched(tmp_path, configured(tiny, births=60), FakePool(2))
    trained = [each for each in reader.candidates() if each.accuracy]
    assert trained
    for each in trained:
        expected = (each.accuracy["resnet"] - 0.4 + each.accuracy["mobilenet"] - 0.3) / 2
        assert each.advantage == pytest.approx(expected)
    best = max(trained, key=lambda each: (each.advantage or 0.0, -(each.seq or 0)))
    found = search.history.best
    assert found is not None
    assert (found.birth, found.advantage, found.seq) == (best.birth, best.advantage, best.seq)


def test_a_protocol_that_rejects_its_own_baseline_is_bad_input(tmp_path: Path, tiny: dict[str, Any]) -> None:
    rejection = Evaluation(Rejection("stability", "resnet", 1e9, 1e8, 7))
    with pytest.raises(InputError, match=r"rejects BN-ReLU: stability on resnet"):
        searched(tmp_path, configured(tiny), FakePool(1, lambda job: rejection))


def test_a_baseline_that_cannot_be_trained_says_why(tmp_path: Path, tiny: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"BN-ReLU cannot be trained: worker_died: gone"):
        searched(tmp_path, configured(tiny), FakePool(1, lambda job: CRASHED))


# --------------------------------------------------------------------------- crashes


def test_so_many_crashes_in_a_row_stop_the_search_and_stay_recorded(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=100, space=ONLY_NEG, duplicates="evaluate")
    with pytest.raises(InputError, match=rf"{CRASHES_MAX} candidates in a row crashed.*worker_died: gone"):
        searched(tmp_path, config, FakePool(1, answering(CRASHED)))
    assert [each.state for each in Reader.open(tmp_path).candidates()] == ["crashed"] * CRASHES_MAX


def test_an_outcome_between_crashes_starts_their_count_again(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=20, space=ONLY_NEG, duplicates="evaluate")
    outcomes = [*[CRASHED] * (CRASHES_MAX - 1), PASSED] * 2
    _, reader = searched(tmp_path, config, FakePool(1, answering(*outcomes)))
    states = [each.state for each in reader.candidates()]
    assert states == [*["crashed"] * (CRASHES_MAX - 1), "evaluated"] * 2


def test_screened_candidates_do_not_hide_that_every_worker_crashes(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=300, duplicates="evaluate")
    pool = FakePool(1, answering(CRASHED))
    with pytest.raises(InputError, match="in a row crashed"):
        searched(tmp_path, config, pool)
    assert len(pool.submitted) == 1 + CRASHES_MAX


# --------------------------------------------------------------------------- rungs


def test_a_rungs_threshold_is_the_least_of_the_best_share_of_earlier_ones(tiny: dict[str, Any]) -> None:
    history = History(parse_config(json.dumps({**tiny, "gates": [{"rung": {"steps": 3, "keep": 0.4, "after": 5}}]})))
    thresholds = []
    for birth, accuracy in enumerate([0.5, 0.1, 0.4, 0.2, 0.3, 0.9], start=1):
        history.propose(known(birth, catalog[BASELINE].graph))
        measured = Measurement("rung", "", accuracy, 0.0, 3, True, 0.0)
        other = Measurement("quality", "resnet", 0.99, 0.0, 3, True, 0.0)
        history.record(birth, Rejection("stability", "resnet", 1e9, 1e8, 1), (other, measured))
        thresholds.append([(each.steps, each.accuracy) for each in history.rung_thresholds()])
    assert thresholds == [[], [], [], [], [(3, 0.4)], [(3, 0.4)]]  # the best two of five, three of six, rounded up


def rung_answer(job: Job) -> Evaluation:
    """As a worker: stopped below the job's threshold."""
    found = answer(job)
    if not isinstance(found.outcome, Fitness):
        return found
    value = sum(found.outcome.accuracy.values()) / 2
    threshold = job.rungs[0].accuracy if job.rungs else 0.0
    measured = Measurement("rung", "", value, threshold, 3, value >= threshold, 0.0)
    outcome = found.outcome if measured.passed else Rejection("rung", "", value, threshold, 3)
    return Evaluation(outcome, (measured,))


@pytest.mark.parametrize("capacity", [1, 3])
def test_the_thresholds_are_those_of_the_outcomes_seen(tmp_path: Path, tiny: dict[str, Any], capacity: int) -> None:
    """Recorded with the candidate, recomputed from the records, and the same after a resume."""
    raw = {**tiny, "gates": [{"rung": {"steps": 3, "keep": 0.5, "after": 4}}]}
    config = configured(raw, births=60)
    _, reader = searched(tmp_path, config, FakePool(capacity, rung_answer))
    again = History(config)
    thresholds = []
    for record in retold(reader, again):
        evaluation = reader.evaluation_of(record.birth)
        rungs = [m for m in evaluation.measurements if m.gate == "rung"] if evaluation else []
        if not rungs:
            continue
        (measured,) = rungs
        expected = again.rung_thresholds()
        assert measured.threshold == (expected[0].accuracy if expected else 0.0)
        thresholds.append(measured.threshold)
    assert thresholds[0] == 0.0
    assert thresholds[-1] > 0.0
    assert again.stopped_by["rung"] > 5


# --------------------------------------------------------------------------- audits


def audit_answer(job: Job) -> Evaluation:
    """Without gates everything is trained; with them every second layer is stopped."""
    number = int.from_bytes(sha256(job.graph.encode()).digest()[:4], "big")
    if job.protocol.gates and Graph.parse(job.graph).digest != catalog[BASELINE].graph.digest and number % 2:
        return Evaluation(Rejection("quality", "resnet", 0.0, 0.1, 3))
    return Evaluation(Fitness({"resnet": 0.5, "mobilenet": number % 100 / 100}))


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_share_of_the_rejected_is_audited_outside_the_population(
    tmp_path: Path, tiny: dict[str, Any], capacity: int
) -> None:
    config = configured(tiny, births=80, audit_share=0.5)
    pool = FakePool(capacity, audit_answer)
    search, reader = searched(tmp_path, config, pool)
    assert pool.most <= capacity
    rejected = [r for r in reader.candidates() if isinstance(r.outcome, Rejection) and r.equal_to is None]
    audited = reader.evaluations("audit")
    births = [each.birth for each in audited]
    assert len(births) == len(set(births))
    assert set(births) <= {r.birth for r in rejected}
    assert 0.3 * len(rejected) < len(births) < 0.7 * len(rejected)
    assert {r.outcome.gate for r in rejected if r.birth in births} >= {"depends_on_x", "quality"}
    assert not {each.birth for each in search.history.population} & set(births)
    assert not {r.parent for r in reader.candidates()} & set(births)
    for each in audited:
        assert isinstance(each.evaluation.outcome, Fitness)
        assert each.advantage == search.history.advantage(each.evaluation.outcome)
    assert rebuild(reader).audits == {}  # all are done


def test_every_gate_is_audited_about_as_often(tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=1, audit_share=0.1)
    history, audits = History(config), {"depends_on_x": 0, "quality": 0}
    graph = catalog[BASELINE].graph
    for birth in range(1, 2001):
        history.propose(known(birth, graph))
        gate = "quality" if birth % 10 == 0 else "depends_on_x"
        outcome = Rejection(gate, "", 0.0, 0.1, 0)
        history.record(birth, outcome, ())
        audits[gate] += is_audited(config, birth, outcome, history)
    assert 70 < audits["quality"] < 130
    assert 70 < audits["depends_on_x"] < 130


def test_a_gate_that_stops_few_is_audited_whole_and_the_others_make_up_the_share(tiny: dict[str, Any]) -> None:
    graph = catalog[BASELINE].graph
    for share, wanted in ((0.5, {"quality": 20, "depends_on_x": 980}), (1.0, {"quality": 20, "depends_on_x": 1980})):
        config = configured(tiny, births=1, audit_share=share)
        history, audits = History(config), {"depends_on_x": 0, "quality": 0}
        for birth in range(1, 2001):
            history.propose(known(birth, graph))
            gate = "quality" if birth % 100 == 50 else "depends_on_x"
            outcome = Rejection(gate, "", 0.0, 0.1, 0)
            history.record(birth, outcome, ())
            audits[gate] += is_audited(config, birth, outcome, history)
        assert audits["quality"] == wanted["quality"]
        assert audits["depends_on_x"] == pytest.approx(wanted["depends_on_x"], rel=0.1)


def test_audits_do_not_change_the_search(tmp_path: Path, tiny: dict[str, Any]) -> None:
    told = []
    for share in (0.0, 0.5):
        config = configured(tiny, births=60, audit_share=share)
        _, reader = searched(tmp_path / str(share), config, FakePool(1, audit_answer))
        told.append([(r.graph, r.outcome, r.seq, r.seen, r.parent) for r in reader.candidates()])
    assert told[0] == told[1]


def test_an_audit_that_was_in_flight_is_made_again(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=40, audit_share=0.5)
    pool = FakePool(2, audit_answer)
    with pytest.raises(Stopped):
        searched(tmp_path, config, pool, should_stop=lambda: any(key < 0 for key in pool.running))
    reader = Reader.open(tmp_path)
    (waiting,) = {-key for key in pool.running if key < 0}
    assert waiting in rebuild(reader).audits
    store = Store.take_over(locate(tmp_path))
    try:
        Search(config, store, FakePool(2, audit_answer), rebuild(reader), reader.outcome).run()
    finally:
        store.close()
    assert waiting in {each.birth for each in Reader.open(tmp_path).evaluations("audit")}


# --------------------------------------------------------------------------- objectives


def test_objectives_other_than_accuracy_are_better_when_less(tiny: dict[str, Any]) -> None:
    fitness = Fitness({"a": 0.5, "b": 0.25}, {"a": 0.01, "b": 0.03}, {"a": 10.0, "b": 30.0})
    config = configured({**tiny, "objectives": ["accuracy", "step_time", "memory", "nodes"]})
    assert History(config).objectives(fitness, 7) == (0.5, 0.25, pytest.approx(-0.02), pytest.approx(-20.0), -7)
    config = configured({**tiny, "objectives": ["nodes", "accuracy"]})
    assert History(config).objectives(fitness, 7) == (-7, 0.5, 0.25)


# --------------------------------------------------------------------------- duplicates


@pytest.mark.parametrize("duplicates", ["mutate_again", "inherit"])
def test_equal_to_is_the_first_equal_candidate_with_an_outcome_and_its_scores(
    tmp_path: Path, tiny: dict[str, Any], duplicates: str
) -> None:
    pool = FakePool(3)
    _, reader = searched(tmp_path, configured(tiny, births=150, space=SMALL, duplicates=duplicates), pool)
    records = reader.candidates()
    inherited = [each for each in records if each.equal_to is not None]
    assert inherited
    for each in records:
        equals = equals_before(records, each)
        assert each.equal_to == (equals[0].birth if equals else None), each.birth
    for each in inherited:
        first = records[(each.equal_to or 0) - 1]
        uses = sum(other.equal_to == each.equal_to for other in records[: each.birth])
        if uses < REMEASURE_AFTER or not isinstance(first.outcome, Fitness):
            assert each.outcome == first.outcome
            assert (each.accuracy, each.advantage) == (first.accuracy, first.advantage)
        else:  # the mean over seeds, and here each seed answers alike
            assert each.accuracy == pytest.approx(first.accuracy)
            assert each.advantage == pytest.approx(first.advantage)
        measured = uses % REMEASURE_AFTER == 0 and isinstance(first.outcome, Fitness)
        assert (each.birth in pool.submitted) == measured


def test_mutate_again_gives_a_new_function_or_inherits(tmp_path: Path, tiny: dict[str, Any]) -> None:
    _, reader = searched(tmp_path, configured(tiny, births=150, space=SMALL, duplicates="mutate_again"), FakePool(1))
    records = reader.candidates()
    new = 0
    for each in records:
        earlier = [other for other in records[: each.birth - 1] if other.fingerprint == each.fingerprint]
        new += not earlier
        lost = all(isinstance(other.outcome, Crash) for other in earlier)  # nothing to inherit from
        assert not earlier or each.equal_to is not None or lost
    assert 20 < new < 150


def test_mutate_again_avoids_functions_in_flight(tiny: dict[str, Any]) -> None:
    config = configured(tiny, space={"nodes": 1, "index_sets": ["hw"]})
    history = History(config)
    seen = set()
    for birth in range(1, 15):
        _, candidate, _ = propose(config, birth, history)
        history.propose(candidate)
        seen.add(candidate.fingerprint)
    assert len(seen) == 14


def test_evaluate_never_inherits(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(2)
    _, reader = searched(tmp_path, configured(tiny, births=20, space=ONLY_NEG, duplicates="evaluate"), pool)
    assert {each.equal_to for each in reader.candidates()} == {None}
    assert sorted(pool.submitted) == list(range(21))


def test_inherit_evaluates_one_function_once(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(1, answering(PASSED))
    _, reader = searched(tmp_path, configured(tiny, births=6, space=ONLY_NEG, duplicates="inherit"), pool)
    assert [each.equal_to for each in reader.candidates()] == [None, 1, 1, 1, 1, 1]
    assert pool.submitted == [0, 1]
    assert [each.birth for each in reader.top(10)] == [1]


def test_a_rejection_is_inherited(tmp_path: Path, tiny: dict[str, Any]) -> None:
    stopped = Evaluation(Rejection("quality", "resnet", 0.05, 0.1, 3))
    pool = FakePool(1, answering(stopped))
    _, reader = searched(tmp_path, configured(tiny, births=3, space=ONLY_NEG, duplicates="inherit"), pool)
    assert [(each.equal_to, each.outcome) for each in reader.candidates()][1:] == [(1, stopped.outcome)] * 2


def test_a_pending_candidate_is_not_inherited_from(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(2)
    _, reader = searched(tmp_path, configured(tiny, births=3, space=ONLY_NEG, duplicates="inherit"), pool)
    assert [each.equal_to for each in reader.candidates()][:2] == [None, None]
    assert {1, 2} <= set(pool.submitted)


def test_a_crash_is_not_inherited_but_a_later_equals_outcome_is(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pool = FakePool(1, answering(CRASHED, PASSED))
    _, reader = searched(tmp_path, configured(tiny, births=4, space=ONLY_NEG, duplicates="inherit"), pool)
    assert [each.equal_to for each in reader.candidates()] == [None, None, 2, 2]


def test_what_was_inherited_ten_times_is_measured_again_and_averaged(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """With a fresh seed each time, and what inherits after it has the mean."""
    config = configured(tiny, births=32, space=ONLY_NEG, duplicates="inherit")
    jobs: list[Job] = []

    def respond(job: Job) -> Evaluation:
        if Graph.parse(job.graph).digest == catalog[BASELINE].graph.digest:
            return PASSED
        jobs.append(job)
        accuracy = (0.2, 0.4, 0.9, 0.1)[len(jobs) - 1]
        return Evaluation(Fitness({"resnet": accuracy, "mobilenet": accuracy}))

    search, reader = searched(tmp_path, config, FakePool(1, respond))
    assert len({job.seed for job in jobs}) == 4
    assert jobs[0].seed == config.seed
    assert all(job.seed >= config.seed + REMEASURE_SEEDS for job in jobs[1:])
    accuracies = [each.accuracy["resnet"] for each in reader.candidates()]
    expected = [*[0.2] * 10, 0.4, *[0.3] * 9, 0.9, *[0.5] * 9, 0.1, 0.4]
    assert accuracies == pytest.approx(expected)
    assert [each.equal_to for each in reader.candidates()] == [None, *[1] * 31]
    assert search.history.population[-1].objectives == pytest.approx((0.4, 0.4))
    assert rebuild(reader) == search.history
    assert [each.birth for each in reader.top()] == [1]


# --------------------------------------------------------------------------- warm start, constraints, patience


def test_a_warm_start_is_the_first_births_padded_with_dead_nodes(tmp_path: Path, tiny: dict[str, Any]) -> None:
    names = ("EvoNorm-S0", "BN-ReLU")
    config = configured(tiny, births=40, warm_start=names, random_share=0.0, space={"nodes": 10})
    _, reader = searched(tmp_path, config, FakePool(1, answering(PASSED)))
    records = reader.candidates()
    for record, name in zip(records, names, strict=False):
        graph = Graph.parse(record.graph)
        assert (record.operator, record.parent) == ("catalog", None)
        assert len(graph.nodes) == 10
        assert record.digest == catalog[name].graph.digest
    assert {each.operator for each in records[2:]} == {"mutation"}
    assert {1, 2} & {each.parent for each in records[2:]}


def test_constraints_hold_for_every_candidate(tmp_path: Path, tiny: dict[str, Any]) -> None:
    space = {"nodes": 8, "batch_dependent": False, "live_nodes_max": 4}
    _, reader = searched(tmp_path, configured(tiny, births=80, random_share=0.3, space=space), FakePool(2))
    records = reader.candidates()
    assert not any(each.batch_dependent for each in records)
    assert max(each.live_nodes for each in records) == 4
    assert {each.operator for each in records} == {"random", "mutation"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warm_start": ["EvoNorm-S9"]}, "unknown layer 'EvoNorm-S9'"),
        ({"warm_start": ["BN-ReLU"], "space": {"nodes": 10, "index_sets": ["hw"]}}, "which the space lacks"),
        ({"warm_start": ["EvoNorm-B0"], "space": {"nodes": 2}}, "the space 2"),
        ({"warm_start": ["BN-ReLU"], "space": {"nodes": 10, "batch_dependent": False}}, "do not allow it"),
        ({"space": {**ONLY_BATCH, "batch_dependent": False}}, "none of 2000 random graphs meets them"),
    ],
)
def test_what_no_graph_of_the_space_can_be_is_bad_input(
    tiny: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        configured(tiny, **changes)


def test_patience_ends_a_search_that_finds_nothing_better(tmp_path: Path, tiny: dict[str, Any]) -> None:
    search, reader = searched(tmp_path, configured(tiny, births=500, patience=25), FakePool(1))
    assert search.history.best is not None
    assert search.history.births == search.history.best.seq + 25 < 500
    assert len(reader.candidates()) == search.history.births
