"""Launch a search and go on with one: folders, and the order of a run."""

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
from evonas.config_file import dump_config, load_config, parse_config
from evonas.evolution import Search
from evonas.final import best_birth, contenders, fresh_seeds, missing, rerank
from evonas.history import History, rebuild
from evonas.progress import ProgressBar, Watcher
from evonas.run import Run
from evonas.search_space import fingerprint
from evonas.search_space.errors import InputError
from evonas.search_space.graph import LANGUAGE_VERSION
from evonas.session import Session, Stopped, stop_signals
from evonas.store.address import CONFIG_FILE, DATABASE_FILE, Address
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
        settings: laid over the file, such as "evolution.births=100".
        progress: whether a terminal or a notebook shows a bar.
        watcher: told of the search while it runs, in the place of the bar.

    Raises InputError for bad input before anything is written, and Stopped on Ctrl-C or SIGTERM, after which `resume`
    goes on.
    """
    if isinstance(config, Mapping) or (isinstance(config, Config) and settings):
        config = parse_config(dump_config(config), "config", settings)
    elif not isinstance(config, Config):
        config = load_config(config, settings)
    if run is not None and os.path.lexists(run):
        raise InputError(f"--run {run}: exists; choose another folder, or go on with: evonas resume {run}")
    config = _from_anywhere(config)
    images = data.split_digest(config.data)
    history = History(config)
    with open_pool(config) as pool, stop_signals() as should_stop:
        folder = _new_folder(config, run)
        database, store = Database(_address(config, folder)), None
        try:
            store = database.create(config, {**_versions(folder), "split": images})
            (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
            session = Session(pool, store, should_stop)
            return _drive(session, database.reader(), history, folder, watcher or _bar(progress))
        except InputError:
            if not history.baseline:  # nothing is lost: there was nothing
                if store is not None:
                    store.discard()
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if store is not None:
                store.close()


def resume(run: str | Path, *, progress: bool = True, watcher: Watcher | None = None) -> Run:
    """Go on where a stopped or killed run was, with the candidates that were in flight. A finished run stays as it is,
    but that retrainings that crashed are tried again. Raises as `search` does."""
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
    """The order of a run: BN-ReLU, the search, the final table, the best layer."""
    assert session.store is not None
    config, store = reader.config, session.store
    store.should_stop = session.should_stop
    try:
        watcher.started(config, str(reference), history, session.pool.capacity)
        search = Search(config, session, history, reader.outcome, watcher.progress, evolved=reader.evolved)
        search.evaluate_baseline()
        rerank(session, reader, only_baseline=True)  # at once, for the spread between seeds
        search.run()
        rerank(session, reader, watcher.reranked)
        run = Run(reader, reference)
        best = best_birth(reader)
        if best is not None:
            run.export(best, run.folder / BEST_LAYER)
        store.finish()
    except (Stopped, KeyboardInterrupt):
        store.event(Event.STOPPED, "asked to stop")
        raise
    finally:
        watcher.ended()
    return run


def _bar(progress: bool) -> Watcher:
    return ProgressBar() if progress else Watcher()


def check_images(reader: Reader) -> None:
    """Raises InputError where the images are not those that the run was begun with."""
    images = data.split_digest(reader.config.data)
    if reader.versions.get("split", images) != images:
        raise InputError("data: the images, or their order, are not those that the run was begun with")


def _from_anywhere(config: Config) -> Config:
    """The config with absolute paths, so that the run can be read and resumed from any folder."""
    images, store = config.data, config.store
    if images.source != "embedded":
        path = data.folder_of(images).absolute()
        images = images.model_copy(update={"path": str(path)})
    if store.url is not None:
        store = store.model_copy(update={"url": Address.of_url(store.url, None).absolute_url})
    return config.model_copy(update={"data": images, "store": store})


def _address(config: Config, folder: Path) -> Address:
    if config.store.url is None:
        return Address.of_file(folder / DATABASE_FILE, None, folder)
    return Address.of_url(config.store.url, folder.name, folder)


def _new_folder(config: Config, run: str | Path | None) -> Path:
    """The folder that was asked for, or the next one whose name is free, in a shared database too."""
    number = 0
    while True:
        folder = Path(run) if run is not None else Path("results") / f"{config.name}-{number:03d}"
        try:
            if run is not None or not Database(_address(config, folder)).has_run(folder.name):
                folder.mkdir(parents=True)
                return folder
        except FileExistsError as error:
            if run is not None or not os.path.lexists(folder):  # then it is a parent that is no folder
                raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
        number += 1


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
