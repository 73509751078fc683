"""Pieces that the architectures share."""

import math

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, He-initialised by its outputs (arXiv:1502.01852).

    An input of a depthwise convolution feeds kernel^2 outputs; torch's own fan would count those of all channels, and
    networks without normalization would start with vanishing signals for a reason that is not theirs.
    """
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    normal(layer.weight, std=math.sqrt(2 * groups / (outputs * kernel**2)))
    return layer


def head(inputs: int, classes: int) -> nn.Sequential:
    """Global average pooling and a linear classifier."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(inputs, classes, std=0.01))


def linear(inputs: int, outputs: int, std: float, bias: bool = True) -> nn.Linear:
    """A linear layer of normal weights; its bias starts at 0."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    normal(layer.weight, std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def normal(weight: Tensor, std: float) -> None:
    if not weight.is_meta:  # where sizes alone are asked torch would load its compiler for this: seconds
        nn.init.normal_(weight, std=std)


def scaled(channels: int, width: float) -> int:
    """channels * width as a multiple of 8, never below 90 % of it (the rounding of MobileNetV2's authors)."""
    result = max(8, int(channels * width + 4) // 8 * 8)
    return result + 8 if result < 0.9 * channels * width else result
