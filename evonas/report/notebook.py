"""A layer in a notebook: its figures, its formula in LaTeX, its picture."""

from base64 import b64encode
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
