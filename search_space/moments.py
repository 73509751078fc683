"""Statistics over index sets, running moments, and their synchronisation between processes.

An exported layer holds the functions that its graph needs, verbatim: they use torch and each other alone, and their
lines have at most 88 letters, the usual width of a project of which they become a part.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Moment = Callable[[Tensor, list[int]], Tensor]  # over axes, which it keeps with size 1

HALF = (torch.float16, torch.bfloat16)


def full_precision(a: Tensor) -> Tensor:
    return a.to(torch.promote_types(a.dtype, torch.float32))


def per_channel(parameter: Tensor, x: Tensor, channel_dim: int) -> Tensor:
    """A (C,) or (1,) parameter with x's number of axes, in full precision."""
    wide = parameter.to(torch.promote_types(parameter.dtype, torch.float32))
    channel = channel_dim % x.ndim
    return wide.view([-1 if axis == channel else 1 for axis in range(x.ndim)])


# --------------------------------------------------------------------------- moments


def mean(a: Tensor, axes: list[int]) -> Tensor:
    return a.mean(axes, keepdim=True)


def mean_square(a: Tensor, axes: list[int]) -> Tensor:
    return (a * a).mean(axes, keepdim=True)


def variance(a: Tensor, axes: list[int]) -> Tensor:
    """Biased: mean((a - s)^2) - (mean(a) - s)^2, which is the same for every s.

    With s = mean(a), held constant, the backward keeps `a` alone.
    """
    average = a.mean(axes, keepdim=True)
    centre = average.detach()
    distances = nn.functional.mse_loss(a, centre.expand_as(a), reduction="none")
    return distances.mean(axes, keepdim=True) - (average - centre).square()


# --------------------------------------------------------------------------- index sets, named by the axes they reduce


def over_chw(moment: Callable[..., Tensor], a: Tensor) -> Tensor:
    return moment(a, list(range(1, a.ndim)))


def over_c(moment: Callable[..., Tensor], a: Tensor, channel_dim: int) -> Tensor:
    return moment(a, [channel_dim])


def over_hw(moment: Callable[..., Tensor], a: Tensor, channel_dim: int) -> Tensor:
    """Over all axes but batch and channel; a value without such has one position."""
    if a.ndim == 2:
        return moment(a.unsqueeze(2), [2]).squeeze(2)
    channel = channel_dim % a.ndim
    return moment(a, [axis for axis in range(1, a.ndim) if axis != channel])


def over_ghw(
    moment: Callable[..., Tensor],
    a: Tensor,
    channel_dim: int,
    groups: int,
) -> Tensor:
    """Over the positions and channels of a group, spread back over its channels."""
    channel = channel_dim % a.ndim
    grouped = torch.unflatten(a, channel, (min(groups, a.shape[channel]), -1))
    axes = [axis for axis in range(1, grouped.ndim) if axis != channel]
    sizes = [-1] * grouped.ndim
    sizes[channel + 1] = grouped.shape[channel + 1]
    return moment(grouped, axes).expand(sizes).flatten(channel, channel + 1)


def over_bhw(
    moment: Callable[..., Tensor],
    a: Tensor,
    channel_dim: int,
    running: Tensor,
    momentum: float,
    training: bool,
) -> Tensor:
    """Over the batch and all positions, in training. It moves `running` (C,).

    In evaluation it is `running`.
    """
    if not training:
        return per_channel(running, a, channel_dim)
    channel = channel_dim % a.ndim
    of_batch = moment(a, [axis for axis in range(a.ndim) if axis != channel])
    change = of_batch.detach().flatten().to(running.dtype)
    running.mul_(1 - momentum).add_(change, alpha=momentum)
    return of_batch


def lowered_groups(groups: int, channels: int) -> int:
    """The largest number of groups, at most `groups`, that divides the channels."""
    return next(n for n in range(min(groups, channels), 0, -1) if channels % n == 0)


def over(index_set: str, moment: Moment, a: Tensor, channel_dim: int, groups: int) -> Tensor:
    """Over any index set within a sample."""
    match index_set:
        case "chw":
            return over_chw(moment, a)
        case "hw":
            return over_hw(moment, a, channel_dim)
        case "ghw":
            return over_ghw(moment, a, channel_dim, groups)
        case "c":
            return over_c(moment, a, channel_dim)
    raise ValueError(f"index set '{index_set}' is unknown, or not within a sample")


INDEX_SETS = ("bhw", "chw", "hw", "ghw", "c")


# --------------------------------------------------------------------------- the batch of all processes


class SumOfAll(torch.autograd.Function):
    """The sum over the processes of a group, None being torch.distributed's default; so is its gradient.

    It has no `jvp`, for torch.compile takes no function that has one.
    """

    @staticmethod
    def forward(a: Tensor, group: Any) -> Tensor:
        total = a.clone()
        torch.distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Any], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return sum_of_all(slope, ctx.group), None


def sum_of_all(a: Tensor, group: Any) -> Tensor:
    total: Tensor = SumOfAll.apply(a, group)
    return total


def distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def shared_mean(a: Tensor, axes: list[int], group: Any) -> Tensor:
    """The mean over the samples of all processes of a group, however they share them."""
    total = a.sum(axes, keepdim=True)
    of_all = sum_of_all(torch.cat([total.flatten(), a.new_tensor([a.numel() // total.numel()])]), group)
    return (of_all[:-1] / of_all[-1]).view_as(total)


SHARED: dict[Moment, Callable[[Tensor, list[int], Any], Tensor]] = {
    mean: shared_mean,
    mean_square: lambda a, axes, group: shared_mean(a * a, axes, group),
    variance: lambda a, axes, group: shared_mean((a - shared_mean(a, axes, group)).square(), axes, group),
}
