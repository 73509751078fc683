"""Outcomes of an evaluation, and what was measured on the way: values, not exceptions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import fmean
from typing import Literal

DIVERGED = "diverged"  # the gate of a training whose loss is not finite any more


JudgedBy = Literal["accuracy", "loss"]


class Verdict(StrEnum):
    """The kind of an outcome."""

    FITNESS = "fitness"
    REJECTION = "rejection"
    CRASH = "crash"


class CrashKind(StrEnum):
    """Why there is no answer about a layer."""

    TIME_LIMIT = "time_limit"
    WORKER_DIED = "worker_died"
    OUT_OF_MEMORY = "out_of_memory"
    MACHINE = "machine"  # a file that is gone, a full disk: nothing that a layer decides
    ERROR = "error"


def scored(by: JudgedBy, recorded: Mapping[str, float]) -> dict[str, float]:
    """Recorded accuracies, or losses as exp(-loss): the geometric mean of the probabilities that the network gave the
    right classes."""
    return dict(recorded) if by == "accuracy" else {proxy: math.exp(-loss) for proxy, loss in recorded.items()}


def bits_per_byte(fitness: float) -> float:
    """b of a fitness 2^-b; infinite for 0."""
    return -math.log2(fitness) if fitness > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Fitness:
    """Trained to the full budget, on each proxy: validation accuracy in [0, 1], mean seconds of a training step, MiB of
    activations that a step keeps for its backward, and the mean training loss of the last quarter of the steps.

    own: the objectives of a user's own, once the driver has asked for them.
    """

    accuracy: dict[str, float]
    step_seconds: dict[str, float] = field(default_factory=dict, compare=False)  # the machine's as well
    saved_mb: dict[str, float] = field(default_factory=dict)
    loss: dict[str, float] = field(default_factory=dict)  # empty where it was not recorded
    own: dict[str, float] = field(default_factory=dict)

    @property
    def trace(self) -> tuple[float, ...]:
        """All accuracies and losses: layers with equal ones trained alike, bit for bit."""
        return (*self.accuracy.values(), *self.loss.values())

    def scores(self, by: JudgedBy) -> dict[str, float]:
        """The score on each proxy, which a search maximises, in [0, 1]: see `scored`."""
        return scored(by, getattr(self, by))

    def moved(self, origin: "Fitness", to: "Fitness") -> "Fitness":
        """Accuracies and losses, each plus the difference of `to` and `origin`, within their ranges."""

        def shifted(name: str, most: float) -> dict[str, float]:
            mine, before, after = (getattr(each, name) for each in (self, origin, to))
            both = before.keys() & after.keys()  # records from before the loss have none
            return {
                proxy: min(most, max(0.0, value + after[proxy] - before[proxy])) if proxy in both else value
                for proxy, value in mine.items()
            }

        return replace(self, accuracy=shifted("accuracy", 1.0), loss=shifted("loss", math.inf), own={})

    def mean_score(self, by: JudgedBy) -> float:
        """Over the proxies."""
        return fmean(self.scores(by).values())


@dataclass(frozen=True, slots=True)
class Rejection:
    """Stopped by a gate, or by a training that diverged. `proxy` is "" for a gate that needs none, or all of them."""

    gate: str
    proxy: str
    value: float
    threshold: float
    step: int

    @classmethod
    def by(cls, measurement: "Measurement") -> "Rejection":
        """The rejection by the gate that measured this."""
        m = measurement
        return cls(m.gate, m.proxy, m.value, m.threshold, m.step)


@dataclass(frozen=True, slots=True)
class Crash:
    """No answer about the layer."""

    kind: CrashKind
    message: str


Outcome = Fitness | Rejection | Crash


@dataclass(frozen=True, slots=True)
class Measurement:
    """One gate's answer on a proxy ("" for a gate that needs none, or all of them)."""

    gate: str
    proxy: str
    value: float
    threshold: float
    step: int
    passed: bool
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a learning curve: validation accuracy, and the mean training loss since the last point."""

    proxy: str
    step: int
    accuracy: float
    loss: float
    repeat: int = 0  # with the n-th of the recipe's seeds


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An outcome with all that was measured on the way."""

    outcome: Outcome
    measurements: tuple[Measurement, ...] = ()
    points: tuple[Point, ...] = ()
    seconds: float = 0.0
    memory_mb: float = 0.0  # peak of the process, or of the GPU's allocator
    host: str = ""
    conditions: str = (
        ""  # device, threads, processor, torch: with equal ones, equal jobs have equal answers, bit by bit
    )
    attempts: int = 1  # until this outcome
