"""Whole runs: from Python, killed and resumed, on Ray, and what bad input leaves behind."""

import errno
import importlib.util
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import evonas
from evonas.config_file import launched, parse_config
from evonas.driver import BEST_LAYER
from evonas.final import contenders, fresh_seeds
from evonas.history import History
from evonas.progress import Watcher
from evonas.run import Run
from evonas.search_space.errors import InputError
from evonas.store.database import Database
from evonas.store.writer import Writer
from evonas.studies.replay import replay
from evonas.workers.outcome import Crash, Fitness
from tests.conftest import TINY
from tests.evonas.driver_process import (
    BIRTHS,
    GIVE_UP_SECONDS,
    OUTCOMES,
    RERANKED,
    at_the_moment,
    logical,
    reranked,
    started,
    written,
)
from tests.evonas.search_cases import Killed, answer

TINY_CONFIG = parse_config(json.dumps(TINY))


# --------------------------------------------------------------------------- from Python


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


def test_rerank_seeds_are_none_of_the_searchs(calm: Run) -> None:
    reader = Database.open(calm.reference).reader()
    searched = {each.seed for each in (*reader.evaluations("search"), *reader.evaluations("baseline"))}
    fresh = {seed for _, _, seed in reranked(calm.reference)}
    assert searched == {0}
    assert fresh == set(fresh_seeds(calm.config))
    assert len(fresh) == 2
    assert not searched & fresh


def test_the_best_layer_is_a_layer(calm: Run) -> None:
    specification = importlib.util.spec_from_file_location("best_layer", Path(calm.folder) / BEST_LAYER)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    best = next(row for row in calm.final_table() if row.birth)
    x = torch.randn(4, 8, 5, 5)
    layer = evonas.layer(best.formula, 8, groups=4)  # those of both proxies
    assert torch.equal(module.EvolvedLayer(8)(x), layer(x))


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


def test_the_resolved_config_lies_in_the_folder_and_loads(calm: Run) -> None:
    assert evonas.load_config(Path(calm.folder) / "config.yaml") == calm.config


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
    assert launched(config).data.path == str(tmp_path / "data")


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
    def full(path: Path, text: str, encoding: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError) as refusal:
        Database.begin(parse_config(json.dumps(tiny)), tmp_path / "run", {})
    reason = "cannot be written (No space left on device)"
    assert str(refusal.value) == f"{tmp_path / 'run' / 'config.yaml'}: {reason}"
    assert list(tmp_path.iterdir()) == []


