"""What a graph computes, found by running it: two graphs of one fingerprint agree on this probe.

The same on any number of threads and on any processor, but for graphs that blow up what rounding leaves of an exact
cancellation: `x / mean_hw(a - mean_hw(a))`.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from evonas.search_space.graph import Graph
from evonas.search_space.lowering import SECOND, NormAct

VERSION = 3
SHAPE = (4, 8, 3, 5)  # batch, channels, height, width: with 2 groups no two index sets coincide
GROUPS = 2
TAILS = (10.0, -10.0, 40.0, -40.0)  # shows a clip that normal input does not reach, such as max(x, -5.75)
NEAR_ZERO = 1e-5  # shows what a quotient does there, such as max(v1, 1e-5 / x)
SMALL = 1e-3
DIGITS = 6
CANCELLED = 1e-10  # of the largest value: what rounding leaves of an exact 0


@dataclass(frozen=True, slots=True)
class Probed:
    """`fingerprint` keeps scale and sign; `family` is the same after per-channel standardisation, for reports only.
    `change` is the relative difference between the outputs on two inputs, 1 where one is not finite."""

    fingerprint: str
    family: str
    change: float


@dataclass(frozen=True, slots=True)
class _Pass:
    """One run of the layer on `scale` times normal input plus `shift`."""

    training: bool
    scale: float
    shift: float
    tails: bool = False
    small: bool = False  # the learned parameters, whatever their start
    uneven: bool = False  # every channel, and its learned parameters, of a scale of its own; and its shift
    shape: tuple[int, ...] = SHAPE


# Two graphs that agree on normal input may differ where it is small, large, or far from 0 on either side: std_hw(x) is
# `max(mean_bhw(x), std_hw(x))` until the mean is the larger.
_PASSES = (
    _Pass(True, 0.5, 4.0),  # first where x > 0: running moments that are not a number stay so
    _Pass(False, 0.3, 3.0, small=True, shape=(SHAPE[0], SHAPE[1], 1, 1)),
    _Pass(True, 1.5, 0.3),
    _Pass(False, 0.8, -0.2),
    _Pass(False, 0.8, -0.2, tails=True),  # on its own, for exp(40) hides all else
    _Pass(True, 8.0, 0.5, uneven=True),
    _Pass(True, 0.7, -4.0),
    _Pass(True, 0.02, 0.01),
    _Pass(True, 0.001, 0.0, small=True),
    _Pass(False, 1.0, -0.5, uneven=True),
)
_SCALES = 10.0 ** np.array([0.5, -2.0, -0.5, -1.5, 0.0, -1.0, -2.5, 0.25])  # of the channels of an uneven pass
_NORMAL, _OTHER = 2, 3  # the passes between whose inputs `change` is measured


@cache
def _inputs() -> tuple[tuple[Tensor, Tensor], ...]:
    """x and y of each pass."""
    generator = np.random.default_rng(20200406)
    pairs = []
    for each in _PASSES:
        pair = []
        for channels in ((0, 3, 4, 7), (1, 2, 5, 6)):
            of_channel = (_SCALES if each.uneven else np.ones(SHAPE[1]))[:, None, None]
            drawn = generator.standard_normal(each.shape) * each.scale * of_channel
            values = torch.from_numpy(drawn + each.shift * of_channel[::-1])
            if each.tails:
                values[range(SHAPE[0]), channels, 1, 2] = torch.tensor(TAILS, dtype=values.dtype)  # one an example
            if each.shape == SHAPE:
                # in some channels, for it dominates a mean of 1 / x; without a new sign among the values
                values[:, ::2, 0, 0] = math.copysign(NEAR_ZERO, each.shift)
            pair.append(values)
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


@cache
def _noise(parameter: str, number: int) -> Tensor:
    """What a pass adds to a parameter: by its name, so that the rest of the graph does not matter; a little or much,
    of both signs in the normal passes, else of one or both."""
    seed = int.from_bytes(hashlib.sha256(f"{parameter} {number}".encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(SHAPE[1])
    if number in (_NORMAL, _OTHER):
        return torch.from_numpy(2 * values)
    sided = (values, np.abs(values), -np.abs(values))[number % 3]
    if _PASSES[number].uneven:
        return torch.from_numpy(sided * _SCALES)
    return torch.from_numpy(sided * 10.0 ** generator.uniform(-1.5, 0.5))


@torch.no_grad()
def probe(graph: Graph) -> Probed:
    """The layer's outputs in float64 on fixed inputs, in training and evaluation, its learned parameters moved."""
    layer = NormAct(graph, SHAPE[1], groups=GROUPS).double()
    wanted = 1 + (SECOND in layer.genotype.live)
    learned = {name: p for name, p in layer.named_parameters() if name not in ("weight", "bias")}
    start = {name: p.clone() for name, p in learned.items()}

    def run(number: int, *inputs: Tensor) -> Tensor:
        for name, parameter in learned.items():
            noise = _noise(name, number)[: parameter.numel()].view(parameter.shape)
            parameter.copy_(SMALL * noise if _PASSES[number].small else start[name] + noise)
        output: Tensor = layer.train(_PASSES[number].training)(*inputs[:wanted])
        return output

    outputs = [run(number, *pair) for number, pair in enumerate(_inputs())]
    normal, other = outputs[_NORMAL], run(_NORMAL, _inputs()[_OTHER][0], _inputs()[_NORMAL][1])
    scale = float(normal.abs().max())
    finite = all(bool(torch.isfinite(each).all()) for each in (normal, other, outputs[_OTHER]))
    change = float((normal - other).abs().max()) / scale if finite and scale > 0 else float(not finite)
    return Probed(_digest(outputs), _digest(_standardised(outputs)), change)


