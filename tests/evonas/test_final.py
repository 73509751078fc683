"""The end of a search, and how its figures are preferred afterwards."""

import itertools
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

import evonas
from evonas import driver
from evonas.cli.display import print_end
from evonas.conclusion import conclusion
from evonas.final import FinalRow, conclude, contenders, final_table
from evonas.retraining import fresh_seeds
from evonas.run import Run, open_run
from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.session import Session
from evonas.shared import REMEASURE_SEEDS
from evonas.store.database import Database
from evonas.store.records import Purpose, Trained
from evonas.studies.replay import replay
from evonas.units import Units
from evonas.views import lengths
from evonas.workers.outcome import Evaluation, Fitness
from evonas.workers.protocol import Job
from tests.conftest import TINY
from tests.evonas.driver_process import reranked
from tests.evonas.search_cases import SMALL, FakePool, answer, configured, searched

KNOWN = tuple(LAYERS[name].text for name in ("BN-SiLU", "GN-ReLU"))


def retrained_answer(job: Job) -> Evaluation:
    """As `answer` with the search's seed; with another one, everything is a little worse the longer its text is."""
    found = answer(job)
    if job.seed and isinstance(found.outcome, Fitness):
        value = 0.9 - len(job.graph) / 1000 - job.seed / 100
        return Evaluation(Fitness({"resnet": value, "mobilenet": value}))
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search with its final table."""
    folder = tmp_path_factory.mktemp("finished")
    config = configured(TINY, births=60, space=SMALL, rerank={"top": 4, "seeds": 2})
    searched(folder, config, FakePool(1))
    database = Database.open(folder)
    store = database.own()
    conclude(Session(FakePool(2, retrained_answer), store), database.reader(), folder / "best.py")
    store.close()
    return open_run(folder)


def test_the_best_of_the_final_table_is_written_and_the_run_finished(run: Run) -> None:
    best = run.final_table()[0]
    assert run.finished
    assert f"Birth {best.birth} of" in (run.folder / "best.py").read_text(encoding="utf-8")


def test_without_a_top_only_the_baselines_are_retrained(tmp_path: Path, tiny: dict[str, Any]) -> None:
    config = configured(tiny, births=20, space=SMALL, rerank={"top": 0, "seeds": 1, "baselines": ["GN-ReLU"]})
    _, reader = searched(tmp_path, config, FakePool(1))
    assert reader.top(1)
    assert [(each.birth, each.name) for each in contenders(reader)] == [(None, "BN-ReLU"), (None, "GN-ReLU")]


def test_one_candidate_a_family_is_retrained_the_best_of_it(run: Run) -> None:
    reader = run.reader
    records = [each for each in reader.candidates() if each.advantage is not None and each.equal_to is None]
    best: dict[str, float] = {}
    for each in records:
        best[each.family] = max(best.get(each.family, -1.0), each.advantage or 0.0)
    leading = sorted(best.values(), reverse=True)[:4]
    chosen = [run.candidate(each.birth) for each in contenders(reader) if each.birth]
    assert len(best) > 4
    assert len(records) > len(best)  # some families have several members
    assert sorted((each.advantage or 0.0 for each in chosen), reverse=True) == leading
    assert len({each.family for each in chosen}) == 4


def test_top_lists_the_retrained_first_by_their_fresh_figures_then_the_best_of_the_other_families(run: Run) -> None:
    table = [row for row in run.final_table() if row.birth]
    records = run.top(12)
    assert [each.birth for each in records[:4]] == [row.birth for row in table]
    assert [each.retrained for each in records[:4]] == table
    assert all(each.retrained is None for each in records[4:])
    assert len({each.family for each in records}) == len(records)
    assert all((a.advantage or 0) >= (b.advantage or 0) for a, b in pairwise(records[4:]))
    assert run.top(2) == records[:2]


def test_every_member_of_a_family_is_listed_when_asked_for(run: Run) -> None:
    every = run.top(100, every=True)
    assert len({each.family for each in every}) < len(every)
    survivors = [e for e in run.reader.candidates() if e.advantage is not None and e.equal_to is None]
    assert sorted(each.birth for each in every) == [each.birth for each in survivors]


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("by", [None, "mobilenet"])
def test_pages_follow_each_other_without_a_gap(run: Run, every: bool, by: str | None) -> None:
    whole, pages, after = run.top(100, by, every=every), [], None
    while page := run.top(3, by, after=after, every=every):
        pages += page
        after = page[-1].birth
    assert pages == whole
    assert len(whole) > 6


@pytest.mark.parametrize("proxy", ["resnet", "mobilenet"])
def test_those_retrained_are_ranked_by_one_proxy_if_asked(run: Run, proxy: str) -> None:
    retrained = [each.retrained for each in run.top(100, proxy) if each.retrained]
    means = [mean[0] for mean in (each.accuracy[proxy] for each in retrained) if mean]
    assert len(means) == len(retrained) > 1
    assert means == sorted(means, reverse=True)
    assert means == [each.mean_on(proxy) for each in retrained]


def test_a_table_has_the_baseline_of_the_same_seeds_above_each_kind(run: Run) -> None:
    rows = run.rows(run.top(6))
    assert [(row.birth is None, row.is_fresh) for row in rows] == [
        *((birth is None, True) for birth in (None, 1, 1, 1, 1)),
        *((birth is None, False) for birth in (None, 1, 1)),
    ]
    assert rows[0].accuracy["resnet"] == next(r.accuracy["resnet"] for r in run.final_table() if r.name == "BN-ReLU")
    assert (rows[0].difference, rows[5].difference) == (0.0, 0.0)
    assert rows[5].accuracy == {"resnet": (0.4, None), "mobilenet": (0.3, None)}


def test_a_finished_run_is_resumed_without_a_worker_and_stays_finished(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(config: Any) -> Any:
        raise AssertionError("a pool was opened")

    monkeypatch.setattr(driver, "open_pool", refuse)
    before = list(run.dump(logical=False))
    assert driver.resume(run.folder).finished
    assert list(open_run(run.folder).dump(logical=False)) == before


def row(birth: int | None, name: str | None, *differences: float, **more: Any) -> FinalRow:
    """A layer whose accuracies stand so far above 0.5 with the seeds from 1 on, where BN-ReLU has 0.5 each time."""
    figures = {"accuracy": {}, "difference_spread": None, "failed": 0, "seeds": len(differences)}
    figures["paired"] = figures["seeds"]
    nobody: dict[str, Any] = dict.fromkeys(("parent", "second_parent", "operator"))
    by_seed = {seed: 0.5 + each for seed, each in enumerate(differences, 1)}
    mean = fmean(differences)
    return FinalRow(birth=birth, name=name, formula="", difference=mean, by_seed=by_seed, **figures, **nobody, **more)


@dataclass(frozen=True)
class Said:
    best: float
    known: float
    lines: tuple[str, ...]


@pytest.mark.parametrize(
    "said",
    [
        Said(0.02, -0.01, ("Best: birth 7, +2.0 points against BN-ReLU (1 seed: a tendency, not a proof).",)),
        Said(0.02, 0.03, ("Best: birth 7, +2.0 points against BN-ReLU and -1.0 against EvoNorm-B0, the best known",)),
        Said(0.02, 0.01, ("Best: birth 7, +2.0 points against BN-ReLU and +1.0 against EvoNorm-B0, the best known",)),
        Said(-0.01, -0.02, ("No layer beat BN-ReLU with fresh seeds.", "What next:", "  a longer search")),
        Said(-0.01, 0.03, ("No layer beat", "The best known layer is EvoNorm-B0, +3.0 points", "What next:")),
    ],
)
def test_the_end_says_what_was_found_and_what_to_do_next(said: Said) -> None:
    rows = [row(7, None, said.best), row(None, "EvoNorm-B0", said.known), row(None, "BN-ReLU", 0.0)]
    rows.sort(key=lambda each: -(each.difference or 0.0))
    lines = list(conclusion(rows, "results/a"))
    assert len(lines) >= len(said.lines)
    for line, start in zip(lines, said.lines, strict=False):
        assert line.startswith(start)
    assert any("evonas funnel results/a" in line for line in lines) == (said.best <= 0)


BASE = row(None, "BN-ReLU", 0.0)
LEAKY = {"same_as": "BN-LeakyReLU"}


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        (
            [row(3, None, 0.02, **LEAKY), row(None, "EvoNorm-B0", 0.015), row(12, None, 0.01), BASE],
            [
                "The best candidate, birth 3, is BN-LeakyReLU, a known layer: +2.0 points against BN-ReLU (1 seed: a "
                "tendency, not a proof).",
                "The best that is not known is birth 12, +1.0 points against BN-ReLU and -1.0 against BN-LeakyReLU, "
                "the best known layer (1 seed: a tendency, not a proof).",
            ],
        ),
        (
            [row(12, None, 0.03, affine_of="BatchNorm"), row(3, None, 0.02, **LEAKY), BASE],
            [
                "Best: birth 12, +3.0 points against BN-ReLU and +1.0 against BN-LeakyReLU, the best known layer (1 "
                "seed: a tendency, not a proof).",
                "Birth 12 is equal to BatchNorm, a known layer, up to a scale and a shift of each channel.",
            ],
        ),
        (
            [row(3, None, 0.02, **LEAKY), BASE],
            [
                "Best: birth 3, which is BN-LeakyReLU, a known layer: +2.0 points against BN-ReLU (1 seed: a tendency, "
                "not a proof).",
                "No other candidate was retrained: nothing new was found.",
                "What next:",
            ],
        ),
    ],
)
def test_a_known_layer_is_no_discovery(rows: list[FinalRow], lines: list[str]) -> None:
    assert list(conclusion(rows, "results/a"))[: len(lines)] == lines
    assert ("What next:" in list(conclusion(rows, "results/a"))) == ("What next:" in lines)


Triple = tuple[float, float, float]
B0 = (0.01, 0.03, 0.02)  # with each seed 0.01 below the second find, and -0.01, 0.02, 0.02 below the first


@pytest.mark.parametrize(
    ("find", "control", "said"),
    [  # t(0.975, 2) = 4.303; of 0, 5, 4: mean 3.0, s 2.646, half 6.57; of -1, 2, 2: mean 1.0, s 1.732, half 4.30
        (
            (0.0, 0.05, 0.04),
            B0,
            "+3.0 [-3.6, +9.6] points against BN-ReLU and +1.0 [-3.3, +5.3] against EvoNorm-B0, the best known layer "
            "(95 % intervals over 3 seeds: a tendency, not a proof).",
        ),
        (  # of 2, 4, 3: mean 3.0, s 1, half 2.48; the differences to EvoNorm-B0 are all equal
            (0.02, 0.04, 0.03),
            B0,
            "+3.0 [+0.5, +5.5] points against BN-ReLU and +1.0 [+1.0, +1.0] against EvoNorm-B0, the best known layer "
            "(95 % intervals over 3 seeds).",
        ),
        (  # above BN-ReLU for certain, above EvoNorm-B0 perhaps: of 0, 1, 2, half 2.48
            (0.02, 0.04, 0.03),
            (0.02, 0.03, 0.01),
            "+3.0 [+0.5, +5.5] points against BN-ReLU and +1.0 [-1.5, +3.5] against EvoNorm-B0, the best known layer "
            "(95 % intervals over 3 seeds: a tendency, not a proof).",
        ),
    ],
)
def test_the_end_claims_what_the_intervals_allow(find: Triple, control: Triple, said: str) -> None:
    rows = [row(7, None, *find), row(None, "EvoNorm-B0", *control), row(None, "BN-ReLU", 0.0, 0.0, 0.0)]
    assert next(conclusion(rows, "run")) == f"Best: birth 7, {said}"


def test_known_layers_take_one_place_of_the_final_table_and_files_say_what_they_are(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    """BN-SiLU, GN-ReLU and tanh(x) do best, and the best of them is retrained beside two that are not known."""
    best = {each.digest: 0.9 - n / 100 for n, each in enumerate(map(Graph.parse, ("tanh(x)", *KNOWN)))}

    def respond(job: Job) -> Evaluation:
        found, digest = answer(job), Graph.parse(job.graph).digest
        accuracy = best.get(digest)
        if accuracy is not None:
            return Evaluation(Fitness({"resnet": accuracy, "mobilenet": accuracy}))
        if isinstance(found.outcome, Fitness):
            return Evaluation(Fitness({proxy: each / 2 for proxy, each in found.outcome.accuracy.items()}))
        return found

    rerank = {"top": 3, "seeds": 1}
    config = configured(tiny, births=40, warm_start=["tanh", *KNOWN, "-2 * tanh(x)"], rerank=rerank)
    _, reader = searched(tmp_path, config, FakePool(1, respond))
    births = [each.birth for each in contenders(reader) if each.birth]
    assert births[0] == 1
    assert len(births) == 3
    assert all(birth > 3 for birth in births[1:])
    run = open_run(tmp_path)
    assert [(each.same_as, each.affine_of) for each in map(run.candidate, (1, 2, 3, 4))] == [
        ("tanh", None),
        ("BN-SiLU", None),
        ("GN-ReLU", None),
        (None, "tanh"),
    ]
    assert run.top(3)[0].same_as == "tanh"
    assert run.source(2).startswith('"""BN-SiLU, a known layer: ')
    assert "Up to a scale and a shift of each channel it is tanh, a known layer." in run.source(4)
    rows = run.candidate_rows([run.candidate(1), run.candidate(4)])
    assert [each.known_as for each in rows] == ["tanh", "affine of tanh"]


