"""Pools of workers on this machine or a cluster, and searches sent to a cluster as Ray jobs.

This file and workers/ray_pool.py are the only ones that import ray.
"""

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evonas.config import Config
from evonas.config_file import dump_config
from evonas.config_input import load_config
from evonas.search_space.errors import InputError, short
from evonas.store.address import in_one_line
from evonas.workers import machine, plugins
from evonas.workers.pool import InProcessPool, Pool
from evonas.workers.ray_pool import RayPool

CONFIG_NAME = "evonas.yaml"  # in the job's working folder


@contextmanager
def open_pool(config: Config) -> Iterator[Pool]:
    """Open the pool of workers that a config describes. Raises InputError if they cannot be started."""
    workers = config.workers
    plugins.check(config.plugins)
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
    with machine.threads(1):  # probes of the driver are small; an in-process worker has one thread
        try:
            yield pool
        finally:
            pool.close()


def submit(
    config: Config | Mapping[str, Any] | str | Path,
    address: str,
    *,
    run: str | Path | None = None,
    settings: Sequence[str] = (),
) -> str:
    """Send a search to the cluster with its dashboard at `address` (http://host:8265), and return the job's id.

    The driver runs on the cluster, with the evonas that is installed there; paths in the config are those of the
    cluster's machines. The modules that it names travel with it, but not installed packages. Raises InputError if the
    cluster does not answer.
    """
    loaded = load_config(config, settings)
    on_cluster = loaded.model_copy(update={"cluster": loaded.cluster.model_copy(update={"address": "auto"})})
    with in_one_line(f"--run {run}"):
        command = shlex.join(["evonas", "search", CONFIG_NAME, *(["--run", str(run)] if run else [])])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONFIG_NAME).write_text(dump_config(on_cluster), encoding="utf-8")
        for name, path in (each for module in loaded.plugins for each in plugins.files(module).items()):
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, Path(folder, name))
        try:
            from ray.job_submission import JobSubmissionClient

            client = JobSubmissionClient(address)
            return str(client.submit_job(entrypoint=command, runtime_env={"working_dir": folder}))
        except (ImportError, ConnectionError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"--address {short(str(address))}: the search cannot be sent there ({reason[:300]})"
            ) from None


def follow(address: str, job: str) -> Iterator[str]:
    """Yield the output of the job until it ends."""
    import asyncio

    from ray.job_submission import JobSubmissionClient

    lines = JobSubmissionClient(address).tail_job_logs(job)
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(lines))
            except StopAsyncIteration:
                return
    finally:
        loop.close()


def failure(address: str, job: str) -> str | None:
    """The reason, in one line, why an ended job failed; None if it succeeded."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    info = JobSubmissionClient(address).get_job_info(job)
    return None if info.status == JobStatus.SUCCEEDED else " ".join(f"{info.status}: {info.message}".split())[:300]
