"""Layers by a name of the catalog, a text, or RUN#BIRTH."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from evonas.search_space.catalog.named import NamedGraph, named_graph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.primitives import BUILT_IN

if TYPE_CHECKING:
    from evonas.config import Config
    from evonas.store.records import Record

_CANDIDATE = re.compile(r"(.*\S)#([0-9]{1,99})")  # `x  # 1` is a text with a comment


def resolve(text: str) -> NamedGraph:
    """The layer of a name, a text or RUN#BIRTH.

    Raises InputError with the nearest name, the column of the fault in the text, or the fault of the run.

    >>> resolve("EvoNorm-B0")
    >>> resolve("x / std_hw(x)")
    >>> resolve("results/quickstart-000#17")  # or URL#run#17
    """
    reference = candidate_reference(text)
    if reference is None:
        return _named(text)
    from evonas.run import open_run  # slow to import; names and texts do not need it

    run, birth = reference
    return NamedGraph.of_text(open_run(run).runnable(birth))


Layers: TypeAlias = "Graph | str | Record | Sequence[Graph | str | Record]"


def trainable(layers: Layers) -> list[NamedGraph]:
    """One or several layers that the proxies can train: graphs, texts, names, records, or RUN#BIRTH. Raises InputError
    for a layer of two inputs, and for what is no layer."""
    several = layers if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    return [named_layer(each).of_one_input() for each in several]


def named_layer(layer: object) -> NamedGraph:
    """The layer of a graph, a text, a name, a record of a run, or RUN#BIRTH. Raises InputError for anything else."""
    if isinstance(layer, str):
        return resolve(layer)
    if isinstance(layer, Graph):
        return NamedGraph.of_text(layer)
    from evonas.store.records import Record  # slow to import; graphs, names and texts do not need it

    if isinstance(layer, Record):
        graph = Graph.parse(layer.graph)
        if any(node.op not in BUILT_IN for node in graph.nodes):
            return resolve(f"{layer.run}#{layer.birth}")
        return NamedGraph.of_text(graph)
    raise InputError(f"expected a graph, a text, a name of the catalog, a record or RUN#BIRTH, got {layer!r:.80}")


def _named(text: str) -> NamedGraph:
    if re.fullmatch(r"\S+#\S*", text):  # no text writes a comment so
        raise InputError(f"{text[:200]}: expected RUN#BIRTH with the number of a birth after the #")
    try:
        return named_graph(text)
    except InputError:
        if "://" in text or os.path.exists(text):  # noqa: PTH110 (unlike Path.exists it takes any text)
            raise InputError(f"{text[:200]}: expected one of its candidates, as {text[:200]}#BIRTH") from None
        raise


def candidate_reference(text: str) -> tuple[str, int] | None:
    """Run and birth of RUN#BIRTH; None for a name or a text."""
    match = _CANDIDATE.fullmatch(text)
    return (match[1], int(match[2])) if match else None


def reference_of(layer: object) -> tuple[str, int] | None:
    """Run and birth of a record or of RUN#BIRTH; None for any other layer."""
    if isinstance(layer, str):
        return candidate_reference(layer)
    from evonas.store.records import Record  # slow to import; graphs, names and texts do not need it

    return (layer.run, layer.birth) if isinstance(layer, Record) and layer.run else None


def run_config(layer: object) -> "Config | None":
    """The config of the run of a record or of RUN#BIRTH; None for any other layer."""
    reference = reference_of(layer)
    if reference is None:
        return None
    from evonas.run import open_run  # slow to import; names and texts do not need it

    return open_run(reference[0]).config.loaded()
