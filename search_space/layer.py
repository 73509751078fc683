"""The base of every layer: its options, the affine, and what its graph is given."""

from typing import Any

import torch
from torch import Tensor, nn

from evonas.search_space.moments import (
    HALF,
    SHARED,
    Moment,
    distributed,
    full_precision,
    lowered_groups,
    over,
    over_bhw,
    per_channel,
    sum_of_all,
    variance,
)
from evonas.search_space.options import axis, expect_placement, integer, positive, share


class Layer(nn.Module):
    """The part of every layer beside its graph: y = weight * graph(x) + bias, in any layout.

    `x` has shape (N, ..., C, ...) with C = `num_features` at `channel_dim` (1, or -1 for tokens and channels-last data)
    and any number of other axes; the result has x's shape and dtype. Empty input moves no running moment.

    groups: of ghw; lowered until it divides C.
    momentum: the share of the batch in the running moments' next value.
    eps: added to variances and mean squares, inside the root.
    unbiased_running_var: of n values, the running variance gets their variance times n / (n - 1), as torch's and timm's
        does; the official EvoNorm code keeps the biased one.
    synchronized: batch statistics are those of all processes of torch.distributed's default group (evonas.synchronize
        can give another), however they share the samples, where there is such a group.
    apply_act: False where a network has a norm without activation. Left is weight * x + bias, without other parameters
        and buffers, as in the official EvoNorm code (tensorflow/tpu, resnet_model.py).
    upcast: half precision is computed in float32 throughout, under autocast too, and the result is rounded once. False:
        statistics and what follows from them alone are float32; every other step is rounded to half precision. So steps
        overflow where float16 does (|x| = 256 squared), and the backward keeps less (EvoNorm-B0: 12 for 16 bytes).
    device, dtype: of the parameters and buffers, as in torch's own layers. A layer makes what it adds with `new_full`.

    Raises ValueError where an option is out of range or the channels do not fit.
    """

    process_group: Any = None  # of `synchronized`: the default group

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
        upcast: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_features = integer("num_features", num_features)
        self.channel_dim = axis("channel_dim", channel_dim)
        self.groups = lowered_groups(integer("groups", groups), self.num_features)
        self.momentum = share("momentum", momentum)
        self.eps = positive("eps", eps)
        expect_placement(device, dtype)
        self.unbiased_running_var = unbiased_running_var
        self.synchronized = synchronized
        self.apply_act = apply_act
        self.upcast = upcast
        self.weight = nn.Parameter(torch.ones(self.num_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(self.num_features, device=device, dtype=dtype))

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        if isinstance(x, torch.fx.Proxy):  # a symbolic tracer, which takes torch's own layers alone for leaves
            traced: Tensor = x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x, *others), {})
            return traced
        self.check(x, others)
        wide = [full_precision(each) for each in (x, *others)] if self.upcast else [x, *others]
        awaited = self.synchronized and self.training and distributed()  # its share, be it empty
        result = self.transform(*wide) if self.apply_act and (x.numel() or awaited) else wide[0]
        result = result * self.per_channel(self.weight, result) + self.per_channel(self.bias, result)
        return (result if result.shape == x.shape else result.expand(x.shape)).to(x.dtype)

    def transform(self, x: Tensor, *others: Tensor) -> Tensor:
        raise NotImplementedError("a layer defines what its affine follows")

    def check(self, x: Tensor, others: tuple[Tensor, ...]) -> None:
        """Raises ValueError where the inputs do not fit the layer."""
        channel = self.channel_dim
        if x.ndim < 2 or not -x.ndim < channel < x.ndim or x.shape[channel] != len(self.weight):
            raise ValueError(f"expected {self.num_features} channels at axis {channel}, got shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"expected a floating-point input, got {x.dtype}")
        for other in others:
            if other.ndim != x.ndim or any(
                size not in (1, of_x) for size, of_x in zip(other.shape, x.shape, strict=True)
            ):
                shapes = f"{tuple(other.shape)} beside {tuple(x.shape)}"
                raise ValueError(f"a second input has the axes of x, each of the same size or 1; got {shapes}")

    def new_full(self, shape: tuple[int, ...], value: float) -> Tensor:
        """A tensor for a parameter or buffer, on the layer's device and of its type."""
        return self.weight.detach().new_full(shape, value)

    def per_channel(self, parameter: Tensor, x: Tensor) -> Tensor:
        """A (C,) or (1,) parameter with x's number of axes, and in half precision where x is."""
        wide = per_channel(parameter, x, self.channel_dim)
        return wide.to(x.dtype) if x.dtype in HALF else wide

    def number(self, value: float, x: Tensor) -> Tensor:
        """A constant with x's number of axes, never of less than single precision."""
        return torch.full([1] * x.ndim, value, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)

    def over(self, index_set: str, moment: Moment, a: Tensor, running: Tensor | None = None) -> Tensor:
        """The moment of `a`, in full precision, over an index set; over the batch with its running moment."""
        if running is None:
            return over(index_set, moment, a, self.channel_dim, self.groups)
        shared = self.synchronized and self.training and distributed()
        group = self.process_group
        summed = (lambda a, axes: SHARED[moment](a, axes, group)) if shared else moment
        of_batch = over_bhw(summed, a, self.channel_dim, running, self.momentum, self.training)
        if self.unbiased_running_var and self.training and moment is variance:
            count = a.new_full((), a.numel() // of_batch.numel())
            rest = of_batch.detach().flatten() / ((sum_of_all(count, group) if shared else count) - 1).clamp(min=1)
            running.add_(rest.to(running.dtype), alpha=self.momentum)
        return of_batch

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Scalars had no axes until version 0.1."""
        for name, parameter in self.named_parameters():
            if (value := state_dict.get(prefix + name)) is not None and value.ndim == 0:
                state_dict[prefix + name] = value.view(parameter.shape)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def extra_repr(self) -> str:
        words = [str(self.num_features), f"channel_dim={self.channel_dim}", f"groups={self.groups}"]
        usual = {"momentum": 0.1, "eps": 1e-5, "unbiased_running_var": False, "synchronized": False}
        usual |= {"apply_act": True, "upcast": True}
        words += [f"{name}={value}" for name in usual if (value := getattr(self, name)) != usual[name]]
        return ", ".join(words)
