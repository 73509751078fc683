"""Searches from their launch to their end, and what bad input leaves behind."""

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import evonas
from evonas.config_file import parse_config
from evonas.driver import BEST_LAYER
from evonas.files import DeviceError
from evonas.history import History
from evonas.progress import Watcher
from evonas.run import Run
from evonas.search_space.errors import InputError
from evonas.session import Stopped
from evonas.store.database import Database
from evonas.store.timing import Timing
from tests.evonas.driver_process import (
    logical,
    written,
)

# --------------------------------------------------------------------------- from Python


def test_a_mapping_a_file_and_a_config_are_one_search(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"] |= {"births": 8, "rerank": {"top": 1, "seeds": 1}}
    asked = {"mapping": tiny, "file": written(tmp_path, tiny), "config": parse_config(json.dumps(tiny))}
    dumps = [logical(evonas.search(config, tmp_path / name).reference) for name, config in asked.items()]
    assert dumps[0] == dumps[1] == dumps[2]
    assert len(dumps[0]) > 8


def test_another_seed_is_another_run(calm: Run, tmp_path: Path, tiny: dict[str, Any]) -> None:
    run = evonas.search(tiny, tmp_path / "other", settings=["seed=1", "evolution.births=10", "evolution.rerank.top=0"])
    assert run.config.seed == 1
    assert logical(tmp_path / "other")[:10] != logical(calm.reference)[:10]


def test_a_search_leaves_signals_and_threads_as_they_were(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"]["births"] = 3
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    torch.set_num_threads(2)
    try:
        evonas.search(tiny, tmp_path / "run")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)  # as tests/conftest.py has it
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_search_draws_nothing_from_torchs_global_generator(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"]["births"] = 3
    state = torch.get_rng_state()
    evonas.search(tiny, tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_search_without_a_rerank_ends_too(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"] |= {"births": 12, "rerank": {"top": 0, "seeds": 1}}
    run = evonas.search(tiny, tmp_path / "run")
    assert run.finished
    assert run.top(1)
    assert (tmp_path / "run" / BEST_LAYER).is_file()


def test_a_search_without_a_survivor_ends_without_a_layer(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["space"] = {"nodes": 1, "primitives": ["div"], "aggregations": [], "index_sets": [], "leaves": ["x"]}  # x / x
    tiny["evolution"]["births"] = 3
    run = evonas.search(tiny, tmp_path / "run")
    assert (run.finished, run.top()) == (True, [])
    assert [row.name for row in run.final_table()] == ["BN-ReLU"]
    assert not (tmp_path / "run" / BEST_LAYER).exists()


@pytest.mark.parametrize("steps", [[6], [3, 3]], ids=["at the full budget", "twice at one step"])
def test_quality_gates_may_ask_at_any_step(tmp_path: Path, tiny: dict[str, Any], steps: list[int]) -> None:
    tiny["gates"] = [{"quality": {"steps": each, "of_baseline": 0.5}} for each in steps]
    tiny["evolution"]["births"] = 5
    assert evonas.search(tiny, tmp_path / "run").finished


def test_objective_nodes_is_recorded_with_the_run_and_resumed(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["objectives"] = ["accuracy", "nodes"]
    tiny["evolution"]["births"] = 15
    run = evonas.search(tiny, tmp_path / "run")
    before = logical(run.reference)
    evonas.resume(run.folder)
    assert logical(run.reference) == before


def test_a_run_that_ended_by_the_clock_has_ended(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"] |= {"births": 10**6, "minutes": 0.005, "rerank": {"top": 1, "seeds": 1}}
    run = evonas.search(tiny, tmp_path / "run")
    assert run.finished
    before = logical(run.reference)
    evonas.resume(run.folder)
    assert logical(run.reference) == before


def test_minutes_are_those_of_all_drivers(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["evolution"] |= {"births": 10**6, "minutes": 60, "rerank": {"top": 1, "seeds": 1}}

    class Stops(Watcher):
        def progress(self, history: History) -> None:
            if history.outcomes >= 5:
                raise Stopped

    with pytest.raises(Stopped):
        evonas.search(tiny, tmp_path / "run", watcher=Stops())
    births = evonas.open_run(tmp_path / "run").status().births
    monkeypatch.setattr(Timing, "seconds_driven", lambda self, *, is_running: 3600.0)
    resumed = evonas.resume(tmp_path / "run")
    assert (resumed.finished, resumed.status().births) == (True, births)


def test_a_resumed_finished_run_changes_no_record(calm: Run) -> None:
    before = logical(calm.reference)
    table = calm.final_table()
    again = evonas.resume(calm.folder)
    assert logical(calm.reference) == before
    assert (again.finished, again.final_table()) == (True, table)


# --------------------------------------------------------------------------- bad input


def _under_a_file(config: dict[str, Any], folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "run"


def _existing(config: dict[str, Any], folder: Path) -> Path:
    (folder / "run").mkdir()
    return folder / "run"


def _set(**sections: Any) -> Callable[[dict[str, Any], Path], Path]:
    def change(config: dict[str, Any], folder: Path) -> Path:
        (folder / "theirs.db").write_text("not a database")
        for section, values in sections.items():
            text = json.dumps(values).replace("FOLDER", str(folder))
            config[section] = json.loads(text)
        return folder / "run"

    return change


def _set_value(key: str, value: object) -> Callable[[dict[str, Any], Path], Path]:
    def change(config: dict[str, Any], folder: Path) -> Path:
        config[key] = value
        return folder / "run"

    return change


BAD: dict[str, Callable[[dict[str, Any], Path], Path]] = {
    "the folder exists": _existing,
    "the folder is below a file": _under_a_file,
    "a seed that SQL cannot hold": _set(seed=10**30),
    "no such image folder": _set(data={"source": "folder", "path": "FOLDER/none"}),
    "too few images": _set(data={"train": 20000}),
    "an unknown kind of database": _set(store={"url": "mysql://localhost/evonas"}),
    "no URL": _set(store={"url": "all.db"}),
    "another driver of SQLite": _set(store={"url": "sqlite+aiosqlite:///FOLDER/all.db"}),
    "a database where none can be": _set(store={"url": "sqlite:////proc/all.db"}),
    "average of accuracies and nodes": _set(objectives=["accuracy", "nodes"], evolution={"selection": "average"}),
    "a proxy of no size": _set(proxies={"resnet": {"architecture": "preact_resnet", "width": 10**9}}),
    "a value that YAML has no words for": _set_value("seed", object()),
    "a database in no folder": _set(store={"url": "sqlite:///FOLDER/none/all.db"}),
    "a database that is not evonas'": _set(store={"url": "sqlite:///FOLDER/theirs.db"}),
    "no such cluster": _set(cluster={"address": "127.0.0.1:1"}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path: Path, tiny: dict[str, Any], case: str) -> None:
    run = BAD[case](tiny, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        evonas.search(tiny, run)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_protocol_that_its_own_baseline_fails_is_bad_input(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["gates"] = [{"quality": {"steps": 3, "min_accuracy": 1.0}}]
    with pytest.raises(InputError, match="the protocol rejects BN-ReLU: quality on "):
        evonas.search(tiny, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_results_that_is_no_folder_is_bad_input(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (lambda: Path("results").touch(), lambda: Path("results").symlink_to("nowhere")):
        make()
        with pytest.raises(InputError, match="results/tiny-000: cannot be made"):
            evonas.search(tiny)
        Path("results").unlink()


def test_a_config_that_cannot_be_written_is_one_line_and_leaves_no_folder(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, mode: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    config = parse_config(json.dumps(tiny))
    with monkeypatch.context() as patched, pytest.raises(DeviceError) as refusal:
        patched.setattr(Path, "open", full)
        Database.begin(config, "name: tiny", tmp_path / "run", {})
    reason = "cannot be written (No space left on device)"
    assert str(refusal.value) == f"{tmp_path / 'run' / 'config.yaml'}: {reason}"
    assert list(tmp_path.iterdir()) == []
