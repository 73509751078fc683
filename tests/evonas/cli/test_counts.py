"""Counts in sentences: the right number of seeds, and the noun that goes with it."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evonas.cli.display import Display, print_end
from evonas.cli.layers import headline
from evonas.cli.search_table import SearchTable
from evonas.config import Config
from evonas.config_file import parse_config
from evonas.history import History
from evonas.overview import overview
from evonas.run import Run, open_run
from evonas.search_space.catalog import LAYERS
from evonas.search_space.wording import counted
from evonas.session import Session
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Operator, Purpose
from evonas.units import Units
from evonas.workers.outcome import Evaluation, Fitness, Point
from tests.evonas.cli.cases import Command
from tests.evonas.search_cases import FakePool, known
from tests.evonas.store_cases import FIT, REJECTED, fit, new_run, propose_and_record

SEEDS = {1: "1 seed", 2: "2 seeds"}
FRESH = {1: "1 fresh seed", 2: "2 fresh seeds"}
WRONG = re.compile(r"\b(1 (\w+ )?(seeds|births|trainings|candidates|proxies|nodes|outcomes|steps)|one seed)\b")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 fresh seeds"), (1, "1 fresh seed"), (2, "2 fresh seeds"), (1000, "1000 fresh seeds")]
)
def test_a_count_has_its_noun(count: int, text: str) -> None:
    assert counted(count, "fresh seed") == text


def test_a_plural_may_be_irregular() -> None:
    assert (counted(1, "proxy", "proxies"), counted(2, "proxy", "proxies")) == ("1 proxy", "2 proxies")


def seeded(tiny: dict[str, Any], seeds: int) -> Config:
    evolution = tiny["evolution"] | {"births": 3, "audit_share": 0.5, "rerank": {"top": 1, "seeds": seeds}}
    raw = tiny | {"recipe": tiny["recipe"] | {"seeds": seeds}, "evolution": evolution}
    return parse_config(json.dumps(raw))


def finished(folder: Path, config: Config, *, retrained: int | None) -> Run:
    """Births 1 and 3 are trained, 2 is rejected. In the final table are BN-ReLU, which is 0.25 on each proxy with each
    of the recipe's seeds, and perhaps a candidate, which is 0.5."""
    store = Database(Address.of_file(folder / "run.db", None, folder)).create(config, {"folder": str(folder)})
    for birth, (evaluation, advantage) in enumerate(((FIT, 0.1), (REJECTED, None), (FIT, 0.05)), start=1):
        propose_and_record(store, birth, evaluation, birth, advantage=advantage)
    for seed in range(1, 1 + config.evolution.rerank.seeds):
        points = tuple(Point(proxy, config.recipe.steps, 0.25, 2.0, n) for proxy in config.proxies for n in (0, 1))
        baseline = Evaluation(Fitness(dict.fromkeys(config.proxies, 0.25)), (), points)
        store.record_beside(Purpose.RERANK, "x", seed, baseline, name="BN-ReLU")
        if retrained:
            evaluation = Evaluation(Fitness(dict.fromkeys(config.proxies, 0.5)))
            store.record_beside(Purpose.RERANK, "x", seed, evaluation, birth=retrained)
    store.finish()
    store.close()
    return open_run(folder)


