"""Workers, here or on a cluster, and searches sent there as Ray jobs. With workers/ray_pool.py the only file that
imports ray."""

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from evonas.config import Config
from evonas.config_file import dump_config
from evonas.search_space.errors import InputError
from evonas.workers.pool import InProcessPool, Pool
from evonas.workers.ray_pool import RayPool

CONFIG_NAME = "evonas.yaml"  # in the job's working folder


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


def submit(config: Config, address: str, *, run: str | None = None) -> str:
    """Send a search to the cluster whose dashboard is at `address` (http://host:8265); answers the job's id.

    The driver runs on the cluster, whose address it takes, with the evonas that is installed there; so paths of the
    config are those of the cluster's machines. Raises InputError where the cluster does not answer.
    """
    on_cluster = config.model_copy(update={"cluster": config.cluster.model_copy(update={"address": "auto"})})
    command = ["evonas", "search", CONFIG_NAME, *(["--run", run] if run else [])]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONFIG_NAME).write_text(dump_config(on_cluster), encoding="utf-8")
        try:
            from ray.job_submission import JobSubmissionClient

            client = JobSubmissionClient(address)
            return str(client.submit_job(entrypoint=shlex.join(command), runtime_env={"working_dir": folder}))
        except (ImportError, ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"--address {address}: the search cannot be sent there ({reason[:300]})") from None


def follow(address: str, job: str) -> Iterator[str]:
    """The output of a job, line by line until it ends."""
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
    """Why a job ended, in one line; None if it succeeded."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    details = JobSubmissionClient(address).get_job_info(job)
    return (
        None
        if details.status == JobStatus.SUCCEEDED
        else " ".join(f"{details.status}: {details.message}".split())[:300]
    )
