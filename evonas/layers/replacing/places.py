"""Where a norm has its channels: found by asking the norm itself, whatever its class."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Place:
    """Where the channels of a norm are: their number, their axis (1 or -1), and an input's number of axes."""

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


def probe_of(norm: nn.Module) -> nn.Module:
    """A copy in float64 on the CPU; of a norm on the meta device a copy there."""
    return copy.deepcopy(norm).to("meta" if is_meta(norm) else "cpu").double()


def _accepts(probe: nn.Module, place: Place) -> bool:
    device = next((each.device for each in (*probe.parameters(), *probe.buffers())), "cpu")
    try:
        with torch.no_grad():
            return bool(probe(place.input(device=device)).ndim == place.axes)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):
        return False  # whatever a layer says of an input that does not fit


def is_meta(norm: nn.Module) -> bool:
    return any(each.is_meta for each in (*norm.parameters(), *norm.buffers()))
