"""A layer by its name in the catalog, or by its text: what configs and commands take."""

import re
from dataclasses import dataclass

from evonas.search_space.catalog import LAYERS, UnknownLayer
from evonas.search_space.errors import InputError, did_you_mean, short
from evonas.search_space.graph import Graph
from evonas.search_space.screening import changes_with_x


@dataclass(frozen=True, slots=True)
class NamedGraph:
    """A graph under the name that tables and the store give it: the catalog's, or its formula. `named_graph(name)` is
    the same graph again."""

    name: str
    graph: Graph

    @classmethod
    def of_text(cls, graph: Graph) -> "NamedGraph":
        return cls(graph.formula, graph)

    @property
    def is_known(self) -> bool:
        """Whether the name is one of the catalog."""
        return self.name in LAYERS

    def of_one_input(self) -> "NamedGraph":
        """Itself. Raises InputError for a graph of x and y, which no proxy can train."""
        if self.graph.takes_y:
            raise InputError(f"{self.name} takes two inputs, x and y; the proxies give a layer one")
        return self

    def of_use(self) -> "NamedGraph":
        """Itself. Raises InputError for a graph that would hide from a network what it is given."""
        if not changes_with_x(self.graph):
            name = short("; ".join(self.name.splitlines()))
            raise InputError(f"{name}: the output does not change with x, which makes any network useless")
        return self


def named_graph(text: str) -> NamedGraph:
    """The graph that a name of the catalog or a text stands for. Raises InputError with the nearest name, or with the
    column of the text."""
    if text in LAYERS:
        return NamedGraph(text, LAYERS[text].graph)
    try:
        return NamedGraph.of_text(Graph.parse(text))
    except InputError as error:
        if not re.fullmatch(r"[\w.+-]{1,100}", text):
            raise
        hint = did_you_mean(text, LAYERS)
        if hint.startswith("; did you mean"):
            raise UnknownLayer(f"unknown layer '{text}'{hint}") from None
        raise UnknownLayer(f"'{text}' is neither a known layer nor a graph ({error})") from None
