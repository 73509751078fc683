"""A small network with everything that has weights, and the quickstart on a ResNet and a MobileNet."""

import json

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evonas.config_file import load_config
from tests.conftest import ROOT

RESNET = {"architecture": "preact_resnet", "width": 8, "blocks": [2, 2, 2], "groups": 4}
SHIPPED = load_config(ROOT / "configs" / "quickstart.yaml")
PARTS = {"mobilenet": SHIPPED.proxies["mobilenet"].model_dump(mode="json"), "resnet": RESNET}
QUICKSTART = load_config(
    ROOT / "configs" / "quickstart.yaml", ["gates=[]", "recipe.learning_rate=0.16", f"proxies={json.dumps(PARTS)}"]
)
PROXIES = tuple(QUICKSTART.proxies)


class Tiny(nn.Module):
    """A network with everything that has weights: convolution, normalization, classifier. It counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 4, 3, bias=False)
        self.linear = nn.Linear(4, 5)
        self.passes = 0
        self.trained: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.trained.add(self.training)
        x = self.second(torch.tanh(self.norm(self.conv(x))))
        logits: Tensor = self.linear(torch.tanh(x).mean((2, 3)))
        return logits


class Faint(Tiny):
    """So small a share of the logits that the loss is linear in it: so are the norms, and the way up is the same."""

    share = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.share


def faint(share: float) -> Faint:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Faint()
    model.share = share
    return model


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 7, 7, generator=generator), torch.arange(6) % 5


def gradient_norm(model: Tiny) -> Tensor:
    """||dloss / d(convolution weights)||, differentiable."""
    images, labels = batch()
    loss = F.cross_entropy(model(images), labels)
    slopes = torch.autograd.grad(loss, [model.conv.weight, model.second.weight], create_graph=True)
    return torch.cat([slope.flatten() for slope in slopes]).norm()
