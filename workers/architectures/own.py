"""Networks of a user's own: made by a function of `norm_act`, and tried once before a search."""

from collections.abc import Callable

from torch import nn

from evonas.search_space.errors import InputError
from evonas.workers.calls import called
from evonas.workers.plugins import load
from evonas.workers.proxies import OwnArchitecture


def own(norm_act: Callable[..., nn.Module], channels: int, classes: int, proxy: OwnArchitecture) -> nn.Module:
    """The network that `module:name` makes. Raises InputError where it fails, or is none."""
    build = load(proxy.architecture)
    model = called(proxy.architecture, build, norm_act, num_classes=classes, in_channels=channels, **proxy.options)
    if not isinstance(model, nn.Module):
        raise InputError(f"{proxy.architecture}: expected a torch.nn.Module, got {type(model).__name__}")
    return model
