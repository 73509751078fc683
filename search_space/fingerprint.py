"""What a graph computes, found by running it: two graphs of one fingerprint are one function of (x, v0, v1 ...)."""

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from search_space.graph import Graph
from search_space.lowering import NormAct

VERSION = 1
SHAPE = (4, 8, 3, 5)  # batch, channels, height, width: with 2 groups no two index sets coincide
GROUPS = 2
DIGITS = 6
CANCELLED = 1e-10  # of the largest value: what rounding leaves of an exact 0


@dataclass(frozen=True, slots=True)
class Probed:
    """`fingerprint` keeps scale and sign; `family` is the same after per-channel standardisation, for reports only.
    `change` is the relative difference between the outputs on two inputs: 0 where the graph does not depend on x."""

    fingerprint: str
    family: str
    change: float


@cache
def _probe() -> tuple[Tensor, Tensor, Tensor]:
    generator = np.random.default_rng(20200406)
    training, evaluation, learned = (generator.standard_normal(SHAPE) for _ in range(3))
    return torch.from_numpy(training * 1.5 + 0.3), torch.from_numpy(evaluation * 0.8 - 0.2), torch.from_numpy(learned)


@torch.no_grad()
def probe(graph: Graph) -> Probed:
    """One training and one evaluation pass in float64 on a fixed input, with the learned parameters perturbed."""
    training, evaluation, noise = _probe()
    layer = NormAct(graph, SHAPE[1], groups=GROUPS).double()
    parameters = [p for name, p in layer.named_parameters() if name not in ("weight", "bias")]
    for parameter, change in zip(parameters, noise.flatten().split(SHAPE[1]), strict=False):
        parameter.add_(0.5 * change[: parameter.numel()].view(parameter.shape))
    outputs = [layer.train()(training), layer.eval()(evaluation)]
    other = layer.train()(evaluation)
    scale = float(outputs[0].abs().max())
    finite = all(bool(torch.isfinite(each).all()) for each in (*outputs, other))
    change = float((outputs[0] - other).abs().max()) / scale if finite and scale > 0 else float(not finite)
    standardised = [_standardise(each) for each in outputs]
    return Probed(_digest(outputs), _digest(standardised), change)


def _standardise(a: Tensor) -> Tensor:
    centred = a - a.mean((0, 2, 3), keepdim=True)
    deviation = centred.square().mean((0, 2, 3), keepdim=True).sqrt()
    return centred / deviation.clamp_min(CANCELLED * float(a.abs().max()) + 1e-300)


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
