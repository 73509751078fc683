r"""A table of layers for a paper: LaTeX with amsmath and booktabs."""

from collections.abc import Sequence
from itertools import groupby
from textwrap import wrap

from evonas.config import BASELINE
from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.latex import GREEK, latex
from evonas.search_space.wording import pairs
from evonas.units import Unit, Units
from evonas.views import LayerRow

_SPECIAL = {
    **{each: rf"\{each}" for each in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",  # these three are other signs in LaTeX's default encoding
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a line an option of it
    "*": "{*}",
    **{letter: f"${command}$" for letter, command in GREEK.items()},
}

WIDTH = 111  # of a comment


def latex_table(rows: Sequence[LayerRow], proxies: Sequence[str]) -> str:
    """One layer a line, with its formula; a rule between the kinds of rows, each of which has a BN-ReLU of its own."""
    several_runs, some_known = any(row.run for row in rows), any(row.known_as for row in rows)
    than = escaped(rows[0].baseline if rows else BASELINE)
    titles = [*["Run"] * several_runs, "Birth", *map(escaped, proxies), rf"$\Delta$ {than}", "Seeds"]
    titles += [*["Known as"] * some_known, "Layer"]
    columns = "l" * several_runs + "r" + "c" * len(proxies) + "rr" + "l" * some_known + "l"
    lines = [
        r"% \usepackage{amsmath, booktabs}",
        *_about(rows),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(titles),
    ]
    kinds = len({row.kind for row in rows})
    for _, group in groupby(rows, key=lambda row: row.kind):
        some = list(group)
        lines.append(r"\midrule")
        if kinds > 1:
            lines.append(_line([rf"\multicolumn{{{len(titles)}}}{{l}}{{\emph{{{some[0].kind_text}}}}}"]))
        for row in some:
            cells = [escaped(row.run)] * several_runs + [str(row.birth or "")]
            cells += [_accuracy(row.figure(proxy)) for proxy in proxies]
            cells += [_difference(row), pairs(row.paired, row.seeds) if row.seeds else ""]
            cells += [*[escaped(row.known_as)] * some_known, _layer(row)]
            lines.append(_line(cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _about(rows: Sequence[LayerRow]) -> list[str]:
    """A comment on the figures."""
    trained = [row for row in rows if row.accuracy]
    figures = f"Validation {Units.union(row.units for row in trained).text}, mean and standard deviation over seeds"
    differences = "; or in ".join(dict.fromkeys(row.unit.explained for row in trained)) or Unit.ACCURACY.explained
    text = f"{figures}; difference in {differences} with the same seeds, mean over proxies. One seed has no deviation."
    return wrap(text, WIDTH, initial_indent="% ", subsequent_indent="% ")


def escaped(text: str) -> str:
    """A text as LaTeX prints it, character by character."""
    return "".join(_SPECIAL.get(each, each) for each in text)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _accuracy(figure: str) -> str:
    return "--" if figure == "-" else f"${figure.replace('±', chr(92) + 'pm ')}$"


def _difference(row: LayerRow) -> str:
    if row.difference is None:
        return f"failed {row.failed}/{row.seeds}" if row.failed else "--"
    return f"${row.unit.with_deviation(row.difference, row.difference_spread, chr(92) + 'pm ')}$"


def _layer(row: LayerRow) -> str:
    """The formula; of a layer of the catalog its name."""
    if row.birth is None and row.what in LAYERS:
        return escaped(row.what)
    formula = " ".join(latex(Graph.parse(row.what)).splitlines())
    return "$" + formula.replace(r"\begin{aligned}", r"\begin{aligned}[t]") + "$"
