"""Classes of exported files."""

from collections.abc import Callable
from typing import Any

from torch import nn

from evonas.layers.source import layer_source
from evonas.search_space.graph import Graph


def exported_class(graph: Graph, **options: Any) -> Callable[..., Any]:
    """The class of the file that `layer_source` writes."""
    namespace: dict[str, Any] = {}
    exec(layer_source(graph, **options), namespace)
    evolved: type[nn.Module] = namespace["EvolvedLayer"]
    return evolved
