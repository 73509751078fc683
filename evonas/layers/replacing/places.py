"""The channels of a norm: found by asking the norm itself, whatever its class."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True, slots=True)
class Place:
    """The channels of a norm: their number, their axis (1 or -1), and an input's number of axes."""

    features: int
    channel_dim: int
    axes: int

    def input(self, **options: Any) -> Tensor:
        """Random input of some samples and positions."""
        sizes = [4, *[each for each in (2, 3, 5) if each != self.features][: self.axes - 2]]
        sizes.insert(1 if self.channel_dim == 1 else len(sizes), self.features)
        x = torch.randn(sizes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return (1.5 * x + 0.7).to(**options)


def place_of(norm: nn.Module) -> Place | None:
    """Found by asking the norm itself which inputs it takes; None where no input fits."""
    weight = getattr(norm, "weight", None)
    features = [getattr(norm, name, None) for name in ("num_features", "num_channels", "normalized_shape")]
    sizes = [weight.numel() if isinstance(weight, Tensor) else None, *features]
    size = next((each for each in sizes if each is not None), None)
    count = size[0] if isinstance(size, tuple) and len(size) == 1 else size
    if not isinstance(count, int):
        return None
    probe = probe_of(norm).eval()
    places = [Place(count, axis, axes) for axes in (4, 3, 2, 5) for axis in (1, -1)]
    return next((place for place in places if _accepts(probe, place)), None)


class _OneProcess(_BatchNorm):
    """A SyncBatchNorm, perhaps timm's with its activation, of one process and on any device."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        act: Any = self._modules.get("act")
        return act(y) if act else y


def probe_of(module: nn.Module) -> nn.Module:
    """A copy in float64 on the CPU; of a norm on the meta device a copy there."""
    shared = {id(module.process_group): None} if isinstance(module, nn.SyncBatchNorm) else {}  # which cannot be copied
    probe = copy.deepcopy(module, shared).to("meta" if is_meta(module) else "cpu").double()
    if isinstance(probe, nn.SyncBatchNorm):
        probe.__class__ = _OneProcess  # type: ignore[assignment]
    return probe


def _accepts(probe: nn.Module, place: Place) -> bool:
    device = next((each.device for each in (*probe.parameters(), *probe.buffers())), "cpu")
    try:
        with torch.no_grad():
            return bool(probe(place.input(device=device)).ndim == place.axes)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):
        return False  # layers refuse an input that does not fit in many ways


def normalizes(norm: nn.Module, place: Place) -> bool:
    """Whether the output does not grow with the input, or would not if running moments followed. A norm with its own
    activation, like timm's EvoNorms, may grow."""
    if is_meta(norm) or hasattr(norm, "running_var") or hasattr(norm, "apply_act"):
        return True
    probe, x = probe_of(norm).train(), place.input()
    with torch.no_grad():
        one, other = probe(x), probe(2 * x)
    return bool((one - other).abs().max() <= 0.01 * one.abs().max())


def is_meta(module: nn.Module) -> bool:
    return any(each.is_meta for each in (*module.parameters(), *module.buffers()))
