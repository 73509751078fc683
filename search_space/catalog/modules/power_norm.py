"""Power normalization: running second moments in the forward and an approximate, running backward."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from evonas.search_space.catalog.modules.base import ReferenceModule, Rows, column, move
from evonas.search_space.moments import full_precision
from evonas.search_space.options import integer, share


class PowerNorm(ReferenceModule):
    """Normalizes by a running mean square, without centring, and keeps a running state for the gradient.

        scaling    x̂ = x / √(m2_{c/g}(x) + ε), at each position over the channels of a group
        training   m2 = mean_bhw(x̂²); z = x̂ / √(m2 + ε) while step t ≤ warmup (t = 1, 2, ...), then z = x̂ / √(ψ² + ε)
                   afterwards ψ² ← ((t - 1) ψ² + m2) / t, if t < warmup, and always ψ² ← α_f ψ² + (1 - α_f) m2
        evaluation z = x̂ / √(ψ² + ε)
        both       y = weight * z + bias
        backward   g = weight * dy; g̃ = g - (1 - α_b) Γ z; Γ ← Γ + mean_bhw(g̃ z); dx̂ = g̃ / √(m2 + ε);
                   from x̂ to x and for weight and bias, autograd

    z is taken before ψ² moves. The backward divides by the batch's m2, also where the forward divides by ψ²; so it is
    no gradient of the forward, and cannot be differentiated again.

    Args:
        num_features: channels C of (N, C, ...), or of (N, ..., C) with channel_dim=-1.
        groups: of the group scaling, the attention heads in the paper; lowered until it divides C. 1 in the
            authors' code.
        momentum: 1 - α_f, 0.1.
        backward_decay: α_b, 0.9.
        warmup: steps that normalize by the batch, 10,000.
        eps: ε, 1e-5.
        device, dtype: of parameters and state, as in torch's own layers.

    Parameters: weight and bias (C,).
    State: running_square ψ² (1) and gradient_square Γ (0), each (C,); step. A backward pass moves Γ.
    Raises: ValueError where an option is out of range or the channels do not fit, as `Layer` does.
    Not covered: padding masks, statistics shared between processes.
    Source: "PowerNorm: Rethinking Batch Normalization in Transformers"; formula verified (the authors' code was read).
    """

    batch_dependent = True
    running_square: Tensor
    gradient_square: Tensor
    step: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        channel_dim: int = 1,
        groups: int = 1,
        momentum: float = 0.1,
        backward_decay: float = 0.9,
        warmup: int = 10_000,
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
        self.backward_decay = share("backward_decay", backward_decay)
        self.warmup = integer("warmup", warmup, 0)
        self.register_buffer("running_square", self.new_full((self.num_features,), 1.0))
        self.register_buffer("gradient_square", self.new_full((self.num_features,), 0.0))
        self.register_buffer("step", torch.zeros((), device=device, dtype=torch.long))

    def normalize(self, x: Rows) -> Rows:
        x = self._group_scaled(x)
        running = (full_precision(self.running_square) + self.eps).sqrt()
        if not self.training:
            return x / column(running)
        square = x.detach().square().mean((0, 2))
        batch = (square + self.eps).sqrt()
        self.step += 1
        move(self.running_square, square, 1 / self.step.to(square.dtype), self.step < self.warmup)
        move(self.running_square, square, self.momentum)
        divisor = torch.where(self.step <= self.warmup, batch, running)
        result: Tensor = _PowerFunction.apply(x, divisor, batch, self.gradient_square, self.backward_decay)
        return result

    def _group_scaled(self, x: Rows) -> Rows:
        grouped: Tensor = x.unflatten(1, (self.groups, -1))
        scaled = grouped / (grouped.square().mean(2, keepdim=True) + self.eps).sqrt()
        return scaled.flatten(1, 2)


class _PowerFunction(torch.autograd.Function):
    """z = x / divisor; its gradient is that of x / batch with the running Γ in the place of the batch's mean(g z)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, divisor: Tensor, batch: Tensor, state: Tensor, decay: float) -> Tensor:
        z = x / column(divisor)
        ctx.save_for_backward(z, batch)
        ctx.state, ctx.decay = state, decay
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None]:
        z, batch = ctx.saved_tensors
        corrected = g - (1 - ctx.decay) * column(ctx.state) * z
        ctx.state += (corrected * z).mean((0, 2)).to(ctx.state.dtype)
        return corrected / column(batch), None, None, None, None
