"""Primitives beside the table: the checks that a row of a user's own passes, and the door by which it joins."""

import keyword
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from evonas.search_space.errors import InputError
from evonas.search_space.primitives import BUILT_IN, PRIMITIVES, Primitive

FACTS = ("commutative", "sign", "ignores_abs", "nonnegative", "idempotent", "unit")  # declared, exact
RESERVED = re.compile(r"(n|k|p|v|running_)\d+|x|y|zero|scalar|vector|paper|weight|bias|self|torch|_.*")
SHAPE, BESIDE = (4, 8, 3, 5), (1, 8, 1, 1)  # of the first and the second input


def row_of(value: Any, where: str) -> Primitive:
    """The row that a function of one or two tensors is, or a Primitive that was written. Raises InputError."""
    row: Primitive = value
    if not isinstance(value, Primitive):
        if not callable(value):
            raise InputError(f"{where}: expected a function or a Primitive, found {type(value).__name__}")
        parameters = signature(value).parameters.values()
        arity = sum(each.default is Parameter.empty for each in parameters)
        name = value.__name__
        inputs = ", ".join(f"{{{place}}}" for place in range(arity))
        escaped = name.replace("_", r"\_")
        row = Primitive(name, arity, value, rf"\operatorname{{{{{escaped}}}}}\left({inputs}\right)")
    return replace(row, cite="a user's own")


def join(row: Primitive, where: str) -> None:
    """Add a row to the table of this process, or replace what was declared of it. Raises InputError for a name that is
    taken."""
    if row.name in BUILT_IN:
        raise InputError(f"{where}: evonas has a primitive '{row.name}'; choose another name")
    if not row.name.isidentifier() or keyword.iskeyword(row.name) or RESERVED.fullmatch(row.name):
        raise InputError(f"{where}: '{row.name}' cannot be the name of a primitive; choose another")
    earlier = PRIMITIVES.get(row.name)
    if earlier is not None and replace(earlier, fn=row.fn) != row:
        raise InputError(f"{where}: another primitive of this process is named '{row.name}'; start a new process")
    PRIMITIVES[row.name] = row


def absent(name: str, where: str) -> Callable[..., Tensor]:
    """In the place of a function whose module was not run."""

    def function(*inputs: Tensor) -> Tensor:
        raise InputError(f"primitive {name} is {where}, whose module was not run")

    return function


def check(row: Primitive, where: str) -> None:
    """Try a row's function on values. Raises InputError where it is no elementwise, differentiable function of tensors,
    or a declared fact does not hold."""
    if row.arity not in (1, 2) or row.reduces or row.rooted or row.centred or row.operator:
        raise InputError(f"{where}: expected an elementwise function of 1 or 2 tensors, got {row.arity}")
    try:
        row.latex.format("a", "b")
    except (IndexError, KeyError, ValueError) as error:
        raise InputError(f"{where}: latex {row.latex!r:.60} cannot be written ({error!r})") from None
    for dtype in (torch.float64, torch.float32):
        inputs = _values(row.arity, dtype)
        before = [each.clone() for each in inputs]
        output = row.fn(*inputs)
        _expect(isinstance(output, Tensor), where, f"expected a tensor, got {type(output).__name__}")
        _expect(output.shape == SHAPE, where, f"of {SHAPE} it makes {tuple(output.shape)}; expected one value for each")
        _expect(output.dtype == dtype, where, f"of {dtype} it makes {output.dtype}")
        _expect(all(map(torch.equal, inputs, before)), where, "it changes its input")
    _expect(_same(row.fn(*inputs), output), where, "two calls differ")
    few = row.fn(*(each[:1, :2, :, :1] for each in inputs))
    is_elementwise = torch.allclose(few, output[:1, :2, :, :1], 1e-4, 1e-6, equal_nan=True)
    _expect(is_elementwise, where, "a value depends on others than its own; aggregations are evonas' own")
    learned = [each.clone().requires_grad_() for each in inputs]
    output = row.fn(*learned)
    _expect(output.requires_grad, where, "it has no gradient")
    output.sum().backward()
    for fact, holds in _facts(row):
        _expect(holds, where, f"{fact} does not hold")


def _values(arity: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = 3 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    first[0, 0] = 0.0
    second = torch.randn(BESIDE, generator=generator, dtype=torch.float64)
    return [first.to(dtype), second.to(dtype)][:arity]


def _facts(row: Primitive) -> Iterator[tuple[str, bool]]:
    """The declared facts, and whether they hold of some values."""
    inputs = _values(row.arity, torch.float32)
    a, others = inputs[0], inputs[1:]
    value = row.fn(*inputs)
    if row.commutative:
        yield "commutative", row.arity == 2 and _same(row.fn(*inputs[::-1]), value)
    if row.sign == "out":
        yield "sign", _same(row.fn(-a, *others), -value) and all(_same(row.fn(a, -b), -value) for b in others)
    elif row.sign is not None:
        yield "sign", row.sign == "lost" and _same(row.fn(-a, *others), value)
    if row.ignores_abs:
        yield "ignores_abs", row.arity == 1 and _same(row.fn(a.abs()), value)
    if row.nonnegative:
        yield "nonnegative", bool((value >= 0).logical_or(value.isnan()).all())
    if row.idempotent:
        yield "idempotent", row.arity == 2 and _same(row.fn(a, a), a)
    if row.unit is not None:
        yield "unit", row.arity == 2 and _same(row.fn(a, torch.full_like(a, row.unit)), a)


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _expect(holds: bool, where: str, otherwise: str) -> None:
    if not holds:
        raise InputError(f"{where}: {otherwise}")
