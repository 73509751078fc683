"""Small networks of norms and activations, one for each way in which a host may call them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 4
SHIFT = 3.0


def norm() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(CHANNELS)


class Network(nn.Module):
    """A forward over `self.norm`, `self.other` (norms) and `self.act`."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.norm, self.other, self.act = norm(), norm(), nn.ReLU()
        for name, module in modules.items():
            setattr(self, name, module)
        self.code = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.code(self, x)


class Optional(nn.Module):
    """A block with an optional argument, which its caller may leave out."""

    def __init__(self, by_default: bool) -> None:
        super().__init__()
        self.norm, self.by_default = norm(), by_default

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = F.relu(self.norm(x))
        if not self.by_default and mask is not None:
            x = x * mask
        return x


class Defaulted(nn.Module):
    """A block whose optional argument takes part where it is given, and has a stand-in otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = norm()

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        if shortcut is None:
            shortcut = x
        return F.relu(self.norm(x)) + shortcut


class Without(nn.Module):
    """A block with a context that a trace would lose."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = norm()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return F.relu(self.norm(x))


class Attention(nn.Module):
    """A block that no tracer sees through, before a norm that it has to see."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() < 1e9 else -x


class Caller(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        return result


class Untraceable(nn.Module):
    """A forward with control flow that no tracer sees through: of one norm and what follows it."""

    def __init__(self, *children: nn.Module) -> None:
        super().__init__()
        for n, child in enumerate(children):
            self.add_module(f"part{n}", child)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            if x.sum() < 1e9:
                x = child[0](x) if isinstance(child, nn.ModuleList) else child(x)
        return x


def residual(net: Any, x: Tensor) -> Tensor:
    y = net.act(net.norm(x))
    return net.act(net.other(y) + x)


def mode_dependent(net: Any, x: Tensor) -> Tensor:
    return F.dropout(F.relu(net.norm(x)), 0.5, net.training)


def shared_norm(net: Any, x: Tensor) -> Tensor:
    return net.act(net.norm(F.relu(net.norm(x))))


def twice_called(net: Any, x: Tensor) -> Tensor:
    return net.norm(F.relu(net.norm(x)))


def used_twice(net: Any, x: Tensor) -> Tensor:
    y = net.norm(x)
    return net.act(y) + y


def sequential(*modules: nn.Module) -> Callable[[], nn.Module]:
    return lambda: copy.deepcopy(nn.Sequential(*modules))


def minus(x: Tensor) -> Tensor:
    """What the layer of these tests, x - 3, computes."""
    return x - SHIFT


@dataclass(frozen=True)
class Host:
    """A network, what becomes of its norms (pair, alone or left), and what the network then computes: `minus` for each
    pair, x for each norm alone. None: what it computed before."""

    make: Callable[[], nn.Module]
    becomes: dict[str, str]
    computes: Callable[[Tensor], Tensor] | None


HOSTS = {
    "in a sequence": Host(sequential(norm(), nn.ReLU()), {"0": "pair"}, minus),
    "an identity between": Host(sequential(norm(), nn.Identity(), nn.SiLU()), {"0": "pair"}, minus),
    "over the border of a module": Host(
        sequential(nn.Sequential(norm()), nn.Sequential(nn.GELU())), {"0.0": "pair"}, minus
    ),
    "one activation for all norms": Host(
        lambda: Network(lambda net, x: net.act(net.other(net.act(net.norm(x))))),
        {"norm": "pair", "other": "pair"},
        lambda x: minus(minus(x)),
    ),
    "shared with an addition": Host(
        lambda: Network(residual), {"norm": "pair", "other": "alone"}, lambda x: torch.relu(minus(x) + x)
    ),
    "a function": Host(
        lambda: Network(lambda net, x: F.leaky_relu(net.norm(F.relu(x, inplace=False)), 0.1)),
        {"norm": "pair", "other": "left"},
        lambda x: minus(torch.relu(x)),
    ),
    "a method": Host(
        lambda: Network(lambda net, x: net.norm(x).relu() + net.other(x).relu_()),
        {"norm": "pair", "other": "pair"},
        lambda x: 2 * minus(x),
    ),
    "two calls of one block": Host(
        lambda: Network(lambda net, x: net.block(net.block(x)), block=Network(lambda net, x: F.relu(net.norm(x)))),
        {"norm": "left", "other": "left", "block.norm": "pair", "block.other": "left"},
        lambda x: minus(minus(x)),
    ),
    "one norm for two activations": Host(
        lambda: Network(lambda net, x: net.act(net.norm(net.act(net.norm(x))))),
        {"norm": "pair", "other": "left"},
        lambda x: minus(minus(x)),
    ),
    "of one norm two kinds of calls": Host(lambda: Network(twice_called), {"norm": "left", "other": "left"}, None),
    "of one norm two activations": Host(lambda: Network(shared_norm), {"norm": "left", "other": "left"}, None),
    "used twice": Host(lambda: Network(used_twice), {"norm": "left", "other": "left"}, None),
    "a gate": Host(sequential(norm(), nn.Sigmoid()), {"0": "left"}, None),
    "a functional gate": Host(
        lambda: Network(lambda net, x: x * torch.sigmoid(net.norm(x))), {"norm": "left", "other": "left"}, None
    ),
    "a dropout between": Host(sequential(norm(), nn.Dropout(), nn.ReLU()), {"0": "left"}, None),
    "a dropout and no activation": Host(
        sequential(norm(), nn.Dropout(0.0), nn.Flatten(0)), {"0": "alone"}, torch.flatten
    ),
    "a forward of two modes": Host(lambda: Network(mode_dependent), {"norm": "left", "other": "left"}, None),
    "an optional argument": Host(lambda: Caller(Optional(True)), {"block.norm": "pair"}, minus),
    "an optional argument that decides": Host(lambda: Caller(Optional(False)), {"block.norm": "left"}, None),
    "an optional argument with a stand-in": Host(lambda: Caller(Defaulted()), {"block.norm": "left"}, None),
    "after what is untraceable": Host(
        lambda: nn.Sequential(Attention(), nn.Sequential(norm(), Attention()), nn.Sequential(norm()), nn.ReLU()),
        {"1.0": "alone", "2.0": "pair"},
        minus,
    ),
    "a context": Host(Without, {"norm": "left"}, None),
    "untraceable, one activation for two norms": Host(
        lambda: Untraceable(norm(), nn.ReLU(), norm()), {"part0": "left", "part2": "left"}, None
    ),
    "untraceable, in order": Host(lambda: Untraceable(norm(), nn.ReLU()), {"part0": "pair"}, minus),
    "untraceable, without activation": Host(
        lambda: Untraceable(norm(), nn.Flatten(0)), {"part0": "alone"}, torch.flatten
    ),
    "untraceable, out of order": Host(lambda: Untraceable(norm(), nn.Flatten(0), nn.ReLU()), {"part0": "left"}, None),
    "untraceable around a sequence": Host(
        lambda: Untraceable(nn.Sequential(norm(), nn.ReLU())), {"part0.0": "pair"}, minus
    ),
    "untraceable around a list": Host(
        lambda: Untraceable(nn.ModuleList([nn.Sequential(norm(), nn.ReLU())])), {"part0.0.0": "pair"}, minus
    ),
    "untraceable after a sequence": Host(lambda: Untraceable(nn.Sequential(norm())), {"part0.0": "left"}, None),
    "several axes": Host(sequential(nn.LayerNorm([CHANNELS, 3, 2])), {"0": "left"}, None),
    "no channels": Host(sequential(nn.LocalResponseNorm(2)), {"0": "left"}, None),
}