def _standardised(outputs: list[Tensor]) -> list[Tensor]:
    """Each per channel, to mean 0 and standard deviation 1; what is constant but for rounding becomes 0."""
    standardised: dict[int, Tensor] = {}
    for shape in {each.shape for each in outputs}:  # together: these are small tensors
        numbers = [number for number, each in enumerate(outputs) if each.shape == shape]
        a = torch.stack([outputs[number] for number in numbers])
        centred = a - a.mean((1, 3, 4), keepdim=True)
        centred = torch.where(centred.abs() <= CANCELLED * a.abs().amax((1, 2, 3, 4), keepdim=True), 0.0, centred)
        deviation = centred.square().mean((1, 3, 4), keepdim=True).sqrt()
        standardised |= zip(numbers, torch.where(deviation > 0, centred / deviation, centred), strict=True)
    return [standardised[number] for number in range(len(outputs))]


def _digest(outputs: list[Tensor]) -> str:
    rows = np.zeros((len(outputs), max(each.numel() for each in outputs)))
    for row, each in zip(rows, outputs, strict=True):
        row[: each.numel()] = each.numpy().ravel()
    significant = _significant(rows)
    digest = hashlib.sha256(str(VERSION).encode())
    for number, each in enumerate(outputs):
        digest.update(significant[:, number, : each.numel()].tobytes())
    return digest.hexdigest()[:32]


def _significant(values: np.ndarray) -> np.ndarray:
    """Rounded to 6 significant digits; one NaN, one zero, and no sign of zero. Of each row what is next to nothing
    beside its largest is 0."""
    finite = np.isfinite(values)
    size = np.abs(np.where(finite, values, 0.0))
    values = np.where(finite & (size <= CANCELLED * size.max(axis=1, keepdims=True)), 0.0, values)
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.where(finite & (values != 0), np.abs(values), 1.0)))
        unit = 10.0 ** (exponent - (DIGITS - 1))
        mantissa = np.rint(values / unit)
    whole = np.where(finite, mantissa, 0.0)
    kind = np.where(np.isnan(values), 3.0, np.where(values == np.inf, 1.0, np.where(values == -np.inf, 2.0, 0.0)))
    carried = np.abs(whole) == 10.0**DIGITS
    return np.stack([np.where(carried, whole / 10, whole) + 0.0, np.where(finite, exponent + carried, 0.0), kind])
