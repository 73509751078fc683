"""Architectures: their sites, their shapes, and their weights against torchvision's own networks."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from evonas.config_file import load_config
from evonas.search_space.layer import Layer
from evonas.workers.architectures import build, size
from evonas.workers.architectures.mobilenet import InvertedBottleneck
from evonas.workers.architectures.parts import conv, scaled
from evonas.workers.proxies import VGG, EfficientNet, MobileNetV2, PreactResNet, Proxy, Stage, Transformer
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def shipped() -> Iterator[tuple[str, Proxy, int]]:
    """Each proxy of the shipped configs with the size of its images."""
    for path in CONFIGS:
        config = load_config(path)
        side = config.recipe.crop or config.data.image_size or 28
        for name, proxy in config.proxies.items():
            if isinstance(proxy, Transformer):  # see test_transformer.py
                continue
            yield f"{config.name} {name}", proxy, side


SHIPPED = [pytest.param(proxy, size, id=name) for name, proxy, size in shipped()]


class Site(nn.Module):
    """In the place of a layer: checks the channels, and counts its calls."""

    def __init__(self, num_features: int, channel_dim: int = 1) -> None:
        super().__init__()
        assert channel_dim == 1
        self.num_features = num_features
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == 4
        assert x.shape[1] == self.num_features
        self.calls += 1
        return x


def bn_relu(num_features: int, channel_dim: int = 1) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(num_features), nn.ReLU())


def sites(model: nn.Module) -> list[Site]:
    return [module for module in model.modules() if isinstance(module, Site)]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def test_configs_are_shipped() -> None:
    assert {"quickstart.yaml", "evonorm-b.yaml", "evonorm-s.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize(("proxy", "size"), SHIPPED)
def test_every_site_is_used_once_with_its_channels(proxy: Proxy, size: int) -> None:
    model = build(proxy, Site, 3, 10)
    assert model(torch.randn(2, 3, size, size)).shape == (2, 10)
    assert len(sites(model)) >= 5  # the smallest, a VGG of blocks 1, 2, 2
    assert {site.calls for site in sites(model)} == {1}


@pytest.mark.parametrize(("proxy", "size"), SHIPPED)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_weight_learns(proxy: Proxy, size: int, channels: int) -> None:
    model = build(proxy, bn_relu, channels, 7)
    logits = model(torch.randn(2, channels, size, size))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("build_proxy", [MobileNetV2, EfficientNet])
def test_linear_bottleneck_has_the_affine_only(build_proxy: Callable[..., Proxy]) -> None:
    architecture = "mobilenet_v2" if build_proxy is MobileNetV2 else "efficientnet"
    model = build(build_proxy(architecture=architecture, width=0.25), Site, 3, 10)
    blocks = [module for module in model.modules() if isinstance(module, InvertedBottleneck)]
    assert len(blocks) == (17 if build_proxy is MobileNetV2 else 16)  # of the papers' tables
    for block in blocks:
        *_, projection, last = block.branch
        assert isinstance(projection, nn.Conv2d)
        assert projection.kernel_size == (1, 1)
        assert type(last) is Layer
        assert not last.apply_act
        assert [parameter.numel() for parameter in last.parameters()] == [projection.out_channels] * 2
        depthwise = [each for each in convolutions(block) if each.groups > 1]
        assert [each.groups for each in depthwise] == [depthwise[0].in_channels]
        before = [type(each) for each in block.branch if isinstance(each, Site)]
        expands = projection.in_channels > block.branch[0].in_channels
        assert len(before) == 1 + expands


@pytest.mark.parametrize(
    ("proxy", "reference"),
    [
        (MobileNetV2(architecture="mobilenet_v2"), torchvision.models.mobilenet_v2),
        (EfficientNet(architecture="efficientnet"), torchvision.models.efficientnet_b0),
    ],
)
def test_full_networks_have_torchvisions_weights(proxy: Proxy, reference: Callable[..., nn.Module]) -> None:
    """The expected difference is none. Our affine after a bottleneck has the two parameters a channel of torchvision's
    batch normalization there; only the classifier and the convolutions of squeeze and excitation have a bias; and the
    strides that we set to 1 have no weights."""
    ours, theirs = build(proxy, bn_relu, 3, 10), reference(num_classes=10)
    assert parameters(ours) == parameters(theirs)
    by_weight = [
        [(tuple(each.weight.shape), each.groups, each.padding, each.bias is not None) for each in convolutions(model)]
        for model in (ours, theirs)
    ]
    assert by_weight[0] == by_weight[1]
    strides = [
        (mine.stride, other.stride)
        for mine, other in zip(convolutions(ours), convolutions(theirs), strict=True)
        if mine.stride != other.stride
    ]
    assert strides == [((1, 1), (2, 2))] * 2  # the stem, and the second row of the table


def test_full_preact_resnet_has_the_papers_weights() -> None:
    """Counted block by block, and against torchvision's post-activation ResNet-50."""
    proxy = PreactResNet(architecture="preact_resnet", width=64, blocks=(3, 4, 6, 3), bottleneck=True)
    ours = build(proxy, bn_relu, 3, 10)
    weights, norms, inputs = 3 * 64 * 9, 0, 64  # the stem; channels with a norm; channels so far
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            weights += inputs * width + width * width * 9 + width * 4 * width
            weights += inputs * 4 * width if block == 0 else 0  # the shortcut
            norms += inputs + width + width  # each before its convolution
            inputs = 4 * width
    norms += 2048  # the last
    assert parameters(ours) == weights + 2 * norms + 2048 * 10 + 10 == 23_513_162

    theirs = torchvision.models.resnet50(num_classes=10)
    shapes = [Counter(tuple(each.weight.shape) for each in convolutions(model)) for model in (ours, theirs)]
    assert shapes[0] - shapes[1] == Counter({(64, 3, 3, 3): 1})  # our stem is 3x3
    assert shapes[1] - shapes[0] == Counter({(64, 3, 7, 7): 1})


