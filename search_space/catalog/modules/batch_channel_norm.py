"""Batch-channel normalization and its estimated batch normalization for micro-batches."""

from typing import Any

import torch
from torch import Tensor, nn

from evonas.search_space.catalog.modules.base import BatchNormalized, column


class EstBN(BatchNormalized):
    """Estimated batch normalization: the running moments normalize in training too, so that a batch may be tiny.

        training   σ̂² ← (1 - r) σ̂² + r mean_bhw((x - μ̂)²)
                   μ̂  ← (1 - r) μ̂  + r mean_bhw(x)
        both       y = weight * (x - μ̂) / √(σ̂² + ε) + bias
        backward   autograd, with μ̂ and σ̂² constant: dx = weight * dy / √(σ̂² + ε)

    The moments move before they are used, and the deviations are from the μ̂ before its move.

    Args:
        num_features: channels C of (N, C, ...), or of (N, ..., C) with channel_dim=-1.
        momentum: r. The paper's trainer sets it from outside, and it stands at 0 until then; 0.1 is ours.
        eps: ε, 1e-5.
        device, dtype: of parameters and state, as in torch's own layers.

    State: running_mean μ̂ (0) and running_var σ̂² (1), each (C,).
    Raises: ValueError where an option is out of range or the channels do not fit, as `Layer` does.
    Not covered: padding masks, statistics shared between processes.
    Source: "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization"; formula verified
    (the authors' code was read).
    """

    estimated = True


class BatchChannelNorm(BatchNormalized):
    """Batch normalization followed by group normalization, whose affine has one weight and bias a group.

        batch      z = weight * (x - μ) / √(σ² + ε) + bias: torch's batch normalization or, for micro-batches, EstBN
        channel    y = group_weight * (z - mean_ghw(z)) / √(var_ghw(z) + ε) + group_bias
        evaluation μ and σ² are running moments
        backward   autograd

    Weight standardization, which the paper joins to it, is a transform of a convolution and no part of this layer.

    Args:
        num_features: channels C of (N, C, ...), or of (N, ..., C) with channel_dim=-1.
        groups: 32 in the paper, lowered until it divides C.
        micro_batch: whether the batch part is EstBN, which normalizes by running moments in training too.
        momentum: share of the new batch in the running moments; 0.1 as torch's (ours for EstBN, see there).
        eps: ε of both parts, 1e-5.
        device, dtype: of parameters and state, as in torch's own layers.

    Parameters: weight and bias (C,), group_weight and group_bias (groups,).
    State: running_mean (0) and running_var (1), each (C,).
    Raises: ValueError where an option is out of range or the channels do not fit, as `Layer` does.
    Not covered: padding masks, statistics shared between processes.
    Source: as EstBN, verified.
    """

    def __init__(
        self,
        num_features: int,
        *,
        channel_dim: int = 1,
        groups: int = 32,
        micro_batch: bool = False,
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
        self.estimated = micro_batch
        self.group_weight = nn.Parameter(self.new_full((self.groups,), 1.0))
        self.group_bias = nn.Parameter(self.new_full((self.groups,), 0.0))

    def finish(self, y: Tensor, x: Tensor) -> Tensor:
        rows = self.rows(y)
        grouped = rows.unflatten(1, (self.groups, -1)).flatten(2)  # (N, groups, channels of a group and positions)
        variance, mean = torch.var_mean(grouped, 2, correction=0, keepdim=True)
        normal = (grouped - mean) / (variance + self.eps).sqrt()
        return self.restored(normal * column(self.group_weight) + column(self.group_bias), x)
