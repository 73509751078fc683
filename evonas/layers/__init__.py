"""A layer leaves: as a module of this process, or as source that needs torch alone."""

import re
from typing import Any

from search_space.catalog import catalog
from search_space.errors import InputError, did_you_mean
from search_space.graph import Graph
from search_space.lowering import NormAct


def layer(layer: Graph | str, num_features: int, **options: Any) -> NormAct:
    """The layer of a graph, a graph's text, or a name of the catalog, as an `nn.Module`.

    `options`: `channel_dim` (1, or -1 for (N, ..., C)), `groups` of ghw (32, lowered until it divides `num_features`),
    `momentum` (0.1) and `eps` (1e-5). Raises InputError (a ValueError) for a malformed text.

    >>> layer("x * sigmoid(v1 * x) / std_ghw(x)", 64, groups=8)
    >>> layer("EvoNorm-B0", 64)
    """
    if isinstance(layer, str):
        layer = catalog[layer].graph if layer in catalog else _parse(layer)
    return NormAct(layer, num_features, **options)


def _parse(text: str) -> Graph:
    try:
        return Graph.parse(text)
    except InputError as error:
        if re.fullmatch(r"[\w.+-]+", text):  # looks like a name
            hint = did_you_mean(text, catalog)
            raise InputError(f"'{text}' is neither a known layer nor a graph ({error}){hint}") from None
        raise
