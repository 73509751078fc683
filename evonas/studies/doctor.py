"""Checks before a launch: everything that a config needs, and an estimate of the cost."""

import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_input import load_config
from evonas.driver import try_plugins
from evonas.report.texts import figure_text
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.wording import counted
from evonas.session import Session, Stopped, Ticket
from evonas.store.address import Address, new_path
from evonas.store.database import Database
from evonas.store.writer import StoreError
from evonas.workers import data, plugins
from evonas.workers.outcome import Crash, Fitness
from evonas.workers.plugins import Plugins
from evonas.workers.pool import Pool
from evonas.workers.protocol import Corpus, Data, Job
from evonas.workers.training import compiles

SMOKE_STEPS = 20  # of BN-ReLU on every proxy
SMOKE_SECONDS = 900.0  # to start the workers, load the data and train them
TRAINED_SHARE = 0.04  # share of births trained to the end; the quickstart's
KB_A_BIRTH = 1.5  # in the database; measured by tests/benchmarks/driver.py, rounded up
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "sshfs", "lustre", "gpfs", "beegfs", "ceph", "gluster", "9p", "virtiofs")

Result = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and its result."""

    what: str
    result: Result
    text: str


def doctor(
    config: Config | Mapping[str, Any] | str | Path,
    folder: str | Path = Path("results"),
    *,
    settings: Sequence[str] = (),
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Check everything that a search with a config needs, and estimate its cost.

    `on_finding` is called with each finding as soon as it is there. Raises InputError for a config that
    cannot be read, and for what cannot name a folder.

    >>> evonas.doctor("quickstart.yaml")
    """
    findings = []
    for each in examine(load_config(config, settings), new_path(folder)):
        on_finding(each)
        findings.append(each)
    return findings


def examine(config: Config, folder: Path) -> Iterator[Finding]:
    """Check data, store, disk, nodes, a short evaluation of BN-ReLU, and the cost: the cheap ones first.

    A search with a failed finding would not start. Nothing of the check stays in the store.
    """
    births, gates = counted(config.evolution.births, "birth"), counted(len(config.gates), "gate")
    yield Finding("config", "ok", f"{births} on {', '.join(config.proxies)}; {gates}")
    try:
        used = config.protocol.used_data
        images = data.digest_of(used)
        yield Finding("data", "ok", f"{' and '.join(each.source for each in used)}; split {images}")
    except InputError as error:
        yield Finding("data", "failed", str(error))
        return
    yield from _plugins(config)
    where = _existing(folder if config.store.url is None else Path())
    yield from _store(config, where)
    with suppress(InputError):  # already a finding of the store
        url = Address.of_url(config.store.url, None) if config.store.url is not None else None
        if url is None or url.is_file:  # the disk of a server cannot be seen from here
            yield _disk(config, where if url is None else url.path.absolute().parent)
    try:
        with open_pool(config) as pool:
            workers, each = counted(pool.capacity, "worker"), counted(config.workers.cpus, "CPU")
            text, enough = f"cluster {config.cluster.address}", pool.holds >= pool.capacity
            if not enough:
                text += f", which holds {pool.holds} of them now; the search waits for the others"
            result: Result = "ok" if enough else "warning"
            yield Finding("workers", result, f"{workers} of {each}, {text}")
            yield from _nodes(config, pool, images)
            yield from _smoke(config, pool)
    except InputError as error:
        yield Finding("workers", "failed", str(error))


def _plugins(config: Config) -> Iterator[Finding]:
    """The source of each module that the config names, and a trial of what they have."""
    for module, plugin in config.plugins.items():
        version_of = f", version {plugin.version}" if plugin.version else ""
        yield Finding("plugin", "ok", f"{module}: source {plugin.digest} in {plugin.folder}{version_of}")
    try:
        if tried := try_plugins(config):
            yield Finding("plugins", "ok", f"tried: {', '.join(tried)}")
    except InputError as error:
        yield Finding("plugins", "failed", str(error))


def _existing(folder: Path) -> Path:
    """The folder, or its nearest ancestor that exists."""
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _store(config: Config, folder: Path) -> Iterator[Finding]:
    """Make a run, write to it, lock it against a second driver, and discard it."""
    try:
        with tempfile.TemporaryDirectory(prefix=".evonas-doctor-", dir=folder) as temporary:
            own_folder = Path(temporary)
            url = config.store.url
            address = Address.of_run(own_folder, url)
            store = Database(address).create(config, {})
            try:
                Database(address).own().close()
                yield Finding("store", "failed", f"{address.where}: a lock does not keep a second driver out")
            except InputError:
                yield Finding("store", "ok", f"{address.where if url else folder}: written and locked")
            store.discard()
    except (InputError, OSError, StoreError) as error:
        yield Finding("store", "failed", " ".join(str(error).split()))
        return
    kind = _file_system(address.path if address.is_file and url else folder) if address.is_file else ""
    if any(name in kind for name in NETWORK_FILE_SYSTEMS):
        yield Finding(
            "store", "warning", f"SQLite on a network file system ({kind}): locks may fail there; see store.url"
        )


