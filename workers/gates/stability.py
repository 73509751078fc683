"""Gate `stability`: does the gradient norm stay bounded?"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from evonas.workers.frozen import Count, Positive
from evonas.workers.gates.base import NetworkGate, Networks
from evonas.workers.gradients import Loss, convolution_weights, norm
from evonas.workers.outcome import Measurement

LOST = {torch.float32: 1e-20, torch.float64: 1e-300}  # norms below which products may have underflowed. Ours


class Stability(NetworkGate):
    """The gradient norm stays bounded while the convolutions' weights climb it, on every proxy: the largest norm on the
    way up (arXiv:2004.02967)."""

    gate: Literal["stability"] = "stability"
    steps: Count = Field(100, description="of the climb")  # arXiv:2004.02967 (remembered)
    gradient_norm_max: Positive = Field(1e8, description="largest norm")  # arXiv:2004.02967 (remembered)
    step_size: Positive = Field(0.1, description="of the weights' norm")  # ours, the paper's is unknown
    batch: Count = Field(32, description="training images")  # ours, the paper's is unknown

    def measure(self, networks: Networks, proxy: str) -> Measurement:
        largest, step = ascend(*networks.fresh(proxy, self.batch), self, networks.loss(proxy))
        passed = largest <= self.gradient_norm_max
        return self.measured(largest, self.gradient_norm_max, passed=passed, proxy=proxy, step=step)


def ascend(
    model: nn.Module, inputs: Tensor, targets: Tensor, gate: Stability, loss_of: Loss = F.cross_entropy
) -> tuple[float, int]:
    """The largest gradient norm met while the convolutions' weights climb it, and the step at which it was met.

    With g = dloss/dtheta and d = dg/dtheta g / ||g||, the gradient of ||g||, each of `gate.steps` steps from the
    present weights is theta <- theta + step_size ||theta|| d / ||d||, in training mode. Stops at the first norm above
    `gate.gradient_norm_max`. Where g or d is not finite, inf is answered.

    Computed in float32; from a step at which ||g|| or ||d|| may have underflowed, in float64. Where float64 may have
    lost them, too, the climb ends; at the first step nothing is known then, and inf is answered. A loss that depends on
    no convolution has norm 0, and a norm that depends on none cannot rise.
    """
    theta = convolution_weights(model)
    model.train()
    dtype, largest, at, step = next(model.parameters()).dtype, 0.0, 0, 0
    while True:
        with sdpa_kernel(SDPBackend.MATH):  # the attention that has a second derivative
            loss = loss_of(model(inputs), targets)
        slopes = torch.autograd.grad(loss, theta, create_graph=True, allow_unused=True)
        gradient = [each for each in slopes if each is not None]
        size = norm(gradient)
        lost = LOST[dtype]
        climbs = step < gate.steps and lost <= size <= gate.gradient_norm_max
        ascent = _ascent(gradient, size, theta) if climbs else []
        length = norm([direction for _, direction in ascent])
        if (gradient and size < lost) or (ascent and length < lost):
            if dtype is torch.float64:
                return (largest, at) if step else (math.inf, 0)
            model.double()
            dtype, inputs = torch.float64, inputs.double() if inputs.is_floating_point() else inputs
            continue
        if not math.isfinite(size) or not math.isfinite(length):
            return math.inf, step
        if size > largest:
            largest, at = size, step
        if not ascent:
            return largest, at
        scale = gate.step_size * norm(theta) / length
        with torch.no_grad():
            for weight, direction in ascent:
                weight.add_(direction, alpha=scale)
        step += 1


def _ascent(gradient: list[Tensor], size: float, theta: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The direction in which the norm rises, of each weight that it depends on. The gradient is scaled to a norm from
    0.5 to 1 by a power of two, which rounds nothing."""
    differentiable = [each for each in gradient if each.requires_grad]
    if not differentiable:
        return []
    scaled = [each.detach() * 2.0 ** -math.frexp(size)[1] for each in differentiable]
    directions = torch.autograd.grad(differentiable, theta, scaled, allow_unused=True)
    return [(weight, each) for weight, each in zip(theta, directions, strict=True) if each is not None]
