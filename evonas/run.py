"""A search from Python: `search(config)`, `resume(run)`, `open_run(run)`."""

import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from evonas.config import Config
from evonas.config_file import dump_config, load_config, parse_config
from evonas.evolution import Search, Stopped, is_audited
from evonas.history import History, Pending
from evonas.layers.source import write_layer
from evonas.search_space import fingerprint
from evonas.search_space.errors import InputError
from evonas.search_space.graph import LANGUAGE_VERSION, Graph
from evonas.store.database import CONFIG_FILE, Address, has_run, locate
from evonas.store.queries import Reader
from evonas.store.records import Candidate, Record, Recorded
from evonas.store.store import Store
from evonas.studies.rerank import FinalRow, final_table, rerank
from evonas.workers import data
from evonas.workers.outcome import Crash, Fitness
from evonas.workers.pool import InProcessPool, Pool
from evonas.workers.ray_pool import RayPool

BEST_LAYER = "best_layer.py"


class Run:
    """A run as its database tells it: while it is searched, and long after."""

    def __init__(self, address: Address, reference: str | Path) -> None:
        self._reader = Reader(address)
        self.reference = str(reference)
        self.name = self._reader.name
        self.config = self._reader.config
        self.folder = self._reader.address.folder

    def top(self, n: int = 10, by: str | None = None) -> list[Record]:
        """The best `n` survivors: by mean accuracy minus BN-ReLU's, or by the accuracy on the proxy `by`."""
        return self._reader.top(n, by)

    def spread(self) -> dict[str, tuple[float, int]]:
        """Proxy -> the standard deviation of BN-ReLU's accuracy over seeds, and how many: what a lead has to exceed."""
        return self._reader.spread()

    def candidate(self, birth: int) -> Record:
        """One candidate; raises InputError where there is no such birth."""
        return self._reader.candidate(birth)

    def final_table(self) -> list[FinalRow]:
        """The best few, BN-ReLU and other baselines retrained with fresh seeds; empty until the search has ended."""
        return final_table(self._reader)

    @property
    def finished(self) -> bool:
        return Reader(self._reader.address).finished


@dataclass
class Watcher:
    """What a search tells while it runs; the command line's display is one."""

    history: History | None = None

    def started(self, config: Config, reference: str, history: History, workers: int) -> None:
        self.history = history

    def progress(self, history: History) -> None:
        pass

    def reranked(self, done: int, total: int) -> None:
        pass


def open_run(run: str | Path) -> Run:
    """A run by its folder, its .db file, or URL#run; raises InputError where there is none."""
    return Run(locate(run), run)


