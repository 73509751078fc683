"""Candidates in a list: readable in a terminal and a notebook, and as flat rows for CSV and data frames."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from evonas.known_layers import known_as
from evonas.search_space.errors import InputError
from evonas.store.records import Figures, Record, columns, verdict_of
from evonas.units import Unit, Units
from evonas.workers.gates import GATES
from evonas.workers.outcome import Crash, Fitness, Measurement, Point, Rejection

if TYPE_CHECKING:
    import pandas

    from evonas.run import Run

Row = dict[str, Any]  # a text, number, truth value or None for each name


class Records(list[Record]):
    """The candidates of an answer: a list, shown one candidate a line, and as a table in a notebook."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<no candidate>"

    def _repr_html_(self) -> str:
        from evonas.report.notebook import table_html  # only a notebook needs it

        units, own = Units.union(each.figures.shown.units for each in self if each.figures), own_objectives(self)
        return table_html([_shown(flat(each, units, own)) for each in self]) if self else "<p>no candidate</p>"


def own_objectives(records: Iterable[Record]) -> list[str]:
    """The objectives of a user's own that candidates have."""
    return list(dict.fromkeys(name for each in records for name in each.own_objectives))


def flat(record: Record, units: Units, own: Collection[str] = ()) -> Row:
    """A candidate as one row, with the names of `columns_of`. Figures are those with fresh seeds if it was retrained,
    else those of the search; differences are shares of accuracy, not points, unless their name says bits per byte;
    spreads are standard deviations over seeds. `advantage` and a user's own objectives are what the search maximised,
    with its own seed."""
    figures, stopped = record.figures, None
    if isinstance(record.outcome, Rejection | Crash):
        stopped = str(record.outcome.gate if isinstance(record.outcome, Rejection) else record.outcome.kind)
    values: Row = {
        "state": str(record.state),
        "fresh": None if figures is None else record.retrained is not None,
        "known_as": known_as(record.same_as, record.affine_of),
        "stopped_by": stopped,
        "formula": "; ".join(record.formula.splitlines()),
        "graph": "; ".join(record.graph.splitlines()),
    }
    shown = figures.shown if figures else None
    for proxy in units.proxies:
        name, figure = units.of(proxy).name_in_data, None
        if shown and shown.units.of(proxy) is units.of(proxy):  # another run's network may have the name
            figure = shown.values.get(proxy)
        values[f"{name}_{proxy}"], values[f"spread_{proxy}"] = figure or (None, None)
    for name in _COUNTS:
        values[name] = getattr(figures, name, None)
    for name in _DIFFERENCES:
        of = shown if shown and shown.unit is units.mean else figures  # fitnesses, of runs with several units
        values[f"{name}{units.mean.suffix}"] = getattr(of, name, None)
    values |= {name: record.own_objectives.get(name) for name in own}
    return {name: values[name] if name in values else getattr(record, name) for name in columns_of(units, own)}


_COUNTS = ("seeds", "paired", "failed")
_DIFFERENCES = ("difference", "difference_spread")
_ORIGIN = ("known_as", "operator", "parent", "second_parent", "equal_to")
_PROPERTIES = ("live_nodes", "batch_dependent", "amplification", "stopped_by", "seconds", "family", "formula", "graph")


def figures_json(figures: Figures) -> Row:
    """Figures by name, as people read them."""
    fields, shown = columns(figures), figures.in_bits
    del fields["in_bits"]
    if shown is None:
        return fields
    read, unit = columns(shown), shown.unit
    named = {name: f"{name}{unit.suffix}" for name in (*_DIFFERENCES, "by_seed")}
    if "by_seed" in fields:
        read["by_seed"] = {seed: unit.read(each) for seed, each in fields["by_seed"].items()}
    fields = {named.get(name, name): read.get(name, value) for name, value in fields.items()}
    del fields["accuracy"]
    return shown.units.named(shown.values) | fields


def measured_in(gate: str, proxy: str, units: Units) -> Unit | None:
    """The unit of what a gate measured on a proxy; None where that is no fitness."""
    return units.of(proxy) if gate in GATES and GATES[gate].of_fitness else None