def test_a_config_of_another_version_is_one_line(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"] |= {"births": 1, "rerank": {"top": 0, "seeds": 1}}
    run = evonas.search(tiny, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as connection, connection:
        connection.execute("UPDATE run SET config = json_set(config, '$.recipe.colour', 'red')")
    for ask in (evonas.open_run, evonas.resume):
        with pytest.raises(InputError, match=r"run\.db: written by evonas .* cannot read: recipe\.colour: ") as error:
            ask(run.folder)
        assert "\n" not in str(error.value)


# --------------------------------------------------------------------------- the final table


def test_a_crashed_retraining_is_repeated_by_resume(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"]["births"] = 15
    run = evonas.search(tiny, tmp_path / "run")
    table = run.final_table()
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as connection, connection:
        crashed = "SET verdict = 'crash', gate = 'worker_died', message = 'gone'"
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


# --------------------------------------------------------------------------- stopping, in this process


@dataclass
class Interrupts(Watcher):
    """Sends this process a signal once so many outcomes, or rerank evaluations, are recorded."""

    outcomes: int = 10**9
    rerank: int = 10**9
    number: signal.Signals = signal.SIGINT
    sent: bool = False

    def progress(self, history: History) -> None:
        self._send(history.outcomes >= self.outcomes)

    def reranked(self, done: int, total: int) -> None:
        self._send(done >= self.rerank)

    def _send(self, due: bool) -> None:
        if due and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(calm: Run, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with pytest.raises(evonas.Stopped):
        evonas.search(TINY_CONFIG, folder, watcher=Interrupts(outcomes=5, number=number))
    stopped = evonas.open_run(folder)
    assert not stopped.finished
    assert 5 <= len(logical(folder)) < len(logical(calm.reference))
    for outcomes in (15, 30):
        with pytest.raises(evonas.Stopped):
            evonas.resume(folder, watcher=Interrupts(outcomes=outcomes, number=number))
    with pytest.raises(evonas.Stopped):
        evonas.resume(folder, watcher=Interrupts(rerank=1, number=number))
    assert evonas.resume(folder).finished
    assert logical(folder) == logical(calm.reference)


def test_half_a_rerank_is_no_final_table(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"]["births"] = 15
    with pytest.raises(evonas.Stopped):
        evonas.search(tiny, tmp_path / "run", watcher=Interrupts(rerank=2))
    assert len(reranked(tmp_path / "run")) in (2, 3)
    assert evonas.open_run(tmp_path / "run").final_table() == []


def test_a_resumed_finished_run_changes_no_record(calm: Run) -> None:
    before = logical(calm.reference)
    table = calm.final_table()
    again = evonas.resume(calm.folder)
    assert logical(calm.reference) == before
    assert (again.finished, again.final_table()) == (True, table)


def test_a_run_that_ended_by_the_clock_has_ended(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["evolution"] |= {"births": 10**6, "minutes": 0.005, "rerank": {"top": 1, "seeds": 1}}
    run = evonas.search(tiny, tmp_path / "run")
    assert run.finished
    before = logical(run.reference)
    evonas.resume(run.folder)
    assert logical(run.reference) == before


@pytest.mark.parametrize(
    ("database", "committed", "stride"),
    [
        ("file", True, 5),
        ("file", False, 5),
        *(
            pytest.param(*case, 1, marks=pytest.mark.long)
            for case in itertools.product(("file", "server"), (False, True))
        ),
    ],
)
def test_deaths_at_any_commit_of_a_search_and_of_its_resume_leave_the_uninterrupted_run(
    tmp_path: Path,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    database: str,
    committed: bool,
    stride: int,
) -> None:
    """From its first record to its last, retraining included, with outcomes from a table."""
    monkeypatch.setattr("evonas.workers.pool.evaluate_safely", lambda job, device: answer(job))
    url = request.getfixturevalue("server_database") if database == "server" else None
    tiny["evolution"] |= {"births": 8, "rerank": {"top": 1, "seeds": 1}}
    tiny["store"] = {"url": url}
    expected = logical(evonas.search(tiny, tmp_path / "calm").reference)
    write, left = Writer._write, [0]

    def dying(store: Writer, work: Callable[[Any], Any]) -> None:
        left[0] -= 1
        if left[0] != 0 or committed:
            write(store, work)
        if left[0] == 0:
            assert store._lock is not None
            store._lock.release()  # what the system does
            store._lock = None  # a store without it is closed, and writes nothing
            store.engine.dispose()
            raise Killed

    monkeypatch.setattr(Writer, "seconds_to_flush", 0.0)
    monkeypatch.setattr(Writer, "_write", dying)
    for commit in range(1, 1000, stride):
        folder = tmp_path / f"run{commit}"
        run = f"{url}#{folder.name}" if url else folder
        left[0] = commit
        try:
            evonas.search(tiny, folder)
            break
        except Killed:
            left[0] = commit // 2 + 1
            with suppress(Killed):
                evonas.resume(run)
            left[0] = -1
            assert evonas.resume(run).finished
        assert logical(run) == expected, commit
    assert commit > 12


# --------------------------------------------------------------------------- stopping, from outside


def killed(driver: subprocess.Popen[str], folder: Path, query: str, reached: int) -> list[str]:
    """kill -9 at that moment; the logical records that survive."""
    at_the_moment(driver, folder, query, reached)
    driver.kill()
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    return logical(folder)


def asked_to_stop(
    driver: subprocess.Popen[str], folder: Path, query: str, reached: int, number: signal.Signals
) -> tuple[int, str, str]:
    """Ctrl-C reaches the whole group of a terminal, SIGTERM the driver alone; what it answers."""
    at_the_moment(driver, folder, query, reached)
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)
    else:
        driver.send_signal(number)
    output, errors = driver.communicate(timeout=GIVE_UP_SECONDS)
    return driver.returncode, output, errors


def stopped_well(answer: tuple[int, str, str], folder: Path) -> None:
    """It says how to go on, and exits with 130."""
    code, _, errors = answer
    assert errors.splitlines()[-1:] == [f"Stopped; nothing recorded is lost. Go on with: evonas resume {folder}"]
    assert "Traceback" not in errors
    assert "***" not in errors  # Ray's own report of a signal
    assert code == 130


def test_a_killed_and_a_stopped_driver_are_the_uninterrupted_run(
    calm: Run, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    """Processes of their own, as a terminal has them."""
    folder = tmp_path / "run"
    records = killed(started("search", written(tmp_path, tiny), "--run", str(folder)), folder, OUTCOMES, 5)
    assert 5 <= len(records) < len(logical(calm.reference))
    stopped_well(asked_to_stop(started("resume", str(folder)), folder, OUTCOMES, 15, signal.SIGINT), folder)
    assert evonas.resume(folder).finished
    assert logical(folder) == logical(calm.reference)


@pytest.mark.long
def test_eight_kills_and_resumes_are_the_uninterrupted_run(calm: Run, tmp_path: Path, tiny: dict[str, Any]) -> None:
    """At random moments; many more in tests/benchmarks/resume.py."""
    config, folder = written(tmp_path, tiny), tmp_path / "run"
    records = [killed(started("search", config, "--run", str(folder)), folder, BIRTHS, 1)]
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    print(f"seed {seed}")  # shown where this fails
    moments = [(rng.choice((BIRTHS, OUTCOMES)), reached) for reached in sorted(rng.sample(range(3, 37, 2), 6))]
    records += [killed(started("resume", str(folder)), folder, *moment) for moment in moments]
    killed(started("resume", str(folder)), folder, RERANKED, 4)  # two of BN-ReLU were there before the first birth
    during = reranked(folder)
    counts = [len(each) for each in records]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] < len(logical(folder))
    assert 4 <= len(during) < 6
    assert evonas.resume(folder).finished
    assert logical(folder) == logical(calm.reference)
    assert reranked(folder)[: len(during)] == during  # none repeated, none lost
    assert len(reranked(folder)) == len(set(reranked(folder))) == 6
    assert Database.open(folder).reader().versions["evonas"]


@dataclass
class Interrupted:
    """A Ray run that Ctrl-C, SIGTERM and kill -9 have stopped, one after another, and that then went on to its end."""

    folder: Path
    answers: dict[signal.Signals, tuple[int, str, str]]
    drivers: list[int]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    base = tmp_path_factory.mktemp("ray")
    config = json.loads(json.dumps(TINY)) | {"cluster": {"address": "local"}, "workers": {"count": 1}}
    path, folder = written(base, config), base / "run"
    answers, drivers = {}, []
    driver = started("search", path, "--run", str(folder))
    drivers.append(driver.pid)
    answers[signal.SIGINT] = asked_to_stop(driver, folder, BIRTHS, 3, signal.SIGINT)
    for reached, number in ((8, signal.SIGKILL), (12, signal.SIGTERM), (25, signal.SIGKILL)):
        driver = started("resume", str(folder))
        drivers.append(driver.pid)
        if number == signal.SIGKILL:
            killed(driver, folder, OUTCOMES, reached)
        else:
            answers[number] = asked_to_stop(driver, folder, OUTCOMES, reached, number)
    evonas.resume(folder)
    return Interrupted(folder, answers, drivers)


@pytest.mark.long
def test_an_interrupted_ray_run_is_the_uninterrupted_run(interrupted: Interrupted, calm: Run) -> None:
    assert logical(interrupted.folder) == logical(calm.reference)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_says_how_to_resume_and_exits_with_130(interrupted: Interrupted, number: signal.Signals) -> None:
    stopped_well(interrupted.answers[number], interrupted.folder)


@pytest.mark.long
def test_no_process_of_ray_outlives_its_driver(interrupted: Interrupted) -> None:
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while left := [line for pid in interrupted.drivers for line in _command_lines(f"_{pid}/")]:
        assert time.monotonic() < give_up, left
        time.sleep(0.2)


def _command_lines(part: str) -> list[str]:
    """Of all processes: those that name a driver's session, /tmp/ray/session_<time>_<pid>/."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if "/ray/session_" in text and part in text:
            lines.append(text)
    return lines


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need two cores")
def test_two_workers_whose_driver_is_killed_lose_no_birth_and_give_none_twice(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    tiny |= {"cluster": {"address": "local"}, "workers": {"count": 2}}
    tiny["evolution"]["births"] = births = 24
    killed(started("search", written(tmp_path, tiny), "--run", str(tmp_path / "run")), tmp_path / "run", OUTCOMES, 9)
    run = evonas.resume(tmp_path / "run")
    reader = Database.open(run.folder).reader()
    records = reader.candidates()
    assert [each.birth for each in records] == list(range(1, births + 1))
    assert sorted(each.seq or 0 for each in records) == list(range(1, births + 1))
    assert Counter(each.birth for each in reader.evaluations("search")) == Counter(range(1, births + 1))
    assert replay(Database.open(run.folder).reader()) == []
    assert not any(isinstance(each.outcome, Crash) for each in records)
    assert any(isinstance(each.outcome, Fitness) for each in records)
    assert all(each.birth - 1 - each.seen < 2 for each in records)
    times = Counter((birth, name) for birth, name, _ in set(reranked(run.folder)))
    assert set(times.values()) == {2}
    assert len(reranked(run.folder)) == sum(times.values())
