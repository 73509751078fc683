"""Primitives of a user's own: loaded from `module:name`, tried, and added to the table of this process; or declared
there without their function, as a database has them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, ValidationInfo, model_validator

from evonas.search_space.errors import InputError
from evonas.search_space.own_rows import FACTS, absent, check, join, row_of
from evonas.search_space.primitives import PRIMITIVES, Primitive
from evonas.workers.frozen import Frozen, Name, Text
from evonas.workers.plugins import Reference, identify, is_own, load, may_load, place

_functions: dict[str, tuple[str, str]] = {}  # primitive -> reference and digest of the function in the table


class OwnPrimitive(Frozen):
    """A primitive by its reference; what else is known of it is written by evonas, so that formulas can be read without
    its module."""

    primitive: Reference
    name: Name
    arity: Annotated[int, Field(ge=1, le=2)]
    latex: Text
    commutative: bool = False
    sign: Name | None = None
    ignores_abs: bool = False
    nonnegative: bool = False
    idempotent: bool = False
    unit: Annotated[float, Field(ge=-1e38, le=1e38)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_reference(cls, written: Any, info: ValidationInfo) -> Any:
        """`my_ops:softsign` is how a person writes it."""
        values = {"primitive": written} if isinstance(written, str) else written
        reference = values.get("primitive") if isinstance(values, Mapping) else None
        if not may_load(info) or not isinstance(reference, str) or not is_own(reference):
            return values
        return {"primitive": reference, **_loaded(reference)}

    @model_validator(mode="after")
    def _declare(self) -> "OwnPrimitive":
        if self.name not in _functions:
            join(self.row, self.primitive)
            return self
        row = self.row
        if row != replace(PRIMITIVES[self.name], fn=row.fn):
            raise InputError(f"{self.primitive}: another primitive of this process is named '{self.name}'")
        return self

    @property
    def row(self) -> Primitive:
        """Its row, without the function."""
        facts: dict[str, Any] = {fact: getattr(self, fact) for fact in FACTS}
        function = absent(self.name, self.primitive)
        return Primitive(self.name, self.arity, function, self.latex, **facts, cite="a user's own")


def primitive(written: Any) -> str:
    """The tag of a primitive's type."""
    return "known" if isinstance(written, str) and not is_own(written) else "own"


Named = Annotated[Annotated[Name, Tag("known")] | Annotated[OwnPrimitive, Tag("own")], Discriminator(primitive)]


def _loaded(reference: str) -> dict[str, Any]:
    """Load a primitive into the table, and return what is known of it. Raises InputError where it is none."""
    row = row_of(load(reference), reference)
    source = reference, identify(reference.partition(":")[0]).digest
    if _functions.get(row.name, source) != source:
        raise InputError(
            f"{reference}: this process has another '{row.name}', of {_functions[row.name][0]}; start a new process"
        )
    if row.name not in _functions:
        try:
            check(row, reference)
        except InputError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise InputError(f"{reference}: failed at {place(error)}") from error
    join(row, reference)
    _functions[row.name] = source
    return {"name": row.name, "arity": row.arity, "latex": row.latex, **{fact: getattr(row, fact) for fact in FACTS}}
