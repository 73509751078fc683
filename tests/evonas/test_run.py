"""Opened runs: the same from Python as stored, with a folder in which all of it lies."""

import importlib.util
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import evonas
from evonas.config_file import parse_config, resolve_config
from evonas.driver import BEST_LAYER
from evonas.run import Run
from evonas.search_space.errors import InputError
from evonas.store.database import Database
from tests.conftest import TINY
from tests.evonas.driver_process import logical


def test_search_returns_the_finished_run(calm: Run) -> None:
    assert calm.finished
    assert calm.name == "run"
    best = calm.top(3)
    assert len(best) == 3
    assert [each.advantage for each in best] == sorted((each.advantage or 0.0 for each in best), reverse=True)
    assert calm.candidate(best[0].birth) == best[0]
    births = [each.birth for each in Database.open(calm.reference).reader().candidates()]
    assert births == list(range(1, 41))


def test_open_run_tells_the_same(calm: Run) -> None:
    again = evonas.open_run(calm.folder)
    assert again.top() == calm.top()
    assert again.final_table() == calm.final_table()
    assert again.config == calm.config


def test_the_best_layer_is_a_layer(calm: Run) -> None:
    specification = importlib.util.spec_from_file_location("best_layer", Path(calm.folder) / BEST_LAYER)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    best = next(row for row in calm.final_table() if row.birth)
    x = torch.randn(4, 8, 5, 5)
    layer = evonas.layer(best.formula, 8, groups=4)  # those of both proxies
    assert torch.equal(module.EvolvedLayer(8)(x), layer(x))


def test_the_resolved_config_lies_in_the_folder_and_loads(calm: Run) -> None:
    assert evonas.load_config(Path(calm.folder) / "config.yaml") == calm.config


def test_a_config_of_another_version_is_one_line(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"] |= {"births": 1, "rerank": {"top": 0, "seeds": 1}}
    run = evonas.search(tiny, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as connection, connection:
        connection.execute("UPDATE run SET config = json_set(config, '$.recipe.colour', 'red')")
    for ask in (evonas.open_run, evonas.resume):
        with pytest.raises(InputError, match=r"run\.db: written by evonas .* cannot read: recipe\.colour: ") as error:
            ask(run.folder)
        assert "\n" not in str(error.value)


# --------------------------------------------------------------------------- a database of one's own


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("shared")
    config = json.loads(json.dumps(TINY)) | {"store": {"url": f"sqlite:///{folder / 'all.db'}"}}
    config["evolution"]["births"] = 12
    return folder, evonas.search(config, folder / "runs" / "one")


def test_a_run_in_a_shared_database_still_has_its_own_folder(shared: tuple[Path, Run]) -> None:
    folder, run = shared
    assert run.reference == str(folder / "runs" / "one")
    assert Path(run.folder) == folder / "runs" / "one"
    assert (folder / "runs" / "one" / BEST_LAYER).is_file()


def test_a_run_in_a_shared_database_opens_by_its_folder(shared: tuple[Path, Run]) -> None:
    folder, run = shared
    assert evonas.open_run(folder / "runs" / "one").top() == run.top()


def test_a_run_in_a_shared_database_is_resumed_by_its_url(shared: tuple[Path, Run]) -> None:
    folder, run = shared
    before = logical(run.reference)
    again = evonas.resume(run.reference)
    assert (again.finished, logical(again.reference)) == (True, before)
    assert not (folder / BEST_LAYER).exists()


def test_two_folders_may_keep_runs_of_one_name_in_one_database(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["store"] = {"url": f"sqlite:///{tmp_path / 'all.db'}"}
    tiny["evolution"] |= {"births": 2, "rerank": {"top": 0, "seeds": 1}}
    names = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        names.append(evonas.search(tiny).name)
    assert names == ["tiny-000", "tiny-001"]
    assert [path.name for path in (tmp_path / "there" / "results").iterdir()] == ["tiny-001"]


def test_a_search_that_failed_at_once_leaves_no_name_in_a_shared_database(
    shared: tuple[Path, Run], tmp_path: Path, tiny: dict[str, Any]
) -> None:
    tiny["store"] = {"url": f"sqlite:///{shared[0] / 'all.db'}"}
    tiny["evolution"] |= {"births": 2, "rerank": {"top": 0, "seeds": 1}}
    with pytest.raises(InputError, match="the protocol rejects"):
        evonas.search(tiny | {"gates": [{"quality": {"steps": 3, "min_accuracy": 1.0}}]}, tmp_path / "again")
    assert list(tmp_path.iterdir()) == []
    assert evonas.search(tiny, tmp_path / "again").finished


def test_a_search_that_failed_at_once_leaves_no_run_in_a_new_database(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """The database stays: another driver may be about to use it."""
    tiny["store"] = {"url": f"sqlite:///{tmp_path / 'new.db'}"}
    tiny["gates"] = [{"quality": {"steps": 3, "min_accuracy": 1.0}}]
    with pytest.raises(InputError, match="the protocol rejects"):
        evonas.search(tiny, tmp_path / "run")
    assert [each.name for each in tmp_path.iterdir()] == ["new.db"]
    with pytest.raises(InputError, match="holds no run"):
        evonas.open_run(tiny["store"]["url"])


def test_relative_paths_of_a_config_hold_from_any_folder(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "work" / "images"
    for label in ("cat", "dog"):
        (images / "train" / label).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (number, 20, 30)).save(images / "train" / label / f"{number}.png")
    tiny["data"] = {"source": "folder", "path": "images", "train": 8, "validation": 4, "test": 0, "image_size": 8}
    tiny["store"] = {"url": "sqlite:///all.db"}
    tiny["gates"] = ["depends_on_x", "finite"]
    tiny["evolution"] |= {"births": 3, "rerank": {"top": 0, "seeds": 1}}
    monkeypatch.chdir(tmp_path / "work")
    run = evonas.search(tiny)
    monkeypatch.chdir(tmp_path)
    before = logical(tmp_path / "work" / run.reference)
    by_url = f"sqlite:///{tmp_path / 'work' / 'all.db'}#{run.name}"
    for reference in (tmp_path / "work" / run.reference, by_url):
        assert evonas.resume(reference).folder == tmp_path / "work" / run.reference
    assert logical(by_url) == before


@pytest.mark.parametrize("source", ["CIFAR10", "FashionMNIST"])
def test_data_sets_are_looked_for_where_the_search_was_launched(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Also where the config names no folder; else a resume from another one would not find them."""
    monkeypatch.chdir(tmp_path)
    tiny["data"] = {"source": source}
    config = parse_config(json.dumps(tiny))
    assert resolve_config(config)[0].data.path == str(tmp_path / "data")
