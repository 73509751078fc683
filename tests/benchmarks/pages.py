"""What ten open pages cost a search: its births a minute with them and without, turn by turn, with the interval.

    python -m tests.benchmarks.pages CONFIG --out DIR [--births 200] [--rounds 5] [--pages 10] [--set KEY=VALUE ...]

Each round runs the same search twice, from the same seed: with nobody looking, and with `evonas serve` beside it, of
which so many clients ask for the page as the browser does, every three seconds, with the tag of what they have. The
order alternates. Births a minute are those between the first outcome and the last, so that starting does not count. The
drawing of the browsers is not in it: they are on their readers' machines. Prints the share of births that the pages
cost, its 95 % interval over rounds, and how often and how fast the server answered.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from threading import Event, Thread

import evonas
from evonas.intervals import estimate
from tests.benchmarks.command import in_one_line
from tests.benchmarks.machine import machine

POLL_SECONDS = 3.0  # as in evonas/report/web/live.js
EVONAS = (sys.executable, "-m", "evonas")


def search(arguments: argparse.Namespace, folder: Path) -> float:
    """Births a minute of a search."""
    settings = [f"evolution.births={arguments.births}", "evolution.rerank.top=1", *arguments.set]
    options = [part for each in settings for part in ("--set", each)]
    command = [*EVONAS, "search", str(arguments.config), "--run", str(folder), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    at = [each for each in evonas.open_run(folder).survey().candidates.at if each is not None]
    return 60 * (len(at) - 1) / (max(at) - min(at))


@contextmanager
def looked_at(folder: Path, pages: int, answered: list[tuple[int, float]]) -> Iterator[None]:
    """So many clients ask for the page of the run in a folder; `answered` gets statuses and seconds."""
    server = subprocess.Popen([*EVONAS, "serve", str(folder), "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url, ended = server.stdout.readline().split(" at ")[1].split()[0], Event()
    clients = [Thread(target=_look, args=(url, ended, answered)) for _ in range(pages)]
    try:
        for each in clients:
            each.start()
            time.sleep(POLL_SECONDS / pages)
        yield
    finally:
        ended.set()
        for each in clients:
            each.join()
        server.terminate()
        server.wait()


def _look(url: str, ended: Event, answered: list[tuple[int, float]]) -> None:
    import httpx

    tag = ""
    with httpx.Client(timeout=60) as client:
        while not ended.wait(POLL_SECONDS):
            started = time.perf_counter()
            told = client.get(f"{url}/api/page?run=run", headers={"If-None-Match": tag})
            answered.append((told.status_code, time.perf_counter() - started))
            tag = told.headers.get("ETag", tag)


def measure(arguments: argparse.Namespace) -> None:
    lost, answered = [], list[tuple[int, float]]()
    for number in range(arguments.rounds):
        rates = {}
        for is_open in (True, False) if number % 2 else (False, True):
            place = arguments.out / f"{number}-{'open' if is_open else 'none'}"
            place.mkdir(parents=True)
            if is_open:
                with looked_at(place, arguments.pages, answered):
                    rates[True] = search(arguments, place / "run")
            else:
                rates[False] = search(arguments, place / "run")
        lost.append(1 - rates[True] / rates[False])
        print(f"{rates[False]:.1f} births a minute, {rates[True]:.1f} with {arguments.pages} pages", flush=True)
    mean, interval = estimate(lost)
    between = f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""
    print(f"the pages cost {100 * mean:+.1f}{between} % of the births")
    if sent := [seconds for status, seconds in answered if status == 200]:
        print(f"{len(sent)} of {len(answered)} answers were new; median {median(sent):.2f} s, mean {fmean(sent):.2f} s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--births", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pages", type=int, default=10)
    parser.add_argument("--set", action="append", default=[])
    print(machine())
    measure(parser.parse_args(arguments))


if __name__ == "__main__":
    in_one_line(main)
