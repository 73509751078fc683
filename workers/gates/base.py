"""The classes of gates. A gate derives from one of the four, which says what the gate needs, and has its options and
its measurement."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Protocol, SupportsFloat, runtime_checkable

from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from evonas.search_space.screening import Screening
from evonas.workers.frozen import Count, Frozen
from evonas.workers.gradients import InitialPass, Loss
from evonas.workers.outcome import Measurement


class Gate(Frozen):
    """One test of the rejection protocol, with its options. `gate` is its name in configs and in the store."""

    work: ClassVar[str | None] = None  # neighbours of equal work share it, and are asked proxy by proxy
    of_fitness: ClassVar[bool] = False  # whether it measures a fitness, which people read in the proxy's unit
    gate: Annotated[str, Field(max_length=200)]

    @property
    def label(self) -> str:
        """The name, with what tells gates of that name apart, such as the step. A config has each label once."""
        steps = getattr(self, "steps", None)
        return self.gate if steps is None else f"{self.gate} {steps}"

    def measured(
        self, value: SupportsFloat, threshold: SupportsFloat, *, passed: bool, proxy: str = "", step: int = 0
    ) -> Measurement:
        """A measurement under this gate's name; whoever asked adds the seconds. NaN counts as infinite."""
        number = float(value)
        return Measurement(
            self.gate, proxy, math.inf if math.isnan(number) else number, float(threshold), step, bool(passed)
        )


class LayerGate(Gate):
    """Needs the layer alone: the driver asks it before any worker, so in a config it comes before all others."""

    @abstractmethod
    def measure(self, screening: Screening) -> Measurement: ...


@runtime_checkable
class Networks(Protocol):
    """The proxies at their initial weights, as a network gate sees them."""

    def guessing(self, proxy: str) -> float:
        """The loss of guessing: ln(classes)."""

    def loss(self, proxy: str) -> Loss:
        """The proxy's loss, of logits and targets."""

    def fresh(self, proxy: str, batch: int) -> tuple[nn.Module, Tensor, Tensor]:
        """A new network, and the first training examples: inputs and targets, such as images and their labels."""

    def initial_pass(self, proxy: str, batch: int) -> InitialPass:
        """The first pass of such a network; gates that are asked together share it."""

    def optimizer(self, model: nn.Module) -> Optimizer:
        """The recipe's, at its full rate."""


class NetworkGate(Gate):
    """Needs each proxy at its initial weights; the training that follows is not touched."""

    @abstractmethod
    def measure(self, networks: Networks, proxy: str) -> Measurement: ...


@runtime_checkable
class Trainings(Protocol):
    """The proxies' trainings, as a training gate sees them. Each answer trains on to the step that it is for."""

    def guessing(self, proxy: str) -> float:
        """The loss of guessing: ln(classes)."""

    @property
    def proxies(self) -> Sequence[str]: ...

    def accuracy(self, proxy: str, step: int) -> float:
        """Validation accuracy after `step` steps."""

    def mean_loss(self, proxy: str, begin: int, end: int) -> float:
        """Mean training loss of the steps begin + 1 to end."""

    def baseline_accuracy(self, proxy: str, step: int) -> float | None:
        """BN-ReLU's validation accuracy then; None where the job does not tell it."""

    def threshold(self, gate: "RankedGate") -> float:
        """The threshold that the driver derived from earlier candidates, or else the gate's `no_threshold`."""


class TrainingGate(Gate):
    """Looks at the trainings after `steps` steps: in a config the steps of such gates never fall."""

    once: ClassVar[bool] = False  # asked once for all proxies, not on each
    steps: Count

    @property
    def only(self) -> str | None:
        """The one proxy whose training it looks at; later gates find that training where it stands then."""
        return None

    @property
    def against_baseline(self) -> bool:
        """Whether BN-ReLU's accuracy at `steps` is asked for."""
        return False

    @abstractmethod
    def measure(self, trainings: Trainings, proxy: str) -> Measurement:
        """`proxy` is "" for a gate that is asked once."""


class RankedGate(TrainingGate):
    """Compares a candidate with earlier ones: the driver keeps what this gate measured, and puts a threshold into each
    job. The threshold is the candidate's own, so a rejection by it is never inherited."""

    no_threshold: ClassVar[float] = 0.0  # stops nobody

    @abstractmethod
    def threshold(self, earlier: Sequence[float]) -> float | None:
        """The threshold for the next candidate. `earlier` are the measurements of earlier ones at this gate, ascending;
        None while it stops nobody."""
