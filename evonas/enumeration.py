"""The births that go through all single edits of some layers, each once, before evolution goes on."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from evonas.config import Config
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.graph import Graph
from evonas.search_space.neighbourhood import neighbours
from evonas.search_space.screening import Screening
from evonas.space_config import SpaceConfig


@dataclass(frozen=True, slots=True)
class Edited:
    """A single edit of a layer; `parent` is the layer's birth, if it is one of the warm start."""

    operator: str
    graph: Graph
    parent: int | None


def enumerated(config: Config) -> tuple[Edited, ...]:
    """All single edits of the layers `evolution.neighbours_of` that the space allows, in the order of their births,
    which follow those of the warm start. Graphs of one canonical form are one birth. Those of one function are several,
    of which the later inherit their outcome: no birth depends on what a machine measured."""
    evolution = config.evolution
    return _enumerated(evolution.neighbours_of, evolution.warm_start, config.space, config.seed)


@lru_cache(maxsize=4)
def _enumerated(
    layers: tuple[str, ...], warm_start: tuple[str, ...], space: SpaceConfig, seed: int
) -> tuple[Edited, ...]:
    births: dict[str, int] = {}
    for birth, name in enumerate(warm_start, start=1):
        births.setdefault(named_graph(name).graph.digest, birth)
    edits: dict[str, Edited] = {}
    for name in layers:
        layer = named_graph(name).graph
        for digest, each in neighbours(layer, space.unconstrained).items():
            if digest not in births and digest not in edits and space.allows(Screening(each.graph)):
                edits[digest] = Edited(each.operator, each.graph, births.get(layer.digest))
    order = list(edits.values())
    Random(f"{seed} neighbours").shuffle(order)
    return tuple(order)
