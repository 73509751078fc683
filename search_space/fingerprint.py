"""What a graph computes, found by running it: two graphs of one fingerprint agree on this probe."""

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from search_space.graph import Graph
from search_space.lowering import SECOND, NormAct

VERSION = 2
SHAPE = (4, 8, 3, 5)  # batch, channels, height, width: with 2 groups no two index sets coincide
GROUPS = 2
TAILS = (10.0, -10.0, 40.0, -40.0)  # shows a clip that normal input does not reach, such as max(x, -5.75)
DIGITS = 6
CANCELLED = 1e-10  # of the largest value: what rounding leaves of an exact 0


@dataclass(frozen=True, slots=True)
class Probed:
    """`fingerprint` keeps scale and sign; `family` is the same after per-channel standardisation, for reports only.
    `change` is the relative difference between the outputs on two inputs, 1 where one is not finite."""

    fingerprint: str
    family: str
    change: float


@cache
def _inputs() -> tuple[Tensor, ...]:
    """x and y of a training pass, of an evaluation pass, and of that evaluation pass with heavy tails."""
    generator = np.random.default_rng(20200406)
    rows = ((1.5, 0.3), (1.0, 0.1), (0.8, -0.2), (1.2, 0.4))
    inputs = [torch.from_numpy(generator.standard_normal(SHAPE) * scale + shift) for scale, shift in rows]
    for normal, channels in zip(inputs[2:], ((0, 3, 4, 7), (1, 2, 5, 6)), strict=True):
        tailed = normal.clone()
        tailed[range(SHAPE[0]), channels, 1, 2] = torch.tensor(TAILS, dtype=tailed.dtype)  # one an example
        inputs.append(tailed)
    return tuple(inputs)


@cache
def _noise(parameter: str) -> Tensor:
    """By the parameter's name, so that the rest of the graph does not matter; of both signs."""
    seed = int.from_bytes(hashlib.sha256(parameter.encode()).digest()[:8], "big")
    return torch.from_numpy(2 * np.random.default_rng(seed).standard_normal(SHAPE[1]))


@torch.no_grad()
def probe(graph: Graph) -> Probed:
    """A training and an evaluation pass in float64 on fixed inputs, with the learned parameters moved one way and the
    other; and an evaluation pass of its own for heavy tails, where exp(40) would hide all else."""
    layer = NormAct(graph, SHAPE[1], groups=GROUPS).double()
    x, y, other_x, other_y, *tailed = _inputs()
    training, changed, evaluation = (x, y), (other_x, y), (other_x, other_y)
    wanted = 1 + (SECOND in layer.genotype.live)
    learned = {name: p for name, p in layer.named_parameters() if name not in ("weight", "bias")}
    start = {name: p.clone() for name, p in learned.items()}

    def move(sign: float) -> None:
        for name, parameter in learned.items():
            parameter.copy_(start[name] + sign * _noise(name)[: parameter.numel()].view(parameter.shape))

    move(1.0)
    outputs = [layer.train()(*training[:wanted])]
    other = layer(*changed[:wanted])
    move(-1.0)
    outputs.append(layer.eval()(*evaluation[:wanted]))
    scale = float(outputs[0].abs().max())
    finite = all(bool(torch.isfinite(each).all()) for each in (*outputs, other))
    outputs.append(layer(*tailed[:wanted]))
    change = float((outputs[0] - other).abs().max()) / scale if finite and scale > 0 else float(not finite)
    return Probed(_digest(outputs), _digest([_standardise(each) for each in outputs]), change)


def _standardise(a: Tensor) -> Tensor:
    """Per channel, to mean 0 and standard deviation 1; what is constant but for rounding becomes 0."""
    centred = a - a.mean((0, 2, 3), keepdim=True)
    centred = torch.where(centred.abs() <= CANCELLED * a.abs().max(), 0.0, centred)
    deviation = centred.square().mean((0, 2, 3), keepdim=True).sqrt()
    return torch.where(deviation > 0, centred / deviation, centred)


def _digest(outputs: list[Tensor]) -> str:
    digest = hashlib.sha256(str(VERSION).encode())
    for each in outputs:
        values = each.numpy().ravel()
        digest.update(_significant(values).tobytes())
    return digest.hexdigest()[:32]


def _significant(values: np.ndarray) -> np.ndarray:
    """Rounded to 6 significant digits; one NaN, one zero, and no sign of zero."""
    finite = np.isfinite(values)
    size = np.abs(np.where(finite, values, 0.0))
    values = np.where(finite & (size <= CANCELLED * size.max(initial=0.0)), 0.0, values)
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.where(finite & (values != 0), np.abs(values), 1.0)))
        unit = 10.0 ** (exponent - (DIGITS - 1))
        mantissa = np.rint(values / unit)
    whole = np.where(finite, mantissa, 0.0)
    kind = np.where(np.isnan(values), 3.0, np.where(values == np.inf, 1.0, np.where(values == -np.inf, 2.0, 0.0)))
    carried = np.abs(whole) == 10.0**DIGITS
    return np.stack([np.where(carried, whole / 10, whole) + 0.0, np.where(finite, exponent + carried, 0.0), kind])
