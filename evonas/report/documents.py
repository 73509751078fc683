"""Pages of Markdown from the tables of primitives, known layers and gates.

python -m evonas.report.documents primitives > docs/primitives.md
python -m evonas.report.documents catalog > docs/catalog.md
python -m evonas.report.documents gates > docs/gates.md
"""

import sys
from inspect import getdoc
from textwrap import fill

from pydantic.fields import FieldInfo

from evonas.search_space.catalog import LAYERS, KnownLayer, ListedLayer
from evonas.search_space.primitives import PRIMITIVES, Primitive
from evonas.workers.gates import GATES, needs
from evonas.workers.gates.base import Gate

_PRIMITIVES = (
    r"Made by `python -m evonas.report.documents primitives > docs/primitives.md`. An aggregation reduces over the "
    r"batch (`bhw`), all of one example (`chw`), the positions of one channel (`hw`) or of a group of channels "
    r"(`ghw`), or the channels of one position (`c`): $\mu_I$ is the mean, $r_I(a) = \sqrt{\mu_I(a^2) + \varepsilon}$, "
    r"and $s_I(a) = \sqrt{\mu_I((a - \mu_I(a))^2) + \varepsilon}$. $\varepsilon$ is 1e-5; that of $r$ and $s$ is the "
    r"layer's option `eps`. Where its inputs are equal, `max` gives half of its gradient to each, so that the slope of "
    r"`max(x, zero)` at 0 is 0.5, which is 0 in `torch.relu`."
)
_CATALOG = (
    "Made by `python -m evonas.report.documents catalog > docs/catalog.md`. The number is that of the paper in the "
    "survey that the catalog was made from; baselines beside it have none. A *graph* is in evonas' language, and after "
    "it comes the affine `weight * graph + bias`; a *module* is in `evonas.search_space.catalog.modules`; what is "
    "*listed* is no drop-in layer, for the reason given. *Verified*: official or named third-party code was read; "
    "*remembered*: a summary, or memory. `evonas catalog show NAME` tells the rest."
)
_GATES = (
    "Made by `python -m evonas.report.documents gates > docs/gates.md`. A config lists its gates by name, those with "
    "options as a mapping; see `configs/quickstart.yaml`. They are asked in that order, and the first that a candidate "
    "fails stops it. Neighbours that share their work (`signal` and `gradient`, or several of one kind) are asked "
    "proxy by proxy. A gate that needs the *layer* alone takes milliseconds; the driver asks it before any worker, so "
    "it comes before the others. One that needs a *network* makes some passes over a batch of training images with "
    "each proxy at its initial weights. One that needs the *training* looks at the candidate's own after so many "
    "steps, and these steps never fall."
)
_DEPENDS = {True: "yes", False: "no", None: ""}


def primitives_page() -> str:
    """The table of primitives: docs/primitives.md."""
    return _page(
        "The primitives",
        _PRIMITIVES,
        ("name", "written", "formula", "source"),
        [_primitive(row) for row in PRIMITIVES.values()],
    )


def catalog_page() -> str:
    """The known layers, by the number of their paper in the survey: docs/catalog.md."""
    rows = sorted(LAYERS.values(), key=lambda row: row.survey_number or 0)
    titles = ("", "name", "paper", "year", "kind", "formula", "batch", "source")
    return _page("The known layers", _CATALOG, titles, [_known_layer(row) for row in rows])


def gates_page() -> str:
    """The table of gates with their options: docs/gates.md."""
    columns = ("gate", "needs", "a candidate passes if", "options")
    return _page("The gates", _GATES, columns, [_gate(name, kind) for name, kind in GATES.items()])


def _page(title: str, about: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return f"# {title}\n\n{fill(about, 100)}\n\n{_table(columns, rows)}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = _line(columns), _line(("---",) * len(columns)), *map(_line, rows)
    return "".join(f"{line}\n" for line in lines)


def _line(cells: tuple[str, ...]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _primitive(row: Primitive) -> tuple[str, ...]:
    arguments = ("a", "b")[: row.arity]
    written = f"{row.name}({', '.join(arguments)})"
    if row.operator:
        written = f" {row.operator} ".join(arguments) if row.arity == 2 else f"{row.operator}a"
    formula = row.latex.format(arguments[0], row.reduces or arguments[-1])
    formula = formula.replace(r"\left|", r"\left\vert ").replace(r"\right|", r"\right\vert")  # | ends a cell
    return f"`{row.name}`", f"`{written}`", f"${formula}$", row.cite


def _known_layer(row: KnownLayer) -> tuple[str, ...]:
    formula = "<br>".join(f"`{line}`" for line in row.text.splitlines())
    if isinstance(row, ListedLayer):
        formula += f"<br>{row.reason}"
    number, batch = str(row.survey_number or ""), _DEPENDS[row.batch_dependent]
    cells = (number, row.name, row.paper, str(row.year), row.kind, formula, batch, row.label)
    return tuple(cell.replace("|", r"\|") for cell in cells)


def _gate(name: str, kind: type[Gate]) -> tuple[str, ...]:
    options = [_option(each, field) for each, field in kind.model_fields.items() if each != "gate"]
    return f"`{name}`", needs(kind), _passes_if(kind), "<br>".join(options)


def _passes_if(kind: type[Gate]) -> str:
    return " ".join((getdoc(kind) or "").split())


def _option(name: str, field: FieldInfo) -> str:
    default = (
        "null"
        if field.default is None
        else f"{field.default:g}"
        if isinstance(field.default, float)
        else str(field.default)
    )
    written = f"`{name}`" if field.is_required() else f"`{name}: {default}`"
    return f"{written} {field.description}" if field.description else written


if __name__ == "__main__":
    pages = {"primitives": primitives_page, "catalog": catalog_page, "gates": gates_page}
    print(pages[sys.argv[1]](), end="")
