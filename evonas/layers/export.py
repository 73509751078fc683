"""Write a layer that is a graph as a Python file."""

from pathlib import Path
from typing import TYPE_CHECKING

from evonas.files import write
from evonas.layers.resolve import candidate_reference, resolve
from evonas.layers.source import layer_source
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph

if TYPE_CHECKING:
    from evonas.store.records import Record


def export(layer: "Graph | str | Record", path: str | Path) -> None:
    """Write a layer as a file that imports torch alone and defines `EvolvedLayer(num_features)`.

    Args:
        layer: a graph, its text, a name of the catalog, a record of a run, or RUN#BIRTH. For the last two the file
            states the candidate's figures, and its default `groups` is the one that the candidate was judged with;
            otherwise it is 32.
        path: the file.

    Raises InputError if `layer` is no graph, or if the file cannot be written.
    """
    write(path, source_of(layer))


def source_of(layer: "Graph | str | Record") -> str:
    """The file that `export` writes."""
    if not isinstance(layer, Graph | str):
        layer = _reference(layer)
    reference = candidate_reference(layer) if isinstance(layer, str) else None
    if reference is not None:
        from evonas.run import open_run  # slow to import; names and texts do not need it

        run, birth = reference
        return open_run(run).source(birth)
    named = resolve(layer) if isinstance(layer, str) else NamedGraph.of_text(layer)
    title, about = "A normalization-activation layer.", ""
    if named.is_known:
        row = LAYERS[named.name]
        title, about = f"{row.name}.", f"{row.paper}, {row.year}; {row.label}: {row.source}."
    return layer_source(named.graph, title=title, about=about)


def _reference(record: object) -> str:
    from evonas.store.records import Record

    if not isinstance(record, Record):
        raise InputError(f"expected a graph, a text, a name of the catalog, a record or RUN#BIRTH, got {record!r:.80}")
    return f"{record.run}#{record.birth}"
