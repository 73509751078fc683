"""What a notebook shows of a layer: its figures, its formula in LaTeX, its picture."""

from base64 import b64encode
from html import escape

from evonas.report.picture import svg
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex


def layer_html(title: str, graph: str) -> str:
    """A title, the formula and the picture of a graph that is given as its text. The picture is an image of its own, so
    that several in one page share no names."""
    parsed = Graph.parse(graph)
    picture = b64encode(svg(parsed)).decode()
    return (
        f"<div><p>{escape(title)}</p><p>${escape(latex(parsed))}$</p>"
        f'<img alt="{escape(parsed.formula)}" src="data:image/svg+xml;base64,{picture}"></div>'
    )
