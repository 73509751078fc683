"""Candidates in a list: readable in a terminal and a notebook, and as flat rows for CSV and data frames."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from evonas.known_layers import known_as
from evonas.search_space.errors import InputError
from evonas.store.records import Record, columns, verdict_of
from evonas.workers.outcome import Crash, Fitness, Rejection

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

        proxies = list(dict.fromkeys(proxy for each in self for proxy in each.accuracy))
        own = own_objectives(self)
        return table_html([_shown(flat(each, proxies, own)) for each in self]) if self else "<p>no candidate</p>"


def own_objectives(records: Iterable[Record]) -> list[str]:
    """The objectives of a user's own that candidates have."""
    return list(dict.fromkeys(name for each in records for name in each.own_objectives))


def flat(record: Record, proxies: Collection[str], own: Collection[str] = ()) -> Row:
    """A candidate as one row, with the names of `columns_of`. Figures are those with fresh seeds if it was retrained,
    else those of the search; differences are shares of accuracy, not points; spreads are standard deviations over
    seeds. `advantage` and a user's own objectives are what the search maximised, with its own seed."""
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
    for proxy in proxies:
        accuracy = figures.accuracy.get(proxy) if figures else None
        values[f"accuracy_{proxy}"], values[f"spread_{proxy}"] = accuracy or (None, None)
    for name in _FIGURES:
        values[name] = getattr(figures, name, None)
    values |= {name: record.own_objectives.get(name) for name in own}
    return {name: values[name] if name in values else getattr(record, name) for name in columns_of(proxies, own)}


_FIGURES = ("seeds", "paired", "failed", "difference", "difference_spread")
_ORIGIN = ("known_as", "operator", "parent", "second_parent", "equal_to")
_PROPERTIES = ("live_nodes", "batch_dependent", "amplification", "stopped_by", "seconds", "family", "formula", "graph")


def candidate_json(record: Record) -> Row:
    """A candidate with all its fields by name, as `--json` and the JSON API give it."""
    fields = columns(record)
    outcome = fields.pop("outcome")
    fields["verdict"] = verdict_of(outcome) if outcome is not None else None
    if isinstance(outcome, Rejection | Crash):
        fields["stopped_by"] = columns(outcome)
    if record.own_objectives:
        fields["own_objectives"] = record.own_objectives
    for name in ("in_search", "retrained"):
        fields[name] = columns(fields[name]) if fields[name] else None
    return fields


def whole_json(run: "Run", birth: int) -> Row:
    """All that a run holds of one candidate. Raises NotThere if there is no such birth."""
    from evonas.layers.fragility import fragility  # it trains; a list does not need it
    from evonas.search_space.latex import latex

    record, evaluation, graph = run.candidate(birth), run.evaluation(birth), run.graph(birth)
    fields = candidate_json(record) | {"latex": latex(graph), "fragility": fragility(graph)}
    fields["validations"] = [columns(each) for each in run.validations(birth)]
    if evaluation is not None:
        fields["measurements"] = [columns(each) for each in evaluation.measurements]
        fields["points"] = [columns(each) for each in evaluation.points]
        fields |= {"memory_mb": evaluation.memory_mb, "conditions": evaluation.conditions}
        fields["attempts"] = evaluation.attempts
        if isinstance(evaluation.outcome, Fitness):
            fields |= {"step_seconds": evaluation.outcome.step_seconds, "saved_mb": evaluation.outcome.saved_mb}
    return fields


def columns_of(proxies: Collection[str], own: Collection[str] = ()) -> list[str]:
    """The names of a flat row, in order."""
    accuracies = [f"{kind}_{proxy}" for proxy in proxies for kind in ("accuracy", "spread")]
    first = ["run", "birth", "seq", "state", "fresh", *_FIGURES, *accuracies, "advantage"]
    return [*first, *own, *_ORIGIN, *_PROPERTIES]


def to_frame(records: Iterable[Record], proxies: Collection[str]) -> "pandas.DataFrame":
    """Flat rows as a data frame. Raises InputError where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise InputError("to_frame needs pandas: pip install 'evonas[pandas]'") from None
    records = list(records)
    own = own_objectives(records)
    rows, names = [flat(each, proxies, own) for each in records], columns_of(proxies, own)
    return pandas.DataFrame.from_records(rows, columns=names)


_LEFT_OUT = ("run", "seq", "paired", "failed", "advantage", "second_parent", "equal_to", "seconds", "family", "graph")


def _shown(row: Row) -> Row:
    """The columns by which a person compares layers."""
    return {name: value for name, value in row.items() if name not in _LEFT_OUT}
