"""Progressive re-parameterized batch normalization: from layer normalization to batch normalization in one training."""

import torch
from torch import Tensor, nn

from evonas.search_space.catalog.modules.base import BatchNormalized, expect_count, expect_share


class PRepBN(BatchNormalized):
    """Starts a training as layer normalization and ends it as RepBN, which is one affine a channel in evaluation.

        RepBN(x)   weight * (x - μ) / √(σ² + ε) + bias + η x, with μ and σ² over the batch and all positions
        LN(x)      layer_weight * (x - mean_c(x)) / √(var_c(x) + ε) + layer_bias, at each position
        training   y = λ_t LN(x) + (1 - λ_t) RepBN(x), where λ_t = 1 for the first `warmup` steps t = 0, 1, ... and
                   then r0 max(0, 1 - (t - warmup) / total_steps)
        evaluation y = RepBN(x) with running moments
        backward   autograd

    The LN-only steps leave RepBN alone: its running moments do not move, and its parameters have no gradient.

    Args:
        num_features: channels C of (N, C, ...), or of (N, ..., C) with channel_dim=-1.
        total_steps: T, steps until LN is gone; 300,000 in the paper's code (60,000 DeiT and Swin, 120,000 CSWin).
        warmup: LN-only steps before, 0.
        start: r0, the share of LN when it begins to fall, 1.
        momentum: share of the new batch in the running moments, 0.1 as torch's (unbiased variance).
        eps: ε of both parts, 1e-5.

    Parameters: weight, bias, layer_weight and layer_bias (C,), eta () with the start value 1.
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
        total_steps: int = 300_000,
        warmup: int = 0,
        start: float = 1.0,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(num_features, channel_dim=channel_dim, groups=1, momentum=momentum, eps=eps)
        expect_count("total_steps", total_steps, 1)
        expect_count("warmup", warmup, 0)
        expect_share("start", start)
        self.total_steps = total_steps
        self.warmup = warmup
        self.start = start
        self.eta = nn.Parameter(torch.ones(()))
        self.layer_weight = nn.Parameter(torch.ones(num_features))
        self.layer_bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def normalize(self, x: Tensor) -> Tensor:
        return x if self._layer_only() else super().normalize(x)

    def finish(self, y: Tensor, x: Tensor) -> Tensor:
        if not self.training:
            return y + self.eta * x
        variance, mean = torch.var_mean(x, self.channel_dim, correction=0, keepdim=True)
        normal = (x - mean) / (variance + self.eps).sqrt()
        layer = normal * self.per_channel(self.layer_weight, x) + self.per_channel(self.layer_bias, x)
        share, only = self.layer_share(int(self.step)), self._layer_only()
        self.step += 1
        return layer if only else share * layer + (1 - share) * (y + self.eta * x)

    def _layer_only(self) -> bool:
        return self.training and int(self.step) < self.warmup

    def layer_share(self, step: int) -> float:
        """λ_t, the share of layer normalization."""
        if step < self.warmup:
            return 1.0
        return self.start * max(0.0, 1 - (step - self.warmup) / self.total_steps)
