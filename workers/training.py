"""One network with a candidate's layers, trained step by step; gates look at it on the way to the full budget."""

import hashlib
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from evonas.search_space.analysis import index_sets
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.wording import counted
from evonas.workers.architectures import build
from evonas.workers.outcome import Point
from evonas.workers.protocol import Protocol
from evonas.workers.proxies import FORESEEING, TEXT_PROXIES
from evonas.workers.step import Network, check_graphs, learning_rate, new_step
from evonas.workers.task import Task

LOSS_CHECK_EVERY = 10  # steps; each check waits for the device
EARLY_LOSS_CHECKS = (1, 2, 3, 5)  # where most of those diverge that do
COMPILE = {  # a compilation costs seconds, so one serves sites of all widths and sizes
    "force_parameter_static_shapes": False,
    "force_nn_module_property_static_shapes": False,
    # torch would silently stop after a few recompilations of shared code
    "recompile_limit": 1000,
    "accumulated_recompile_limit": 1000,
    "fail_on_recompile_limit_hit": True,
}
EARLY = 50  # steps; until then running moments of momentum 0.1 lag behind (0.9^20 = 12 % of their start at step 20)
EARLY_BATCHES = 10


class Diverged(Exception):
    """The training loss is no longer finite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"after {counted(step, 'step')}")
        self.step = step


def proxy_seed(seed: int, proxy: str) -> int:
    """Initial weights and batch order depend on (seed, proxy) alone: every candidate meets the same."""
    return int.from_bytes(hashlib.sha256(f"{seed} {proxy}".encode()).digest()[:7], "big")


def build_model(graph: Graph, protocol: Protocol, proxy: str, task: Task, seed: int) -> nn.Module:
    """The proxy with the graph's layer at every site, in the protocol's memory format, on the task's device. Raises
    InputError for a layer that would see what the proxy predicts."""
    spec = protocol.proxies[proxy]
    if isinstance(spec, TEXT_PROXIES) and (over := FORESEEING & index_sets(graph)):
        raise InputError(
            f"proxies.{proxy}: a layer over {', '.join(sorted(over))} sees the bytes after a position, which "
            f"{spec.architecture} predicts; expected c, or bhw"
        )

    def norm_act(
        num_features: int, apply_act: bool = True, *, channel_dim: int = 1, device: Any = None, dtype: Any = None
    ) -> nn.Module:
        placed = {"channel_dim": channel_dim, "device": device, "dtype": dtype}
        return NormAct(graph, num_features, apply_act=apply_act, groups=spec.groups, **placed)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(proxy_seed(seed, proxy))  # torch.manual_seed would seed GPUs, too
        model: nn.Module = build(spec, norm_act, task.features, task.classes)
    if protocol.execution.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model.to(task.device)


def compiles(protocol: Protocol, steps: int | None = None) -> bool:
    """Whether to compile the layers for so many steps at a stretch, by default the full budget."""
    least = protocol.execution.compile_from_steps
    return least != "never" and (protocol.recipe.steps if steps is None else steps) >= least


@contextmanager
def _compiling() -> Iterator[None]:
    """Compile in this process, not in a pool of processes beside every worker."""
    with (
        torch._dynamo.config.patch(COMPILE),
        torch._inductor.config.patch(compile_threads=1),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)  # float32 is what was asked
        yield


def check_execution(protocol: Protocol, device: str) -> None:
    """Raises InputError where a worker on this device cannot run as the protocol says."""
    check_graphs(protocol.execution, device)
    if compiles(protocol):
        check_compiler(device)


def check_compiler(device: str) -> None:
    """Raises InputError where torch.compile does not work, as without a C++ compiler."""
    try:
        with _compiling(), torch._inductor.config.patch(fx_graph_cache=False):  # a cached result would prove nothing
            torch.compile(lambda a: a.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # torch wraps what went wrong in errors of its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"execution.compile_from_steps: torch.compile does not work here ({reason}); expected never, or a compiler"
        ) from None
    finally:
        torch.compiler.reset()


class Training:
    """Trains one proxy: `run(until)` trains up to a step, `validate()` measures. (seed, proxy) fix the batch order.

    `run` raises Diverged once the loss is not finite. The first stretch that is long enough compiles the layers, so a
    candidate that an early gate stops is never compiled.
    """

    def __init__(self, graph: Graph, protocol: Protocol, proxy: str, task: Task, seed: int) -> None:
        self.proxy = proxy
        self.recipe = protocol.recipe
        self.protocol = protocol
        self.task = task
        self.device = task.device
        self.model = build_model(graph, protocol, proxy, task, seed)
        self.compiled = False
        self.network = Network(self.model, task, protocol.execution)
        self.one_step = new_step(self.network, self.recipe)
        self.batches = task.batches(self.recipe, torch.Generator().manual_seed(proxy_seed(seed, f"{proxy} batches")))
        self.step = 0
        self.losses = torch.zeros(self.recipe.steps, device=self.device)  # of each step
        self.validated_at = 0
        self.seconds, self.timed = 0.0, 0  # over `timed` steps: the eager ones, or the compiled ones once there are any
        self.cold = self.one_step.cold  # so many steps from here on load, compile or capture: they are not timed

    def run(self, until: int) -> None:
        if not self.compiled and compiles(self.protocol, until - self.step):
            self.compiled = True
            self.one_step.restart()
            self.cold, self.seconds, self.timed = self.one_step.cold, 0.0, 0
            for module in self.model.modules():
                if isinstance(module, NormAct):
                    module.compile(dynamic=True)
        with _compiling() if self.compiled else nullcontext():
            self._run(until)

    def _run(self, until: int) -> None:
        self.model.train()
        started = time.perf_counter()
        while self.step < until:
            inputs, targets = next(self.batches)
            self.losses[self.step] = self.one_step(inputs, targets, learning_rate(self.recipe, self.step))
            self.step += 1
            looks = self.cold or self.step % LOSS_CHECK_EVERY == 0 or self.step in (*EARLY_LOSS_CHECKS, until)
            if looks and not math.isfinite(float(self.losses[max(0, self.step - LOSS_CHECK_EVERY) : self.step].sum())):
                raise Diverged(self.step)
            if self.cold:
                self.cold, started = self.cold - 1, time.perf_counter()
            else:
                self.timed += 1
        self.seconds += time.perf_counter() - started

    @property
    def step_seconds(self) -> float:
        """Mean seconds of the timed steps."""
        return self.seconds / max(1, self.timed)

    def mean_loss(self, begin: int, end: int) -> float:
        """Mean training loss of steps begin + 1 to end."""
        return float(self.losses[begin:end].mean()) if end > begin else 0.0

    @torch.no_grad()
    def validate(self) -> Point:
        """The fitness on all of the part that judges (images uncropped), with the running moments.

        In the first steps the moments are recomputed for this validation alone. Never compiled: that would compile
        every site once more.
        """
        moments = {name: each.clone() for name, each in self.model.named_buffers()}
        with torch.compiler.set_stance("force_eager"):
            if self.step < EARLY:
                self._recompute_moments()
            self.model.eval()
            point = self._look()
        for name, each in self.model.named_buffers():
            each.copy_(moments[name])
        return point

    def _look(self) -> Point:
        task, part = self.task, self.task.validation
        credit = torch.zeros((), dtype=torch.long, device=self.device)
        broken = torch.zeros((), dtype=torch.bool, device=self.device)
        for start in range(0, len(part), task.at_once):
            inputs, targets = part[start : start + task.at_once]
            logits = self.network(inputs)
            broken |= logits.isnan().any()
            credit = credit + task.credit(logits, targets)
        if broken or credit.isnan():
            raise Diverged(self.step)
        loss = self.mean_loss(self.validated_at, self.step)
        self.validated_at = self.step
        return Point(self.proxy, self.step, task.scored(float(credit)), loss)

    def saved_mb(self) -> float:
        """MiB of activations that an eager training step keeps for its backward. Each storage counts once; parameters
        and buffers do not count."""
        own = {each.untyped_storage().data_ptr() for each in (*self.model.parameters(), *self.model.buffers())}
        kept_storages: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is reused

        def pack(kept: Tensor) -> Tensor:
            storage = kept.untyped_storage()
            if storage.data_ptr() not in own:
                kept_storages[storage.data_ptr()] = storage
            return kept.detach()  # a node that kept its own result would keep itself alive

        inputs, targets = next(self.batches)
        self.model.train()
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept)
        with torch.compiler.set_stance("force_eager"), hooks:
            loss = self.task.loss(self.network(inputs).float(), targets)
        del loss
        return sum(storage.nbytes() for storage in kept_storages.values()) / 2**20

    def _recompute_moments(self) -> None:
        """Running moments as plain averages over the first training examples."""
        layers = [module for module in self.model.modules() if isinstance(module, NormAct)]
        if not any(name.startswith("running_") for layer in layers for name, _ in layer.named_buffers()):
            return
        self.model.train()
        size, part = self.recipe.batch_size, self.task.train
        momentum = layers[0].momentum
        for number, start in enumerate(range(0, min(len(part), EARLY_BATCHES * size), size), start=1):
            for layer in layers:
                layer.momentum = 1 / number
            self.network(part[start : start + size][0])
        for layer in layers:
            layer.momentum = momentum
