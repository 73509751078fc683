"""Candidates that wait for their outcome."""

from dataclasses import dataclass

from evonas.workers.protocol import Threshold


@dataclass(frozen=True, slots=True)
class Pending:
    """A candidate without an outcome."""

    graph: str
    fingerprint: str
    equal_to: int | None
    live_nodes: int
    seed: int
    thresholds: tuple[Threshold, ...]  # of ranked gates, by the outcomes before it
    has_parent: bool
    family: str
    again: bool = False  # a leader with a further seed
    parent_fitness: float | None = None
    predicted: float | None = None  # of a candidate that the surrogate did not choose
