"""Unified normalization: geometric means over recent batches, forward and backward, and a filter of outliers."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from evonas.search_space.catalog.modules.base import ReferenceModule, Rows, column, move
from evonas.search_space.moments import full_precision
from evonas.search_space.options import integer, share

CORRECTION_MAX = 5.0  # r lies between 1/5 and 5


class UnifiedNorm(ReferenceModule):
    """Divides by a mean square that is smoothed over the last M batches; evaluation is one affine a channel.

        training   m2 = mean_bhw(x²), kept for the last M steps, this one's too
                   σ² = m2 while step t ≤ M or t < warmup (t = 1, 2, ...) and if this step is skipped,
                   otherwise the geometric mean exp(mean(log(the last M m2)))
                   y = weight * z + bias, z = x / √(σ² + ε); running ← (1 - momentum) running + momentum σ²
        filter     from t = warmup on a step is skipped if in any channel AM - GM > M v: arithmetic and geometric mean
                   of the last M m2; v is one number, the unbiased variance of √m2 over all channels and the M steps
                   before this one. A skipped step leaves `running` as it was before in the place of its m2. With M = 1
                   every step counts as skipped
        evaluation y = weight * x / √(running + ε) + bias
        backward   g = weight * r * dy with r = √(σ² + ε) / √(running + ε), kept within 1/5 and 5 (1 while
                   t ≤ max(correction_after, warmup) or if skipped), `running` being that before the step;
                   gz = mean_bhw(g z), kept for the last M steps (of a skipped step: ema_gz in its place)
                   ema_gz ← backward_decay ema_gz + (1 - backward_decay) ḡ, where ḡ = gz whenever σ² = m2,
                   otherwise the mean of the last M
                   dx = (g - ema_gz z) / √(σ² + ε), with gz for ema_gz if the step was skipped
                   dweight = Σ dy r z, dbias = Σ dy

    Windows start at 0. `running` moves by the m2 of a skipped step, too. r is in the gradients alone, not in y. The
    backward is no gradient of the forward, unless skipped, and cannot be differentiated again.

    Args:
        num_features: channels C of (N, C, ...), or of (N, ..., C) with channel_dim=-1.
        groups: no effect, there are none.
        window: M, 4.
        warmup: steps that normalize by the batch, 4,000.
        correction_after: steps before r may differ from 1, 1,000; a constant of the authors' code.
        outlier_filtration: whether to filter; False for translation, True for T2T-ViT in the paper's code.
        momentum: share of σ² in the running moment, 0.1.
        backward_decay: 0.9; 1 - momentum in the authors' code.
        eps: ε, 1e-5.
        device, dtype: of parameters and state, as in torch's own layers.

    Parameters: weight and bias (C,).
    State: running_square (1), squares (window, C), the last m2 (0), the newest last, gradient_means (window, C), the
    last gz (0), and running_gradient, ema_gz (0); step. A backward pass moves gradient_means and running_gradient.
    Raises: ValueError where an option is out of range or the channels do not fit, as `Layer` does.
    Not covered: padding masks, statistics shared between processes.
    Source: "Unified Normalization for Accelerating and Stabilizing Transformers"; verified (the authors' code was read:
    hikvision-research/Unified-Normalization, unified_normalization.py).
    """

    batch_dependent = True
    running_square: Tensor
    squares: Tensor
    gradient_means: Tensor
    running_gradient: Tensor
    step: Tensor
    correction: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        channel_dim: int = 1,
        groups: int = 1,
        window: int = 4,
        warmup: int = 4_000,
        correction_after: int = 1_000,
        outlier_filtration: bool = False,
        momentum: float = 0.1,
        backward_decay: float = 0.9,
        eps: float = 1e-5,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features,
            channel_dim=channel_dim,
            groups=groups,
            momentum=momentum,
            eps=eps,
            device=device,
            dtype=dtype,
        )
        self.window = integer("window", window)
        self.warmup = integer("warmup", warmup, 0)
        self.correction_after = integer("correction_after", correction_after, 0)
        self.outlier_filtration = outlier_filtration
        self.backward_decay = share("backward_decay", backward_decay)
        channels, windows = (self.num_features,), (self.window, self.num_features)
        self.register_buffer("running_square", self.new_full(channels, 1.0))
        self.register_buffer("squares", self.new_full(windows, 0.0))
        self.register_buffer("gradient_means", self.new_full(windows, 0.0))
        self.register_buffer("running_gradient", self.new_full(channels, 0.0))
        self.register_buffer("step", torch.zeros((), device=device, dtype=torch.long))
        self.register_buffer("correction", self.new_full(channels, 1.0), persistent=False)  # r of this step, no state

    def normalize(self, x: Rows) -> Rows:
        if not self.training:
            return x / column(full_precision(self.running_square) + self.eps).sqrt()
        square, smooth, skipped = self._smoothed(x.detach().square().mean((0, 2)))
        result: Tensor = _UnifiedFunction.apply(
            x,
            (square + self.eps).sqrt(),
            self.correction,
            smooth,
            skipped,
            self.gradient_means,
            self.running_gradient,
            self.backward_decay,
        )
        return result

    def per_channel(self, parameter: Tensor, x: Tensor) -> Tensor:
        """The gradient of the weight carries r: dweight = Σ dy r z."""
        value = super().per_channel(parameter, x)
        if parameter is self.weight and self.training:
            value = _ScaledGradient.apply(value, super().per_channel(self.correction, x))
        return value

    def _smoothed(self, batch: Float[Tensor, " c"]) -> tuple[Float[Tensor, " c"], Bool[Tensor, ""], Bool[Tensor, ""]]:
        """σ² of this step, whether it is the geometric mean, and whether the step is skipped; moves the forward's
        state."""
        self.step += 1
        before, running = full_precision(self.squares), full_precision(self.running_square)
        squares = push(before, batch)
        geometric = squares.log().mean(0).exp()
        skipped = torch.full_like(self.step, self.window == 1, dtype=torch.bool)
        if self.outlier_filtration and self.window > 1:
            outlier = squares.mean(0) - geometric > self.window * before.sqrt().var()
            skipped = (self.step >= self.warmup) & outlier.any()
            squares = push(before, torch.where(skipped, running, batch))
        smooth = (self.step > self.window) & (self.step >= self.warmup) & ~skipped
        square = torch.where(smooth, geometric, batch)
        ratio = ((square + self.eps) / (running + self.eps)).sqrt().clamp(1 / CORRECTION_MAX, CORRECTION_MAX)
        corrected = (self.step > max(self.correction_after, self.warmup)) & ~skipped
        self.correction = torch.where(corrected, ratio, 1.0)
        self.squares.copy_(squares)
        move(self.running_square, square, self.momentum)
        return square, smooth, skipped


class _UnifiedFunction(torch.autograd.Function):
    """z = x / divisor; its gradient has the smoothed mean of g z in the place of the batch's own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        divisor: Tensor,
        correction: Tensor,
        smooth: Tensor,
        skipped: Tensor,
        means: Tensor,
        running: Tensor,
        decay: float,
    ) -> Tensor:
        z = x / column(divisor)
        ctx.save_for_backward(z, divisor, correction, smooth, skipped)
        ctx.means, ctx.running, ctx.decay = means, running, decay
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        z, divisor, correction, smooth, skipped = ctx.saved_tensors
        g = g * column(correction)
        mean = (g * z).mean((0, 2))
        ctx.means.copy_(push(ctx.means, torch.where(skipped, ctx.running, mean)))
        move(ctx.running, torch.where(smooth, ctx.means.mean(0), mean), 1 - ctx.decay)
        smoothed = torch.where(skipped, mean, ctx.running)
        return (g - column(smoothed) * z) / column(divisor), None, None, None, None, None, None, None


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by `scale`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradient * scale, None


def push(window: Float[Tensor, "window c"], newest: Float[Tensor, " c"]) -> Float[Tensor, "window c"]:
    """The window with its oldest row dropped and `newest` at its end."""
    return torch.cat([window[1:], newest.to(window.dtype).unsqueeze(0)])
