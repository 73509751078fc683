"""What an evaluation answers: values, not exceptions."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fitness:
    """Trained to the full budget, on each proxy: validation accuracy in [0, 1], mean seconds of a training step, and
    MiB of activations that a step keeps for its backward."""

    accuracy: dict[str, float]
    step_seconds: dict[str, float] = field(default_factory=dict, compare=False)  # the machine's as well
    saved_mb: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Stopped by a gate, or by a training that diverged (gate "diverged"). `proxy` is "" for a gate that needs none, or
    all of them."""

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
    """What a gate measured on a proxy ("" for the gates that need none, or all of them)."""

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
    conditions: str = ""  # device, threads, processor, torch: where equal, an equal job is answered bit by bit alike
    attempts: int = 1  # the last of them is told here
