"""Whether a mutated config ends in a traceback or hangs: python tests/benchmarks/fuzz_configs.py [--count 5000]

Reads configs of tests/evonas/config_fuzz.py within a time limit, and where one loads, finds its data. Prints how many
are configs and how many are refused, the slowest, and every traceback and hang with its number, which with --seed makes
it anew.
"""

import argparse
import faulthandler
import signal
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

import torchvision.ops  # noqa: F401  EfficientNet loads it, in seconds that are no config's

from evonas.config_file import resolve_config
from evonas.layers.resolve import resolve
from evonas.search_space.errors import InputError
from evonas.workers import data
from tests.benchmarks.machine import machine
from tests.evonas.config_fuzz import configs

LIMIT_SECONDS = 5  # of the processor, for the machine is shared
LINE_MAX = 600


class Hangs(BaseException):
    """The time limit has passed. No Exception, so that nothing takes it for another."""


def stop(number: int, frame: FrameType | None) -> None:
    raise Hangs


def answer(text: str, settings: list[str]) -> str:
    """`config`, or `refused` in one short line, by the door of a search."""
    try:
        with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
            Path(file.name).write_bytes(text.encode("utf-8", "surrogatepass"))
            config, _ = resolve_config(file.name, settings, resolve)
        if config.data.source in ("embedded", "folder"):  # the others would be downloaded
            data.split_digest(config.data)
    except InputError as error:
        assert "\n" not in str(error)
        assert len(str(error)) <= LINE_MAX
        return "refused"
    return "config"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(machine())
    signal.signal(signal.SIGPROF, stop)
    answers: dict[str, Counter[str]] = {}
    slowest: dict[str, float] = {}
    for number, (kind, text, settings) in enumerate(configs(asked.count, asked.seed)):
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
        faulthandler.dump_traceback_later(24 * LIMIT_SECONDS, exit=True)  # a hang in C sees no signal
        try:
            told = answer(text, settings)
        except Hangs:
            told = "hangs"
        except Exception:
            told = "traceback"
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        answers.setdefault(kind, Counter())[told] += 1
        slowest[kind] = max(slowest.get(kind, 0.0), time.process_time() - began)
        if told in ("hangs", "traceback"):
            print(f"number {number}, {kind}: {told}: {settings} {text[:300]!r}")
            if told == "traceback":
                traceback.print_exc(limit=-4)
    for kind, counts in sorted(answers.items()):
        print(f"{kind:8} {dict(counts)}, slowest {slowest[kind]:.2f} s")
    total = sum(answers.values(), Counter[str]())
    print(f"{total.total()} configs: tracebacks {total['traceback']}, hangs {total['hangs']}")


if __name__ == "__main__":
    main()
