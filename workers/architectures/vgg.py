"""VGG without shortcuts: Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556."""

from collections.abc import Callable

from torch import nn

from evonas.workers.architectures.parts import conv, head
from evonas.workers.proxies import VGG

WIDEST = 8  # times the first stage's channels: VGG-16 ends with 512 of them


class ConvNormAct(nn.Sequential):
    """A 3x3 convolution and its layer; the first of a later stage halves the image before."""

    def __init__(self, norm_act: Callable[..., nn.Module], inputs: int, outputs: int, pool: bool) -> None:
        layers = [nn.MaxPool2d(2, ceil_mode=True)] if pool else []
        super().__init__(*layers, conv(inputs, outputs, 3), norm_act(outputs))


def vgg(norm_act: Callable[..., nn.Module], channels: int, classes: int, proxy: VGG) -> nn.Module:
    layers: list[nn.Module] = []
    inputs = channels
    for stage, blocks in enumerate(proxy.blocks):
        outputs = proxy.width * min(2**stage, WIDEST)
        for block in range(blocks):
            layers.append(ConvNormAct(norm_act, inputs, outputs, pool=stage > 0 and block == 0))
            inputs = outputs
    return nn.Sequential(*layers, head(inputs, classes))
