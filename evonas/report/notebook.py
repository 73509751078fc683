"""A table in a notebook."""

from collections.abc import Mapping, Sequence
from html import escape


def table_html(rows: Sequence[Mapping[str, object]]) -> str:
    """HTML of a table whose rows have the same names."""
    titles = "".join(f"<th>{escape(name)}</th>" for name in next(iter(rows), ()))
    lines = ("".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) for row in rows)
    return f"<table><tr>{titles}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.4g}"
        case tuple():
            return " to ".join(map(_cell, value))
        case _:
            return str(value)
