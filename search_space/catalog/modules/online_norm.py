"""Online normalization: one sample after another, by running moments of the samples before it."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from evonas.search_space.catalog.modules.base import ReferenceModule, Rows, column, move, standardized
from evonas.search_space.options import positive, share


class OnlineNorm(ReferenceModule):
    """Normalizes each sample by moments of the samples before it, forward and backward, without any batch statistic.

        training   sample t by sample, with μ_t and s²_t the mean and biased variance of its channel (mean_hw, var_hw):
                   z_t = (x_t - μ) / σ, σ = √(σ² + ε), and then
                   σ² ← α_f σ² + (1 - α_f) s²_t + α_f (1 - α_f) (μ_t - μ)²,  μ ← α_f μ + (1 - α_f) μ_t
        evaluation z = (x - μ) / √(σ² + ε)
        both       y = clamp(weight * z + bias, -guard, guard)
        backward   sample by sample, with g the gradient at z_t and σ that of z_t:
                   g' = g - (1 - α_b) v z_t, v ← v + mean_hw(g' z_t)
                   dx_t = g' / σ - (1 - α_b) u, u ← u + mean_hw(dx_t)
                   for weight, bias and the guard, autograd

    The backward takes the samples in the order of the forward. Of the authors' two guards only this clamp ("ac") is
    offered, no layer scaling. The backward is no gradient of the forward and cannot be differentiated again. Time grows
    with the number of samples, whose states follow one from another.

    Args:
        num_features: channels C of (N, C, ...), or of (N, ..., C) with channel_dim=-1; a sample is one of N.
        groups: no effect, there are none.
        forward_decay: α_f, 0.999.
        backward_decay: α_b, 0.99.
        guard: largest magnitude of the output, 5; `math.inf` for none.
        eps: ε, 1e-5.
        device, dtype: of parameters and state, as in torch's own layers.

    Parameters: weight and bias (C,).
    State: running_mean μ (0), running_var σ² (1), gradient_square v (0) and gradient_mean u (0), each (C,). A backward
    pass moves u and v.
    Raises: ValueError where an option is out of range or the channels do not fit, as `Layer` does.
    Not covered: padding masks, statistics shared between processes.
    Source: "Online Normalization for Training Neural Networks"; formula verified (the authors' code was read).
    """

    batch_dependent = True
    running_mean: Tensor
    running_var: Tensor
    gradient_square: Tensor
    gradient_mean: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        channel_dim: int = 1,
        groups: int = 1,
        forward_decay: float = 0.999,
        backward_decay: float = 0.99,
        guard: float = 5.0,
        eps: float = 1e-5,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features,
            channel_dim=channel_dim,
            groups=groups,
            eps=eps,
            device=device,
            dtype=dtype,
        )
        self.forward_decay = share("forward_decay", forward_decay)
        self.backward_decay = share("backward_decay", backward_decay)
        self.guard = guard if guard == math.inf else positive("guard", guard)
        self.register_buffer("running_mean", self.new_full((self.num_features,), 0.0))
        self.register_buffer("running_var", self.new_full((self.num_features,), 1.0))
        self.register_buffer("gradient_square", self.new_full((self.num_features,), 0.0))
        self.register_buffer("gradient_mean", self.new_full((self.num_features,), 0.0))

    def normalize(self, x: Rows) -> Rows:
        if not self.training:
            return standardized(x, self.running_mean, self.running_var, self.eps)
        means, variances = self._moments_before(x.detach())
        result: Tensor = _OnlineFunction.apply(
            x, means, (variances + self.eps).sqrt(), self.gradient_square, self.gradient_mean, self.backward_decay
        )
        return result

    def finish(self, y: Tensor, x: Tensor) -> Tensor:
        return y.clamp(-self.guard, self.guard)

    def _moments_before(self, x: Rows) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        """μ and σ² that each sample meets; moves them past the last one."""
        variances, means = torch.var_mean(x, 2, correction=0)
        keep = self.forward_decay
        before = []
        for mean, variance in zip(means, variances, strict=True):
            before.append((self.running_mean.clone(), self.running_var.clone()))
            step = mean - self.running_mean
            move(self.running_var, variance + keep * step.square(), 1 - keep)
            move(self.running_mean, mean, 1 - keep)
        return torch.stack([mean for mean, _ in before]), torch.stack([variance for _, variance in before])


class _OnlineFunction(torch.autograd.Function):
    """z = (x - mean) / σ with the moments that each sample meets; u and v keep its gradient orthogonal to 1 and z."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, sigma: Tensor, v: Tensor, u: Tensor, decay: float) -> Tensor:
        z = (x - column(mean)) / column(sigma)
        ctx.save_for_backward(z, sigma)
        ctx.v, ctx.u, ctx.decay = v, u, decay
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        z, sigma = ctx.saved_tensors
        gain = 1 - ctx.decay
        result = torch.empty_like(g)
        for n in range(len(g)):
            scaled = g[n] - gain * column(ctx.v) * z[n]
            ctx.v += (scaled * z[n]).mean(1).to(ctx.v.dtype)
            result[n] = scaled / column(sigma[n]) - gain * column(ctx.u)
            ctx.u += result[n].mean(1).to(ctx.u.dtype)
        return result, None, None, None, None, None
