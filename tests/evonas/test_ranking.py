"""The order in which layers are listed, and their figures: by hand from a few accuracies."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evonas.run import Run, open_run
from evonas.search_space.errors import InputError
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.shared import REMEASURE_SEEDS
from evonas.store.records import Candidate, Operator
from evonas.store.writer import Writer
from evonas.views import layer_rows
from evonas.workers.outcome import Evaluation, Fitness, Point, Rejection
from tests.conftest import TINY
from tests.evonas.search_cases import configured
from tests.evonas.store_cases import new_run

FURTHER = REMEASURE_SEEDS + 1
STOPPED = Evaluation(Rejection("quality", "resnet", 0.1, 0.2, 3))
BN_RELU = {0: (0.5, 0.5), FURTHER: (0.6, 0.4)}
SEARCHED = {  # birth -> accuracies with the search's seed, family
    1: ((0.7, 0.7), "a"),
    2: ((0.66, 0.64), "b"),
    3: ((0.6, 0.6), "c"),
    4: ((0.55, 0.55), "b"),
    5: ((0.52, 0.52), "d"),
}
AGAIN = {1: (0.64, 0.4), 3: None}  # with the further seed; a gate stopped birth 3


def fitness(resnet: float, mobilenet: float) -> Evaluation:
    return Evaluation(Fitness({"resnet": resnet, "mobilenet": mobilenet}))


def advantage(accuracies: tuple[float, float], seed: int) -> float:
    return sum(accuracies) / 2 - sum(BN_RELU[seed]) / 2


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A search that measured five layers, the first and the third of them with a second seed."""
    config = configured(TINY, births=10, remeasure={"share": 0.2, "leaders": 2, "seeds": 2})
    store = new_run(tmp_path / "run", config)
    for seed, accuracies in BN_RELU.items():
        store.record_beside("baseline", "max(x, zero)", seed, fitness(*accuracies), name="BN-ReLU")
    for birth, (accuracies, family) in SEARCHED.items():
        propose(store, birth, family=family)
        store.record(birth, graph(birth), fitness(*accuracies), birth, 0, advantage(accuracies, 0))
    for birth, (of, again) in enumerate(AGAIN.items(), start=6):
        propose(store, birth, operator=Operator.AGAIN, family=SEARCHED[of][1], equal_to=of, parent=of)
        found, lead = (STOPPED, None) if again is None else (fitness(*again), advantage(again, FURTHER))
        store.record(birth, graph(of), found, birth, FURTHER, lead)
    store.flush()
    yield store
    store.close()


def graph(birth: int) -> Graph:
    return Graph.parse(f"x * 0.{birth}")


def propose(store: Writer, birth: int, *, family: str, **more: Any) -> None:
    probed = Probed(f"f{more.get('equal_to', birth)}", family, 1.0)
    store.propose(Candidate.of(graph(more.get("equal_to", birth)), probed, birth, seen=birth - 1, **more))


@pytest.fixture
def run(writer: Writer, tmp_path: Path) -> Run:
    return open_run(tmp_path / "run")


def retrain(writer: Writer, **births: tuple[float, float] | None) -> None:
    """Finish the search; with fresh seed 1 BN-ReLU has 0.5 everywhere."""
    writer.record_beside("rerank", "max(x, zero)", 1, fitness(0.5, 0.5), name="BN-ReLU")
    for name, accuracies in births.items():
        outcome = STOPPED if accuracies is None else fitness(*accuracies)
        writer.record_beside("rerank", "x", 1, outcome, birth=int(name[1:]), name=None)
    writer.finish()


def births(records: list[Any]) -> list[int]:
    return [each.birth for each in records]


def test_a_leader_counts_with_its_mean_and_one_that_failed_comes_last(run: Run) -> None:
    assert births(run.top(every=True)) == [1, 2, 4, 5, 3]
    assert births(run.top()) == [1, 2, 5, 3]
    assert births(run.top(after=2)) == [5, 3]
    assert births(run.top(1, after=1)) == [2]
    assert births(run.top(by="mobilenet")) == [1, 2, 5, 3]
    with pytest.raises(InputError, match="birth 4 is not among the layers that are listed"):
        run.top(after=4)


def test_figures_of_several_seeds_are_paired_means_with_their_spread(run: Run) -> None:
    first, second, *_, last = run.top()
    assert first.in_search is not None and second.in_search is not None and last.in_search is not None
    # Differences to BN-ReLU: 0.2 with the search's seed, 0.02 with the further one.
    assert first.in_search.seeds == 2
    assert first.in_search.difference == pytest.approx(0.11)
    assert first.in_search.difference_spread == pytest.approx(0.18 / 2**0.5)
    assert first.in_search.accuracy["resnet"] == pytest.approx((0.67, 0.06 / 2**0.5))
    assert (second.in_search.seeds, second.in_search.difference_spread) == (1, None)
    assert second.in_search.difference == pytest.approx(0.15)
    assert (last.in_search.failed, last.in_search.difference) == (1, None)
    shown = ["0.1 * x, +11.0 ±12.7 points with 2 seeds>", "0.2 * x, +15.0 points with 1 seed>"]
    assert repr(run.top()).splitlines()[:2] == [f"<birth {n}: {text}" for n, text in enumerate(shown, start=1)]
    assert repr(last).endswith("failed with 1 of 2 seeds>")
    assert run.seed_noise() == (pytest.approx(0.18 / 2**0.5), 1)


