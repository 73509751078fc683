"""Index sets, statistics and running moments: the part of every layer that is not its graph.

From HALF on it is copied verbatim into every exported layer, so it uses torch alone, and neither max nor abs: there
they are primitives.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

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


class Layer(nn.Module):
    """What every layer has beside its graph: y = weight * graph(x) + bias, in any layout.

    `x` has shape (N, ..., C, ...) with C = `num_features` at `channel_dim` (1, or -1 for tokens and channels-last data)
    and any number of other axes; the result has x's shape and dtype. Empty input moves no running moment.

    groups: of ghw; lowered until it divides C.
    momentum: the share of the batch in the running moments' next value.
    eps: added to variances and mean squares, inside the root.
    unbiased_running_var: of n values, the running variance gets their variance times n / (n - 1), as torch's and timm's
        does; the official EvoNorm code keeps the biased one.
    synchronized: batch statistics are those of all processes of torch.distributed's default group, however they share
        the samples, where there is such a group.
    apply_act: False where a network has a norm without activation. Left is weight * x + bias, without other parameters
        and buffers, as in the official EvoNorm code (tensorflow/tpu, resnet_model.py).

    Raises ValueError where an option is out of range or the channels do not fit.
    """

    def __init__(
        self,
        num_features: int,
        *,
        channel_dim: int = 1,
        groups: int = 32,
        momentum: float = 0.1,
        eps: float = 1e-5,
        unbiased_running_var: bool = False,
        synchronized: bool = False,
        apply_act: bool = True,
    ) -> None:
        super().__init__()
        for name, count in (("num_features", num_features), ("groups", groups)):
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"{name}: expected an integer of at least 1, got {count}")
        if not isinstance(channel_dim, int) or channel_dim == 0:
            raise ValueError(f"channel_dim: expected 1 or -1 (axis 0 is the batch), got {channel_dim!r}")
        for name, number in (("momentum", momentum), ("eps", eps)):
            if not isinstance(number, (int, float)):
                raise ValueError(f"{name}: expected a number, got {number!r}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum: expected 0 to 1, got {momentum}")
        if not 0 < eps < float("inf"):
            raise ValueError(f"eps: expected a number above 0, got {eps}")
        groups = min(groups, num_features)
        while num_features % groups:
            groups -= 1
        self.num_features = num_features
        self.channel_dim = channel_dim
        self.groups = groups
        self.momentum = momentum
        self.eps = eps
        self.unbiased_running_var = unbiased_running_var
        self.synchronized = synchronized
        self.apply_act = apply_act
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        channel = self.channel_dim
        if x.ndim < 2 or not -x.ndim < channel < x.ndim or x.shape[channel] != len(self.weight):
            shape = tuple(x.shape)
            raise ValueError(f"expected {self.num_features} channels at axis {channel}, got an input of shape {shape}")
        if not x.is_floating_point():
            raise ValueError(f"expected a floating-point input, got {x.dtype}")
        for other in others:
            if other.ndim != x.ndim or any(
                n not in (1, wanted) for n, wanted in zip(other.shape, x.shape, strict=True)
            ):
                shapes = f"{tuple(other.shape)} beside {tuple(x.shape)}"
                raise ValueError(f"a second input has the axes of x, each of the same size or 1; got {shapes}")
        awaited = self.synchronized and self.training and distributed()  # its share, be it empty
        result = self.graph(x, *others) if self.apply_act and (x.numel() or awaited) else x
        result = result * self.per_channel(self.weight, result) + self.per_channel(self.bias, result)
        return result.expand(x.shape).to(x.dtype)

    def graph(self, x: Tensor, *others: Tensor) -> Tensor:
        raise NotImplementedError("a layer defines its graph")

    def per_channel(self, parameter: Tensor, x: Tensor) -> Tensor:
        """A (C,) parameter (or a learned scalar) with x's number of axes, and in half precision where x is."""
        shape = [1] * x.ndim
        shape[self.channel_dim] = -1
        return parameter.view(shape).to(x.dtype if x.dtype in HALF else parameter.dtype)

    def number(self, value: float, x: Tensor) -> Tensor:
        """A constant with x's number of axes, never of less than single precision."""
        return torch.full([1] * x.ndim, value, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)

    def over(self, index_set: str, running: Tensor | None = None) -> Over:
        return Over(
            index_set,
            channel_dim=self.channel_dim,
            groups=self.groups,
            eps=self.eps,
            running=running,
            momentum=self.momentum,
            training=self.training,
            unbiased=self.unbiased_running_var,
            synchronized=self.synchronized,
        )

    def extra_repr(self) -> str:
        words = [str(self.num_features), f"channel_dim={self.channel_dim}", f"groups={self.groups}"]
        usual = {"momentum": 0.1, "eps": 1e-5, "unbiased_running_var": False, "synchronized": False, "apply_act": True}
        words += [f"{name}={value}" for name in usual if (value := getattr(self, name)) != usual[name]]
        return ", ".join(words)
