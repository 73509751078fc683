"""Index sets, statistics and running moments: the part of every layer that is not its graph.

`Over` and `Layer` are copied verbatim into every exported layer, so they use torch alone.
"""

import torch
from torch import Tensor, nn

INDEX_SETS = ("bhw", "chw", "hw", "ghw", "c")  # named by the axes that they reduce over


class Over:
    """The positions that one aggregation reduces over; "hw" stands for all axes but batch and channel.

    Statistics keep the number of axes (reduced ones have size 1; the groups of "ghw" are spread back over their
    channels), are computed in float32 when the values are of half precision, and reducing an axis over which a value
    does not vary is the identity for the mean. Over "bhw" the moment of the batch is used in training, where it also
    moves `running` (shape (C,)) by `momentum`; in evaluation `running` is used instead.
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
    ) -> None:
        self.index_set = index_set
        self.channel_dim = channel_dim
        self.groups = groups
        self.eps = eps
        self.running = running
        self.momentum = momentum
        self.training = training

    def mean(self, a: Tensor) -> Tensor:
        if self.running is not None and not self.training:
            return self._stored(self.running, a)
        return self._tracked(self._average(a))

    def mean_square(self, a: Tensor) -> Tensor:
        if self.running is not None and not self.training:
            return self._stored(self.running, a)
        a = self._full_precision(a)
        return self._tracked(self._average(a * a))

    def variance(self, a: Tensor) -> Tensor:
        """The biased variance."""
        if self.running is not None and not self.training:
            return self._stored(self.running, a)
        a = self._full_precision(a)
        deviation = a - self._average(a)
        return self._tracked(self._average(deviation * deviation))

    def _full_precision(self, a: Tensor) -> Tensor:
        return a.float() if a.dtype in (torch.float16, torch.bfloat16) else a

    def _average(self, a: Tensor) -> Tensor:
        a = self._full_precision(a)
        channel = self.channel_dim % a.ndim
        space = [axis for axis in range(1, a.ndim) if axis != channel]
        if self.index_set == "ghw" and a.shape[channel] > 1:
            grouped = a.unflatten(channel, (self.groups, -1))
            axes = [channel + 1] + [axis + (axis > channel) for axis in space]
            means: Tensor = grouped.mean(axes, keepdim=True)
            sizes = [-1] * means.ndim
            sizes[channel + 1] = grouped.shape[channel + 1]
            return means.expand(sizes).flatten(channel, channel + 1)
        axes = [] if self.index_set == "c" else space
        if "b" in self.index_set:
            axes = [0, *axes]
        if "c" in self.index_set:
            axes = [*axes, channel]
        return a.mean(axes, keepdim=True) if axes else a

    def _stored(self, running: Tensor, a: Tensor) -> Tensor:
        shape = [1] * a.ndim
        shape[self.channel_dim] = -1
        return running.view(shape)

    def _tracked(self, moment: Tensor) -> Tensor:
        if self.running is not None:
            with torch.no_grad():
                batch = moment.detach().flatten().to(self.running.dtype)
                self.running.mul_(1 - self.momentum).add_(batch, alpha=self.momentum)
        return moment


class Layer(nn.Module):
    """What every layer has beside its graph: y = weight * graph(x) + bias, in any layout.

    `x` has shape (N, ..., C, ...) with C = `num_features` at `channel_dim` (1, or -1 for tokens and channels-last data)
    and any number of other axes; the result has x's shape and dtype. `groups` is lowered until it divides C.
    Empty input moves no running moment. Raises ValueError where an option is out of range or the channels do not fit.
    """

    def __init__(
        self,
        num_features: int,
        *,
        channel_dim: int = 1,
        groups: int = 32,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        for name, count in (("num_features", num_features), ("groups", groups)):
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}: expected an integer of at least 1, got {count}")
        if channel_dim == 0:
            raise ValueError("channel_dim: axis 0 is the batch; expected 1 or -1")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum: expected 0 to 1, got {momentum}")
        if not eps > 0:
            raise ValueError(f"eps: expected more than 0, got {eps}")
        groups = min(groups, num_features)
        while num_features % groups:
            groups -= 1
        self.num_features = num_features
        self.channel_dim = channel_dim
        self.groups = groups
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        channel = self.channel_dim
        if x.ndim < 2 or not -x.ndim < channel < x.ndim or x.shape[channel] != self.num_features:
            shape = tuple(x.shape)
            raise ValueError(f"expected {self.num_features} channels at axis {channel}, got an input of shape {shape}")
        if not x.is_floating_point():
            raise ValueError(f"expected a floating-point input, got {x.dtype}")
        result = self.graph(x, *others) if x.numel() else x
        result = result * self.per_channel(self.weight, x) + self.per_channel(self.bias, x)
        return result.expand(x.shape).to(x.dtype)

    def graph(self, x: Tensor, *others: Tensor) -> Tensor:
        raise NotImplementedError("a layer defines its graph")

    def per_channel(self, parameter: Tensor, x: Tensor) -> Tensor:
        """A (C,) parameter (or a learned scalar) with x's number of axes."""
        shape = [1] * x.ndim
        shape[self.channel_dim] = -1
        return parameter.view(shape)

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
        )

    def extra_repr(self) -> str:
        return f"{self.num_features}, channel_dim={self.channel_dim}, groups={self.groups}"
