"""Updates, synchronisation and freezing of a model's BatchNorms, as torch and timm have them, for evonas' layers too.

Layers are recognised by their class. Those of exported files are recognised by the attributes `apply_act` and
`channel_dim`, and their running moments by the buffers `running_0`, `running_1`, ... beside the attribute `momentum`.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evonas.search_space.catalog.modules.base import BatchNormalized, ReferenceModule
from evonas.search_space.errors import InputError
from evonas.search_space.layer import Layer
from evonas.search_space.lowering import NormAct


def expect_module(model: object) -> None:
    """Raises InputError for what is no module, such as a class, or a loader in the model's place."""
    if not isinstance(model, nn.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else f"a value of type {type(model).__name__}"
        raise InputError(f"expected a model, a torch.nn.Module, got {got}")


# --------------------------------------------------------------------------- running moments


def update_moments(loader: Iterable[Any], model: nn.Module, device: torch.device | str | None = None) -> None:
    """Set all running moments, those of torch's BatchNorms too, to their plain average over the batches of a loader.

    The counterpart of `torch.optim.swa_utils.update_bn`: one pass in training mode, without gradients; every module
    keeps its mode, and every layer its momentum. Frozen layers stay as they are. A model without running moments gets
    no pass. A compiled model runs eager.

    Args:
        loader: of batches; a list or tuple is a batch whose first element goes into the model.
        device: where the batches are moved to; None leaves them where they are.

    Raises InputError for an empty loader, and for a reference module of the catalog whose state is no plain average.
    """
    expect_module(model)
    averaged = {module: names for module in model.modules() if (names := batch_moments(module))}
    _refuse(model, averaged, "has a state that is no plain average over batches")
    if not averaged:
        return
    momenta: dict[Any, Any] = {module: module.momentum for module in averaged}
    modes = {module: module.training for module in model.modules()}
    passes = Counter[nn.Module]()

    def take_its_share(module: Any, inputs: tuple[Tensor, ...]) -> None:
        if module.training and inputs[0].numel():
            passes[module] += 1
            module.momentum = 1 / passes[module]
            if passes[module] == 1:  # a share of 0 would keep what is not finite
                _clear(module, averaged[module])

    hooks = [module.register_forward_pre_hook(take_its_share) for module in averaged]
    model.train()
    batches = 0
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            for batches, batch in enumerate(loader, 1):  # noqa: B007 (counted)
                x = batch[0] if isinstance(batch, list | tuple) else batch
                model(x if device is None else x.to(device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, momentum in momenta.items():
            module.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if not batches:
        raise InputError("update_moments: the loader has no batch")


def batch_moments(module: nn.Module) -> tuple[str, ...]:
    """The buffers of a layer that follow its batches by a share, its `momentum`; none of a layer without such."""
    if isinstance(module, _BatchNorm):
        return ("running_mean", "running_var") if module.running_mean is not None else ()
    if isinstance(module, ReferenceModule):
        plain = isinstance(module, BatchNormalized) and not module.estimated and not hasattr(module, "step")
        return ("running_mean", "running_var") if plain else ()
    if isinstance(module, NormAct) or is_exported(module):
        return tuple(name for name, _ in module.named_buffers(recurse=False) if re.fullmatch(r"running_\d+", name))
    return ()


def is_exported(module: nn.Module) -> bool:
    """Whether the class of a module is that of an exported file."""
    return not isinstance(module, Layer) and hasattr(module, "apply_act") and hasattr(module, "channel_dim")


def _clear(module: nn.Module, names: Iterable[str]) -> None:
    for name in names:
        module.get_buffer(name).zero_()
    if isinstance(counted := getattr(module, "num_batches_tracked", None), Tensor):
        counted.zero_()


def _refuse(model: nn.Module, fitting: Iterable[nn.Module], reason: str) -> None:
    """Raises InputError where a layer that depends on its batch is not among the fitting ones."""
    able = set(fitting)
    for name, module in model.named_modules():
        of_batches = batch_moments(module) or (isinstance(module, ReferenceModule) and module.batch_dependent)
        if of_batches and module not in able and not isinstance(module, Frozen):
            raise InputError(f"{name or 'the model'} ({type(module).__name__}) {reason}")


# --------------------------------------------------------------------------- statistics of all processes


def synchronize(model: nn.Module, process_group: Any = None) -> nn.Module:
    """Let all layers of a model, torch's BatchNorms too, take their batch statistics over the processes of a group.

    The counterpart of `nn.SyncBatchNorm.convert_sync_batchnorm`, which converts torch's BatchNorms here; timm's own
    function converts timm's. Processes may have batches of different sizes. Frozen layers stay as they are.

    Args:
        model: changed in place.
        process_group: None for the default group. A layer that holds another one cannot be copied, like SyncBatchNorm.

    Returns the model; another module only if it is itself a BatchNorm.
    Raises InputError, before anything is changed, for a layer whose statistics are those of one process: an exported
    one, a reference module of the catalog, and a BatchNorm with a `forward` of its own that is not timm's.
    """
    expect_module(model)
    own = [module for module in model.modules() if isinstance(module, NormAct)]
    torchs = [module for module in model.modules() if isinstance(module, _BatchNorm) and not isinstance(module, Frozen)]
    convertible = [module for module in torchs if _converter(module)]
    _refuse(model, [*own, *convertible], "has the batch statistics of one process alone")
    for layer in own:
        layer.synchronized, layer.process_group = True, process_group
    converted: dict[nn.Module, nn.Module] = {}
    for module in torchs:
        if isinstance(module, nn.SyncBatchNorm):
            module.process_group = process_group
        else:
            converted[module] = _converter(module)(module, process_group)
    return exchanged(model, converted)


def _converter(module: nn.Module) -> Any:
    """The function that makes a SyncBatchNorm of a BatchNorm; None where nobody can."""
    if isinstance(module, nn.SyncBatchNorm) or type(module).forward is _BatchNorm.forward:
        return nn.SyncBatchNorm.convert_sync_batchnorm
    return getattr(sys.modules[type(module).__module__], "convert_sync_batchnorm", None)  # beside timm's classes


def exchanged(model: nn.Module, new: dict[nn.Module, nn.Module]) -> nn.Module:
    """The model with modules exchanged in place, under all their names; the new one if it is one of them itself."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in new:
                setattr(parent, name, new[child])
    return new.get(model, model)


# --------------------------------------------------------------------------- frozen


class Frozen(nn.Module):
    """Base of a frozen layer, beside its own class: it stays in evaluation mode."""

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        return (_blank, (type(self).__bases__[1],), *reduced[2:])


@cache
def _frozen(layer_class: type[Any]) -> type[nn.Module]:
    names = {"__module__": layer_class.__module__, "__doc__": layer_class.__doc__}
    return type(f"Frozen{layer_class.__name__}", (Frozen, layer_class), names)


def _blank(layer_class: Any) -> nn.Module:
    made = _frozen(layer_class)
    return made.__new__(made)


def freeze(model: nn.Module) -> nn.Module:
    """Fix the moments and the parameters of all evonas layers and BatchNorms of a model, also after `model.train()`.

    A frozen layer is in evaluation mode for good, and its parameters need no gradient. It keeps its state_dict, is an
    instance of its class still, and can be copied and pickled. `model.requires_grad_(True)` frees the parameters.

    Args:
        model: changed in place.

    Returns the model.
    """
    expect_module(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm | Layer) or is_exported(module):
            if not isinstance(module, Frozen):
                kind: Any = type(module)
                module.__class__ = _frozen(kind)
            module.eval()
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
    return model
