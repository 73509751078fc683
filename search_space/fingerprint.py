"""The function of a graph as a key, found by running it: graphs of one fingerprint agree on the probe.

The probe is ten passes of the layer in float64: fixed inputs, training and evaluation, learned parameters moved. Passes
of one shape run at once, by the primitives' own functions (`lowering.evaluate`), along an axis in front of the others.
Keys do not depend on threads or processor, but for graphs that blow up what rounding leaves of an exact cancellation:
`x / mean_hw(a - mean_hw(a))`.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from evonas.search_space.graph import Graph, Leaf
from evonas.search_space.lowering import evaluate, running_moments
from evonas.search_space.moments import Moment, over
from evonas.search_space.primitives import Primitive
from evonas.search_space.significant import CANCELLED, significant
from evonas.search_space.structure import SECOND

VERSION = 3
SHAPE = (4, 8, 3, 5)  # batch, channels, height, width: with 2 groups no two index sets coincide
GROUPS = 2
MOMENTUM, EPS = 0.1, 1e-5  # a layer's defaults
TAILS = (10.0, -10.0, 40.0, -40.0)  # shows a clip that normal input does not reach, such as max(x, -5.75)
NEAR_ZERO = 1e-5  # shows what a quotient does there, such as max(v1, 1e-5 / x)
SMALL = 1e-3
SOME = 12  # outputs of a pass in a graph's `behaviour`
LARGEST = 1e6  # of the sizes there

Outputs = Float64[Tensor, "passes n c h w"]
Single = Float64[Tensor, "1 n c 1 1"]
Output = Float64[np.ndarray, "n c h w"]


@dataclass(frozen=True, slots=True)
class Probed:
    """The two keys of a graph, and how much its output changes with x.

    fingerprint: of the outputs, scale and sign kept.
    family: of the outputs after standardisation of each channel; for reports only.
    change: relative difference between the outputs on two inputs; 1 where one is not finite.
    """

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
    small: bool = False  # learned parameters are small, whatever their start
    uneven: bool = False  # each channel has its own scale and shift, its learned parameters too
    shape: tuple[int, ...] = SHAPE


# Graphs that agree on normal input may differ where it is small, large, or far from 0 on either side:
# `max(mean_bhw(x), std_hw(x))` is `std_hw(x)` until the mean is the larger.
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
_NORMAL, _OTHER = 2, 3  # `change` is measured between the inputs of these passes
_SINGLE = 1  # the one pass of another shape; it sees the running moments as pass 0 left them
_WIDE = tuple(number for number in range(len(_PASSES)) if number != _SINGLE)
assert _PASSES[0].training and not _PASSES[_SINGLE].training and _PASSES[_NORMAL].training


@dataclass(frozen=True, slots=True)
class _Stack:
    """Passes of one shape.

    parameters: the pass from which each takes its learned parameters.
    training: one a pass.
    """

    x: Outputs
    y: Outputs
    parameters: tuple[int, ...]
    training: tuple[bool, ...]


@cache
def _inputs() -> tuple[tuple[Float64[Tensor, "n c _ _"], Float64[Tensor, "n c _ _"]], ...]:
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
                # in half of the channels, since it dominates a mean of 1 / x; of the sign of the other values
                values[:, ::2, 0, 0] = math.copysign(NEAR_ZERO, each.shift)
            pair.append(values)
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


@cache
def _stacks() -> tuple[_Stack, _Stack]:
    """The passes of full shape, last the normal one with the x of `_OTHER`; and the pass of single positions."""
    x, y = zip(*_inputs(), strict=True)
    numbers = (*_WIDE, _NORMAL)
    wide = _Stack(
        torch.stack([x[number] for number in (*_WIDE, _OTHER)]),
        torch.stack([y[number] for number in numbers]),
        numbers,
        tuple(_PASSES[number].training for number in numbers),
    )
    return wide, _Stack(x[_SINGLE][None], y[_SINGLE][None], (_SINGLE,), (False,))


@cache
def _noise(parameter: str, number: int) -> Float64[Tensor, " c"]:
    """The values that a pass adds to a parameter, drawn by its name: the rest of the graph does not matter.

    They are small or large, and of both signs in the normal passes, elsewhere of one or both.
    """
    seed = int.from_bytes(hashlib.sha256(f"{parameter} {number}".encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(SHAPE[1])
    if number in (_NORMAL, _OTHER):
        return torch.from_numpy(2 * values)
    sided = (values, np.abs(values), -np.abs(values))[number % 3]
    if _PASSES[number].uneven:
        return torch.from_numpy(sided * _SCALES)
    return torch.from_numpy(sided * 10.0 ** generator.uniform(-1.5, 0.5))


@lru_cache(maxsize=4096)
def _leaf(leaf: Leaf, numbers: tuple[int, ...]) -> Float64[Tensor, "passes 1 c 1 1"]:
    """A number, or a learned parameter in each pass, with the axes of a stack."""
    if not leaf.learned:
        return torch.full((1, 1, 1, 1, 1), leaf.value, dtype=torch.float64)
    size = SHAPE[1] if leaf.kind == "vector" else 1
    start = torch.full((size,), leaf.value, dtype=torch.float32).double()  # as a layer's parameter starts
    noises = [(_PASSES[number].small, _noise(leaf.name, number)[:size]) for number in numbers]
    values = [SMALL * noise if small else start + noise for small, noise in noises]
    return torch.stack(values).view(len(numbers), 1, size, 1, 1)


class _OverBatch:
    """An aggregation over the batch, of values with an axis of passes in front of their own.

    A pass in training has its batch's moment and moves the running one; a pass in evaluation has the running moment,
    which starts as `running`. `after_first` is the running moment after the first pass.
    """

    def __init__(self, training: tuple[bool, ...], running: Float64[Tensor, " c"]) -> None:
        self.passes = training
        self.before = running
        self.after_first = running

    def __call__(self, moment: Moment, a: Float64[Tensor, "_ _ _ h w"]) -> Float64[Tensor, "passes 1 c 1 1"]:
        by_pass = moment(a, [1, *range(3, a.ndim)]).view(a.shape[0], a.shape[2])
        moments = by_pass.expand(len(self.passes), SHAPE[1])
        running = self.before
        used: list[Tensor] = []
        for number, (training, of_pass) in enumerate(zip(self.passes, moments.unbind(), strict=True)):
            if training:
                running = running.mul(1 - MOMENTUM).add_(of_pass, alpha=MOMENTUM)
            used.append(of_pass if training else running)
            if number == 0:
                self.after_first = running
        return torch.stack(used).view(-1, 1, SHAPE[1], 1, 1)


@torch.no_grad()
def probe(graph: Graph) -> Probed:
    """The graph's keys: of its outputs in float64 on fixed inputs, its learned parameters moved."""
    canonical = graph.canonical()
    wide, single = _stacks()
    overs = {
        index: _OverBatch(wide.training, torch.full((SHAPE[1],), start, dtype=torch.float64))
        for index, (_, start) in running_moments(canonical).items()
    }
    outputs = _outputs(canonical, wide, overs)
    overs = {index: _OverBatch(single.training, each.after_first) for index, each in overs.items()}
    alone = _outputs(canonical, single, overs)
    normal, of_other, other = (outputs[row].numpy() for row in (_WIDE.index(_NORMAL), _WIDE.index(_OTHER), -1))
    of_passes = outputs[:-1]
    return Probed(_digest(of_passes, alone), _family(of_passes, alone), _change(normal, other, of_other))


