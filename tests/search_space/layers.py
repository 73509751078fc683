"""Layers of a formula, as the tests build them."""

from typing import Any

import torch

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct


def layer_of(
    text: str, channels: int = 8, *, groups: int = 4, dtype: torch.dtype = torch.float64, **options: Any
) -> NormAct:
    """A layer by a name of the catalog or a text."""
    graph = LAYERS[text].graph if text in LAYERS else Graph.parse(text)
    return NormAct(graph, channels, groups=groups, dtype=dtype, **options)
