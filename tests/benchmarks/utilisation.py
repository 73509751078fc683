"""The share of the workers' time that a finished search spent inside evaluations.

    evonas search configs/quickstart.yaml --run RUN && python tests/benchmarks/utilisation.py RUN --workers 2

From the first candidate's evaluation to the last one's end: the seconds that workers measured of candidates and audits,
over the workers' time. The waiting for Ray, for the driver's proposals and its database is the rest.
"""

import argparse

from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Trained
from evonas.workers.gates import GATES
from evonas.workers.gates.base import LayerGate
from tests.benchmarks.machine import machine

GOAL = 0.95
SCREENED = {name for name, kind in GATES.items() if issubclass(kind, LayerGate)}


def seen_by_workers(reader: Reader) -> list[Trained]:
    """The candidates' evaluations that screening or an equal candidate did not answer."""
    inherited = {each.birth for each in reader.candidates() if each.equal_to is not None}
    return [
        each
        for each in reader.evaluations("search")
        if each.birth not in inherited and any(m.gate not in SCREENED for m in each.evaluation.measurements)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--workers", type=int, required=True)
    arguments = parser.parse_args()
    reader = Database.open(arguments.run).reader()
    seen = [*seen_by_workers(reader), *reader.evaluations("audit")]
    if not seen:
        parser.error(f"{arguments.run}: no candidate was evaluated yet")
    began = min(each.at - each.evaluation.seconds for each in seen)
    ended = max(each.at for each in seen)
    inside = sum(each.evaluation.seconds for each in seen)
    share = inside / (arguments.workers * (ended - began))
    print(machine())
    print(
        f"{len(seen)} evaluations, {inside:.0f} s inside them, {arguments.workers} workers for {ended - began:.0f} s: "
        f"{share:.1%} (goal: {GOAL:.0%})"
    )


if __name__ == "__main__":
    main()
