"""The catalog as a page of Markdown: `python -m evonas.search_space.catalog.page > docs/catalog.md`."""

from textwrap import fill

from evonas.search_space.catalog import KnownLayer, catalog

_ABOUT = (
    "Made by `python -m evonas.search_space.catalog.page > docs/catalog.md`. The number is that of the paper in the "
    "survey that the catalog was made from; baselines beside it have none. A *graph* is in evonas' language, and after "
    "it comes the affine `weight * graph + bias`; a *module* is in `evonas.search_space.catalog.modules`; what is "
    "*listed* is no drop-in layer, for the reason given. *Verified*: official or named third-party code was read; "
    "*remembered*: a summary, or memory. `evonas catalog show NAME` tells the rest."
)
_DEPENDS = {True: "yes", False: "no", None: ""}


def page() -> str:
    """Every row, by the number that its paper has in the survey; docs/catalog.md is this."""
    rows = sorted(catalog.values(), key=lambda row: row.row or 0)
    lines = [
        "# The known layers",
        "",
        fill(_ABOUT, 100),
        "",
        "| | name | paper | year | kind | formula | batch | source |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_line, rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: KnownLayer) -> str:
    formula = "<br>".join(f"`{line}`" for line in row.text.splitlines())
    told = f"{formula}<br>{row.reason}" if row.reason else formula
    cells = [str(row.row or ""), row.name, row.paper, str(row.year), row.kind, told, _DEPENDS[row.batch_dependent]]
    return " | ".join(["", *(cell.replace("|", r"\|") for cell in cells), row.label, ""]).strip()


if __name__ == "__main__":
    print(page(), end="")
