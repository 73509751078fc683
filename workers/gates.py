"""The gates that need a network before its training; the others read the training's own losses and accuracies."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evonas.workers.protocol import Recipe, Stability
from evonas.workers.training import sgd


class InitialPass:
    """One forward of a network at its initial weights, in training mode and float32; the backward once it is asked for.

    `logits_std` is the largest standard deviation over the images that a logit has: not a number, or infinite, where a
    logit is.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self._theta = _convolutions(model)
        logits = model.train()(images)
        self._loss = F.cross_entropy(logits, labels)
        self.logits_std = float(logits.detach().std(0).max())

    @cached_property
    def gradient_norm(self) -> float:
        """Of the loss over the convolutions' weights; infinite where it is not finite."""
        norm = _norm(torch.autograd.grad(self._loss, self._theta, allow_unused=True, materialize_grads=True))
        return norm if math.isfinite(norm) else math.inf


def fit(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, steps: int, goal: float) -> tuple[float, int]:
    """The least loss within so many steps on one and the same batch, and the step at which it was met.

    With the recipe's optimizer at its full rate, in training mode and float32. Stops once the loss is at most `goal`,
    or no longer finite (infinity is answered where it never was).
    """
    optimizer = sgd(model.train(), recipe)
    least, at = math.inf, 0
    for step in range(steps + 1):
        loss = F.cross_entropy(model(images), labels)
        value = float(loss.detach())
        if value < least:
            least, at = value, step
        if least <= goal or step == steps or not math.isfinite(value):
            break
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return least, at


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
