"""Jobs, and what of an evaluation the job alone decides."""

from dataclasses import replace
from typing import Any

from evonas.workers.outcome import Evaluation
from evonas.workers.protocol import BaselinePoint, Job
from tests.workers.conftest import graph, protocol

QUALITY = {"gate": "quality", "steps": 3, "min_accuracy": 0.0}
STABILITY = {"gate": "stability", "steps": 2}
SCREENING = ({"gate": "depends_on_x"}, {"gate": "finite"})
SIGNAL = {"gate": "signal", "logits_std_min": 1e-9}


def job(text: str = "BN-ReLU", seed: int = 0, baseline: tuple[BaselinePoint, ...] = (), **changes: Any) -> Job:
    return Job(graph=str(graph(text)), protocol=protocol(**changes), seed=seed, baseline=baseline)


def decided(of: Evaluation) -> Evaluation:
    """Without what the machine adds: seconds, memory, host."""
    measurements = tuple(replace(each, seconds=0.0) for each in of.measurements)
    return Evaluation(of.outcome, measurements, of.points)
