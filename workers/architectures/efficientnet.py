"""EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv:1905.11946."""

from collections.abc import Callable

from torch import nn

from evonas.workers.architectures.mobilenet import ROW, inverted_bottlenecks
from evonas.workers.architectures.parts import conv, head, scaled
from evonas.workers.proxies import EfficientNet, Stage

B0 = tuple(  # expansion, channels, blocks, stride, kernel; the paper's strides but for the stem's and the second row's
    Stage.model_validate(dict(zip(ROW, row, strict=False)))
    for row in (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 1, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
)


def efficientnet(norm_act: Callable[..., nn.Module], channels: int, classes: int, proxy: EfficientNet) -> nn.Module:
    from torchvision.ops import SqueezeExcitation  # seconds to import, which other proxies save

    stem = scaled(32, proxy.width)

    def excite(inputs: int) -> Callable[[int], nn.Module]:
        """Squeeze and excitation (arXiv:1709.01507); the inner width is a quarter of the block's input."""
        return lambda width: SqueezeExcitation(width, max(1, inputs // 4), activation=nn.SiLU)

    blocks, inputs = inverted_bottlenecks(norm_act, stem, proxy.stages or B0, proxy.width, excite)
    last = 4 * inputs
    return nn.Sequential(
        conv(channels, stem, 3), norm_act(stem), *blocks, conv(inputs, last, 1), norm_act(last), head(last, classes)
    )