def test_a_search_that_trained_no_candidate_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    status = SimpleNamespace(by_state={"rejected": 5})
    config = SimpleNamespace(units=Units(("net",)))
    run: Any = SimpleNamespace(reference="results/a", final_table=list, status=lambda: status, config=config)
    print_end(run, Path("nowhere"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["No candidate was trained to the full budget.", "What next:"]
    assert lines[3].endswith(": evonas funnel results/a")


def test_the_final_table_is_the_best_and_the_baseline_with_fresh_seeds(calm: Run) -> None:
    rows = calm.final_table()
    assert [row.name for row in rows].count("BN-ReLU") == 1
    assert len(rows) == 3
    baseline = next(row for row in rows if row.name == "BN-ReLU")
    assert (baseline.difference, baseline.birth, baseline.parent) == (0.0, None, None)
    for row in rows:
        assert (row.seeds, row.failed) == (2, 0)
        assert row.birth is None or row.formula == calm.candidate(row.birth).formula
        assert row.birth is None or row.parent == calm.candidate(row.birth).parent
    differences = [row.difference or 0.0 for row in rows]
    assert differences == sorted(differences, reverse=True)


def test_leaders_and_the_final_table_may_be_trained_longer(tiny: dict[str, Any], tmp_path: Path) -> None:
    """Each as long as BN-ReLU with the same seed."""
    tiny["evolution"] |= {"births": 30, "remeasure": {"share": 0.3, "leaders": 2, "seeds": 3, "steps": 9}}
    tiny["evolution"]["rerank"] = {"top": 1, "seeds": 2, "steps": 12}
    reader = evonas.search(tiny, tmp_path / "run", progress=False).reader

    def steps(evaluations: Iterable[Trained]) -> dict[int, set[int]]:
        """Seed -> the lengths of the trainings that were not stopped."""
        lengths: dict[int, set[int]] = {}
        for each in evaluations:
            if isinstance(each.evaluation.outcome, Fitness):
                lengths.setdefault(each.seed, set()).add(max(point.step for point in each.evaluation.points))
        return lengths

    of_leaders = {0: {6}, REMEASURE_SEEDS + 1: {9}, REMEASURE_SEEDS + 2: {9}}
    searched = [trained for _, trained in reader.searched() if trained and trained.evaluation.points]
    assert steps(reader.evaluations(Purpose.BASELINE)) == of_leaders
    assert steps(searched) == {0: {6}, REMEASURE_SEEDS + 1: {9}}  # no leader was measured a third time
    assert steps(reader.evaluations(Purpose.RERANK)) == {1: {12}, 2: {12}}
    assert [row.seeds for row in final_table(reader)] == [2, 2]
    assert lengths(reader.config) == (
        "Trainings have 6 steps; 9 steps for leaders, with further seeds; "
        "12 steps for the final table, with fresh seeds."
    )
    assert replay(reader) == []


def test_rerank_seeds_are_none_of_the_searchs(calm: Run) -> None:
    reader = Database.open(calm.reference).reader()
    searched = {each.seed for each in (*reader.evaluations("search"), *reader.evaluations("baseline"))}
    fresh = {seed for _, _, seed in reranked(calm.reference)}
    assert searched == {0}
    assert fresh == set(fresh_seeds(calm.config))
    assert len(fresh) == 2
    assert not searched & fresh


def test_a_crashed_retraining_is_repeated_by_resume(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"]["births"] = 15
    run = evonas.search(tiny, tmp_path / "run")
    table = run.final_table()
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as connection, connection:
        crashed = "SET verdict = 'crash', gate = 'worker_died', message = 'gone', advantage = NULL"
        connection.execute(f"UPDATE evaluation {crashed} WHERE purpose = 'rerank' AND name = 'BN-ReLU'")
    torn = run.final_table()
    assert [row.failed for row in torn if row.name == "BN-ReLU"] == [2]
    assert {row.difference for row in torn} == {None}
    assert evonas.resume(run.folder).final_table() == table


def test_candidates_of_one_accuracy_that_trained_differently_are_all_contenders(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    tiny["gates"] = ["depends_on_x", "finite"]
    tiny["evolution"] |= {"births": 30, "rerank": {"top": 5, "seeds": 1}}
    tiny["data"] |= {"validation": 1}  # every accuracy is 0 or 1
    reader = Database.open(evonas.search(tiny, tmp_path / "run").folder).reader()
    best = [each for each in contenders(reader) if each.birth]
    assert len(best) == 5
    curves = [[(p.proxy, p.step, p.loss) for p in reader.evaluation_of(each.birth).points] for each in best]
    assert all(a != b for a, b in itertools.combinations(curves, 2))
