"""Layers as JSON, CSV or LaTeX: the options, and the one place that writes them."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from evonas.store.records import Record
    from evonas.units import Units
    from evonas.views import LayerRow


def formats(command: Callable[..., None]) -> Callable[..., None]:
    """--json, --csv, --latex; the last one that is given counts."""
    for name, text in (
        ("latex", "Print a LaTeX table (booktabs, amsmath)."),
        ("csv", "Print CSV."),
        ("json", "Print JSON."),
    ):
        command = click.option(f"--{name}", "form", flag_value=name, default=None, help=text)(command)
    return command


def print_form(form: str, value: Any, records: "Sequence[Record]", rows: "Sequence[LayerRow]", units: "Units") -> None:
    """Print an answer.

    Args:
        form: json, csv or latex.
        value: the answer, for JSON.
        records: its layers, for CSV.
        rows: its layers as lines of a table, for LaTeX.
        units: of the columns, one for each proxy.
    """
    match form:
        case "json":
            print_json(value)
        case "csv":
            from evonas.listing import columns_of, flat, own_objectives

            own = own_objectives(records)
            writer = csv.DictWriter(sys.stdout, columns_of(units, own), lineterminator="\n")
            writer.writeheader()
            writer.writerows(flat(record, units, own) for record in records)
        case "latex":
            from evonas.report.latex_table import latex_table

            print(latex_table(rows, units.proxies))


def print_json(value: Any) -> None:
    from evonas.store.dump import jsonable

    print(json.dumps(jsonable(value), indent=2))
