"""The one table of primitive operations: parser, sampler, module, exported source and documentation derive from it.

Adding a primitive is one row here. Its function uses torch alone and is copied verbatim into exported layers.
The elementwise primitives and the aggregations are the paper's (arXiv:2004.02967, table 1; remembered, and confirmed
by an independent reimplementation). sqrt and log keep the sign, and eps inside keeps values and gradients finite at 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from search_space.moments import INDEX_SETS, Over

EPS = 1e-5  # inside the square roots: tensorflow/tpu resnet_model.py; inside the logarithm: ours


def add(a: Tensor, b: Tensor) -> Tensor:
    return a + b


def mul(a: Tensor, b: Tensor) -> Tensor:
    return a * b


def div(a: Tensor, b: Tensor) -> Tensor:
    return a / b


def max(a: Tensor, b: Tensor) -> Tensor:
    return torch.maximum(a, b)


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
    running_start: float = 1.0  # of the running moment that an aggregation over the batch keeps
    cite: str = "arXiv:2004.02967, table 1 (remembered)"


_ELEMENTWISE = (
    Primitive("add", 2, add, r"{0} + {1}", commutative=True, operator="+"),
    Primitive("mul", 2, mul, r"{0} \cdot {1}", commutative=True, operator="*"),
    Primitive("div", 2, div, r"\frac{{{0}}}{{{1}}}", operator="/"),
    Primitive("max", 2, max, r"\max\left({0}, {1}\right)", commutative=True),
    Primitive("neg", 1, neg, r"-{0}", operator="-"),
    Primitive("sigmoid", 1, sigmoid, r"\sigma\left({0}\right)"),
    Primitive("tanh", 1, tanh, r"\tanh\left({0}\right)"),
    Primitive("exp", 1, exp, r"e^{{{0}}}"),
    Primitive("log", 1, log, r"\operatorname{{sgn}}({0})\ln\left|{0}\right|"),
    Primitive("abs", 1, abs, r"\left|{0}\right|"),
    Primitive("square", 1, square, r"\left({0}\right)^2"),
    Primitive("sqrt", 1, sqrt, r"\operatorname{{sgn}}({0})\sqrt{{\left|{0}\right|}}"),
)

_AGGREGATIONS = tuple(
    Primitive(f"{fn.__name__}_{index_set}", 1, fn, latex, reduces=index_set, running_start=start)
    for fn, latex, start in (
        (mean, r"\mu_{{{1}}}({0})", 0.0),
        (rms, r"r_{{{1}}}({0})", 1.0),
        (std, r"s_{{{1}}}({0})", 1.0),
    )
    for index_set in INDEX_SETS
)

PRIMITIVES: dict[str, Primitive] = {row.name: row for row in _ELEMENTWISE + _AGGREGATIONS}
ELEMENTWISE = tuple(row.name for row in _ELEMENTWISE)
