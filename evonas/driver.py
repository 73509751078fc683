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
from evonas.config_file import resolve_config
from evonas.evolution import Search
from evonas.final import conclude, contenders
from evonas.history import History
from evonas.layers.resolve import resolve
from evonas.layers.verbatim import expect_torch_alone
from evonas.progress import ProgressBar, Watcher, began
from evonas.retelling import rebuild
from evonas.retraining import fresh_seeds, missing, train_baseline, try_own_networks
from evonas.run import Run
from evonas.search_space import fingerprint
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import LANGUAGE_VERSION
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.wording import counted
from evonas.selection import own_objective
from evonas.session import Session, recording, stop_signals
from evonas.store.address import new_path
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Purpose
from evonas.workers import data
from evonas.workers.outcome import Fitness
from evonas.workers.plugins import is_own
from evonas.workers.trial import try_gates

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
    folder = None if run is None else new_path(run)
    if folder is not None and os.path.lexists(folder):
        raise InputError(f"--run {run}: exists; choose another folder, or go on with: evonas resume {run}")
    watcher = watcher or _bar(progress)
    config, text = resolve_config(config, settings, resolve)
    split = data.digest_of(config.protocol.used_data)
    try_plugins(config)
    watcher.starting()
    with open_pool(config) as pool, stop_signals() as should_stop:
        reader, writer = Database.begin(config, text, folder, {**versions(), "split": split})
        session, history, folder = Session(pool, writer, should_stop), History(config), reader.address.folder
        session.on_wait = lambda: watcher.progress(history)
        with recording(writer), watcher.watching(Run(reader, folder), history, session):
            try:
                train_baseline(session, reader, history)
            except InputError:
                if not history.baseline:  # nothing was evaluated, so nothing is lost
                    writer.discard()
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            Search(config, session, history, reader.outcome, watcher.progress).run()
            conclude(session, reader, folder / BEST_LAYER, watcher.reranked)
    return Run(reader, folder)


def resume(run: str | Path, *, end: bool = False, progress: bool = True, watcher: Watcher | None = None) -> Run:
    """Go on with a stopped or killed run, first with the candidates that were in flight. Of a finished run only crashed
    retrainings are tried again. With `end` no further candidate is proposed: the best are retrained, as after the last
    birth. Raises as `search` does."""
    database = Database.open(run)
    reader = database.reader()
    retrainings = missing(reader, Purpose.RERANK, contenders(reader), fresh_seeds(reader.config))
    if reader.finished and not retrainings:
        return Run(reader, run)
    check_images(reader)
    config, watcher = reader.config, watcher or _bar(progress)
    with recording(database.own()) as writer:
        watcher.starting()
        with open_pool(config) as pool, stop_signals() as should_stop:
            session, history = Session(pool, writer, should_stop), rebuild(reader)
            session.on_wait = lambda: watcher.progress(history)
            with watcher.watching(Run(reader, run), history, session):
                train_baseline(session, reader, history)
                evolved, on_progress = reader.evolved, watcher.progress
                Search(
                    config, session, history, reader.outcome, on_progress, evolved, ending=end, began=began(reader)
                ).run()
                conclude(session, reader, reader.address.folder / BEST_LAYER, watcher.reranked)
    return Run(reader, run)


def _bar(progress: bool) -> Watcher:
    return ProgressBar() if progress else Watcher()


def check_images(reader: Reader) -> None:
    """Raise InputError if the plugins or the images are not those of the run's start."""
    reader.load_plugins()
    images = data.digest_of(reader.config.protocol.used_data)
    if reader.versions.get("split", images) != images:
        raise InputError("data: the images, or their order, are not those that the run was begun with")


def try_plugins(config: Config) -> list[str]:
    """Try the plugins of a config but its data, and return their names. Raises InputError where one fails."""
    for primitive in config.space.own:
        expect_torch_alone(primitive.name, PRIMITIVES[primitive.name].fn)
    goals = [each for each in config.objectives if is_own(each)]
    for each in goals:
        halves = dict.fromkeys(config.proxies, 0.5)
        own_objective(each, Fitness(halves, halves, halves, halves), LAYERS[config.baseline].text)
    networks = try_own_networks(config)
    return [*(each.name for each in config.space.own), *networks, *try_gates(config.protocol), *goals]


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
        "machine": f"{platform.machine()}, {counted(os.cpu_count() or 1, 'CPU')}",
        "time_zone": time.tzname[0],
    }
