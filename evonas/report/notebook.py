"""A layer in a notebook: its figures, its formula in LaTeX, its picture; and a table."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from evonas.report.picture import svg
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex


def layer_html(title: str, graph: str) -> str:
    """HTML with a title, and the formula and picture of a graph given as text. The picture is embedded as an image,
    so that several on a page share no names."""
    parsed = Graph.parse(graph)
    picture = b64encode(svg(parsed)).decode()
    return (
        f"<div><p>{escape(title)}</p><p>${escape(latex(parsed))}$</p>"
        f'<img alt="{escape(parsed.formula)}" src="data:image/svg+xml;base64,{picture}"></div>'
    )


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
