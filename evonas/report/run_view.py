"""Runs as plain values for a page: what the report embeds, and the live page fetches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evonas
from evonas.comparison import compare
from evonas.config_file import dump_config
from evonas.final import FinalRow
from evonas.listing import figures_json
from evonas.report.panels import panels
from evonas.report.summary import begun, summary
from evonas.report.survey import Survey, sampled
from evonas.report.texts import one_line
from evonas.run import Run, open_run
from evonas.run_state import run_state
from evonas.search_space.errors import InputError
from evonas.store.choice import Choice
from evonas.store.dump import jsonable

DRAWN = 1500  # candidates of a run of which the live page draws a sample


def document(runs: Sequence[str | Path | Run] | str | Path | Run, choice: Choice | None = None) -> dict[str, Any]:
    """All that a page shows of one run, or of several. Raises InputError for a run that cannot be read.

    With a choice it is that of the live page: panels are not there, and of a run with more than DRAWN candidates it has
    a sample of those that are chosen.
    """
    several = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    if not several:
        raise InputError("runs: expected at least one")
    opened = [each if isinstance(each, Run) else open_run(each) for each in several]
    comparison = compare(opened) if len(opened) > 1 else None
    labels = comparison.runs if comparison else (opened[0].name,)
    views = [run_view(run, label, choice) for run, label in zip(opened, labels, strict=True)]
    compared = {"text": comparison.text, "lines": list(comparison.lines())} if comparison else None
    return {"evonas": evonas.__version__, "runs": views, "comparison": compared}


def run_view(run: Run, label: str, choice: Choice | None = None) -> dict[str, Any]:
    """One run under the name that tells it from the others on the page."""
    state, by_state, config = run_state(run.reader), run.reader.states(), run.config
    births = sum(by_state.values())
    if choice is not None and births > DRAWN:
        survey, noise = sampled(run.reader, choice, DRAWN), None
    else:
        survey, noise = run.survey(), run.seed_noise()
    values = {
        "label": label,
        "name": run.name,
        "state": state,
        "begun": begun(run.created),
        "summary": list(summary(run, state, by_state, survey)),
        "proxies": list(config.proxies),
        "judged_by": config.judged_by,
        "in_bits": list(config.in_bits),
        "unit": config.units.mean,
        "baseline": {"name": config.baseline, **config.units.named(run.baseline())},
        "noise": None if noise is None else {"deviation": noise[0], "layers": noise[1]},
        "population": config.evolution.population,
        "cores": config.workers.cpus,
        "gates": [gate.label for gate in config.gates],
        "index_sets": list(config.space.index_sets),
        "final": [_final(row) for row in run.final_table()],
        "funnel": [row.figures() for row in survey.funnel.rows],
        "operators": [row.figures() for row in survey.operators],
        "births": births,
        "weights": survey.weights,
        "chosen": survey.chosen,
        "candidates": survey.candidates.as_json(),
        "beside": survey.beside,
        **(panels(run) if choice is None else {"panels": [], "ancestors": {}}),
        "facts": _facts(run, survey),
        "config": dump_config(config),
    }
    plain: dict[str, Any] = jsonable(values)
    return plain


def _final(row: FinalRow) -> dict[str, Any]:
    left_out = ("parent", "second_parent", "operator", "affine_of", "paired")
    fields = figures_json(row).items()
    figures = {name: value for name, value in fields if name not in left_out and not name.startswith("by_seed")}
    return figures | {"formula": one_line(row.formula)}


def _facts(run: Run, survey: Survey) -> dict[str, str]:
    """The place, machine, versions and seed of a run."""
    return {
        "run": run.reference,
        "begun": begun(run.created),
        "seed": str(run.config.seed),
        "hosts": ", ".join(survey.hosts),
        "conditions": "; ".join(survey.conditions),
        **{name: str(version) for name, version in run.versions.items() if name != "folder"},
    }
