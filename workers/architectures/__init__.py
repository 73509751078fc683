"""The networks that layers are judged on. Each takes the layer as a factory: norm_act(num_features, channel_dim=1)."""

from collections.abc import Callable

import torch
from torch import nn

from evonas.workers.architectures.efficientnet import efficientnet
from evonas.workers.architectures.mobilenet import mobilenet_v2
from evonas.workers.architectures.preact_resnet import preact_resnet
from evonas.workers.protocol import EfficientNet, MobileNetV2, PreactResNet

Architecture = PreactResNet | MobileNetV2 | EfficientNet
NormActFactory = Callable[..., nn.Module]


def build(proxy: Architecture, norm_act: NormActFactory, channels: int, classes: int) -> nn.Module:
    """A network for images of so many channels; its random weights come from torch's global generator."""
    match proxy:
        case PreactResNet():
            return preact_resnet(norm_act, channels, classes, proxy)
        case MobileNetV2():
            return mobilenet_v2(norm_act, channels, classes, proxy)
        case EfficientNet():
            return efficientnet(norm_act, channels, classes, proxy)


def site_channels(proxy: Architecture) -> list[int]:
    """The distinct channel counts of the network's layers, ascending.

    Costs neither memory nor random numbers. Deep networks cost no more: the blocks of a stage are alike from the second
    on.
    """
    channels: set[int] = set()

    def count(num_features: int, channel_dim: int = 1) -> nn.Module:
        channels.add(num_features)
        return nn.Identity()

    with torch.device("meta"):
        build(_shallow(proxy), count, 3, 10)
    return sorted(channels)


def _shallow(proxy: Architecture) -> Architecture:
    match proxy:
        case PreactResNet():
            return proxy.model_copy(update={"blocks": tuple(min(each, 2) for each in proxy.blocks)})
        case MobileNetV2(stages=None) | EfficientNet(stages=None):
            return proxy
        case MobileNetV2() | EfficientNet():
            stages = tuple(each.model_copy(update={"blocks": min(each.blocks, 2)}) for each in proxy.stages or ())
            return proxy.model_copy(update={"stages": stages})