def measured_texts(gate: str, proxy: str, value: float, threshold: float, units: Units) -> tuple[str, str]:
    """A gate's measurement and its threshold."""
    in_bits = measured_in(gate, proxy, units) is Unit.BITS
    first, second = (f"{Unit.BITS.read(each):.4g} bits" if in_bits else f"{each:.4g}" for each in (value, threshold))
    return first, second


def measured_json(measured: Measurement | Rejection, units: Units) -> Row:
    """A measurement of a gate, or the rejection by it; bits per byte say so."""
    fields, unit = columns(measured), measured_in(measured.gate, measured.proxy, units)
    if unit is not Unit.BITS:
        return fields
    return fields | {name: unit.read(fields[name]) for name in ("value", "threshold")} | {"unit": unit}


def stopped_json(outcome: Rejection | Crash, units: Units) -> Row:
    """The rejection or the crash that stopped a candidate."""
    return columns(outcome) if isinstance(outcome, Crash) else measured_json(outcome, units)


def candidate_json(record: Record, units: Units) -> Row:
    """A candidate with all its fields by name, as `--json` and the JSON API give it."""
    fields = columns(record)
    if units.in_bits:
        del fields["accuracy"]
        fields |= units.named(units.read(record.accuracy))
    outcome = fields.pop("outcome")
    fields["verdict"] = verdict_of(outcome) if outcome is not None else None
    if isinstance(outcome, Rejection | Crash):
        fields["stopped_by"] = stopped_json(outcome, units)
    if record.own_objectives:
        fields["own_objectives"] = record.own_objectives
    for name in ("in_search", "retrained"):
        fields[name] = figures_json(fields[name]) if fields[name] else None
    return fields


def whole_json(run: "Run", birth: int) -> Row:
    """All that a run holds of one candidate. Raises NotThere if there is no such birth."""
    from evonas.layers.fragility import fragility  # it trains; a list does not need it
    from evonas.search_space.latex import latex

    record, evaluation, graph, units = run.candidate(birth), run.evaluation(birth), run.graph(birth), run.config.units
    fields = candidate_json(record, units) | {"latex": latex(graph), "fragility": fragility(graph)}
    fields["validations"] = [each.as_json() for each in run.validations(birth)]
    if evaluation is not None:
        fields["measurements"] = [measured_json(each, units) for each in evaluation.measurements]
        fields["points"] = [_point_json(each, units) for each in evaluation.points]
        fields |= {"memory_mb": evaluation.memory_mb, "conditions": evaluation.conditions}
        fields["attempts"] = evaluation.attempts
        if isinstance(evaluation.outcome, Fitness):
            fields |= {"step_seconds": evaluation.outcome.step_seconds, "saved_mb": evaluation.outcome.saved_mb}
    return fields


def _point_json(point: Point, units: Units) -> Row:
    """A look at a learning curve."""
    unit = units.of(point.proxy)
    names = {"accuracy": unit.name_in_data}
    fields = columns(point) | {"accuracy": unit.read(point.accuracy)}
    return {names.get(name, name): value for name, value in fields.items()}


def columns_of(units: Units, own: Collection[str] = ()) -> list[str]:
    """The names of a flat row, in order."""
    figures = [f"{kind}_{proxy}" for proxy in units.proxies for kind in (units.of(proxy).name_in_data, "spread")]
    differences = [f"{name}{units.mean.suffix}" for name in _DIFFERENCES]
    first = ["run", "birth", "seq", "state", "fresh", *_COUNTS, *differences, *figures, "advantage"]
    return [*first, *own, *_ORIGIN, *_PROPERTIES]


def to_frame(records: Iterable[Record], units: Units) -> "pandas.DataFrame":
    """Flat rows as a data frame. Raises InputError where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise InputError("to_frame needs pandas: pip install 'evonas[pandas]'") from None
    records = list(records)
    own = own_objectives(records)
    rows, names = [flat(each, units, own) for each in records], columns_of(units, own)
    return pandas.DataFrame.from_records(rows, columns=names)


_LEFT_OUT = ("run", "seq", "paired", "failed", "advantage", "second_parent", "equal_to", "seconds", "family", "graph")


def _shown(row: Row) -> Row:
    """The columns by which a person compares layers."""
    return {name: value for name, value in row.items() if name not in _LEFT_OUT}
