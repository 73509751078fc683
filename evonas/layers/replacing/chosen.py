"""The layer, or its norm or affine alone, that takes the place of a norm; and its options."""

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evonas.layers import layer
from evonas.layers.replacing.carrying import Make, options_of
from evonas.layers.replacing.places import Place
from evonas.layers.resolve import named_layer
from evonas.search_space.analysis import is_affine
from evonas.search_space.catalog import LAYERS, GraphLayer, ModuleLayer
from evonas.search_space.graph import Graph
from evonas.search_space.layer import Layer

Part = Literal["norm", "affine", "layer", "keep"]  # of a layer, for a norm without activation; the last is none


@dataclass(frozen=True, slots=True)
class Chosen:
    """A layer for the place of a norm, as `evonas.layer` takes it, or a class or function that makes one; its graph, if
    it has one.

    is_norm: whether it has no activation. That of a class or function is not known.
    """

    name: str
    kind: Any
    apply_act: bool
    graph: Graph | None
    is_norm: bool

    @classmethod
    def of(cls, kind: Any, part: Part) -> "Chosen":
        """A part of a layer: the whole layer, its norm, or its affine."""
        row = LAYERS[kind] if isinstance(kind, str) and kind in LAYERS else None
        if callable(kind):
            return cls(kind.__name__ if part == "layer" else "affine", kind, part == "layer", None, False)
        if isinstance(row, ModuleLayer):
            return cls(row.name, kind, True, None, True)
        named = named_layer(kind)
        norm = Graph.parse(row.norm) if isinstance(row, GraphLayer) and row.norm else None
        is_norm = is_affine(named.graph) if norm is None else norm.digest == named.graph.digest
        if part == "layer" or (part == "norm" and is_norm):
            return cls("; ".join(named.name.splitlines()), kind, True, named.graph, is_norm)
        if part == "norm" and norm is not None:
            return cls(f"{named.name} without activation", kind, False, norm, True)
        return cls("affine", named.graph, False, Graph.parse("x"), True)

    @property
    def is_no_norm(self) -> bool:
        """Whether it is an affine alone."""
        return not self.apply_act and (self.graph is None or self.graph.formula == "x")


def options_for(
    model: nn.Module, norm: nn.Module, place: Place, chosen: Chosen, options: dict[str, Any]
) -> dict[str, Any]:
    """The options of a new layer: those given, else the norm's own, as far as it has them; and where it stands."""
    row = LAYERS[chosen.kind] if isinstance(chosen.kind, str) and chosen.kind in LAYERS else None
    layer_class: Any = row.module_class if isinstance(row, ModuleLayer) else Layer
    accepted = signature(chosen.kind if callable(chosen.kind) else layer_class).parameters
    of_site = {name: value for name, value in options_of(norm).items() if name in accepted}
    value = next((each for module in (norm, model) for each in _values(module)), torch.empty(0))
    placed = {"channel_dim": place.channel_dim, "device": value.device, "dtype": value.dtype}
    return of_site | {name: each for name, each in options.items() if name in accepted} | placed


def _values(module: nn.Module) -> Iterator[Tensor]:
    return (each for each in (*module.parameters(), *module.buffers()) if each.is_floating_point())


def maker(chosen: Chosen, place: Place, options: dict[str, Any]) -> Make:
    """Makes the chosen layer of `None`, and the layer of another graph with the same options."""

    def make(graph: Graph | None, **others: Any) -> nn.Module:
        settings = options | others
        if graph is not None:
            return layer(graph, place.features, **settings)
        if callable(chosen.kind):
            made: nn.Module = chosen.kind(place.features, apply_act=chosen.apply_act, **settings)
            return made
        return layer(chosen.kind, place.features, apply_act=chosen.apply_act, **settings)

    return make