def _file_system(path: Path) -> str:
    """The type of a path's file system; "" if unknown."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    path = path.resolve()
    holding = [(len(point), kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(holding, default=(0, ""))[1]


def _disk(config: Config, folder: Path) -> Finding:
    needed, free = config.evolution.births * KB_A_BIRTH / 2**10, shutil.disk_usage(folder).free / 2**20
    result: Result = "ok" if free > 2 * needed + 100 else "warning"
    return Finding("disk", result, f"{free / 2**10:.1f} GB free in {folder}; the records may take {needed:.0f} MB")


def look_around(used: tuple[Data | Corpus, ...], modules: Plugins) -> dict[str, str]:
    """Host name, versions and data of the node that runs this."""
    try:
        plugins.check(modules)
        images = data.digest_of(used)
    except InputError as error:
        images = str(error)
    return {**_versions(), "host": platform.node(), "images": images}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("evonas", "torch", "ray"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _nodes(config: Config, pool: Pool, images: str) -> Iterator[Finding]:
    mine = _versions()
    for node in pool.on_every_node(look_around, config.protocol.used_data, config.plugins):
        if isinstance(node, str):
            yield Finding("node", "failed", node)
            continue
        other = [f"{name} {node[name]}, here {mine[name]}" for name in mine if node[name] != mine[name]]
        if node["images"] != images:
            other.append(f"other images: {node['images']}, here {images}")
        if other:
            yield Finding("node", "failed", f"{node['host']}: {'; '.join(other)}")
        else:
            yield Finding("node", "ok", f"{node['host']}: same versions, same images")


def _smoke(config: Config, pool: Pool) -> Iterator[Finding]:
    """Train BN-ReLU for a few steps, and estimate the cost of the search from them."""
    steps = min(SMOKE_STEPS, config.recipe.steps)
    protocol, deadline = config.protocol.ungated(steps=steps, seeds=1), time.monotonic() + SMOKE_SECONDS
    session = Session(pool, should_stop=lambda: time.monotonic() > deadline)
    job = Job(graph=LAYERS[config.baseline].text, protocol=protocol, seed=config.seed)
    session.submit(Ticket(job, name=config.baseline))
    try:
        _, evaluation = session.next()
    except Stopped:
        yield Finding("smoke", "failed", f"no answer within {SMOKE_SECONDS:g} s")
        return
    outcome = evaluation.outcome
    if not isinstance(outcome, Fitness):
        why = f"{outcome.kind}: {outcome.message}" if isinstance(outcome, Crash) else f"{outcome.gate}"
        yield Finding("smoke", "failed", f"{config.baseline}, {counted(steps, 'step')}: {why}")
        return
    shown = ", ".join(
        f"{proxy} {figure_text((value, None))}" for proxy, value in config.units.read(outcome.accuracy).items()
    )
    memory = f"{evaluation.memory_mb:.0f} MB" if evaluation.memory_mb else "memory unknown"
    after = counted(steps, "step")
    yield Finding("smoke", "ok", f"{config.baseline} after {after}: {shown}; {evaluation.conditions}; {memory}")
    a_step = sum(outcome.step_seconds.values())  # on each proxy
    full = (evaluation.seconds + a_step * (config.recipe.steps - steps)) * config.recipe.seeds
    eager = compiles(config.protocol) and not compiles(protocol)
    by = " by eager steps, though this config compiles" if eager else ""
    if full > config.workers.time_limit_seconds:
        yield Finding(
            "time limit",
            "failed",
            f"a full evaluation takes about {full:.0f} s{by}, workers.time_limit_seconds is "
            f"{config.workers.time_limit_seconds:g}",
        )
    hours = config.evolution.births * full / 3600
    workers = max(1, min(pool.holds, pool.capacity))
    likely, minutes = 2 * TRAINED_SHARE * hours / workers, config.evolution.minutes
    costs = (
        f"a full evaluation takes about {full:.1f} s{by}",
        f"training every birth to the end would take {hours:.2f} worker hours",
        f"{hours / workers:.2f} h on {counted(workers, 'worker')}",
        f"{likely:.2f} h if {TRAINED_SHARE:.0%} are trained and the gates cost as much, as in the quickstart",
        *([f"the search ends after {minutes:g} minutes in any case"] if minutes else []),
    )
    yield Finding("cost", "ok", "; ".join(costs))
