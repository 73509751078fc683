"""The gates that need a network: stability here; quality reads the training's own validation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.protocol import Stability


def stability(model: nn.Module, images: Tensor, labels: Tensor, gate: Stability) -> tuple[float, int]:
    """The largest gradient norm met while the convolution weights climb it, and the step at which it was met.

    theta <- theta + step_size ||theta|| d / ||d||, d the gradient of ||dloss/dtheta||, for `gate.steps` steps from the
    model's present weights, in training mode and float32. Stops at the first norm above `gate.gradient_norm_max` or not
    finite (infinity is answered for both). The paper ascends the same norm (arXiv:2004.02967, remembered); its step
    size and batch are unknown, so those are ours.
    """
    theta = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    model.train()
    largest, at = 0.0, 0
    for step in range(gate.steps + 1):
        loss = F.cross_entropy(model(images), labels)
        gradient = torch.autograd.grad(loss, theta, create_graph=True, allow_unused=True, materialize_grads=True)
        squared = torch.stack([g.square().sum() for g in gradient]).sum()
        size = float(squared.detach())
        norm = math.sqrt(size) if math.isfinite(size) else math.inf
        if norm > largest:
            largest, at = norm, step
        if norm > gate.gradient_norm_max or step == gate.steps:
            break
        ascent = torch.autograd.grad(squared, theta, allow_unused=True, materialize_grads=True)
        length = _norm(ascent)
        if not math.isfinite(length):
            return math.inf, step
        if length == 0.0:
            break  # a plateau: the norm cannot rise
        with torch.no_grad():
            scale = gate.step_size * _norm(theta) / length
            for weight, direction in zip(theta, ascent, strict=True):
                weight.add_(direction, alpha=scale)
    return largest, at


def _norm(tensors: list[Tensor] | tuple[Tensor, ...]) -> float:
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))
