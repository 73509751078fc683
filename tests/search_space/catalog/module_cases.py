"""The reference modules with options other than the defaults, the inputs to train them on, and torch's own layers."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evonas.search_space.catalog.modules import BatchChannelNorm, EstBN, OnlineNorm, PowerNorm, PRepBN, UnifiedNorm
from evonas.search_space.catalog.modules.base import ReferenceModule
from tests.search_space.catalog import module_oracles as oracles
from tests.search_space.tensors import normal

C = 6


@dataclass(frozen=True)
class Case:
    module: type[ReferenceModule]
    oracle: type[oracles.Oracle]
    options: dict[str, Any]
    steps: int = 5
    outlier: float = 1.0  # what multiplies channel 0 in step 9
    steady: bool = False  # one x, taken 1 and 1.3 times in turn

    def build(self, **options: Any) -> ReferenceModule:
        """In float64, with parameters other than their start."""
        module = self.module(C, **self.options, **options).double()
        random = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=torch.float64) + 0.5)
        return module

    def x(self, step: int, *shape: int) -> Tensor:
        x = normal(*(shape or (4, C, 5)), seed=0 if self.steady else step)
        x = x * 1.3 if self.steady and step % 2 else x
        return torch.cat([x[:, :1] * self.outlier, x[:, 1:]], 1) if step == 9 else x


COMMON = {"momentum": 0.2, "eps": 1e-3}
BCN = COMMON | {"groups": 3}
PREP = COMMON | {"total_steps": 3, "warmup": 2, "start": 0.75}
POWER = COMMON | {"groups": 2, "warmup": 3, "backward_decay": 0.8}
UNIFIED = COMMON | {"window": 3, "warmup": 5, "correction_after": 6, "backward_decay": 0.7}
ONLINE = {"forward_decay": 0.9, "backward_decay": 0.8, "guard": 2.0, "eps": 1e-3}
CASES = {
    "EstBN": Case(EstBN, oracles.EstBNOracle, COMMON),
    "BCN": Case(BatchChannelNorm, oracles.BatchChannelNormOracle, BCN | {"micro_batch": False}),
    "BCN-micro": Case(BatchChannelNorm, oracles.BatchChannelNormOracle, BCN | {"micro_batch": True}),
    "PRepBN": Case(PRepBN, oracles.PRepBNOracle, PREP, 7),
    "PowerNorm": Case(PowerNorm, oracles.PowerNormOracle, POWER, 8),
    "UnifiedNorm": Case(UnifiedNorm, oracles.UnifiedNormOracle, UNIFIED | {"outlier_filtration": False}, 14, 1e4),
    "UnifiedNorm-filter": Case(
        UnifiedNorm, oracles.UnifiedNormOracle, UNIFIED | {"outlier_filtration": True}, 14, 1e4, True
    ),
    "OnlineNorm": Case(OnlineNorm, oracles.OnlineNormOracle, ONLINE),
}
cases = pytest.mark.parametrize("name", CASES)


def train(module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """One step: y, dx and the gradients of the parameters, 0 for one that has no part in y.

    x is channels-first; it is turned for a module with other axes, and y and dx are turned back.
    """
    channel = getattr(module, "channel_dim", 1)
    module.zero_grad()
    x = x.movedim(1, channel).clone().requires_grad_()
    y = module(x)
    y.movedim(channel, 1).backward(dy(x.movedim(channel, 1)))
    assert x.grad is not None
    gradients = (torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in module.parameters())
    return y.detach().movedim(channel, 1), x.grad.movedim(channel, 1), *gradients


def dy(x: Tensor) -> Tensor:
    """The gradient that `train` sends into a y like x."""
    return normal(*x.shape, seed=100).to(x.dtype)


def trained(name: str, **options: Any) -> ReferenceModule:
    module = CASES[name].build(**options)
    for step in range(CASES[name].steps):
        train(module, CASES[name].x(step))
    return module


def with_affine_of(layer: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    layer.double().load_state_dict({"weight": weight, "bias": bias}, strict=False)
    return layer


class TorchBCN(nn.Module):
    """Two of torch's own layers; the affine of a group is spread over its channels."""

    def __init__(self, module: ReferenceModule) -> None:
        super().__init__()
        self.batch = with_affine_of(nn.BatchNorm1d(C, eps=module.eps, momentum=0.2), module.weight, module.bias)
        self.group = nn.GroupNorm(3, C, eps=module.eps, affine=False)
        self.group_weight, self.group_bias = copy.deepcopy((module.group_weight, module.group_bias))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (each.repeat_interleave(2).unsqueeze(1) for each in (self.group_weight, self.group_bias))
        y: Tensor = self.group(self.batch(x)) * weight + bias
        return y


class TorchPRepBN(nn.Module):
    def __init__(self, module: ReferenceModule) -> None:
        super().__init__()
        self.batch = with_affine_of(nn.BatchNorm1d(C, eps=module.eps, momentum=0.2), module.weight, module.bias)
        self.eta = copy.deepcopy(module.eta)
        self.layer = with_affine_of(nn.LayerNorm(C, eps=module.eps), module.layer_weight, module.layer_bias)
        self.shares = iter((1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        share = next(self.shares) if self.training else 0.0
        y: Tensor = self.layer(x.transpose(1, 2)).transpose(1, 2)
        return y if share == 1.0 else share * y + (1 - share) * (self.batch(x) + self.eta * x)