def _torchvision_efficientnet_half() -> nn.Module:
    rows, last = torchvision.models.efficientnet._efficientnet_conf("efficientnet_b0", width_mult=0.5, depth_mult=1.0)
    return torchvision.models.EfficientNet(rows, dropout=0.0, last_channel=last, num_classes=10)


ANCHORS = [  # the paper's (arXiv:2004.02967, remembered), another's network, and what our 3x3 stem saves over its 7x7
    (
        PreactResNet(architecture="preact_resnet", width=16, blocks=(3, 4, 6, 3), bottleneck=True),
        lambda: ResNetV2(
            (3, 4, 6, 3), (64, 128, 256, 512), num_classes=10, stem_chs=16, preact=True, norm_layer=BatchNormAct2d
        ),
        3 * 16 * (49 - 9),
    ),
    (
        MobileNetV2(architecture="mobilenet_v2", width=0.5),
        lambda: torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.5),
        0,
    ),
    (EfficientNet(architecture="efficientnet", width=0.5), _torchvision_efficientnet_half, 0),
]


@pytest.mark.parametrize(("proxy", "reference", "stem"), ANCHORS, ids=["ResNet-50", "MobileNetV2", "EfficientNet-B0"])
def test_the_papers_anchors_have_others_parameters(proxy: Proxy, reference: Callable[[], nn.Module], stem: int) -> None:
    """Batch normalization's of timm's pre-activation ResNet-50 x 0.25 and of torchvision's networks x 0.5."""
    assert parameters(build(proxy, bn_relu, 3, 10)) == parameters(reference()) - stem


def test_full_preact_resnet_has_basic_blocks_otherwise() -> None:
    """ResNet-18's convolutions, counted in torchvision's."""
    proxy = PreactResNet(architecture="preact_resnet", width=64, blocks=(2, 2, 2, 2))
    shapes = [
        Counter(tuple(each.weight.shape) for each in convolutions(model))
        for model in (build(proxy, bn_relu, 3, 10), torchvision.models.resnet18())
    ]
    assert shapes[0] - shapes[1] == Counter({(64, 3, 3, 3): 1})
    assert shapes[1] - shapes[0] == Counter({(64, 3, 7, 7): 1})


