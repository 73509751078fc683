"""A graph: the genotype of a layer, as immutable data with a text and a canonical form."""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape

from evonas.search_space import canonical, language, latex, picture, printing
from evonas.search_space.structure import BASE_LEAVES, NODES_MAX, NUMBER_MAX, Leaf, Node, Structure
from evonas.search_space.wording import counted

__all__ = ["BASE_LEAVES", "LANGUAGE_VERSION", "NODES_MAX", "NUMBER_MAX", "Graph", "Leaf", "Node"]

LANGUAGE_VERSION = 2  # 2: the canonical form moves signs, and drops a neg, abs, max or 1 that does nothing


@dataclass(frozen=True)
class Graph(Structure):
    """A structure with a text (`str(g)`, `Graph.parse`), a canonical form and a digest. Pickles as its text."""

    @classmethod
    def parse(cls, text: str) -> "Graph":
        """Read a graph in evonas' language; raises InputError (a ValueError) that points at the column."""
        return language.parse(text, cls)

    def __str__(self) -> str:
        """The whole genotype, dead nodes included, one node a line: `Graph.parse(str(g)) == g`."""
        return printing.print_genotype(self)

    def __repr__(self) -> str:
        """The formula in one line, and how many nodes are dead."""
        dead = len(self.nodes) - self.live_nodes
        unused = f" ({counted(dead, 'dead node')})" if dead else ""
        return f"<Graph {'; '.join(self.formula.splitlines())}{unused}>"

    def _repr_latex_(self) -> str:
        """The formula, for a notebook."""
        return rf"$\displaystyle {latex.latex(self)}$"

    def _repr_html_(self) -> str:
        """The formula and the picture, for a notebook. The picture is an image, so that several on a page share no
        names."""
        drawn = b64encode(picture.svg(self)).decode() if picture.svg else ""
        image = f'<img alt="{escape(self.formula)}" src="data:image/svg+xml;base64,{drawn}">' if drawn else ""
        return f"<div><p>${escape(latex.latex(self))}$</p>{image}</div>"

    @cached_property
    def formula(self) -> str:
        """The live canonical expression: `Graph.parse(g.formula) == g.canonical()`."""
        return printing.print_formula(self.canonical())

    def __reduce__(self) -> tuple[Callable[[str], "Graph"], tuple[str]]:
        return Graph.parse, (str(self),)

    @cached_property
    def digest(self) -> str:
        """Key of the canonical text: graphs with equal digests train bit-identically."""
        return hashlib.sha256(f"{LANGUAGE_VERSION}\n{self.formula}".encode()).hexdigest()[:32]

    def canonical(self) -> "Graph":
        """The live part in one standard order (evonas.search_space.canonical).

        Equal subexpressions are merged, commutative inputs sorted, and rewrites made that floating point keeps exact.
        """
        return self._canonical

    @cached_property
    def _canonical(self) -> "Graph":
        return canonical.canonical(self)
