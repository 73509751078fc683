"""The neighbourhood of a layer: its single edits, which a search can go through one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evonas.config import Config
from evonas.config_input import load_config
from evonas.layers.resolve import run_config, trainable
from evonas.search_space import neighbourhood
from evonas.search_space.catalog.known import known
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.graph import Graph
from evonas.search_space.neighbourhood import Neighbour
from evonas.search_space.screening import Screening
from evonas.search_space.space import Space


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The single edits of a layer.

    edits: those that are distinct, finite functions of x, by operator.
    forms: how many differ by their canonical form: the births that `evolution.neighbours_of` takes.
    """

    layer: NamedGraph
    edits: tuple[Neighbour, ...]
    forms: int

    def figures(self) -> dict[str, Any]:
        """The edits and their counts as plain values."""
        rows = []
        for each in self.edits:
            layer = known(Screening(each.graph).probed)
            row = {"operator": each.operator, "formula": each.graph.formula, "digest": each.graph.digest}
            rows.append({**row, "same_as": layer.same_as, "affine_of": layer.affine_of})
        return {"layer": self.layer.name, "forms": self.forms, "by_operator": self.by_operator, "edits": rows}

    @property
    def by_operator(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for each in self.edits:
            counts[each.operator] = counts.get(each.operator, 0) + 1
        return counts


def neighbours(layer: Graph | str, config: Config | Mapping[str, Any] | str | Path | None = None) -> Neighbourhood:
    """The single edits of a layer that are distinct, finite functions of x.

    Args:
        layer: a graph, a text, a name of the catalog, or RUN#BIRTH.
        config: the edits are those that its space allows. By default the space is the one of the run of RUN#BIRTH, or
            the paper's.

    Raises InputError for what is no layer or no config.
    """
    (named,) = trainable(layer)
    loaded = load_config(config) if config is not None else run_config(layer)
    found = neighbourhood.neighbours(named.graph, loaded.space.unconstrained if loaded else Space())
    allowed = [each for each in found.values() if loaded is None or loaded.space.allows(Screening(each.graph))]
    return Neighbourhood(named, tuple(neighbourhood.distinct(named.graph, allowed).values()), len(allowed))
