"""Progressive re-parameterized batch normalization: from layer normalization to batch normalization in one training."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from evonas.search_space.catalog.modules.base import BatchNormalized
from evonas.search_space.options import integer, share


class PRepBN(BatchNormalized):
    """Starts a training as layer normalization and ends it as RepBN, which is one affine a channel in evaluation.

        RepBN(x)   weight * (x - μ) / √(σ² + ε) + bias + η x, with μ and σ² over the batch and all positions
        LN(x)      layer_weight * (x - mean_c(x)) / √(var_c(x) + ε) + layer_bias, at each position
        training   y = λ_t LN(x) + (1 - λ_t) RepBN(x), where λ_t = 1 for the first `warmup` steps t = 0, 1, ... and
                   then r0 max(0, 1 - (t - warmup) / total_steps)
        evaluation y = RepBN(x) with running moments
        backward   autograd

    The LN-only steps leave RepBN alone: its running moments do not move, and the gradients of its parameters are 0.

    Args:
        num_features: channels C of (N, C, ...), or of (N, ..., C) with channel_dim=-1.
        groups: no effect, there are none.
        total_steps: T, steps until LN is gone; 300,000 in the paper's code (60,000 DeiT and Swin, 120,000 CSWin).
        warmup: LN-only steps before, 0.
        start: r0, the share of LN when it begins to fall, 1.
        momentum: share of the new batch in the running moments, 0.1 as torch's (unbiased variance).
        eps: ε of both parts, 1e-5.
        device, dtype: of parameters and state, as in torch's own layers.

    Parameters: weight, bias, layer_weight and layer_bias (C,), eta (1,) with the start value 1.
    State: running_mean (0) and running_var (1), each (C,); step, the number of training steps so far.
    Raises: ValueError where an option is out of range or the channels do not fit, as `Layer` does.
    Not covered: padding masks, statistics shared between processes.
    Source: "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized Batch
    Normalization"; formula verified (the authors' code was read).
    """

    step: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        channel_dim: int = 1,
        groups: int = 1,
        total_steps: int = 300_000,
        warmup: int = 0,
        start: float = 1.0,
        momentum: float = 0.1,
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
        self.total_steps = integer("total_steps", total_steps)
        self.warmup = integer("warmup", warmup, 0)
        self.start = share("start", start)
        self.eta = nn.Parameter(self.new_full((1,), 1.0))
        self.layer_weight = nn.Parameter(self.new_full((self.num_features,), 1.0))
        self.layer_bias = nn.Parameter(self.new_full((self.num_features,), 0.0))
        self.register_buffer("step", torch.zeros((), device=device, dtype=torch.long))

    def moves(self) -> Bool[Tensor, ""]:
        return self.step >= self.warmup

    def finish(self, y: Tensor, x: Tensor) -> Tensor:
        if not self.training:
            return y + self.eta * x
        variance, mean = torch.var_mean(x, self.channel_dim, correction=0, keepdim=True)
        normal = (x - mean) / (variance + self.eps).sqrt()
        layer = normal * self.per_channel(self.layer_weight, x) + self.per_channel(self.layer_bias, x)
        only, share = self.step < self.warmup, self._layer_share(x)
        self.step += 1
        return share * layer + torch.where(only, 0.0, (1 - share) * (y + self.eta * x))

    def _layer_share(self, x: Tensor) -> Float[Tensor, ""]:
        """λ_t, the share of layer normalization."""
        progress = (self.step - self.warmup).to(x.dtype) / self.total_steps
        return torch.where(self.step < self.warmup, 1.0, self.start * (1 - progress).clamp(min=0.0))
