"""Pre-activation ResNet: Identity Mappings in Deep Residual Networks, arXiv:1603.05027."""

from collections.abc import Callable

from torch import Tensor, nn

from evonas.workers.architectures.parts import conv, head
from evonas.workers.proxies import PreactResNet


class Block(nn.Module):
    """x + conv(norm_act(conv(norm_act(x)))); where the shape changes, the shortcut is a convolution of norm_act(x)."""

    def __init__(self, norm_act: Callable[..., nn.Module], inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = norm_act(inputs)
        if width == outputs:  # basic
            layers = [conv(inputs, width, 3, stride), norm_act(width), conv(width, outputs, 3)]
        else:  # bottleneck
            layers = [conv(inputs, width, 1), norm_act(width), conv(width, width, 3, stride), norm_act(width)]
            layers += [conv(width, outputs, 1)]
        self.branch = nn.Sequential(*layers)
        self.shortcut = conv(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        branch: Tensor = self.branch(a)
        return branch + (self.shortcut(a) if self.shortcut else x)


def preact_resnet(norm_act: Callable[..., nn.Module], channels: int, classes: int, proxy: PreactResNet) -> nn.Module:
    layers: list[nn.Module] = [conv(channels, proxy.width, 3)]
    inputs = proxy.width
    for stage, blocks in enumerate(proxy.blocks):
        width = proxy.width * 2**stage
        outputs = 4 * width if proxy.bottleneck else width
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(Block(norm_act, inputs, width, outputs, stride))
            inputs = outputs
    return nn.Sequential(*layers, norm_act(inputs), head(inputs, classes))
