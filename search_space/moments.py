"""Index sets, statistics, running moments and their synchronisation between processes.

From HALF on it is copied verbatim into every exported layer, so it uses torch alone, and neither max nor abs: there
they are primitives.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

INDEX_SETS = ("bhw", "chw", "hw", "ghw", "c")  # named by the axes that they reduce over
HALF = (torch.float16, torch.bfloat16)


def full_precision(a: Tensor) -> Tensor:
    return a.float() if a.dtype in HALF else a


def average(a: Tensor, axes: list[int]) -> Tensor:
    """The mean, also over no axes."""
    a = full_precision(a)
    return a.mean(axes, keepdim=True) if axes else a


class Variance(torch.autograd.Function):
    """The biased variance over axes, in full precision. For the backward it keeps its input alone; torch.var, which
    does so too, takes 7 times as long on a CPU."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, axes: list[int]) -> Tensor:
        return average((a - average(a, axes)).square(), axes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, list[int]], output: Tensor) -> None:
        a, ctx.axes = inputs
        ctx.save_for_backward(a)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (a,) = ctx.saved_tensors
        gradient = (a - average(a, ctx.axes)) * (slope * (2 * slope.numel() / (a.numel() or 1)))
        return gradient.to(a.dtype), None


class Maximum(torch.autograd.Function):
    """The larger of two values; the gradient goes where it is, half of it to each where both are equal. As
    torch.maximum's where it is finite, but by arithmetic alone: torch compares and masks, which takes 10 times as long
    on a CPU."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        share = (torch.sign((a - b).detach()) + 1) * 0.5  # of a
        from_a = slope * share
        to_a = from_a.sum_to_size(a.shape).to(a.dtype) if ctx.needs_input_grad[0] else None
        return to_a, (slope - from_a).sum_to_size(b.shape).to(b.dtype) if ctx.needs_input_grad[1] else None


class SumOfAll(torch.autograd.Function):
    """The sum over the processes of torch.distributed's default group; so is its gradient."""

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        total = a.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        total: Tensor = SumOfAll.apply(slope)
        return total


def distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class Over:
    """The positions that one aggregation reduces over; "hw" stands for all axes but batch and channel.

    Statistics keep the number of axes (reduced ones have size 1; the groups of "ghw" are spread back over their
    channels), are computed in float32 when the values are of half precision, and reducing an axis over which a value
    does not vary is the identity for the mean. Over "bhw" the moment of the batch is used in training, where it also
    moves `running` (shape (C,)) by `momentum`; in evaluation `running` is used instead. `synchronized`: the batch is
    that of all processes. `unbiased`: of n values, `running` gets their variance times n / (n - 1).
    """

    def __init__(
        self,
        index_set: str,
        *,
        channel_dim: int = 1,
        groups: int = 32,
        eps: float = 1e-5,
        running: Tensor | None = None,
        momentum: float = 0.1,
        training: bool = True,
        unbiased: bool = False,
        synchronized: bool = False,
    ) -> None:
        self.index_set = index_set
        self.channel_dim = channel_dim
        self.groups = groups
        self.eps = eps
        self.running = running
        self.momentum = momentum
        self.training = training
        self.unbiased = unbiased
        self.shared = synchronized and training and "b" in index_set and distributed()

    def mean(self, a: Tensor) -> Tensor:
        if self.running is not None and not self.training:
            return self._stored(self.running, a)
        return self._tracked(self._average(a))

    def mean_square(self, a: Tensor) -> Tensor:
        if self.running is not None and not self.training:
            return self._stored(self.running, a)
        a = full_precision(a)
        return self._tracked(self._average(a * a))

    def variance(self, a: Tensor) -> Tensor:
        """The biased variance."""
        if self.running is not None and not self.training:
            return self._stored(self.running, a)
        if self.shared:
            variance = self._average((a - self._average(a)).square())
        else:
            variance = self._reduced(a, Variance.apply)
        correction: Tensor | float = 1.0
        if self.unbiased and self.running is not None:
            correction = self._correction(a.numel() // variance.numel(), variance)
        return self._tracked(variance, correction)

    def _average(self, a: Tensor) -> Tensor:
        if not self.shared:
            return self._reduced(a, average)
        a = full_precision(a)
        total = self._reduced(a, lambda a, axes: a.sum(axes, keepdim=True))
        of_all = SumOfAll.apply(torch.cat([total.flatten(), a.new_tensor([a.numel() // total.numel()])]))
        mean: Tensor = (of_all[:-1] / of_all[-1]).view_as(total)
        return mean

    def _reduced(self, a: Tensor, reduction: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
        channel = self.channel_dim % a.ndim
        axes = [] if self.index_set == "c" else [axis for axis in range(1, a.ndim) if axis != channel]
        if self.index_set == "ghw" and a.shape[channel] > 1:
            grouped = a.unflatten(channel, (self.groups, -1))
            moments = reduction(grouped, [channel + 1] + [axis + (axis > channel) for axis in axes])
            sizes = [-1] * moments.ndim
            sizes[channel + 1] = grouped.shape[channel + 1]
            return moments.expand(sizes).flatten(channel, channel + 1)
        if "b" in self.index_set:
            axes = [0, *axes]
        if "c" in self.index_set:
            axes = [*axes, channel]
        return reduction(a, axes)

    def _correction(self, count: int, a: Tensor) -> Tensor | float:
        """n / (n - 1), or 1 where n = 1."""
        if not self.shared:
            return count / (count - 1) if count > 1 else 1.0
        of_all: Tensor = SumOfAll.apply(a.new_tensor([count]))
        return of_all / (of_all - 1).clamp(min=1)

    def _stored(self, running: Tensor, a: Tensor) -> Tensor:
        shape = [1] * a.ndim
        shape[self.channel_dim] = -1
        return running.view(shape)

    def _tracked(self, moment: Tensor, correction: Tensor | float = 1.0) -> Tensor:
        if self.running is not None:
            with torch.no_grad():
                batch = (moment.detach().flatten() * correction).to(self.running.dtype)
                self.running.mul_(1 - self.momentum).add_(batch, alpha=self.momentum)
        return moment
