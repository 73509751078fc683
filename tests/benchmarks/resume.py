"""kill -9 at random moments, resume, and in the end the run that nobody interrupted.

    python tests/benchmarks/resume.py --kills 200 [--workers 2] [--seed 0]

Real processes: `evonas search` and `evonas resume` of a small config, killed after a random share of the time that the
uninterrupted run takes from its first record to its last; after longer each time that nothing was recorded meanwhile,
since a machine may become slower than it was at first. With one worker (in the driver's process) the logical dumps
must be equal; with more, of Ray, no birth may be lost or counted twice, and `evonas replay` must be clean.
"""

import argparse
import copy
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from evonas.search_space.errors import InputError
from evonas.store.database import Database
from evonas.store.dump import dump as dump_run
from evonas.studies.replay import replay
from tests.benchmarks.machine import machine
from tests.conftest import TINY


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "from evonas.cli.main import main; main()", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def began(folder: Path) -> bool:
    """Whether the driver has written something; before that there is nothing to resume."""
    try:
        return bool(Database.open(folder).reader().name)
    except InputError:
        return False


def dump(folder: Path) -> list[str]:
    return [json.dumps(each, sort_keys=True) for each in dump_run(Database.open(folder).reader())]


def whole(folder: Path, births: int) -> str | None:
    """What is wrong with a run's records, if anything is."""
    reader = Database.open(folder).reader()
    counted = Counter(each.birth for each in reader.evaluations("search"))
    if counted != Counter(range(1, births + 1)):
        return f"lost or twice: {counted - Counter(range(1, births + 1))}"
    if sorted(each.seq or 0 for each in reader.candidates()) != list(range(1, births + 1)):
        return "the outcomes are not numbered once each"
    differences = replay(Database.open(folder).reader())
    return f"replay: {differences[:3]}" if differences else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    config: dict[str, Any] = copy.deepcopy(TINY)
    config["evolution"]["audit_share"] = 0.2
    births = config["evolution"]["births"]
    if arguments.workers > 1:
        config |= {"cluster": {"address": "local"}, "workers": {"count": arguments.workers}}
    print(machine())
    kills = runs = 0
    with tempfile.TemporaryDirectory() as base:
        path = Path(base) / "config.json"
        path.write_text(json.dumps(config))
        calm = Path(base) / "calm"
        started = time.monotonic()
        driver = start("search", str(path), "--run", str(calm))
        while not began(calm):
            time.sleep(0.01)
        first = time.monotonic()
        assert driver.wait() == 0
        to_start, to_end = first - started, time.monotonic() - first
        expected = dump(calm)
        while kills < arguments.kills:
            folder, killed_here, runs = Path(base) / f"run{runs}", 0, runs + 1
            arguments_now = ("search", str(path), "--run", str(folder))
            known: list[str] = []
            slowness = 1.0
            while True:
                driver = start(*arguments_now)
                try:
                    driver.wait(timeout=slowness * (to_start + rng.random() * to_end * 0.6))
                except subprocess.TimeoutExpired:
                    driver.kill()
                    driver.communicate()
                    kills, killed_here = kills + 1, killed_here + 1
                    before, known = known, dump(folder) if began(folder) else []
                    slowness = 1.0 if known != before else 1.3 * slowness
                    if began(folder):
                        arguments_now = ("resume", str(folder))
                    elif folder.exists():  # killed before its database was one
                        folder = folder.with_name(f"{folder.name}x")
                        arguments_now = ("search", str(path), "--run", str(folder))
                    continue
                assert driver.returncode == 0, driver.communicate()
                break
            wrong = whole(folder, births)
            if arguments.workers == 1 and dump(folder) != expected:
                wrong = "another run than the uninterrupted one"
            if wrong:
                sys.exit(f"run {runs}, killed {killed_here} times: {wrong}")
            print(f"run {runs}: killed {killed_here} times ({kills} in all), as if nothing had happened", flush=True)


if __name__ == "__main__":
    main()
