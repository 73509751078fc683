"""The one table of primitive operations: parser, sampler, module, exported source and documentation derive from it.

Adding a primitive is one row here. Its function is torch's own, or uses torch alone and is copied verbatim into the
exported layers that call it.
The elementwise primitives and the aggregations are the paper's (arXiv:2004.02967, table 1; remembered, and confirmed
by an independent reimplementation). sqrt and log keep the sign, and eps inside keeps values and gradients finite at 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from evonas.search_space.moments import INDEX_SETS, mean, mean_square, variance

EPS = 1e-5  # in the roots: tensorflow/tpu resnet_model.py; in the logarithm: ours


class Maximum(torch.autograd.Function):
    """The larger of two values. The gradient is torch.maximum's where that is finite.

    Half of it goes to each value where both are equal. It is computed by arithmetic
    alone: torch compares and masks, which takes 10 times as long on a CPU.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        of_a = slope * share_of_first(a, b)
        of_b = slope - of_a
        return (
            of_a.sum_to_size(a.shape).to(a.dtype) if ctx.needs_input_grad[0] else None,
            of_b.sum_to_size(b.shape).to(b.dtype) if ctx.needs_input_grad[1] else None,
        )

    @staticmethod
    def jvp(ctx: Any, tangent_a: Tensor, tangent_b: Tensor) -> Tensor:
        share = share_of_first(*ctx.saved_tensors)
        return tangent_a * share + tangent_b * (1 - share)


def share_of_first(a: Tensor, b: Tensor) -> Tensor:
    """1 where a > b, 0 where a < b, 0.5 where they are equal."""
    return (a - b).detach().sign_().add_(1).mul_(0.5)


def max(a: Tensor, b: Tensor) -> Tensor:
    """torch.maximum where a compiler, exporter or tracer sees the layer.

    It fuses that, and cannot save an autograd.Function.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return torch.maximum(a, b)
    return Maximum.apply(a, b)  # type: ignore[no-any-return]


def log(a: Tensor) -> Tensor:
    return torch.sign(a) * torch.log(torch.abs(a) + EPS)


def sqrt(a: Tensor) -> Tensor:
    return torch.sign(a) * torch.sqrt(torch.abs(a) + EPS)


@dataclass(frozen=True, slots=True)
class Primitive:
    """One operation: `fn` takes `arity` tensors; that of an aggregation is a moment, of one tensor over axes."""

    name: str
    arity: int
    fn: Callable[..., Tensor]
    latex: str  # with {0} and {1} for the inputs
    commutative: bool = False
    reduces: str | None = None  # the index set of an aggregation
    rooted: bool = False  # an aggregation that is the square root of its moment + eps
    centred: bool = False  # its moment is of distances to the mean: 0 of a constant
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
    Primitive("add", 2, torch.add, r"{0} + {1}", commutative=True, operator="+"),
    Primitive("mul", 2, torch.mul, r"{0} \cdot {1}", commutative=True, operator="*", sign="out", unit=1.0),
    Primitive("div", 2, torch.div, r"\frac{{{0}}}{{{1}}}", operator="/", sign="out", unit=1.0),
    Primitive("max", 2, max, r"\max\left({0}, {1}\right)", commutative=True, idempotent=True),
    Primitive("neg", 1, torch.neg, r"-{0}", operator="-"),
    Primitive("sigmoid", 1, torch.sigmoid, r"\sigma\left({0}\right)", nonnegative=True),
    Primitive("tanh", 1, torch.tanh, r"\tanh\left({0}\right)"),
    Primitive("exp", 1, torch.exp, r"e^{{{0}}}", nonnegative=True),
    Primitive("log", 1, log, r"\operatorname{{sgn}}\left({0}\right) \ln\left(\left|{0}\right| + \varepsilon\right)"),
    Primitive("abs", 1, torch.abs, r"\left|{0}\right|", sign="lost", ignores_abs=True, nonnegative=True),
    Primitive("square", 1, torch.square, r"{0}^2", sign="lost", ignores_abs=True),
    Primitive("sqrt", 1, sqrt, r"\operatorname{{sgn}}\left({0}\right) \sqrt{{\left|{0}\right| + \varepsilon}}"),
    Primitive(
        "erf", 1, torch.erf, r"\operatorname{{erf}}\left({0}\right)", cite="ours, beyond the paper: Derf and GELU"
    ),
)

_BEYOND = "ours, beyond the paper: layer normalization of tokens"

_AGGREGATIONS = tuple(
    replace(row, name=f"{row.name}_{index_set}", reduces=index_set, cite=_BEYOND if index_set == "c" else row.cite)
    for row in (
        Primitive("mean", 1, mean, r"\mu_{{{1}}}\left({0}\right)", running_start=0.0),
        Primitive(
            "rms",
            1,
            mean_square,
            r"r_{{{1}}}\left({0}\right)",
            rooted=True,
            sign="lost",
            ignores_abs=True,
            nonnegative=True,
        ),
        Primitive(
            "std", 1, variance, r"s_{{{1}}}\left({0}\right)", rooted=True, centred=True, sign="lost", nonnegative=True
        ),
    )
    for index_set in INDEX_SETS
)

PRIMITIVES: dict[str, Primitive] = {row.name: row for row in _ELEMENTWISE + _AGGREGATIONS}
BUILT_IN = tuple(PRIMITIVES)  # those of a user's own come after them: own_rows
ELEMENTWISE = tuple(row.name for row in _ELEMENTWISE)
