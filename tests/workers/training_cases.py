"""Trainings of the tiny protocol, and how two of them compare."""

import torch
from torch import Tensor, nn

from evonas.workers.training import Training
from tests.workers.conftest import graph, images, protocol


def start(text: str = "BN-ReLU", proxy: str = "resnet", seed: int = 0, **changes: dict[str, object]) -> Training:
    chosen = protocol(**changes)
    return Training(graph(text), chosen, proxy, images(chosen), seed)


def batches(training_: Training, count: int) -> list[tuple[Tensor, Tensor]]:
    return [next(training_.batches) for _ in range(count)]


def same(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    return all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


def weights(model: nn.Module) -> list[Tensor]:
    """Of convolutions and the classifier, which every layer's network has."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def equal(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def numbered(n: int, height: int, width: int) -> Tensor:
    """Images "n 3 h w" in which every pixel is another triple: its place, and its image's number in two bytes."""
    place = torch.arange(height * width).view(1, height, width).expand(n, -1, -1)
    number = torch.arange(n).view(n, 1, 1).expand(-1, height, width)
    return torch.stack([place, number % 256, number // 256], dim=1).to(torch.uint8)
