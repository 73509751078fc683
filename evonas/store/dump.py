"""A run as plain values, one row after the other: equal logical dumps are the same run."""

import math
from collections.abc import Iterator
from typing import Any

from evonas.store.reader import Reader
from evonas.store.records import Purpose, Trained, columns, verdict_of
from evonas.store.trainings import OF_MACHINE
from evonas.units import Unit, Units
from evonas.workers.outcome import Crash, Fitness, Rejection

LOGICAL = (
    *("birth", "graph", "formula", "digest", "fingerprint", "family", "parent", "operator", "equal_to", "seen"),
    *("batch_dependent", "live_nodes", "state", "seq", "advantage"),
)


def dump(reader: Reader, logical_only: bool = True) -> Iterator[dict[str, Any]]:
    """All records. The logical ones are without times, hosts, memory, epochs and events. Values are those that are
    recorded: of a proxy that reads text the fitness."""
    units = reader.config.units
    reader.check_evaluations()
    versions = {} if logical_only else {"versions": reader.versions}
    yield {"run": reader.config.name, "config": reader.config.model_dump(mode="json")} | versions
    for record, trained in reader.searched():
        row = {name: getattr(record, name) for name in LOGICAL}
        yield {**row, **({} if trained is None else _evaluation(trained, logical_only, units))}
    for purpose in (Purpose.BASELINE, Purpose.AUDIT, Purpose.RERANK, Purpose.VALIDATE):
        rows = [
            {"purpose": purpose, "birth": t.birth, "name": t.name, "formula": t.formula, "seed": t.seed}
            | _evaluation(t, logical_only, units)
            for t in reader.evaluations(purpose)
        ]
        yield from sorted(rows, key=lambda row: (row["birth"] or 0, row["name"] or "", row["seed"]))
    trainings = sorted(reader.trainings(), key=lambda each: (each.purpose, each.layer, each.setting, each.seed))
    for training in trainings:
        fields = columns(training)
        if training.unit is Unit.BITS:
            fields[Unit.FITNESS.name_in_data] = fields.pop("accuracy")
        yield {name: value for name, value in fields.items() if not (logical_only and name in OF_MACHINE)}
    if not logical_only:
        for each in reader.events():
            yield {"event": each.kind, "message": each.message, "epoch": each.epoch, "at": each.at}


def _evaluation(trained: Trained, logical_only: bool, units: Units) -> dict[str, Any]:
    """An evaluation: outcome, curves, measurements, and, unless only the logical part is asked for, what depends on the
    machine and its speed."""
    evaluation, outcome = trained.evaluation, trained.evaluation.outcome
    row: dict[str, Any] = {"verdict": verdict_of(outcome)}
    match outcome:
        case Fitness(accuracy, step_seconds, saved_mb, loss, own):
            row |= (
                units.named(accuracy, in_bits=Unit.FITNESS) | {"saved_mb": saved_mb} | ({"loss": loss} if loss else {})
            )
            row |= {"own_objectives": own} if own else {}
            row |= {} if logical_only else {"step_seconds": step_seconds}
        case Rejection(gate, proxy, value, threshold, step):
            row |= {"gate": gate, "proxy": proxy, "value": value, "threshold": threshold, "step": step}
        case Crash(kind, message):
            row |= {"gate": kind} | ({} if logical_only else {"message": message})
    points = sorted(evaluation.points, key=lambda p: (p.repeat, p.proxy, p.step))
    row["points"] = [[p.proxy, p.step, p.accuracy, p.loss, p.repeat] for p in points]
    row["measurements"] = [columns(each) for each in evaluation.measurements]
    for measured in row["measurements"] if logical_only else ():
        del measured["seconds"]
    if not logical_only:
        row |= {"seconds": evaluation.seconds, "memory_mb": evaluation.memory_mb, "host": evaluation.host}
        row |= {"conditions": evaluation.conditions, "attempts": evaluation.attempts}
        row |= {"epoch": trained.epoch, "at": trained.at}
    return row


def jsonable(value: Any) -> Any:
    """JSON has no infinity: it is written as the text "inf"."""
    if isinstance(value, dict):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
