"""The gates that need a network before its training; the others read the training's own losses and accuracies."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.protocol import Stability


def initial_pass(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """One forward and backward of a network, in training mode and float32: the largest standard deviation over the
    images that a logit has (not a number, or infinite, where a logit is), and the norm of the gradient of the loss over
    the convolutions' weights (infinite where it is not finite)."""
    theta = _convolutions(model)
    model.train()
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    gradient = torch.autograd.grad(loss, theta, allow_unused=True, materialize_grads=True)
    norm = _norm(gradient)
    return float(logits.detach().std(0).max()), norm if math.isfinite(norm) else math.inf


def stability(model: nn.Module, images: Tensor, labels: Tensor, gate: Stability) -> tuple[float, int]:
    """The largest gradient norm met while the convolution weights climb it, and the step at which it was met.

    theta <- theta + step_size ||theta|| d / ||d||, d the gradient of ||dloss/dtheta||, for `gate.steps` steps from the
    model's present weights, in training mode and float32. Stops at the first norm above `gate.gradient_norm_max` or not
    finite (infinity is answered for both). The paper ascends the same norm (arXiv:2004.02967, remembered); its step
    size and batch are unknown, so those are ours.
    """
    theta = _convolutions(model)
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


def _convolutions(model: nn.Module) -> list[Tensor]:
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))
