"""One training step: forward, loss, backward and update, as written or captured as a CUDA graph and replayed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from evonas.search_space.errors import InputError
from evonas.workers.gradients import CONVOLUTIONS
from evonas.workers.protocol import Execution, Recipe
from evonas.workers.task import Task

WARM_UP = 3  # steps before a capture, in which libraries load and allocate; torch's documentation takes as many


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate after `step` steps: a linear rise over the warm-up, then constant, or half a cosine down to 0."""
    warmup = round(recipe.warmup * recipe.steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (recipe.steps - warmup)))
    return recipe.learning_rate


def optimizer_of(model: nn.Module, recipe: Recipe, *, fused: bool = False) -> torch.optim.Optimizer:
    """The recipe's; weight decay on the weights of convolutions and linear layers alone."""
    decayed = [m.weight for m in model.modules() if isinstance(m, (*CONVOLUTIONS, nn.Linear))]
    decayed_ids = {id(p) for p in decayed}
    others = [p for p in model.parameters() if id(p) not in decayed_ids]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    chosen = True if fused else None  # None: torch's choice, which is never fused
    if recipe.optimizer == "adamw":
        betas = recipe.momentum, recipe.beta2
        return torch.optim.AdamW(groups, recipe.learning_rate, betas, fused=chosen, capturable=fused)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, nesterov=nesterov, fused=chosen)


@dataclass(frozen=True, slots=True)
class Network:
    """A model with what turns examples into its input."""

    model: nn.Module
    task: Task
    execution: Execution

    def __call__(self, kept: Tensor) -> Float[Tensor, "n ... classes"]:
        last = self.execution.channels_last and kept.ndim == 4
        x = self.task.input(kept)
        x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)  # a crop is neither
        half = self.execution.dtype == "bfloat16"
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
            return self.model(x)  # type: ignore[no-any-return]


class Step:
    """Forward, loss, backward, update. A call answers the loss before the update, which the next call may overwrite."""

    cold = 1  # calls after a start that load or compile something, so they say nothing about a step's seconds

    def __init__(self, network: Network, recipe: Recipe) -> None:
        self.network = network
        self.clip = recipe.clip
        self.optimizer = optimizer_of(network.model, recipe)

    def __call__(self, inputs: Tensor, targets: Tensor, rate: float) -> Float32[Tensor, ""]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return self._update(inputs, targets)

    def restart(self) -> None:
        """The network runs other code from now on, such as compiled layers."""

    def _update(self, inputs: Tensor, targets: Tensor) -> Float32[Tensor, ""]:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.network.task.loss(self.network(inputs).float(), targets)
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.detach()


class StaticStep(Step):
    """The step as a function of buffers that stay where they are: `inputs`, `targets` and `rate`, beside the model's
    parameters, its running moments and the optimizer's. No value of the host decides anything after the first call.

    torch's fused optimizers alone read their rate from the device. They round a little differently from `Step`'s.
    """

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__(network, recipe)
        self.optimizer = optimizer_of(network.model, recipe, fused=True)
        self.rate = torch.zeros((), device=network.task.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.inputs, self.targets = torch.empty(0), torch.empty(0)

    def __call__(self, inputs: Tensor, targets: Tensor, rate: float) -> Float32[Tensor, ""]:
        if self.inputs.shape != inputs.shape:
            self.inputs, self.targets = torch.empty_like(inputs), torch.empty_like(targets)
            self.restart()
        self.inputs.copy_(inputs)
        self.targets.copy_(targets)
        self.rate.fill_(rate)
        return self._run()

    def _run(self) -> Float32[Tensor, ""]:
        return self._update(self.inputs, self.targets)


class CapturedStep(StaticStep):
    """The static step, captured as one CUDA graph after WARM_UP uncaptured ones, which are steps of the training."""

    cold = WARM_UP + 1

    def restart(self) -> None:
        self._left = WARM_UP
        self._graph = CudaGraph()

    def _run(self) -> Float32[Tensor, ""]:
        if self._left:
            self._left -= 1
            return self._graph.warm_up(super()._run)
        if not self._graph.captured:
            self.optimizer.zero_grad(set_to_none=True)  # the graph's backward allocates its own gradients
            self._graph.capture(super()._run)
        return self._graph.replay()


class CudaGraph:
    """The work that a function puts on the GPU, captured once and replayed: the part that only a GPU can run."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._graph = torch.cuda.CUDAGraph()
        self._result: Tensor | None = None

    @property
    def captured(self) -> bool:
        return self._result is not None

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        """Run it on the stream of the capture, as torch asks for."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = run()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def capture(self, run: Callable[[], Tensor]) -> None:
        """Record it without running it."""
        with torch.cuda.graph(self._graph, stream=self._stream):
            result = run()
        self._result = result

    def replay(self) -> Tensor:
        """Run what was captured; the result lies where it always lies."""
        assert self._result is not None
        self._graph.replay()
        return self._result


def check_graphs(execution: Execution, device: str) -> None:
    """Raises InputError where CUDA graphs are asked for and the worker has no GPU: an outcome's bits depend on them, so
    a worker never goes on without."""
    if execution.cuda_graphs and device != "cuda":
        raise InputError(
            "execution.cuda_graphs: true, but the worker computes on a CPU; expected false, or a GPU (workers.device)"
        )


def step_kind(execution: Execution) -> type[Step]:
    return CapturedStep if execution.cuda_graphs else Step


def new_step(network: Network, recipe: Recipe) -> Step:
    """The protocol's kind of step. Raises InputError where the device has no such kind."""
    check_graphs(network.execution, network.task.device.type)
    return step_kind(network.execution)(network, recipe)
