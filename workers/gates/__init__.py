"""The table of gates: one file a gate in this folder, and everything else derives from it.

Configs, evaluations, the driver's screening, the funnel, the history and docs/gates.md know a gate by the class that it
derives from (see `base`), never by its name.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from inspect import isabstract
from itertools import pairwise
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, PlainSerializer, PlainValidator, Tag

from evonas.search_space.screening import Screening
from evonas.search_space.wording import counted
from evonas.workers.gates.base import Gate, LayerGate, NetworkGate, RankedGate, TrainingGate
from evonas.workers.gates.own import own_gate, own_kind, own_need, written
from evonas.workers.outcome import Measurement
from evonas.workers.plugins import is_loaded

# The needs of a class of gates, least first. The driver asks the first, an evaluation the others.
NEEDS: dict[type[Gate], str] = {LayerGate: "layer", NetworkGate: "network", TrainingGate: "training"}


def _table() -> dict[str, type[Gate]]:
    """The gates by name, those that need least first. Raises TypeError for a gate that nobody would ask."""
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(__path__) if each.name[0] != "_"]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    kinds = [each for each in classes if issubclass(each, Gate) and isinstance(each.model_fields["gate"].default, str)]
    for kind in kinds:
        check_kind(kind)
    order = list(NEEDS.values())
    kinds.sort(key=lambda kind: (order.index(needs(kind)), name_of(kind)))
    names = Counter(map(name_of, kinds))
    if len(names) < len(kinds):
        raise TypeError(f"gates: one name twice: {names.most_common(1)[0][0]}")
    return {name_of(kind): kind for kind in kinds}


def name_of(kind: type[Gate]) -> str:
    return str(kind.model_fields["gate"].default)


def needs(kind: type[Gate]) -> str:
    """The object that a gate measures: the layer alone, networks, or trainings."""
    return next(need for base, need in NEEDS.items() if issubclass(kind, base))


def check_kind(kind: type[Gate]) -> None:
    """Raises TypeError for a gate that validates and that nobody would ask."""
    if not issubclass(kind, tuple(NEEDS)) or isabstract(kind):
        names = ", ".join(each.__name__ for each in NEEDS)
        raise TypeError(f"{kind.__name__}: expected a class that derives from one of {names} and defines `measure`")


def gate(written: Any) -> str | None:
    """The tag of a gate's type."""
    name = written.get("gate") if isinstance(written, dict) else getattr(written, "gate", None)
    return "own" if isinstance(name, str) and ":" in name else name if name is None else str(name)


GATES = _table()
if TYPE_CHECKING:
    AnyGate = Gate
else:
    _own = Annotated[Gate, PlainValidator(own_gate), PlainSerializer(written), Tag("own")]
    _kinds = (*(Annotated[kind, Tag(name)] for name, kind in GATES.items()), _own)
    AnyGate = Annotated[Union[_kinds], Discriminator(gate)]  # noqa: UP007


def from_text(value: Any) -> Any:
    """`finite` and `quality: {steps: 30}` are how a person writes a gate; other values are left as they are."""
    if isinstance(value, str):
        return {"gate": value}
    if isinstance(value, dict) and len(value) == 1 and "gate" not in value:
        ((name, options),) = value.items()
        if options is None or isinstance(options, dict):
            return {"gate": name, **(options or {})}
    return value


def check_order(gates: Sequence[Gate], steps: int) -> None:
    """Raises ValueError where gates cannot be asked in this order, on a training of so many steps."""
    for earlier, later in pairwise(gates):
        if isinstance(later, LayerGate) and not isinstance(earlier, LayerGate):
            raise ValueError(f"gates: {later.gate} needs the layer alone and comes before {earlier.gate}")
    trained = [gate for gate in gates if isinstance(gate, TrainingGate)]
    if any(later.steps < earlier.steps for earlier, later in pairwise(each for each in trained if not each.only)):
        names = ", ".join(gate.label for gate in trained)
        raise ValueError(f"gates: their steps fall: {names}; a training does not go back")
    for gate in trained:
        if gate.steps > steps:
            needed = f"expected recipe.steps of at least {trained[-1].steps}"
            raise ValueError(
                f"gates: {gate.gate} after {counted(gate.steps, 'step')}, but recipe.steps is {steps}; {needed}"
            )
    labels = Counter(gate.label for gate in trained if isinstance(gate, RankedGate))
    for label, count in labels.items():
        if count > 1:
            raise ValueError(f"gates: {label} stands twice; earlier candidates are remembered by gate and step")


def screen(gates: Sequence[Gate], screening: Screening) -> tuple[Measurement, ...]:
    """Measurements by the gates that need the layer alone, up to the first that stops the candidate."""
    measurements: list[Measurement] = []
    for gate in gates:
        if isinstance(gate, LayerGate):
            measurements.append(timed(lambda gate=gate: gate.measure(screening)))  # type: ignore[misc]
            if not measurements[-1].passed:
                break
    return tuple(measurements)


def timed(measure: Callable[[], Measurement]) -> Measurement:
    started = time.perf_counter()
    measurement = measure()
    return replace(measurement, seconds=time.perf_counter() - started)


def needs_layer(gate: str) -> bool:
    """Whether the driver asks the gate of this name; False for a training that diverged."""
    return own_need(gate) == "layer" or (gate in GATES and issubclass(GATES[gate], LayerGate))


def needs_training(measurement: Measurement) -> bool:
    """Whether its gate looked at a training."""
    need = own_need(measurement.gate)
    return need in ("training", "comparison") if need else issubclass(GATES[measurement.gate], TrainingGate)


def ranked_gate(gate: str) -> type[RankedGate] | None:
    """The gate of this name, if it compares candidates with earlier ones."""
    if own_need(gate) == "comparison":
        kind: type[Gate] | None = own_kind(gate) if is_loaded(gate) else RankedGate
    else:
        kind = GATES.get(gate)
    return kind if kind and issubclass(kind, RankedGate) else None
