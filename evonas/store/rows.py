"""Evaluations and events as rows of their tables."""

import platform
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Table

from evonas.store import tables
from evonas.store.records import Event, Purpose, columns, verdict_of
from evonas.workers.outcome import Crash, Evaluation, Fitness, Rejection

_HOST = platform.node()


def rows_of(
    run: int,
    number: int,
    epoch: int,
    evaluation: Evaluation,
    *,
    layer: str,
    purpose: Purpose,
    seed: int,
    birth: int | None = None,
    name: str | None = None,
    seq: int | None = None,
    advantage: float | None = None,
) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """An evaluation as rows of its tables."""
    outcome = evaluation.outcome
    row: dict[str, Any] = {
        **dict.fromkeys(("gate", "proxy", "value", "threshold", "step", "message")),
        "run": run,
        "id": number,
        "layer": layer,
        "birth": birth,
        "name": name,
        "purpose": purpose,
        "seed": seed,
        "attempts": evaluation.attempts,
        "epoch": epoch,
        "seq": seq,
        "advantage": advantage,
        "verdict": verdict_of(outcome),
        "host": evaluation.host or _HOST,
        "conditions": evaluation.conditions,
        "seconds": evaluation.seconds,
        "memory_mb": evaluation.memory_mb,
        "at": time.time(),
    }
    key = {"run": run, "evaluation": number}
    scores: list[dict[str, Any]] = []
    match outcome:
        case Fitness():
            by_objective = columns(outcome)
            own = [("", name, value) for name, value in by_objective.pop("own").items()]
            of_proxies = [(proxy, name, value) for name, each in by_objective.items() for proxy, value in each.items()]
            scores = [
                {**key, "proxy": proxy, "objective": name, "value": value} for proxy, name, value in of_proxies + own
            ]
        case Rejection():
            row |= columns(outcome)
        case Crash():
            row |= {"gate": outcome.kind, "message": outcome.message}
    yield tables.evaluation, [row]
    yield tables.score, scores
    yield tables.point, [{**key, **columns(each)} for each in evaluation.points]
    yield tables.measurement, [{**key, "position": i, **columns(m)} for i, m in enumerate(evaluation.measurements)]


def event_row(run: int, epoch: int, at: float, kind: Event, message: str) -> dict[str, Any]:
    return {"run": run, "epoch": epoch, "at": at, "kind": kind, "message": message}
