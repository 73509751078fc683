"""The panel of a layer: picture, typeset formula, figures, curves, and what it changed of its parent."""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from evonas.known_layers import known_as
from evonas.report.picture import svg
from evonas.report.texts import one_line
from evonas.run import Run
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex
from evonas.store.records import Record, columns
from evonas.workers.outcome import Evaluation

LEADERS = 10
PANELS_MAX = 80  # a picture takes a tenth of a second
_TOKEN = re.compile(r"\w+|[^\w\s]|\s+")


def panels(run: Run, parents: Sequence[int]) -> list[dict[str, Any]]:
    """Panels of the final table, the leaders, the Pareto front, and their ancestors, so far as PANELS_MAX goes.

    Args:
        parents: the parent of each birth in order; 0: none.
    """
    retrained = [row.birth for row in run.final_table() if row.birth]
    births = [*retrained, *(each.birth for each in run.top(LEADERS)), *(each.birth for each in run.front(PANELS_MAX))]
    chosen = list(dict.fromkeys(births))
    for birth in list(chosen):
        chosen += lineage(birth, parents)
    chosen = list(dict.fromkeys(chosen))[:PANELS_MAX]
    records, evaluations = run.candidates(chosen), run.evaluations(chosen)
    formulas = {each.birth: one_line(each.formula) for each in records}
    return [_panel(each, evaluations.get(each.birth), formulas) for each in records]


def lineage(birth: int, parents: Sequence[int]) -> list[int]:
    """A candidate and its ancestors, the youngest first."""
    line = [birth]
    while 0 < (parent := parents[line[-1] - 1]) < line[-1]:  # a damaged line must end, too
        line.append(parent)
    return line


def _panel(record: Record, evaluation: Evaluation | None, formulas: Mapping[int, str]) -> dict[str, Any]:
    graph, figures = Graph.parse(record.graph), record.figures
    text = latex(graph)
    parent = formulas.get(record.parent or 0)
    return {
        "birth": record.birth,
        "known_as": known_as(record.same_as, record.affine_of),
        "second_parent": record.second_parent,
        "latex": text,
        "mathml": mathml(text),
        "picture": svg(graph).decode(),
        "figures": None if figures is None else columns(figures) | {"is_fresh": record.retrained is not None},
        "amplification": record.amplification,
        "changes": None if parent is None else changes(parent, one_line(record.formula)),
        "points": [[p.proxy, p.repeat, p.step, p.accuracy, p.loss] for p in evaluation.points] if evaluation else [],
        "measured": [columns(each) for each in evaluation.measurements] if evaluation else [],
    }


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