@pytest.mark.parametrize(
    ("birth", "said"),
    [
        (1, "+11.00 +- 12.73 points of accuracy against BN-ReLU, mean over 2 proxies and 2 seeds in the search"),
        (2, "+15.00 points of accuracy against BN-ReLU, mean over 2 proxies and 1 seed in the search"),
        (3, "it failed with 1 of 2 seeds in the search."),
        (7, "it was not trained to the full budget."),
    ],
)
def test_an_exported_file_states_all_seeds(birth: int, said: str, run: Run) -> None:
    assert f"Birth {birth} of run; {said}" in " ".join(run.source(birth).split())


def test_each_kind_of_rows_follows_a_baseline_with_the_same_seeds(run: Run, writer: Writer) -> None:
    rows = run.rows(run.top(2))
    assert [(row.birth, row.kind_text, row.seeds) for row in rows] == [
        (None, "several seeds of the search", 2),
        (1, "several seeds of the search", 2),
        (None, "in the search", 1),
        (2, "in the search", 1),
    ]
    assert rows[0].accuracy["resnet"] == pytest.approx((0.55, 0.1 / 2**0.5))
    assert rows[2].accuracy == {"resnet": (0.5, None), "mobilenet": (0.5, None)}
    retrain(writer, b4=(0.6, 0.6), b2=(0.5, 0.54))
    finished = open_run(run.reference)
    assert [row.kind_text for row in finished.rows(finished.top(2))] == ["fresh seeds"] * 3


def test_layers_of_the_final_table_come_first_and_all_of_them_are_listed(run: Run, writer: Writer) -> None:
    retrain(writer, b4=(0.6, 0.5), b2=(0.5, 0.54), b5=None)
    finished = open_run(run.reference)
    assert births(finished.top()) == [4, 2, 1, 5, 3]  # 2 and 4 are a family
    assert births(finished.top(by="mobilenet")) == [2, 4, 1, 5, 3]
    assert repr(finished.top()[3]).endswith("failed with 1 of 1 fresh seed>")
    assert layer_rows(finished.reader, [], finished.final_table())[0].is_fresh


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("evaluation SET advantage = 'x' WHERE birth = 6", "evaluation 8: its advantage is x; the file is damaged"),
        ("score SET value = 'x' WHERE evaluation = 8", "value is str, not a number; the file is damaged"),
    ],
)
def test_a_damaged_measurement_of_a_leader_is_one_line(change: str, message: str, run: Run, writer: Writer) -> None:
    with closing(sqlite3.connect(Path(run.reference) / "run.db")) as connection, connection:
        assert connection.execute(f"UPDATE {change}").rowcount
    with pytest.raises(InputError, match=message):
        run.top()


FOUND: dict[str, tuple[Callable[[Run], list[Any]], list[int]]] = {
    "the mean counts, not the first seed": (lambda run: run.find(minimum={"resnet": 0.68}), []),
    "of all seeds": (lambda run: run.find(minimum={"resnet": 0.66}), [1, 2]),
    "on both": (lambda run: run.find(minimum={"resnet": 0.5, "mobilenet": 0.6}), [2, 3]),
    "every member": (lambda run: run.find("mul"), [1, 2, 4, 5, 3]),
    "one a family": (lambda run: run.find("mul", distinct=True), [1, 2, 5, 3]),
    "none": (lambda run: run.find(lacks="m*"), []),
    "the first two": (lambda run: run.find(max_nodes=1, n=2), [1, 2]),
}


@pytest.mark.parametrize(("ask", "expected"), FOUND.values(), ids=FOUND)
def test_find_takes_the_figures_that_are_listed(ask: Callable[[Run], list[Any]], expected: list[int], run: Run) -> None:
    assert births(ask(run)) == expected


def test_with_several_seeds_of_the_recipe_the_spread_is_that_of_its_trainings(tmp_path: Path) -> None:
    config = configured({**TINY, "recipe": TINY["recipe"] | {"seeds": 2}}, births=5)
    store, last = new_run(tmp_path / "run", config), config.recipe.steps

    def evaluation(*accuracies: float) -> Evaluation:
        mean = sum(accuracies) / len(accuracies)
        points = [Point(p, last, a, 1.0, n) for n, a in enumerate(accuracies) for p in ("resnet", "mobilenet")]
        return Evaluation(Fitness({"resnet": mean, "mobilenet": mean}), points=tuple(points))

    store.record_beside("baseline", "max(x, zero)", 0, evaluation(0.5, 0.6), name="BN-ReLU")
    propose(store, 1, family="a")
    store.record(1, graph(1), evaluation(0.7, 0.7), 1, 0, 0.15)
    store.close()
    baseline, row = (run := open_run(tmp_path / "run")).rows(run.top())
    assert (row.seeds, row.is_repeated) == (2, False)
    assert (row.difference, row.difference_spread) == (pytest.approx(0.15), pytest.approx(0.1 / 2**0.5))
    assert baseline.accuracy["resnet"] == pytest.approx((0.55, 0.1 / 2**0.5))
