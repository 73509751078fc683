"""What an evaluation answers: values, not exceptions."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fitness:
    """Trained to the full budget: validation accuracy in [0, 1] of each proxy."""

    accuracy: dict[str, float]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Stopped by a gate, or by a training that diverged (gate "diverged")."""

    gate: str
    proxy: str
    value: float
    threshold: float
    step: int


@dataclass(frozen=True, slots=True)
class Crash:
    """No answer about the layer: the worker died, hung or ran out of memory, or the program failed."""

    kind: str  # "time_limit", "worker_died", "out_of_memory", "error"
    message: str


Outcome = Fitness | Rejection | Crash


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a gate measured on a proxy ("" for the gates that need none)."""

    gate: str
    proxy: str
    value: float
    threshold: float
    step: int
    passed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a learning curve: validation accuracy, and the mean training loss since the last point."""

    proxy: str
    step: int
    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An outcome with all that was measured on the way."""

    outcome: Outcome
    measurements: tuple[Measurement, ...] = ()
    points: tuple[Point, ...] = ()
    seconds: float = 0.0
    memory_mb: float = 0.0  # peak of the process, or of the GPU's allocator
    host: str = ""