def search(
    config: Config | Mapping[str, Any] | str | Path,
    run: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> Run:
    """Launch a search and wait for its end. `config` is a YAML file, a mapping or a Config; `run` the folder to make
    (default: the next free `results/<name>-<nnn>`); `settings` are laid over the file, such as "evolution.births=100".

    Raises InputError for bad input before anything is written, and Stopped on Ctrl-C or SIGTERM, after which `resume`
    goes on.
    """
    if isinstance(config, Mapping) or (isinstance(config, Config) and settings):
        config = parse_config(dump_config(config), "config", settings)
    elif not isinstance(config, Config):
        config = load_config(config, settings)
    if run is not None and Path(run).exists():
        raise InputError(f"--run {run}: exists; choose another folder, or go on with: evonas resume {run}")
    config = _from_anywhere(config)
    images = data.split_digest(config.data)
    history = History(config)
    with open_pool(config) as pool, stop_signals() as should_stop:
        folder = _new_folder(config, run)
        address, store = _address(config, folder), None
        try:
            store = Store.create(address, config, {**_versions(folder), "split": images})
            (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
            return _drive(config, store, pool, history, address, folder, should_stop, watcher or Watcher())
        except InputError:
            if not history.baseline:  # nothing is lost: there was nothing
                if store is not None:
                    store.discard()
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if store is not None:
                store.close()


def resume(run: str | Path, *, watcher: Watcher | None = None) -> Run:
    """Go on where a stopped or killed run was, with the candidates that were in flight. Raises as `search` does."""
    reader = Reader(locate(run))
    config, address = reader.config, reader.address
    check_images(reader)
    store = Store.take_over(address)
    try:
        with open_pool(config) as pool, stop_signals() as should_stop:
            history = rebuild(Reader(address))
            return _drive(config, store, pool, history, address, run, should_stop, watcher or Watcher())
    finally:
        store.close()


def check_images(reader: Reader) -> None:
    """Raises InputError where the images are not those that the run was begun with."""
    images = data.split_digest(reader.config.data)
    if reader.versions.get("split", images) != images:
        raise InputError("data: the images, or their order, are not those that the run was begun with")


def rebuild(reader: Reader) -> History:
    """The loop's memory, from the records alone, read one by one."""
    history = History(reader.config)
    for each in reader.evaluations("baseline"):
        history.set_baseline(each.evaluation)
    for _ in retold(reader, history):
        pass
    audits = reader.evaluations("audit")
    for each in audits:
        if not isinstance(each.evaluation.outcome, Crash):
            history.audits.pop(each.birth or 0, None)
    return history


def retold(
    reader: Reader,
    history: History,
    on_outcome: Callable[[Pending, Recorded], None] = lambda known, recorded: None,
) -> Iterator[Candidate]:
    """A run as it happened, one candidate after the other: each is told before `history` knows of it, when `history` is
    as it was when the candidate was proposed."""
    outcomes = reader.outcomes()

    def record() -> None:
        found = next(outcomes)
        known = history.record(found.birth, found.outcome, found.measurements)
        on_outcome(known, found)
        if known.equal_to is None and is_audited(history.config, found.birth, found.outcome, history):
            history.audits[found.birth] = known.graph

    for candidate in reader.proposals():
        while history.outcomes < candidate.seen:
            record()
        yield candidate
        history.propose(candidate)
    with suppress(StopIteration):
        while True:
            record()


def _drive(
    config: Config,
    store: Store,
    pool: Pool,
    history: History,
    address: Address,
    reference: str | Path,
    should_stop: Callable[[], bool],
    watcher: Watcher,
) -> Run:
    store.should_stop = should_stop
    reader = Reader(address)
    search = Search(config, store, pool, history, reader.outcome, should_stop, watcher.progress, evolved=reader.evolved)
    try:
        watcher.started(config, str(reference), history, pool.capacity)
        search.evaluate_baseline()
        rerank(search, reader, only_baseline=True)  # at once, for the spread between seeds
        search.run()
        rerank(search, reader, watcher.reranked)
        _write_best(reader, address.folder)
        store.finish()
    except (Stopped, KeyboardInterrupt):
        store.event("stopped", "asked to stop")
        raise
    return Run(address, reference)


def _write_best(reader: Reader, folder: Path) -> None:
    """best_layer.py: the best of the final table, or, without a rerank, of the search; nothing if none was trained."""
    births = [row.birth for row in final_table(reader) if row.birth and row.difference is not None]
    births = births or [each.birth for each in reader.top(1)]
    if births:
        export_layer(reader, births[0], folder / BEST_LAYER)


def export_layer(reader: Reader, birth: int, path: Path) -> None:
    """One candidate of a run as a file that imports torch alone."""
    record = reader.candidate(birth)
    row = next((row for row in final_table(reader) if row.birth == birth), None)
    about = f"Birth {birth} of {reader.name}"
    if row is not None and row.difference is not None:
        about += f"; {row.difference * 100:+.2f} points of accuracy against BN-ReLU, mean over {len(row.accuracy)}"
        about += f" proxies and {row.seeds} fresh seeds (small proxy networks: {', '.join(row.accuracy)})."
    elif isinstance(record.outcome, Fitness) and record.advantage is not None:
        about += f"; {record.advantage * 100:+.2f} points of accuracy against BN-ReLU with the search's one seed."
    else:
        about += "; it was not trained to the full budget."
    write_layer(path, Graph.parse(record.graph), title="A normalization-activation layer found by evonas.", about=about)


def _from_anywhere(config: Config) -> Config:
    """With absolute paths, so that the run can be read and resumed from any folder."""
    images, store = config.data, config.store
    if images.source != "embedded":
        path = Path(images.path or data.TORCHVISION_FOLDER).expanduser().absolute()
        images = images.model_copy(update={"path": str(path)})
    if store.url is not None:
        store = store.model_copy(update={"url": Address.of_url(store.url, None).absolute_url})
    return config.model_copy(update={"data": images, "store": store})


def _address(config: Config, folder: Path) -> Address:
    if config.store.url is None:
        return Address.of_file(folder / "run.db", None, folder)
    return Address.of_url(config.store.url, folder.name, folder)


def _new_folder(config: Config, run: str | Path | None) -> Path:
    """The folder that was asked for, or the next one whose name is free, in a shared database too."""
    number = 0
    while True:
        folder = Path(run) if run is not None else Path("results") / f"{config.name}-{number:03d}"
        try:
            if run is not None or not has_run(_address(config, folder), folder.name):
                folder.mkdir(parents=True)
                return folder
        except FileExistsError as error:
            if run is not None or not os.path.lexists(folder):  # then it is a parent that is no folder
                raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
        number += 1


@contextmanager
def open_pool(config: Config) -> Iterator[Pool]:
    """The workers that a config asks for. Raises InputError where they cannot be had."""
    workers = config.workers
    pool: Pool
    if config.cluster.address == "in_process":
        pool = InProcessPool(config.protocol, workers.device)
    else:
        pool = RayPool(
            config.protocol,
            address=config.cluster.address,
            count=None if workers.count == "auto" else workers.count,
            cpus=workers.cpus,
            gpus=workers.gpus,
            memory_gb=workers.memory_gb,
            device=workers.device,
            time_limit_seconds=workers.time_limit_seconds,
            retries=workers.retries,
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the driver's probes are small, and in process one worker is one thread
    try:
        yield pool
    finally:
        torch.set_num_threads(threads)
        pool.close()


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the loop to stop; a second Ctrl-C interrupts at once. (Ray sets its own before.)"""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _versions(folder: Path) -> dict[str, str]:
    """What the run is made with, and where."""
    try:
        own = version("evonas")
    except PackageNotFoundError:
        own = "unknown"
    return {
        "evonas": own,
        "language": str(LANGUAGE_VERSION),
        "fingerprint": str(fingerprint.VERSION),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "time_zone": time.tzname[0],
        "folder": str(folder.absolute()),
    }
