"""Write a layer that is a graph as a Python file."""

from pathlib import Path

from evonas.layers.resolve import candidate_reference, resolve
from evonas.layers.source import write_layer
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph


def export(layer: Graph | str, path: str | Path) -> None:
    """Write a layer as a file that imports torch alone and defines `EvolvedLayer(num_features)`.

    Args:
        layer: a graph, its text, a name of the catalog, or RUN#BIRTH, whose file states the candidate's figures.
        path: the file.

    Raises InputError if `layer` is no graph, or if the file cannot be written.
    """
    reference = candidate_reference(layer) if isinstance(layer, str) else None
    if reference is not None:
        from evonas.run import open_run  # slow to import; names and texts do not need it

        run, birth = reference
        open_run(run).export(birth, path)
        return
    named = resolve(layer) if isinstance(layer, str) else NamedGraph.of_text(layer)
    title, about = "A normalization-activation layer.", ""
    if named.is_known:
        row = LAYERS[named.name]
        title, about = f"{row.name}.", f"{row.paper}, {row.year}; {row.label}: {row.source}."
    try:
        write_layer(Path(path), named.graph, title=title, about=about)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
