"""The base of configs, protocols and gates: immutable, validated values."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _one_line(text: str) -> str:
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError(f"expected one line without control characters, got {text[:60]!r}")
    return text


# Everything has an upper limit, far above what a machine can do: a slip of the keyboard ends in one line.
Count = Annotated[int, Field(ge=1, le=10**9)]
SmallCount = Annotated[int, Field(ge=1, le=1000)]  # what is done so often one after the other, for each candidate
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, le=1e38)]  # float32's range
Name = Annotated[str, Field(max_length=100), AfterValidator(_one_line)]
Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_one_line)]  # a path, an address


class Frozen(BaseModel):
    """Immutable, strict about types, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Given(dict[str, Any]):
    """Options, hashable as the frozen value that holds them."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


# The keyword arguments that a config gives to a function of a user's own
Options = Annotated[dict[Name, Any], Field(max_length=100), AfterValidator(Given)]
