"""Workers on two real nodes of this machine, `ray start` processes, of which one joins late and is killed in its work;
then the cluster's head is.

A process of its own: what Ray once read of its environment it keeps. Prints what it saw as JSON.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")
PATIENCE = 120.0  # seconds
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_health_check_initial_delay_ms": "1000",  # a dead node is noticed in seconds, not half a minute
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [str(RAY), "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, *arguments], stdout=quiet, stderr=quiet, start_new_session=True)


def head(*options: str, address: str = "") -> tuple["subprocess.Popen[bytes]", str]:
    """A head that answers, and its address; its ports are chosen here, and may be taken before it is there."""
    while True:
        here = address or f"127.0.0.1:{free_port()}"
        node = start("--head", f"--port={here.rpartition(':')[2]}", *options)
        give_up = time.monotonic() + PATIENCE
        while node.poll() is None and time.monotonic() < give_up:
            asked = subprocess.run([RAY, "health-check", "--address", here], capture_output=True, check=False)
            if asked.returncode == 0:
                return node, here
            time.sleep(1.0)
        stop(node)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def kill_server(node: "subprocess.Popen[bytes]") -> None:
    """The one process without which the head is none."""
    (server,) = (each for each in psutil.Process(node.pid).children(recursive=True) if each.name() == "gcs_server")
    server.kill()


def process() -> int:
    return os.getpid()


def stop(node: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def main() -> None:
    os.environ |= SETTINGS
    from evonas.workers import ray_pool as pools
    from evonas.workers.outcome import Evaluation
    from evonas.workers.protocol import Job
    from evonas.workers.ray_pool import ClusterLost, RayPool
    from tests.workers.conftest import graph, protocol

    first, address = head("--include-dashboard=false")
    nodes = [first]

    def job(seed: int, steps: int) -> Job:
        changed = protocol(proxies=("resnet",), recipe={"steps": steps})
        return Job(graph=str(graph("BN-ReLU")), protocol=changed, seed=seed)

    def reached(capacity: int) -> int:
        give_up = time.monotonic() + PATIENCE
        while pool.capacity != capacity and time.monotonic() < give_up:
            time.sleep(0.2)
        return pool.capacity

    def answers(*jobs: Job) -> list[tuple[str, int]]:
        found: list[Evaluation] = []
        while len(found) < len(jobs):
            answer = pool.next(PATIENCE)
            assert answer is not None
            found.append(answer[1])
        return sorted((type(each.outcome).__name__, each.attempts) for each in found)

    try:
        pool = RayPool(protocol(), address=address)
        told: dict[str, object] = {"alone": pool.capacity}
        nodes.append(start(f"--address={address}"))
        told["joined"] = reached(2)
        told["asked"] = len(set(pool.on_every_node(process)))
        short, long = [job(seed, 6) for seed in (1, 2)], [job(seed, 2000) for seed in (3, 4)]
        for key, each in enumerate(short):
            pool.submit(key, each)
        told["short"] = answers(*short)
        give_up = time.monotonic() + PATIENCE
        while sum(slot.started for slot in pool._slots) < 2 and time.monotonic() < give_up:
            assert pool.next(0.2) is None  # short jobs may all have gone to the worker that was there first
        for key, each in enumerate(long):
            pool.submit(key, each)
        time.sleep(1.0)
        stop(nodes.pop())
        told["long"] = answers(*long)
        told["left"] = reached(1)
        pools.HEAD_SECONDS = 1.0
        pool.submit(9, job(5, 10**7))
        kill_server(first)
        try:
            told["lost"] = answers(job(5, 10**7))
        except ClusterLost as error:
            told["lost"] = str(error).replace(pool._head, "HEAD")
        pool.close()
    finally:
        for node in nodes:
            stop(node)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