def test_full_vgg_has_torchvisions_convolutions() -> None:
    """VGG-16's, and its image sizes: each stage but the first begins with a pooling."""
    proxy = VGG(architecture="vgg", width=64, blocks=(2, 2, 3, 3, 3))
    ours, theirs = build(proxy, Site, 3, 10), torchvision.models.vgg16()
    assert [each.weight.shape for each in convolutions(ours)] == [each.weight.shape for each in convolutions(theirs)]
    poolings = [
        [type(each) is nn.MaxPool2d for each in model.modules() if type(each) in (nn.MaxPool2d, nn.Conv2d)]
        for model in (ours, theirs.features[:-1])  # the last pooling is the classifier's, which averages here
    ]
    assert poolings[0] == poolings[1]


def test_later_stages_of_a_resnet_halve_the_image() -> None:
    seen: list[tuple[int, ...]] = []

    def watched(num_features: int, channel_dim: int = 1) -> nn.Module:
        site = Site(num_features)
        site.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
        return site

    proxy = PreactResNet(architecture="preact_resnet", width=4, blocks=(1, 1, 1), groups=2)
    build(proxy, watched, 3, 10)(torch.randn(1, 3, 16, 16))
    assert seen == [(4, 16, 16), (4, 16, 16), (4, 16, 16), (8, 8, 8), (8, 8, 8), (16, 4, 4), (16, 4, 4)]


def test_pre_activation_keeps_the_shortcut_clean() -> None:
    """With branches that answer 0, a block of one shape is the identity (arXiv:1603.05027, equation 3)."""
    proxy = PreactResNet(architecture="preact_resnet", width=4, blocks=(3,), groups=2)
    model = build(proxy, bn_relu, 3, 10)
    stem, *blocks, _, _ = model
    for block in blocks:
        for each in convolutions(block):
            nn.init.zeros_(each.weight)
    stream = stem(torch.randn(2, 3, 8, 8))
    assert torch.equal(nn.Sequential(*blocks)(stream), stream)


@given(st.integers(1, 2000), st.floats(0.05, 4))
def test_scaled_channels_are_multiples_of_8_and_lose_at_most_a_tenth(channels: int, width: float) -> None:
    result = scaled(channels, width)
    assert result % 8 == 0
    assert result >= max(8, 0.9 * channels * width)
    assert result < max(16, channels * width + 12.01)


def test_weights_come_from_torchs_generator() -> None:
    proxy = MobileNetV2(architecture="mobilenet_v2", width=0.25)

    def first(seed: int) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return convolutions(build(proxy, Site, 3, 10))[0].weight

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


@pytest.mark.parametrize(("groups", "fan_out"), [(1, 128 * 9), (128, 9)])
def test_convolutions_start_at_the_fan_of_their_outputs(groups: int, fan_out: int) -> None:
    """Variance 2 / fan_out (arXiv:1502.01852, equation 14), where a depthwise input feeds one channel."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = conv(128, 128, 3, groups=groups)
    assert float(layer.weight.detach().square().mean()) == pytest.approx(2 / fan_out, rel=0.15)
    assert float(layer.weight.detach().mean()) == pytest.approx(0, abs=0.1 * (2 / fan_out) ** 0.5)
    assert layer.bias is None


STAGES = [
    Stage(expand=2, channels=16, blocks=3, stride=2, kernel=5),
    Stage(expand=1, channels=24, blocks=1, stride=1),
    Stage(expand=3, channels=24, blocks=4, stride=2),
]
DEEP = [
    VGG(architecture="vgg", width=4, blocks=(2, 1, 4, 1, 3)),
    PreactResNet(architecture="preact_resnet", blocks=(4, 1, 3), bottleneck=True),
    MobileNetV2(architecture="mobilenet_v2", stages=tuple(STAGES)),
    EfficientNet(architecture="efficientnet", stages=tuple(STAGES)),
]


@pytest.mark.parametrize(("proxy", "side"), [*SHIPPED, *((proxy, side) for proxy in DEEP for side in (16, 19))])
def test_the_size_of_a_network_is_that_of_the_network(proxy: Proxy, side: int) -> None:
    counted: list[tuple[int, int]] = []

    class Counting(Site):
        def forward(self, x: Tensor) -> Tensor:
            counted.append((x.shape[1], x[0].numel()))
            return super().forward(x)

    model = build(proxy, Counting, 3, 10)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
    found = size(proxy, side)
    assert found.channels == tuple(sorted({channels for channels, _ in counted}))
    assert (found.layers, found.values) == (len(counted), sum(values for _, values in counted))
    assert found.parameters == parameters(model)
