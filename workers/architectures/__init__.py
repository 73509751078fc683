"""The networks that layers are judged on. Each takes the layer as a factory: norm_act(num_features, channel_dim=1)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import nn

from evonas.workers.architectures.blocks import Attention, TransformerBlock
from evonas.workers.architectures.efficientnet import efficientnet
from evonas.workers.architectures.mobilenet import InvertedBottleneck, mobilenet_v2
from evonas.workers.architectures.own import own
from evonas.workers.architectures.preact_resnet import Block, preact_resnet
from evonas.workers.architectures.transformer import Patches, gpt, vit
from evonas.workers.architectures.vgg import ConvNormAct, vgg
from evonas.workers.proxies import GPT, VGG, EfficientNet, MobileNetV2, OwnArchitecture, PreactResNet, ViT
from evonas.workers.task import BYTES

Known = PreactResNet | VGG | MobileNetV2 | EfficientNet | ViT | GPT
Architecture = Known | OwnArchitecture
DEPTH_MAX = 1000  # layers of a network; the deepest of arXiv:1603.05027, ResNet-1001, has as many
PARAMETERS_MAX = 10**9  # SGD with momentum keeps 12 GB for them
VALUES_MAX = 10**10  # 40 GB, of which training keeps several copies
REPEATED = Block | ConvNormAct | InvertedBottleneck | TransformerBlock
NormActFactory = Callable[..., nn.Module]


def build(proxy: Architecture, norm_act: NormActFactory, features: int, classes: int) -> nn.Module:
    """A network for images of so many channels, or for text of so much context; its random weights come from torch's
    global generator."""
    match proxy:
        case PreactResNet():
            return preact_resnet(norm_act, features, classes, proxy)
        case VGG():
            return vgg(norm_act, features, classes, proxy)
        case MobileNetV2():
            return mobilenet_v2(norm_act, features, classes, proxy)
        case EfficientNet():
            return efficientnet(norm_act, features, classes, proxy)
        case ViT():
            return vit(norm_act, features, classes, proxy)
        case GPT():
            return gpt(norm_act, features, classes, proxy)
        case OwnArchitecture():
            return own(norm_act, features, classes, proxy)


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a network: of its weights, and of the images at its layers."""

    channels: tuple[int, ...]  # the distinct ones of the layers, ascending
    layers: int
    parameters: int  # of everything but the layers
    values: int  # at the inputs of all layers, for one image

    def excess(self, images: int) -> str:
        """The reason for which no machine can train the network with so many images a step; empty where one can."""
        for what, is_there, most in (
            ("layers", self.layers, DEPTH_MAX),
            ("parameters", self.parameters, PARAMETERS_MAX),
            (f"values at its layers in a step of {images} images", self.values * images, VALUES_MAX),
        ):
            if is_there > most:
                return f"a network of {is_there:,} {what}; expected at most {most:,}"
        return ""


class _Site(nn.Module):
    """In the place of a layer."""

    def __init__(self, num_features: int, channel_dim: int = 1) -> None:
        super().__init__()
        self.num_features = num_features


def size(proxy: Known, side: int, context: int = 1) -> Size:
    """The size of the network for images of `side` x `side`, or for text of so much context.

    Costs neither memory nor random numbers. Deep networks cost no more: the blocks of a stage are alike from the second
    on.
    """
    with torch.device("meta"):
        network = build(_shallow(proxy), _Site, *((context, BYTES) if isinstance(proxy, GPT) else (3, 10)))
    channels: set[int] = set()
    layers = parameters = values = 0
    repeats = _repeats(proxy)
    for part in network.children():
        times = next(repeats) if isinstance(part, REPEATED) else 1
        parameters += times * sum(each.numel() for each in part.parameters())
        heads = {each: at.heads for at in part.modules() if isinstance(at, Attention) for each in at.norms}
        for name, module in part.named_modules():
            if isinstance(module, _Site):
                channels.add(module.num_features)
                layers += times
                tokens = context if isinstance(proxy, GPT) else side**2
                values += times * module.num_features * tokens * heads.get(module, 1)
            elif isinstance(module, nn.Conv2d) and name != "shortcut":
                side = -(-side // module.stride[0])  # every kernel is padded
            elif isinstance(module, Patches):
                side = -(-side // module.patch)
            elif isinstance(module, nn.MaxPool2d):
                side = -(-side // 2)
    return Size(tuple(sorted(channels)), layers, parameters, values)


def _repeats(proxy: Known) -> Iterator[int]:
    """The number of blocks of the network that each block of the shallow one stands for."""
    match proxy:
        case PreactResNet() | VGG():
            stages = proxy.blocks
        case ViT() | GPT():
            stages = (proxy.depth,)
        case MobileNetV2(stages=None) | EfficientNet(stages=None):
            stages = ()
            yield from repeat(1)
        case MobileNetV2() | EfficientNet():
            stages = tuple(each.blocks for each in proxy.stages or ())
    for blocks in stages:
        yield 1
        if blocks > 1:
            yield blocks - 1


def _shallow(proxy: Known) -> Known:
    match proxy:
        case ViT() | GPT():
            return proxy.model_copy(update={"depth": min(proxy.depth, 2)})
        case PreactResNet() | VGG():
            return proxy.model_copy(update={"blocks": tuple(min(each, 2) for each in proxy.blocks)})
        case MobileNetV2(stages=None) | EfficientNet(stages=None):
            return proxy
        case MobileNetV2() | EfficientNet():
            stages = tuple(each.model_copy(update={"blocks": min(each.blocks, 2)}) for each in proxy.stages or ())
            return proxy.model_copy(update={"stages": stages})
