"""Options, affine and running moments: a new layer takes them over from the norm that it replaces."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evonas.layers.replacing.places import Place, is_meta, probe_of
from evonas.search_space.canonical import assemble
from evonas.search_space.graph import Graph, Leaf, Node
from evonas.search_space.lowering import running_moments

WEIGHT, BIAS = "norm_weight", "norm_bias"  # of an affine that stands inside a graph

Make = Callable[..., nn.Module]  # (graph or None for the layer as it was given, **options) -> layer


def options_of(norm: nn.Module) -> dict[str, Any]:
    """The options of a norm that a layer can have as well."""
    groups = getattr(norm, "num_groups", getattr(norm, "groups", None))
    options = {"eps": getattr(norm, "eps", None), "momentum": getattr(norm, "momentum", None), "groups": groups}
    options = {name: value for name, value in options.items() if isinstance(value, int | float)}
    options |= {"unbiased_running_var": True} if isinstance(norm, _BatchNorm) else {}
    return options | ({"synchronized": True} if isinstance(norm, nn.SyncBatchNorm) else {})


# --------------------------------------------------------------------------- the affine and the running moments


@dataclass(frozen=True, slots=True)
class Carried:
    """A new layer; whether it computes what the norm and its activation computed, in training and evaluation, and
    whether its running moments then move alike."""

    layer: nn.Module
    is_same: bool
    moves_alike: bool


def carry_over(
    norm: nn.Module, function: Callable[[Tensor], Tensor] | None, place: Place, make: Make, graph: Graph | None
) -> Carried:
    """A layer with the affine and the running moments of a norm.

    The affine goes where it makes the new layer the function of the norm and its activation, if there is such a place:
    after the graph, into two learned vectors of it, or between two of its nodes, as for BN-ReLU. Otherwise it goes
    after the graph. A running moment of x itself is taken over, as mean, variance or mean square.

    function: the activation after the norm, None without one.
    make: makes the layer of a graph; of None the layer as it was given, whose graph is `graph`, None if it has none.
    """
    home, moves_alike = (None, False) if is_meta(norm) else _same_function(norm, function, place, make, graph)
    changed, weight, bias = home or (None, "weight", "bias")
    layer = make(changed)
    _carry(norm, layer, changed or graph, weight, bias)
    parameters = list(norm.parameters())
    if parameters and not any(each.requires_grad for each in parameters):
        layer.requires_grad_(False)
    return Carried(layer, home is not None, moves_alike)


_Home = tuple[Graph | None, str, str]  # a graph (None: as given), and the parameters that the affine goes into


def _same_function(
    norm: nn.Module, function: Callable[[Tensor], Tensor] | None, place: Place, make: Make, graph: Graph | None
) -> tuple[_Home | None, bool]:
    """The place of the affine that makes the layer the same function, if there is one; and whether the running moments
    of both are alike after a batch."""
    probe, x = probe_of(norm), place.input()
    follower = probe_of(function) if isinstance(function, nn.Module) else function

    def equal(home: _Home, *modes: bool) -> bool:
        changed, weight, bias = home
        layer = make(changed, dtype=torch.float64, device="cpu")
        _carry(probe, layer, changed or graph, weight, bias)
        for mode in modes:  # of training, in which the moments of both move
            old = probe.train(mode)(x.clone())
            old, new = old if follower is None else follower(old), layer.train(mode)(x)
            if not torch.allclose(old, new, rtol=1e-9, atol=1e-9):
                return False
        return True

    with torch.no_grad():
        _set_generic(probe, is_affine=False)
        if not equal((None, "weight", "bias"), False, True):
            return None, False
        _set_generic(probe, is_affine=True)
        for home in _homes_of_an_affine(graph):
            if equal(home, False, True):
                _set_generic(probe, is_affine=True)
                return home, equal(home, True, False)
            _set_generic(probe, is_affine=True)  # whose moments have moved
    return None, False


def _set_generic(probe: nn.Module, is_affine: bool) -> None:
    """Give a norm moments and, or instead of an affine 1 and 0, that no layer has by chance."""
    generator = torch.Generator().manual_seed(1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if isinstance(value := getattr(probe, name, None), Tensor):
            drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            neutral = torch.full_like(value, float(name == "weight"))
            drawn = drawn.exp() if name == "running_var" else drawn
            value.data.copy_(drawn if is_affine or name.startswith("running") else neutral)


@cache
def _homes_of_an_affine(graph: Graph | None) -> tuple[_Home, ...]:
    homes: list[_Home] = [(None, "weight", "bias")]
    if graph is None:
        return tuple(homes)
    graph = graph.canonical()
    learned = [leaf for n, leaf in enumerate(graph.leaves) if n in graph.live and leaf.kind == "vector"]
    weights, biases = ([leaf.name for leaf in learned if leaf.value == start] for start in (1, 0))
    homes += [(None, weight, bias) for weight in weights for bias in biases]
    inside = (_with_affine(graph, index) for index in sorted(graph.live - {graph.output}) if graph.node(index))
    return (*homes, *((each, WEIGHT, BIAS) for each in inside if each))


def _with_affine(graph: Graph, index: int) -> Graph | None:
    """The graph with weight * a + bias in the place of one of its values, a; None where it has too many nodes."""
    values: dict[int, Leaf | Node] = dict(enumerate((*graph.leaves, *graph.nodes)))
    weight, bias, product, total = range(len(values), len(values) + 4)
    for number, node in enumerate(graph.nodes, len(graph.leaves)):
        values[number] = Node(node.op, tuple(total if each == index else each for each in node.inputs))
    values |= {weight: Leaf("vector", WEIGHT, 1.0), bias: Leaf("vector", BIAS, 0.0)}
    values |= {product: Node("mul", (weight, index)), total: Node("add", (product, bias))}
    return assemble(values, graph.output, Graph)


def _carry(norm: nn.Module, layer: nn.Module, graph: Graph | None, weight: str, bias: str) -> None:
    """Copy the affine into two parameters of a layer, and the running moments into its buffers."""
    affine = {weight: getattr(norm, "weight", None), bias: getattr(norm, "bias", None)}
    moments = moments_of(norm, layer, graph)
    with torch.no_grad():
        for name, value in affine.items():
            if isinstance(value, Tensor):
                layer.get_parameter(name).copy_(value.reshape(-1))
        for name, value in moments.items():
            layer.get_buffer(name).copy_(value)


def moments_of(norm: nn.Module, layer: nn.Module, graph: Graph | None) -> dict[str, Tensor]:
    """The running moments of a layer that a norm knows: those of x itself."""
    mean, variance = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return {}
    buffers = dict(layer.named_buffers())
    if graph is None:
        return {n: v for n, v in (("running_mean", mean), ("running_var", variance)) if n in buffers}
    known = {"mean_bhw": mean, "std_bhw": variance, "rms_bhw": variance + mean.square()}
    graph = graph.canonical()
    rows = [(name, graph.node(index)) for index, (name, _) in running_moments(graph).items() if name in buffers]
    x = next(n for n, leaf in enumerate(graph.leaves) if leaf.name == "x")
    return {name: known[node.op] for name, node in rows if node and node.inputs == (x,) and node.op in known}