@pytest.mark.parametrize("seeds", [1, 2])
def test_every_text_of_a_run_has_its_number_of_seeds(
    command: Command, tmp_path: Path, tiny: dict[str, Any], seeds: int, capfd: pytest.CaptureFixture[str]
) -> None:
    config = seeded(tiny, seeds)
    run, plain = finished(tmp_path / "run", config, retrained=1), finished(tmp_path / "plain", config, retrained=None)
    texts = {
        "show": command("show", str(run.folder), "1").out,
        "show another": command("show", str(run.folder), "3").out,
        "status": command("status", str(run.folder)).out,
        "status without retrained": command("status", str(plain.folder)).out,
        "funnel": command("funnel", str(run.folder)).out,
        "export": run.source(1),
        "export another": run.source(3),
        "repr": repr(run),
    }
    capfd.readouterr()
    print_end(run, tmp_path / "none")
    texts["end"] = capfd.readouterr().out
    assert f"+10.0 points against BN-ReLU, {SEEDS[seeds]}\nretrained with {FRESH[seeds]}: " in texts["show"]
    assert f"+5.0 points against BN-ReLU, {SEEDS[seeds]}\n" in texts["show another"]
    assert re.search(rf"best: birth 1, \+25.0.* points against BN-ReLU with {FRESH[seeds]}\n", texts["status"])
    expected = f"best: birth 1, +10.0 points against BN-ReLU with {SEEDS[seeds]} in the search\n"
    assert expected in texts["status without retrained"]
    assert f"An audit has {SEEDS[seeds]}; " in texts["funnel"]
    assert f"mean over 2 proxies and {FRESH[seeds]} (" in " ".join(texts["export"].split())
    assert f"mean over 2 proxies and {SEEDS[seeds]} in the search (" in " ".join(texts["export another"].split())
    spread = {1: "", 2: " ±0.0"}
    assert f"+25.0{spread[seeds]} points with {FRESH[seeds]}" in texts["repr"]
    assert f"Retrained with {FRESH[seeds]}: validation accuracy" in texts["end"]
    proof = {
        1: "BN-ReLU (1 seed: a tendency, not a proof)",
        2: "+25.0 [+25.0, +25.0] points against BN-ReLU (95 % intervals over",
    }
    assert proof[seeds] in " ".join(texts["end"].split())
    for text in texts.values():
        assert not WRONG.search(text)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_display_of_a_search_has_its_number_of_seeds(tiny: dict[str, Any], tmp_path: Path, seeds: int) -> None:
    config = seeded(tiny, seeds)
    store = new_run(tmp_path / "run", config)
    points = tuple(Point(proxy, config.recipe.steps, 0.25, 2.0, n) for proxy in config.proxies for n in range(seeds))
    baseline = Evaluation(Fitness(dict.fromkeys(config.proxies, 0.25)), (), points)
    store.record_beside(Purpose.BASELINE, "x", config.seed, baseline, name="BN-ReLU")
    run, file = open_run(tmp_path / "run"), io.StringIO()
    display = Display(Console(file=file, width=200))
    display.started(run, History(config), Session(FakePool(1)))
    propose_and_record(store, 1, fit(0.5, 0.5), 1, advantage=0.25)
    display.stop()
    store.close()
    display.console.print(SearchTable(overview(run)))
    shown = file.getvalue()
    assert "tiny: 3 births on 2 proxies, 1 worker, in " in shown
    assert f"best +25.0 points (birth 1, {SEEDS[seeds]})" in shown
    assert re.search(rf"leads +birth 1, EvoNorm-S0 +\+25\.0 \({seeds}\) ", shown)
    assert not WRONG.search(shown)


def test_the_best_of_leaders_that_were_measured_again_has_all_their_seeds(tiny: dict[str, Any]) -> None:
    raw = tiny | {"recipe": tiny["recipe"] | {"seeds": 2}, "evolution": tiny["evolution"] | {"remeasure": {}}}
    history = History(parse_config(json.dumps(raw)))
    history.baseline = Fitness({"resnet": 0.25, "mobilenet": 0.25})
    history.propose(known(1, LAYERS["GN-ReLU"].graph))
    history.record(1, Fitness({"resnet": 0.5, "mobilenet": 0.5}), ())
    assert history.best is not None
    assert history.best.seeds == 2
    again = replace(known(2, LAYERS["GN-ReLU"].graph), operator=Operator.AGAIN, equal_to=1)
    history.propose(again)
    history.record(2, Fitness({"resnet": 0.25, "mobilenet": 0.25}), ())
    assert (history.best.birth, history.best.seeds) == (1, 4)
    assert history.best.advantage == pytest.approx(0.125)


@pytest.mark.parametrize(("seeds", "announced"), [(1, False), (2, True)])
def test_a_spread_is_announced_where_there_is_one(seeds: int, announced: bool) -> None:
    line = headline("Retrained", seeds, Units(("net",)))
    assert ("mean ± standard deviation over seeds" in line) is announced
    assert "difference in points of accuracy, mean over proxies" in line
