"""Answers, configs and a run with everything odd, for the tests of the commands."""

import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evonas.config_file import parse_config
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Candidate
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement
from tests.conftest import TINY
from tests.evonas.driver_process import EVONAS

READERS = ("status", "top", "show", "dump", "export", "funnel")


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Command = Callable[..., Answer]


def config_file(folder: Path, **changes: Any) -> Path:
    raw = json.loads(json.dumps(TINY))
    for section, values in changes.items():
        raw[section] = raw[section] | values if isinstance(values, dict) else values
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def strict(text: str) -> Any:
    """JSON as the standard has it, without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def arguments(name: str, run: Path, birth: int | str = 1) -> list[str]:
    """A reader's arguments after its own name."""
    more = {"show": [str(birth)], "export": [str(birth), "--no-compile", "-o", str(run.parent / "never.py")]}
    return [name, str(run), *more.get(name, [])]


def refused(answer: Answer, *parts: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that says these things."""
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1, answer.err
    assert answer.err.startswith("evonas: ")
    assert answer.out == ""
    for part in parts:
        assert part.lower() in answer.err.lower()


def piped(*given: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([EVONAS, *given], capture_output=True, text=True, timeout=120, check=False)


LONG = "x * sigmoid(v1 * x) / max(std_bhw(v0 + x * x), sqrt(mean_ghw(exp(v1 * x)) + rms_hw(log(v0 * x))))"


def candidate(birth: int) -> Candidate:
    return Candidate.of(Graph.parse(LONG), Probed(f"f{birth}", f"f{birth}", 1.0), birth, seen=0)


def unfinished(tmp_path: Path) -> Path:
    """A stopped run with an infinite measurement, a crash whose message has brackets, and one pending candidate."""
    folder = tmp_path / "half"
    config = parse_config(config_file(tmp_path).read_text())
    store = Database(Address.of_file(folder / "run.db", "half", folder)).create(config, {})
    measured = Measurement("stability", "resnet", math.inf, 1e8, 3, True, 0.1)
    crash = Crash("out_of_memory", "[enforce fail at alloc.cpp:118] err [/dev/shm] [bold]x[/italic]")
    outcomes = [Evaluation(Fitness({"resnet": 0.5, "mobilenet": 0.5}), (measured,)), Evaluation(crash)]
    for birth, evaluation in enumerate(outcomes, start=1):
        store.propose(candidate(birth))
        store.record(birth, Graph.parse(LONG), evaluation, birth, 0, 0.1 if birth == 1 else None)
    store.propose(candidate(3))
    store.close()
    return folder
