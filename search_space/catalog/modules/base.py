"""The base of the reference modules: a layer whose formula sees (samples, channels, positions) in full precision."""

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from evonas.search_space.layer import Layer
from evonas.search_space.moments import full_precision

Rows = Float[Tensor, "n c p"]


class ReferenceModule(Layer):
    """y = finish(weight * normalize(x) + bias, x): a `Layer` with a state of its own.

    `normalize` gets x as rows (N, C, P), where P are all axes but batch and channel, and both functions get float32
    when x is of half precision. Neither is called for empty input, which therefore moves no state. Forward passes in
    training move the state, also under `torch.no_grad`; buffers hold all of it, so `state_dict` resumes a training
    exactly. Steps are compared as tensors, without reading their values, so that a training compiles as one graph and
    runs on the meta device. `groups`, where a formula has none, has no effect, as in a graph without groups.

    Processes do not share their statistics, and there are no padding masks: every position counts. A forward pass that
    is recomputed for the backward (`torch.utils.checkpoint`) moves the state twice. Cast to half precision, a module
    computes in float32 all the same, but keeps its state in half: mean squares beyond 65,504 are infinite in float16.
    `torch.func.jvp` works in evaluation; in training it refuses the moved state, as it does with torch.nn.BatchNorm2d.
    A trace by torch.jit is saved in evaluation; in training it is refused where a module writes its own backward.
    """

    batch_dependent: ClassVar[bool]  # whether a sample's output depends on other samples in training

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        if isinstance(x, torch.fx.Proxy):
            return super().forward(x, *others)
        self.check(x, others)
        wide = full_precision(x)
        result = super().forward(wide, *others)
        return (self.finish(result, wide) if x.numel() else result).to(x.dtype)

    def transform(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.restored(self.normalize(self.rows(x)), x)

    def normalize(self, x: Rows) -> Rows:
        raise NotImplementedError("a reference module defines its formula")

    def finish(self, y: Tensor, x: Tensor) -> Tensor:
        """The output: the affine's result `y`, and what the formula makes of it."""
        return y

    def rows(self, x: Tensor) -> Rows:
        """x as (samples, channels, positions)."""
        return x.movedim(self.channel_dim, 1).reshape(x.shape[0], self.num_features, -1)

    def restored(self, rows: Rows, x: Tensor) -> Tensor:
        """Rows in the layout of x."""
        return rows.reshape(x.movedim(self.channel_dim, 1).shape).movedim(1, self.channel_dim)


class BatchNormalized(ReferenceModule):
    """(x - mean) / √(variance + ε) with running moments, which move by the share `momentum` in training.

    In evaluation, and if `estimated` in training too, the running moments normalize; otherwise the batch's own do.
    """

    batch_dependent = True
    estimated = False
    running_mean: Float[Tensor, " c"]
    running_var: Float[Tensor, " c"]

    def __init__(
        self,
        num_features: int,
        *,
        channel_dim: int = 1,
        groups: int = 32,
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
        self.register_buffer("running_mean", self.new_full((self.num_features,), 0.0))
        self.register_buffer("running_var", self.new_full((self.num_features,), 1.0))

    def normalize(self, x: Rows) -> Rows:
        if self.training and not self.estimated:
            return self._by_batch(x)
        if self.training:
            self._estimate(x.detach())
        return standardized(x, self.running_mean, self.running_var, self.eps)

    def _by_batch(self, x: Rows) -> Rows:
        """torch's batch normalization; the unbiased variance of a single value is 0, where torch raises."""
        mean = x.mean((0, 2))
        variance = (x - column(mean)).square().mean((0, 2))
        count = x.shape[0] * x.shape[2]
        when = self.moves()
        move(self.running_mean, mean, self.momentum, when)
        move(self.running_var, variance * (count / max(count - 1, 1)), self.momentum, when)
        return standardized(x, mean, variance, self.eps)

    def moves(self) -> Bool[Tensor, ""] | None:
        """Whether the running moments move in this step of the training; None in each."""
        return None

    def _estimate(self, x: Rows) -> None:
        deviation = x - column(self.running_mean)
        move(self.running_var, deviation.square().mean((0, 2)), self.momentum)
        move(self.running_mean, x.mean((0, 2)), self.momentum)


def column(per_channel: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c 1"]:
    """A value a channel as a column, to meet rows."""
    return per_channel.unsqueeze(-1)


def standardized(x: Rows, mean: Float[Tensor, "*samples c"], variance: Float[Tensor, "*samples c"], eps: float) -> Rows:
    """(x - mean) / √(variance + ε), with moments of the batch or of a sample, which half precision does not round."""
    return (x - column(full_precision(mean))) / column(full_precision(variance) + eps).sqrt()


def move(
    state: Float[Tensor, " c"],
    value: Float[Tensor, " c"],
    share: float | Float[Tensor, ""],
    when: Bool[Tensor, ""] | None = None,
) -> None:
    """state ← (1 - share) state + share value, where `when` is true."""
    moved = state * (1 - share) + value.detach().to(state.dtype) * share
    state.copy_(moved if when is None else torch.where(when, moved, state))
