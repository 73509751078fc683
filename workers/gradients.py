"""Gradients of a network's loss over its convolutions' weights."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and targets
SQUARES_MIN = 1e-280  # a sum of squares below which some of them may have vanished in float64


class InitialPass:
    """One forward of a network at its initial weights, in training mode and float32; the backward once it is asked for.

    `logits_std` is the largest standard deviation over the examples that a logit has; NaN or inf if any logit is.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss = F.cross_entropy) -> None:
        self._theta = convolution_weights(model)
        logits = model.train()(inputs)
        self._loss = loss(logits, targets)
        self.logits_std = float(logits.detach().double().std(0).max())

    @cached_property
    def gradient_norm(self) -> float:
        """Norm of the loss' gradient; inf where it is not finite, 0 where the loss depends on no such weight."""
        gradients = torch.autograd.grad(self._loss, self._theta, allow_unused=True)
        size = norm([each for each in gradients if each is not None])
        return size if math.isfinite(size) else math.inf


def convolution_weights(model: nn.Module) -> list[Float[Tensor, "outputs inputs ..."]]:
    """The weights of all convolutions; of all linear layers where a network has no convolution."""
    weights = [module.weight for module in model.modules() if isinstance(module, CONVOLUTIONS)]
    return weights or [module.weight for module in model.modules() if isinstance(module, nn.Linear)]


def norm(tensors: Sequence[Float[Tensor, "..."]]) -> float:
    """The norm of all values together, with the range of float64: squares are scaled where they would underflow."""
    if not tensors:
        return 0.0
    squares = float(torch.stack([each.detach().double().square().sum() for each in tensors]).sum())
    if SQUARES_MIN < squares < math.inf or math.isnan(squares):
        return math.sqrt(squares)
    largest = float(torch.stack([each.detach().double().abs().max() for each in tensors]).max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * norm([each.detach().double() / largest for each in tensors])