@torch.no_grad()
def behaviour(graph: Graph) -> Float64[np.ndarray, " features"]:
    """The function of a graph as a vector, for distances and models: of each pass of full shape the log10 of the
    output's size and of its mean, and some outputs after standardisation of each channel; to 4 decimals. What is not
    finite is 0."""
    canonical = graph.canonical()
    wide = _stacks()[0]
    overs = {
        index: _OverBatch(wide.training, torch.full((SHAPE[1],), start, dtype=torch.float64))
        for index, (_, start) in running_moments(canonical).items()
    }
    outputs = _outputs(canonical, wide, overs)[:-1]
    sizes = [outputs.square().mean((1, 2, 3, 4)).sqrt(), outputs.mean((1, 2, 3, 4)).abs()]
    some = _standardised(outputs).flatten(1)[:, :: math.prod(SHAPE) // SOME]
    values = torch.cat([*(each.clamp(1 / LARGEST, LARGEST).log10() for each in sizes), some.clamp(-10, 10).flatten()])
    return np.round(torch.nan_to_num(values, 0.0, 0.0, 0.0).numpy(), 4)


def _outputs(canonical: Graph, stack: _Stack, over_batch: dict[int, _OverBatch]) -> Outputs:
    leaves = []
    for index, leaf in enumerate(canonical.leaves):
        if leaf.kind == "input":
            leaves.append(stack.y if index == SECOND else stack.x)
        else:
            leaves.append(_leaf(leaf, stack.parameters))

    def aggregate(index: int, row: Primitive, a: Tensor) -> Tensor:
        if index in over_batch:
            moments = over_batch[index](row.fn, a)
        else:
            moments = over(row.reduces or "", row.fn, a.flatten(0, 1), 1, GROUPS)
            moments = moments.view(a.shape[0], -1, *moments.shape[1:])
        return torch.sqrt(moments + EPS) if row.rooted else moments

    output = evaluate(canonical, leaves, aggregate)
    return output.expand(stack.x.shape).contiguous()


def _change(normal: Output, other: Output, of_other: Output) -> float:
    """The relative difference between the outputs of the normal pass on its own x and on another's."""
    scale = float(np.abs(normal).max())
    if not all(np.isfinite(each).all() for each in (normal, other, of_other)):
        return 1.0
    return float(np.abs(normal - other).max()) / scale if scale > 0 else 0.0


def _family(wide: Outputs, single: Single) -> str:
    parts = _standardised(wide), _standardised(single)
    return _digest(*parts) if any(each.numpy().any() for each in parts) else _family_of_constants()


@cache
def _family_of_constants() -> str:
    """The family of finite outputs that vary neither over examples nor over positions, and so of many graphs."""
    wide, single = _stacks()
    return _digest(torch.zeros_like(wide.x[:-1]), torch.zeros_like(single.x))


def _standardised(outputs: Outputs) -> Outputs:
    """Each channel of each pass to mean 0 and standard deviation 1; a channel constant but for rounding becomes 0."""
    largest = np.abs(outputs.numpy()).max((1, 2, 3, 4), keepdims=True)
    centred = outputs - outputs.mean((1, 3, 4), keepdim=True)
    values = centred.numpy()  # the same memory; numpy's masks are quicker than torch's
    with np.errstate(all="ignore"):
        np.copyto(values, 0.0, where=np.abs(values) <= CANCELLED * largest)
        if not values.any():
            return centred
        deviation = centred.square().mean((1, 3, 4), keepdim=True).sqrt_().numpy()
        values /= np.where(deviation > 0, deviation, 1.0)
    return centred


def _digest(wide: Outputs, single: Single) -> str:
    """The key of the passes of full shape and the single position, in the order of the passes."""
    values, length = np.zeros((len(_PASSES), math.prod(SHAPE))), single.numel()
    of_passes = wide.numpy().reshape(len(wide), -1)
    values[:_SINGLE] = of_passes[:_SINGLE]
    values[_SINGLE, :length] = single.numpy().ravel()
    values[_SINGLE + 1 :] = of_passes[_SINGLE:]
    rows = significant(values)
    digest = hashlib.sha256(str(VERSION).encode())
    for part in (rows[:_SINGLE], rows[_SINGLE, :, :length].copy(), rows[_SINGLE + 1 :]):
        digest.update(part.data)
    return digest.hexdigest()[:32]
