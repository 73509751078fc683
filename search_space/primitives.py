"""The one table of primitive operations: parser, sampler, module, exported source and documentation derive from it.

Adding a primitive is one row here. Its function uses torch alone and is copied verbatim into exported layers.
The elementwise primitives and the aggregations are the paper's (arXiv:2004.02967, table 1; remembered, and confirmed
by an independent reimplementation). sqrt and log keep the sign, and eps inside keeps values and gradients finite at 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evonas.search_space.moments import INDEX_SETS, Maximum, Over

EPS = 1e-5  # inside the square roots: tensorflow/tpu resnet_model.py; inside the logarithm: ours


def add(a: Tensor, b: Tensor) -> Tensor:
    return a + b


def mul(a: Tensor, b: Tensor) -> Tensor:
    return a * b


def div(a: Tensor, b: Tensor) -> Tensor:
    return a / b


def max(a: Tensor, b: Tensor) -> Tensor:
    return Maximum.apply(a, b)  # type: ignore[no-any-return]


def neg(a: Tensor) -> Tensor:
    return -a


def sigmoid(a: Tensor) -> Tensor:
    return torch.sigmoid(a)


def tanh(a: Tensor) -> Tensor:
    return torch.tanh(a)


def exp(a: Tensor) -> Tensor:
    return torch.exp(a)


def log(a: Tensor) -> Tensor:
    return torch.sign(a) * torch.log(torch.abs(a) + EPS)


def abs(a: Tensor) -> Tensor:
    return torch.abs(a)


def square(a: Tensor) -> Tensor:
    return torch.square(a)


def sqrt(a: Tensor) -> Tensor:
    return torch.sign(a) * torch.sqrt(torch.abs(a) + EPS)


def mean(a: Tensor, over: Over) -> Tensor:
    return over.mean(a)


def rms(a: Tensor, over: Over) -> Tensor:
    return torch.sqrt(over.mean_square(a) + over.eps)


def std(a: Tensor, over: Over) -> Tensor:
    return torch.sqrt(over.variance(a) + over.eps)


@dataclass(frozen=True, slots=True)
class Primitive:
    """One operation: `fn` takes `arity` tensors (an aggregation: one, and what it reduces over)."""

    name: str
    arity: int
    fn: Callable[..., Tensor]
    latex: str  # with {0} and {1} for the inputs
    commutative: bool = False
    reduces: str | None = None  # the index set of an aggregation
    operator: str | None = None  # how the language writes it, where that is not a call
    # Exact in floating point, for the canonical form: what becomes of the sign of an input ("out": f(-a, b) = -f(a, b),
    # "lost": f(-a) = f(a)), whether f(|a|) = f(a), f >= 0, f(a, a) = a, and the b of f(a, b) = a.
    sign: str | None = None
    ignores_abs: bool = False
    nonnegative: bool = False
    idempotent: bool = False
    unit: float | None = None
    running_start: float = 1.0  # of the running moment that an aggregation over the batch keeps
    cite: str = "arXiv:2004.02967, table 1 (remembered)"


_ELEMENTWISE = (
    Primitive("add", 2, add, r"{0} + {1}", commutative=True, operator="+"),
    Primitive("mul", 2, mul, r"{0} \cdot {1}", commutative=True, operator="*", sign="out", unit=1.0),
    Primitive("div", 2, div, r"\frac{{{0}}}{{{1}}}", operator="/", sign="out", unit=1.0),
    Primitive("max", 2, max, r"\max\left({0}, {1}\right)", commutative=True, idempotent=True),
    Primitive("neg", 1, neg, r"-{0}", operator="-"),
    Primitive("sigmoid", 1, sigmoid, r"\sigma\left({0}\right)", nonnegative=True),
    Primitive("tanh", 1, tanh, r"\tanh\left({0}\right)"),
    Primitive("exp", 1, exp, r"e^{{{0}}}", nonnegative=True),
    Primitive("log", 1, log, r"\operatorname{{sgn}}\left({0}\right) \ln\left(\left|{0}\right| + \varepsilon\right)"),
    Primitive("abs", 1, abs, r"\left|{0}\right|", sign="lost", ignores_abs=True, nonnegative=True),
    Primitive("square", 1, square, r"{0}^2", sign="lost", ignores_abs=True),
    Primitive("sqrt", 1, sqrt, r"\operatorname{{sgn}}\left({0}\right) \sqrt{{\left|{0}\right| + \varepsilon}}"),
)

_BEYOND = "ours, beyond the paper: layer normalization of tokens"

_AGGREGATIONS = tuple(
    replace(row, name=f"{row.name}_{index_set}", reduces=index_set, cite=_BEYOND if index_set == "c" else row.cite)
    for row in (
        Primitive("mean", 1, mean, r"\mu_{{{1}}}\left({0}\right)", running_start=0.0),
        Primitive("rms", 1, rms, r"r_{{{1}}}\left({0}\right)", sign="lost", ignores_abs=True, nonnegative=True),
        Primitive("std", 1, std, r"s_{{{1}}}\left({0}\right)", sign="lost", nonnegative=True),
    )
    for index_set in INDEX_SETS
)

PRIMITIVES: dict[str, Primitive] = {row.name: row for row in _ELEMENTWISE + _AGGREGATIONS}
ELEMENTWISE = tuple(row.name for row in _ELEMENTWISE)
