"""A normalization-activation layer found by evonas.

    p0_2 = vector(0.03125)
    n0 = 0.25 * (p0_2 + x)
    n1 = (x - mean_bhw(x)) / mean_hw(max(n0, max(std_bhw(x), n0)))
    n1 * sigmoid(n1)

Birth 833 of headline; -0.11 +- 1.01 points of accuracy against BN-ReLU, mean over 2
proxies and 5 fresh seeds (small proxy networks: vgg, resnet).
Written by evonas 0.1.0 with torch 2.14.1+cu130; digest
4dcb9eab50dbbb46e454a7d67fa792ba.

The affine (weight, bias) is part of the layer. Half precision is computed in float32,
and rounded once. Batch statistics are those of this process; in evaluation, running
moments replace them.

Fragility: 2.99. `evonas export` checks the parity of its formats as well.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def per_channel(parameter: Tensor, x: Tensor, channel_dim: int) -> Tensor:
    """A (C,) or (1,) parameter with x's number of axes, in full precision."""
    wide = parameter.to(torch.promote_types(parameter.dtype, torch.float32))
    channel = channel_dim % x.ndim
    return wide.view([-1 if axis == channel else 1 for axis in range(x.ndim)])


def mean(a: Tensor, axes: list[int]) -> Tensor:
    return a.mean(axes, keepdim=True)


def variance(a: Tensor, axes: list[int]) -> Tensor:
    """Biased: mean((a - s)^2) - (mean(a) - s)^2, which is the same for every s.

    With s = mean(a), held constant, the backward keeps `a` alone.
    """
    average = a.mean(axes, keepdim=True)
    centre = average.detach()
    distances = nn.functional.mse_loss(a, centre.expand_as(a), reduction="none")
    return distances.mean(axes, keepdim=True) - (average - centre).square()


def share_of_first(a: Tensor, b: Tensor) -> Tensor:
    """1 where a > b, 0 where a < b, 0.5 where they are equal."""
    return (a - b).detach().sign_().add_(1).mul_(0.5)


class Maximum(torch.autograd.Function):
    """The larger of two values. The gradient is torch.maximum's where that is finite.

    Half of it goes to each value where both are equal. It is computed by arithmetic
    alone: torch compares and masks, which takes 10 times as long on a CPU.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        of_a = slope * share_of_first(a, b)
        of_b = slope - of_a
        return (
            of_a.sum_to_size(a.shape).to(a.dtype) if ctx.needs_input_grad[0] else None,
            of_b.sum_to_size(b.shape).to(b.dtype) if ctx.needs_input_grad[1] else None,
        )

    @staticmethod
    def jvp(ctx: Any, tangent_a: Tensor, tangent_b: Tensor) -> Tensor:
        share = share_of_first(*ctx.saved_tensors)
        return tangent_a * share + tangent_b * (1 - share)


def max(a: Tensor, b: Tensor) -> Tensor:
    """torch.maximum where a compiler, exporter or tracer sees the layer.

    It fuses that, and cannot save an autograd.Function.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return torch.maximum(a, b)
    return Maximum.apply(a, b)  # type: ignore[no-any-return]


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


def over_hw(moment: Callable[..., Tensor], a: Tensor, channel_dim: int) -> Tensor:
    """Over all axes but batch and channel; a value without such has one position."""
    if a.ndim == 2:
        return moment(a.unsqueeze(2), [2]).squeeze(2)
    channel = channel_dim % a.ndim
    return moment(a, [axis for axis in range(1, a.ndim) if axis != channel])


class EvolvedLayer(nn.Module):
    """y = weight * graph(x) + bias, for x of shape (N, ..., C, ...).

    num_features: C.
    apply_act: False leaves weight * x + bias, for a norm without activation.
    eps: added to variances and mean squares, inside the root.
    momentum: the share of the batch in the running moments' next value.
    channel_dim: the axis of C; -1 for (N, ..., C).
    device, dtype: of parameters and buffers.
    """

    running_0: Tensor
    running_1: Tensor

    def __init__(
        self,
        num_features: int,
        apply_act: bool = True,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        channel_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        positive = {"num_features": num_features, "eps": eps}
        for name, value in positive.items():
            if isinstance(value, bool | str | None) or not 1e-37 < value < 1e38:
                raise ValueError(f"{name}: expected a number above 0, got {value!r}")
        if isinstance(momentum, bool | str | None) or not 0 <= momentum <= 1:
            raise ValueError(f"momentum: expected 0 to 1, got {momentum!r}")
        self.apply_act, self.channel_dim = apply_act, channel_dim
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))
        if apply_act:
            self.p0_2 = nn.Parameter(torch.full_like(self.weight, 0.03125))
            self.register_buffer("running_0", torch.full_like(self.weight, 0.0))
            self.register_buffer("running_1", torch.full_like(self.weight, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        axis, shape, dtype = self.channel_dim, x.shape, x.dtype
        channels = len(self.weight)
        if x.ndim < 2 or not -x.ndim < axis < x.ndim or shape[axis] != channels:
            wanted = f"expected {channels} channels at axis {axis}"
            raise ValueError(f"{wanted}, got shape {tuple(shape)}")
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.apply_act and x.numel():
            p0_2 = per_channel(self.p0_2, x, axis)
            k6 = x.new_full([1] * x.ndim, 0.25)
            n0 = k6 * (p0_2 + x)
            n1 = x - self.mean_bhw(x, self.running_0)
            n2 = n1 / self.mean_hw(max(n0, max(self.std_bhw(x, self.running_1), n0)))
            x = n2 * torch.sigmoid(n2)
        x = x * per_channel(self.weight, x, axis) + per_channel(self.bias, x, axis)
        return x.to(dtype)

    def mean_bhw(self, a: Tensor, running: Tensor) -> Tensor:
        axis, momentum = self.channel_dim, self.momentum
        return over_bhw(mean, a, axis, running, momentum, self.training)

    def mean_hw(self, a: Tensor) -> Tensor:
        return over_hw(mean, a, self.channel_dim)

    def std_bhw(self, a: Tensor, running: Tensor) -> Tensor:
        axis, momentum = self.channel_dim, self.momentum
        moment = over_bhw(variance, a, axis, running, momentum, self.training)
        return torch.sqrt(moment + self.eps)
