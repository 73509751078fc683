"""The layers of the literature, `LAYERS` by name: baselines of every search, and first births where a config says so.

A row is a graph in the language, or a reference module (state and backward that no graph has), or a formula with the
reason why it is no drop-in layer.
"""

from collections.abc import Iterator, Mapping

from evonas.search_space.catalog.baselines import BASELINES
from evonas.search_space.catalog.graphs import GRAPHS
from evonas.search_space.catalog.layer import GraphLayer, KnownLayer, ListedLayer, ModuleLayer
from evonas.search_space.catalog.listed import LISTED
from evonas.search_space.catalog.references import REFERENCES
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.graph import Graph

__all__ = ["LAYERS", "Catalog", "GraphLayer", "KnownLayer", "ListedLayer", "ModuleLayer", "UnknownLayer"]


class UnknownLayer(InputError, KeyError):
    """A name that the catalog does not have."""

    __str__ = Exception.__str__


class Catalog(Mapping[str, KnownLayer]):
    """The known layers by name; an unknown name raises InputError with the nearest one."""

    def __init__(self, rows: tuple[KnownLayer, ...]) -> None:
        self._rows = {row.name: row for row in rows}
        if len(self._rows) != len(rows):
            raise ValueError("two known layers have one name")

    def __getitem__(self, name: str) -> KnownLayer:
        try:
            return self._rows[name]
        except KeyError:
            raise UnknownLayer(f"unknown layer '{name}'{did_you_mean(name, self._rows)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def graphs(self) -> dict[str, Graph]:
        """The rows that are graphs, by name. Those of two `inputs` are no layers of the proxies."""
        return {name: row.graph for name, row in self._rows.items() if isinstance(row, GraphLayer)}


LAYERS = Catalog((*BASELINES, *GRAPHS, *REFERENCES, *LISTED))
