"""The networks that layers are judged on. Each takes the layer as a factory: norm_act(num_features, channel_dim=1)."""

from collections.abc import Callable

from torch import nn

from evonas.workers.architectures.efficientnet import efficientnet
from evonas.workers.architectures.mobilenet import mobilenet_v2
from evonas.workers.architectures.preact_resnet import preact_resnet
from evonas.workers.protocol import EfficientNet, MobileNetV2, PreactResNet

NormActFactory = Callable[..., nn.Module]


def build(
    proxy: PreactResNet | MobileNetV2 | EfficientNet, norm_act: NormActFactory, channels: int, classes: int
) -> nn.Module:
    """A network for images of so many channels; its random weights come from torch's global generator."""
    match proxy:
        case PreactResNet():
            return preact_resnet(norm_act, channels, classes, proxy)
        case MobileNetV2():
            return mobilenet_v2(norm_act, channels, classes, proxy)
        case EfficientNet():
            return efficientnet(norm_act, channels, classes, proxy)
