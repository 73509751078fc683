"""Several runs side by side."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.comparison import Comparison
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from tests.conftest import TINY
from tests.evonas.cli.cases import strict
from tests.evonas.cli.conftest import command as command
from tests.evonas.search_cases import configured
from tests.evonas.store_cases import candidate, fit, new_run

WIDER = {**TINY, "proxies": TINY["proxies"] | {"resnet": TINY["proxies"]["resnet"] | {"width": 16}}}


def run(folder: Path, accuracies: list[float], raw: dict[str, Any], **evolution: Any) -> str:
    """A run whose candidates 1, 2 ... have these accuracies, and BN-ReLU 0.5."""
    config = configured(raw, births=10, **evolution)
    store = new_run(folder, config)
    store.record_beside("baseline", "max(x, zero)", config.seed, fit(0.5, 0.5), name="BN-ReLU")
    for birth, accuracy in enumerate(accuracies, start=1):
        store.propose(candidate(birth))
        store.record(birth, Graph.parse("x"), fit(accuracy, accuracy), birth, 0, accuracy - 0.5)
    store.close()
    return str(folder)


def births(compared: Comparison) -> list[tuple[str, int | None]]:
    return [(row.run, row.birth) for row in compared.rows]


def test_runs_of_the_same_training_are_ranked_together(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [0.6, 0.8], TINY)
    b = run(tmp_path / "b", [0.7], {**TINY, "seed": 3}, population=5)
    compared = evonas.compare([a, evonas.open_run(b)])
    assert births(compared) == [("a", None), ("b", None), ("a", 2), ("b", 1), ("a", 1)]
    assert compared.comparable == ("resnet", "mobilenet")
    assert compared.is_one_ranking
    assert compared.differences == {"seed": (0, 3), "evolution.population": (10, 5)}
    assert list(compared.lines()) == ["seed: 0 (a); 3 (b)", "evolution.population: 10 (a); 5 (b)"]
    assert [each.run for each in compared.records] == ["a", "b", "a"]
    assert births(evonas.compare([a, b], 1, by="mobilenet")) == [("a", None), ("b", None), ("a", 2), ("b", 1)]
    assert "figures are comparable" in compared.text
    assert repr(compared).splitlines()[-1] == "evolution.population: 10 (a); 5 (b)"
    assert compared._repr_html_().count("<tr>") == 1 + 5 + 1 + 2


def test_runs_of_other_networks_follow_each_other_and_say_what_is_comparable(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [0.6], TINY), run(tmp_path / "b", [0.9], WIDER)
    compared = evonas.compare([a, b])
    assert births(compared) == [("a", None), ("a", 1), ("b", None), ("b", 1)]
    assert compared.comparable == ("mobilenet",)
    assert compared.text == (
        "The accuracies on mobilenet are comparable; other accuracies, and the differences to BN-ReLU, are not: the "
        "runs differ in networks, data or recipe."
    )
    assert compared.differences == {"proxies.resnet.width": (8, 16)}
    longer = {**TINY, "recipe": TINY["recipe"] | {"steps": 7}}
    other = evonas.compare([a, run(tmp_path / "c", [0.9], longer)])
    assert other.comparable == ()
    assert other.text.startswith("Neither accuracies nor differences to BN-ReLU are comparable")


def test_other_images_at_the_same_keys_are_not_comparable(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [0.6], TINY), run(tmp_path / "b", [0.7], TINY)
    for folder, split in ((a, "x"), (b, "y")):
        with closing(sqlite3.connect(Path(folder) / "run.db")) as connection, connection:
            connection.execute("UPDATE run SET versions = json_object('split', ?)", (split,))
    compared = evonas.compare([a, b])
    assert (compared.comparable, compared.differences) == ((), {"images": ("x", "y")})


def test_gates_differ_by_their_names_and_keys_that_are_not_there_are_told(tmp_path: Path) -> None:
    looks = [{"quality": {"steps": 2, "of_baseline": 0.5}}, {"quality": {"steps": 4, "min_accuracy": 0.1}}]
    changed = {**TINY, "gates": ["depends_on_x", *looks], "proxies": {"resnet": TINY["proxies"]["resnet"]}}
    a, b, c = (tmp_path / name for name in "abc")
    compared = evonas.compare([run(a, [], TINY), run(b, [], TINY), run_of_one_proxy(c, changed)])
    lines = list(compared.lines())
    assert (
        'gates: ["depends_on_x", "finite", "quality", "stability"] (a, b); ["depends_on_x", "quality", "quality"] (c)'
        in lines
    )
    assert "gates.quality#2.steps: not there (a, b); 4 (c)" in lines
    assert "proxies.mobilenet.width: 0.25 (a, b); not there (c)" in lines
    assert compared.comparable == ("resnet",)
    assert strict(json.dumps(compared.as_json()))["differences"]["gates.quality#2.steps"] == {"c": 4}


def run_of_one_proxy(folder: Path, raw: dict[str, Any]) -> str:
    new_run(folder, configured(raw, births=10)).close()
    return str(folder)


def test_runs_are_named_by_as_much_of_their_place_as_tells_them_apart(tmp_path: Path) -> None:
    places = [tmp_path / "one" / "search", tmp_path / "two" / "search"]
    assert evonas.compare([run(each, [0.6], TINY) for each in places]).runs == ("one/search", "two/search")


@pytest.mark.parametrize("given", ["a", ["a"], []])
def test_one_run_is_no_comparison(given: Any) -> None:
    with pytest.raises(InputError, match="runs: expected at least two"):
        evonas.compare(given)


def test_the_command_line_shows_the_table_and_below_it_what_differs(tmp_path: Path, command: Any) -> None:
    a, b = run(tmp_path / "a", [0.6], TINY), run(tmp_path / "b", [0.7], TINY, population=5)
    answer = command("top", a, b)
    assert (answer.code, answer.err) == (0, "")
    assert [line.split()[:2] for line in answer.lines[1:5]] == [["a", "0.500"], ["b", "0.500"], ["b", "1"], ["a", "1"]]
    assert answer.lines[-2:] == ["The configs differ in:", "  evolution.population: 10 (a); 5 (b)"]
    told = strict(command("top", a, b, "--json").out)
    assert [(each["run"], each["birth"]) for each in told["layers"]] == [("a", None), ("b", None), ("b", 1), ("a", 1)]
    assert [line.split(",")[0] for line in command("top", a, b, "--csv").lines] == ["run", "b", "a"]
    table = command("top", a, b, "--latex").out
    assert r"\begin{tabular}{lrccrrll}" in table
    assert table == evonas.compare([a, b]).latex() + "\n"
    twin = run(tmp_path / "c", [0.6], TINY)
    assert command("top", a, twin).lines[-1] == "The configs do not differ."
    assert "--after: takes one run" in command("top", a, b, "--after", "1").err


def test_a_run_is_compared_with_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = run(tmp_path / "a", [0.5], TINY)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^runs: .* is there more than once$"):
        evonas.compare([a, "./a"])
