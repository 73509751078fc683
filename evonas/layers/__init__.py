"""Layers as modules of this process, and as source that needs torch alone."""

from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from torch import nn

from evonas.layers.resolve import named_layer
from evonas.search_space.catalog import LAYERS, GraphLayer, ModuleLayer
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.graph import Graph
from evonas.search_space.layer import Layer
from evonas.search_space.lowering import NormAct

if TYPE_CHECKING:
    from evonas.store.records import Record

_FOR_NETWORKS = "; the norm_layer= of timm and torchvision is evonas.norm_layer(...)"
_OF_NETWORKS = ("inplace", "act_kwargs")  # what timm passes to a layer for an activation of its own


def layer(
    layer: "Graph | str | Record", num_features: int | None = None, *, apply_act: bool = True, **options: Any
) -> Layer:
    """Make an `nn.Module` from a graph, a graph's text, a name of the catalog, a record of a run, or
    RUN#BIRTH, for inputs of `num_features` channels.

    `options`: `channel_dim` (1, or -1 for (N, ..., C)), `groups` of ghw (32, lowered until it divides `num_features`),
    `momentum` (0.1), `eps` (1e-5), `unbiased_running_var` (False), `synchronized` (False: batch statistics are those of
    this process), `upcast` (True: half precision is computed in float32 and rounded once), `device` and `dtype` (of
    parameters and buffers). A reference module of the catalog has its own options. `apply_act=False` leaves out the
    activation: a layer of the catalog with a norm keeps that norm, any other layer keeps only its affine.
    Raises InputError (a ValueError) for a malformed text, an unknown or impossible option, a row that is no layer, and
    a layer whose output does not change with x.

    >>> layer("x * sigmoid(v1 * x) / std_ghw(x)", 64, groups=8)
    >>> layer("EvoNorm-B0", 64)
    >>> layer("BN-SiLU", 64, apply_act=False)  # BN
    >>> layer("results/quickstart-000#17", 64)
    """
    if num_features is None:
        raise InputError(f"layer({layer!r:.80}): num_features is missing{_FOR_NETWORKS}")
    if isinstance(layer, str) and layer in LAYERS:
        row = LAYERS[layer]
        if isinstance(row, ModuleLayer):
            _expect_options(options, row.module_class)
            return _made(row.module_class, num_features, options)
        if isinstance(row, GraphLayer) and row.norm and not apply_act:
            layer, apply_act = Graph.parse(row.norm), True
    graph = named_layer(layer).of_use().graph
    _expect_options(options, Layer)
    return _made(partial(NormAct, graph), num_features, {"apply_act": apply_act, **options})


def _made(make: Callable[..., Layer], num_features: int, options: dict[str, Any]) -> Layer:
    """A layer. Its class raises ValueError, as its exported source does; a person gets an InputError."""
    try:
        return make(num_features, **options)
    except ValueError as error:
        raise InputError(str(error)) from None


def _expect_options(options: dict[str, Any], layer_class: type[Layer]) -> None:
    accepted = [each.name for each in signature(layer_class).parameters.values() if each.kind is Parameter.KEYWORD_ONLY]
    for name in options:
        if name not in accepted:
            hint = _FOR_NETWORKS if name in _OF_NETWORKS else did_you_mean(name, accepted)
            raise InputError(f"unknown option '{name}'{hint}")


def norm_layer(kind: "Graph | str | Record | Callable[..., nn.Module]", **options: Any) -> Callable[..., nn.Module]:
    """Make a `norm_layer=` for timm and torchvision: a function from a number of features to a layer.

    `kind` is anything that `layer` takes, the class of an exported file, or a function that makes a layer; `options`
    are the layer's. timm adds `apply_act`, `device` and `dtype`. Its `inplace` and `act_kwargs` are ignored: they
    concern a separate activation. This function is needed because timm drops the positional arguments of
    `functools.partial`, and many of its networks reject classes that they do not know.
    Raises InputError for a malformed text, an unknown option, a row that is no layer, and a layer of two inputs.

    >>> timm.create_model("resnetv2_50", norm_layer=norm_layer("EvoNorm-S0", groups=8))
    >>> torchvision.models.resnet18(norm_layer=norm_layer("EvoNorm-B0"))
    """
    if isinstance(kind, nn.Module):
        raise InputError("expected what makes a layer: a name, a text, a class or a function; got a module")
    if not callable(kind):
        made = layer(kind, 1, **options)
        if isinstance(made, NormAct) and made.genotype.takes_y:
            raise InputError("a layer of two inputs, x and y, cannot take the place of a norm")

    def norm_act(
        num_features: int, apply_act: bool = True, *, inplace: bool = False, act_kwargs: object = None, **added: Any
    ) -> nn.Module:
        settings = {"apply_act": apply_act, **options, **added}
        return kind(num_features, **settings) if callable(kind) else layer(kind, num_features, **settings)

    return norm_act
