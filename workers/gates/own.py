"""Gates of a user's own, by `module:name`; and what stands for one whose module is not run, as in a database."""

import json
from collections.abc import Mapping
from inspect import isabstract
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError, ValidationInfo

from evonas.search_space.errors import InputError, did_you_mean
from evonas.workers.gates.base import Gate, LayerGate, NetworkGate, RankedGate, TrainingGate
from evonas.workers.plugins import is_own, load, may_load

Need = Literal["layer", "network", "training", "comparison"]
BASES: dict[Need, type[Gate]] = {  # the narrowest first
    "layer": LayerGate,
    "network": NetworkGate,
    "comparison": RankedGate,
    "training": TrainingGate,
}
_needs: dict[str, Need] = {}  # of the gates in the configs that this process has read


class AbsentGate(Gate):
    """A gate whose module is not run: its options as they are written, and what it needs."""

    model_config = ConfigDict(extra="allow")
    needs: Need


def own_gate(value: Any, info: ValidationInfo) -> Gate:
    """The gate of a config's `module:name` and options. Raises ValueError, which begins with the key that is wrong."""
    if isinstance(value, Gate):
        return value
    written: Mapping[str, Any] = value
    reference = str(written["gate"])
    if not may_load(info):
        absent = AbsentGate.model_validate(dict(written))
        _needs[reference] = absent.needs
        return absent
    kind = own_kind(reference)
    options = {key: each for key, each in written.items() if key != "needs"}
    try:
        gate = kind.model_validate_json(json.dumps(options))
    except ValidationError as error:
        raise ValueError(_reason(reference, kind, error)) from None
    if need := need_of(kind):
        _needs[reference] = need
    return gate


def written(gate: Gate) -> dict[str, Any]:
    """A gate of a user's own as a resolved config has it."""
    need = gate.needs if isinstance(gate, AbsentGate) else need_of(type(gate))
    return {"gate": gate.gate, "needs": need, **gate.model_dump(mode="json", exclude={"gate", "needs"})}


def own_kind(reference: str) -> type[Gate]:
    """The class of a gate. Raises InputError for what is none."""
    kind: type[Gate] = load(reference)
    if not isinstance(kind, type) or not issubclass(kind, Gate) or not need_of(kind) or isabstract(kind):
        names = ", ".join(each.__name__ for each in BASES.values())
        raise InputError(f"{reference}: expected a class that derives from one of {names} and defines `measure`")
    field = kind.model_fields["gate"]
    if field.annotation is not str or not field.is_required():
        raise InputError(f"{reference}: defines `gate`, which is '{reference}'; expected none")
    return kind


def own_need(gate: str) -> Need | None:
    """The need of a gate of this name; None for one that is not a user's own."""
    return _needs.get(gate) if is_own(gate) else None


def need_of(kind: type[Gate]) -> Need | None:
    """The need of the gates of a class; None for a class whose gates nobody would ask."""
    return next((need for need, base in BASES.items() if issubclass(kind, base)), None)


def _reason(reference: str, kind: type[Gate], error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, (reference, *first["loc"])))
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key{did_you_mean(str(first['loc'][-1]), set(kind.model_fields) - {'gate'})}"
    if first["type"] in ("missing", "value_error"):
        return f"{key}: {first.get('ctx', {}).get('error', 'missing')}"
    text = first["msg"].removeprefix("Input ")
    return f"{key}: {text[:1].lower()}{text[1:]}, got {first['input']!r:.60}"
