"""A run that a test drives by hand, and the table of a search as text."""

import io
import re
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from evonas.cli.search_table import SearchTable
from evonas.overview import Overview
from evonas.run import Run
from evonas.store.writer import Writer
from evonas.workers.outcome import Evaluation, Fitness
from tests.evonas.cli.cases import LONG
from tests.evonas.store_cases import FIT, candidate, record


@dataclass
class Driven:
    """A run that this process drives by hand: BN-ReLU is 0.25 on each proxy, FIT's layer 0.375 in the mean."""

    run: Run
    store: Writer

    def trained(self, birth: int, seq: int, evaluation: Evaluation = FIT, text: str = LONG) -> None:
        self.store.propose(candidate(birth, text))
        advantage = (
            evaluation.outcome.mean_score("accuracy") - 0.25 if isinstance(evaluation.outcome, Fitness) else None
        )
        record(self.store, birth, evaluation, seq, advantage)


def table(view: Overview, width: int, encoding: str = "utf-8", **options: Any) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, **{"color_system": None, "legacy_windows": False} | options)
    console.print(SearchTable(view))
    file.seek(0)
    return file.read().splitlines()


def row(lines: list[str], label: str) -> str:
    (line,) = [line for line in lines[2:] if re.search(rf"(^|  ){label}( |$)", line)]
    return " ".join(line[line.index(label) :].split())
