"""Launch a search, resume one, and the order of a run."""

import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_file import launched
from evonas.evolution import Search
from evonas.files import write
from evonas.final import conclude, contenders, fresh_seeds, missing, rerank
from evonas.history import History, rebuild
from evonas.layers.candidate import candidate_source
from evonas.layers.resolve import resolve
from evonas.progress import ProgressBar, Watcher
from evonas.run import Run
from evonas.search_space import fingerprint
from evonas.search_space.errors import InputError
from evonas.search_space.graph import LANGUAGE_VERSION
from evonas.session import Session, Stopped, stop_signals
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Event, Purpose
from evonas.workers import data

BEST_LAYER = "best_layer.py"


def search(
    config: Config | Mapping[str, Any] | str | Path,
    run: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    progress: bool = True,
    watcher: Watcher | None = None,
) -> Run:
    """Launch a search and wait for its end.

    Args:
        config: a YAML file, a mapping or a Config.
        run: the folder to make; by default the next free `results/<name>-<nnn>`.
        settings: overrides of the config, such as "evolution.births=100".
        progress: whether to show a bar in a terminal or a notebook.
        watcher: gets the progress of the search, instead of the bar.

    Raises InputError for bad input before anything is written, and Stopped on Ctrl-C or SIGTERM; `resume` then goes on.
    """
    if run is not None and os.path.lexists(run):
        raise InputError(f"--run {run}: exists; choose another folder, or go on with: evonas resume {run}")
    config = launched(config, settings, resolve)
    split = data.split_digest(config.data)
    with open_pool(config) as pool, stop_signals() as should_stop:
        folder = Path(run) if run is not None else None
        database, writer = Database.begin(config, folder, {**versions(), "split": split})
        session, history, folder = Session(pool, writer, should_stop), History(config), database.address.folder
        try:
            return _drive(session, database.reader(), history, folder, watcher or _bar(progress))
        except InputError:
            if not history.baseline:  # nothing was evaluated, so nothing is lost
                writer.discard()
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            writer.close()


def resume(run: str | Path, *, progress: bool = True, watcher: Watcher | None = None) -> Run:
    """Go on with a stopped or killed run, first with the candidates that were in flight. Of a finished run only crashed
    retrainings are tried again. Raises as `search` does."""
    database = Database.open(run)
    reader = database.reader()
    if reader.finished and not missing(reader, Purpose.RERANK, contenders(reader), fresh_seeds(reader.config)):
        return Run(reader, run)
    check_images(reader)
    store = database.own()
    try:
        with open_pool(reader.config) as pool, stop_signals() as should_stop:
            session = Session(pool, store, should_stop)
            return _drive(session, reader, rebuild(reader), run, watcher or _bar(progress))
    finally:
        store.close()


def _drive(session: Session, reader: Reader, history: History, reference: str | Path, watcher: Watcher) -> Run:
    """Drive a run in its order: BN-ReLU, the search, the final table, the best layer."""
    assert session.store is not None
    config, store = reader.config, session.store
    try:
        watcher.started(config, str(reference), history, session.pool.capacity)
        search = Search(config, session, history, reader.outcome, watcher.progress, evolved=reader.evolved)
        search.evaluate_baseline()
        rerank(session, reader, only_baseline=True)  # before the search, for the spread over seeds
        search.run()
        best = conclude(session, reader, watcher.reranked)
        if best is not None:
            source = candidate_source(best, reader.graph(best.birth), reader.name, config)
            write(reader.address.folder / BEST_LAYER, source)
        store.finish()
    except (Stopped, KeyboardInterrupt):
        store.event(Event.STOPPED, "asked to stop")
        raise
    finally:
        watcher.ended()
    return Run(reader, reference)


def _bar(progress: bool) -> Watcher:
    return ProgressBar() if progress else Watcher()


def check_images(reader: Reader) -> None:
    """Raise InputError if the images are not those of the run's start."""
    images = data.split_digest(reader.config.data)
    if reader.versions.get("split", images) != images:
        raise InputError("data: the images, or their order, are not those that the run was begun with")


def versions() -> dict[str, str]:
    """Versions of the software, and the machine, of a run."""
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
    }
