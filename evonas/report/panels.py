"""The panel of a layer: picture, typeset formula, figures, curves, and what it changed of its parent."""

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

from evonas.config import Config
from evonas.known_layers import known_as
from evonas.listing import figures_json, measured_json
from evonas.ranking import gain_read
from evonas.report.picture import svg
from evonas.report.survey import columns_of
from evonas.report.texts import one_line
from evonas.run import Run
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex
from evonas.store.dump import jsonable
from evonas.store.records import Record
from evonas.studies.operators import names
from evonas.units import Units
from evonas.workers.outcome import Evaluation, Point

LEADERS = 10
PANELS_MAX = 80  # a picture takes a tenth of a second
_TOKEN = re.compile(r"\w+|[^\w\s]|\s+")


def panels(run: Run) -> dict[str, Any]:
    """Panels of the final table, the leaders and the Pareto front, and of their ancestors so far as PANELS_MAX goes;
    and all their ancestors."""
    retrained = [row.birth for row in run.final_table() if row.birth]
    births = [*retrained, *(each.birth for each in run.top(LEADERS)), *(each.birth for each in run.front(PANELS_MAX))]
    chosen = dict.fromkeys(births[:PANELS_MAX])
    records: dict[int, Record] = {}
    for birth in chosen:
        if birth not in records:
            records |= {each.birth: each for each in run.lineage(birth)}
    shown = list(dict.fromkeys([*chosen, *records]))[:PANELS_MAX]
    evaluations = run.evaluations(shown)
    return {
        "panels": [_panel(records[birth], evaluations.get(birth), run.config.units) for birth in shown],
        "ancestors": _ancestors(records, run.config),
    }


def panel(run: Run, birth: int) -> dict[str, Any]:
    """The panel of one candidate, with its columns and its ancestors. Raises NotThere if there is no such birth."""
    line = {each.birth: each for each in run.lineage(birth)}
    columns_of_it = columns_of(run.reader, [birth]).as_json()
    mine = _panel(line[birth], run.evaluations([birth]).get(birth), run.config.units)
    plain: dict[str, Any] = jsonable(mine | {"ancestors": _ancestors(line, run.config), "candidates": columns_of_it})
    return plain


def _ancestors(records: Mapping[int, Record], config: Config) -> dict[int, dict[str, Any]]:
    """Whole lines of candidates, each with its edit, its advantage as in `Candidates`, and what its parent's formula
    lacks."""
    found = {}
    for birth, each in records.items():
        parent, formula = records.get(each.parent or 0), one_line(each.formula)
        found[birth] = {
            "parent": each.parent,
            "second_parent": each.second_parent,
            "operator": "+".join(names(each.operator)),
            "advantage": gain_read(each, config),
            "changes": [(formula, False)] if parent is None else changes(one_line(parent.formula), formula),
        }
    return found


def _panel(record: Record, evaluation: Evaluation | None, units: Units) -> dict[str, Any]:
    graph, figures = Graph.parse(record.graph), record.figures
    text = latex(graph)
    return {
        "birth": record.birth,
        "known_as": known_as(record.same_as, record.affine_of),
        "latex": text,
        "mathml": mathml(text),
        "picture": svg(graph).decode(),
        "figures": None if figures is None else figures_json(figures) | {"is_fresh": record.retrained is not None},
        "amplification": record.amplification,
        "own_objectives": record.own_objectives,
        "points": [_point(each, units) for each in evaluation.points] if evaluation else [],
        "measured": [measured_json(each, units) for each in evaluation.measurements] if evaluation else [],
    }


def _point(p: Point, units: Units) -> list[Any]:
    return [p.proxy, p.repeat, p.step, units.of(p.proxy).read(p.accuracy), p.loss]


def mathml(text: str) -> str:
    """A formula in LaTeX as MathML, which browsers typeset; a formula for each line of an `aligned` block."""
    from latex2mathml.converter import convert  # of the extra `web`

    lines = re.sub(r"\\(begin|end){aligned}", "", text).replace("&", "").split("\\\\\n")
    return "".join(convert(line.strip(), display="block") for line in lines)


def changes(parent: str, child: str) -> list[tuple[str, bool]]:
    """The child's formula in parts, each with whether its parent's lacks it."""
    before, after = _TOKEN.findall(parent), _TOKEN.findall(child)
    parts: list[tuple[str, bool]] = []
    for kind, _, _, start, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if start < end:
            parts.append(("".join(after[start:end]), kind != "equal"))
    return parts
