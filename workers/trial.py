"""A trial of the networks and gates of a user's own, before a search depends on them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.screening import Screening
from evonas.search_space.wording import counted
from evonas.workers import data
from evonas.workers.architectures import PARAMETERS_MAX, Size
from evonas.workers.calls import called
from evonas.workers.evaluation import Judged
from evonas.workers.gates.base import LayerGate, NetworkGate
from evonas.workers.machine import crash
from evonas.workers.outcome import CrashKind, Measurement
from evonas.workers.plugins import is_own
from evonas.workers.protocol import Job, Protocol
from evonas.workers.proxies import OwnArchitecture
from evonas.workers.task import Task
from evonas.workers.training import build_model

SAMPLE = 4  # images: batch statistics of 1x1 need more than one
LAYER = Graph.parse("max(x / std_bhw(x), zero)")


def try_networks(protocol: Protocol) -> dict[str, tuple[int, ...]]:
    """Build each network of a user's own twice, and train it on a few images. Returns the channels of its layers.

    Raises InputError where it fails, is larger than any machine can train, has no layer that `norm_act` made, gives no
    logits, or differs between two builds with one seed.
    """
    own = {name: each for name, each in protocol.proxies.items() if isinstance(each, OwnArchitecture)}
    tasks = data.first_tasks(protocol, SAMPLE) if own else {}
    return {name: _try(name, each.architecture, protocol, tasks[name]) for name, each in own.items()}


def try_gates(protocol: Protocol) -> list[str]:
    """Ask the gates of a user's own that need no training about a known layer, on a few images. Returns their labels;
    raises InputError where one fails."""
    gates = [gate for gate in protocol.gates if is_own(gate.gate)]
    for gate in gates:
        if isinstance(gate, LayerGate):
            measured = [called(gate.gate, gate.measure, Screening(LAYER))]
        elif isinstance(gate, NetworkGate):
            job = Job(graph=str(LAYER), protocol=protocol, seed=0)
            networks = Judged(job, LAYER, data.first_tasks(protocol, SAMPLE))
            measured = [called(gate.gate, gate.measure, networks, proxy) for proxy in protocol.proxies]
        else:
            continue
        for each in measured:
            if not isinstance(each, Measurement):
                raise InputError(f"{gate.gate}: expected self.measured(...) of `measure`, got {type(each).__name__}")
    return [gate.label for gate in gates]


def _try(proxy: str, reference: str, protocol: Protocol, task: Task) -> tuple[int, ...]:
    where = f"proxies.{proxy}: {reference}"
    try:
        with _counted_parameters():
            model = build_model(LAYER, protocol, proxy, task, seed=0)
        again = build_model(LAYER, protocol, proxy, task, seed=0)
        return _try_built(where, model, again, protocol, task)
    except (MemoryError, RuntimeError) as error:
        if crash(error).kind is not CrashKind.OUT_OF_MEMORY:
            raise
        raise InputError(f"{where}: this machine has too little memory for the network and {SAMPLE} images") from None


@contextmanager
def _counted_parameters() -> Iterator[None]:
    """Count the parameters of the modules that are built meanwhile. Raises InputError at the first too many: torch has
    not given it values yet, and so no memory."""
    seen, total = set[int](), 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal total
        if isinstance(parameter, nn.Parameter) and not is_lazy(parameter) and id(parameter) not in seen:
            seen.add(id(parameter))
            total += parameter.numel()
            if total > PARAMETERS_MAX:
                raise InputError(f"a network of {total:,} parameters or more; expected at most {PARAMETERS_MAX:,}")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _try_built(where: str, model: nn.Module, again: nn.Module, protocol: Protocol, task: Task) -> tuple[int, ...]:
    """The channels of the layers of one of two networks that were built alike."""
    if any(is_lazy(each) for each in (*model.parameters(), *model.buffers())):
        raise InputError(f"{where}: a parameter has no size yet; expected a network that was called once")
    mine, other = model.state_dict(), again.state_dict()
    if mine.keys() != other.keys() or not all(torch.equal(mine[name], other[name]) for name in mine):
        raise InputError(f"{where}: two networks of one seed differ; expected torch's generator alone to draw weights")
    layers = [module for module in model.modules() if isinstance(module, NormAct)]
    values: dict[int, int] = {}  # at the input of each layer that is used, by its id
    for layer in layers:
        layer.register_forward_hook(_noting(values))
    crop = protocol.recipe.crop
    inputs, targets = task.train[:SAMPLE]
    x = task.input(inputs)[..., :crop, :crop].requires_grad_()
    logits = called(where, model.train(), x)
    if not layers or len(values) < len(layers):
        raise InputError(f"{where}: {len(values)} of {counted(len(layers), 'layer')} made by norm_act are used")
    channels = tuple(sorted({layer.num_features for layer in layers}))
    parameters = sum(each.numel() for each in model.parameters())
    size = Size(channels, len(layers), parameters, sum(values.values()) // len(x))
    if reason := size.excess(min(protocol.recipe.batch_size, protocol.data.train)):
        raise InputError(f"{where}: {reason}")
    expected = (len(x), task.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{where}: expected logits of shape {expected}, got {got}")
    called(where, task.loss(logits.float(), targets).backward)
    if not logits.isfinite().all() or x.grad is None:
        raise InputError(f"{where}: its logits are not finite, or do not depend on the images")
    return channels


def _noting(values: dict[int, int]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values[id(layer)] = output.numel()

    return note
