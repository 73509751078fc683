"""MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381."""

from collections.abc import Callable

from torch import Tensor, nn

from evonas.search_space.layer import Layer
from evonas.workers.architectures.parts import conv, head, scaled
from evonas.workers.proxies import MobileNetV2, Stage

ROW = ("expand", "channels", "blocks", "stride", "kernel")
TABLE_2 = tuple(  # expansion, channels, blocks, stride; the paper's strides but for the stem's and the second row's
    Stage.model_validate(dict(zip(ROW, row, strict=False)))
    for row in (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
)


class InvertedBottleneck(nn.Module):
    """Expand, depthwise, project; a norm_act after the first two, and the affine alone after the third (the linear
    bottleneck): where the host has a norm without activation, the official EvoNorm code keeps only that
    (tensorflow/tpu, resnet_model.py).

    `excite(width)`, where given, makes a module between the last two (EfficientNet's squeeze and excitation).
    """

    def __init__(
        self,
        norm_act: Callable[..., nn.Module],
        inputs: int,
        outputs: int,
        stage: Stage,
        stride: int,
        excite: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        width = inputs * stage.expand
        layers: list[nn.Module] = [conv(inputs, width, 1), norm_act(width)] if stage.expand > 1 else []
        layers += [conv(width, width, stage.kernel, stride, groups=width), norm_act(width)]
        layers += [excite(width)] if excite else []
        layers += [conv(width, outputs, 1), Layer(outputs, apply_act=False)]
        self.branch = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.residual else branch


def inverted_bottlenecks(
    norm_act: Callable[..., nn.Module],
    inputs: int,
    stages: tuple[Stage, ...],
    width: float,
    excite: Callable[[int], Callable[[int], nn.Module]] | None = None,
) -> tuple[list[nn.Module], int]:
    """The blocks of all stages, and the channels that they end with. `excite(inputs of the block)` makes the module."""
    layers: list[nn.Module] = []
    for stage in stages:
        outputs = scaled(stage.channels, width)
        for block in range(stage.blocks):
            stride = stage.stride if block == 0 else 1
            layers.append(InvertedBottleneck(norm_act, inputs, outputs, stage, stride, excite and excite(inputs)))
            inputs = outputs
    return layers, inputs


def mobilenet_v2(norm_act: Callable[..., nn.Module], channels: int, classes: int, proxy: MobileNetV2) -> nn.Module:
    stem = scaled(32, proxy.width)
    blocks, inputs = inverted_bottlenecks(norm_act, stem, proxy.stages or TABLE_2, proxy.width)
    # the authors keep 1280 channels before the classifier of narrow networks; our own tables end in proportion
    last = 4 * inputs if proxy.stages else scaled(1280, max(1.0, proxy.width))
    return nn.Sequential(
        conv(channels, stem, 3), norm_act(stem), *blocks, conv(inputs, last, 1), norm_act(last), head(last, classes)
    )
