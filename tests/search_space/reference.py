"""The oracle of the tests: an independent float64 reading of what a graph means, written with numpy alone.

Every value is broadcast to x's shape before anything is computed from it, and x is (batch, channels, positions).
"""

import math
from collections.abc import Callable

import numpy as np

from evonas.search_space.graph import Graph

Array = np.ndarray
EPS = 1e-5

ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "max": lambda a, b: np.maximum(a, b),
    "neg": lambda a: -1.0 * a,
    "sigmoid": lambda a: 1.0 / (1.0 + np.exp(-a)),
    "tanh": lambda a: np.sinh(a) / np.cosh(a),
    "exp": lambda a: np.exp(a),
    "log": lambda a: np.sign(a) * np.log(np.abs(a) + EPS),
    "abs": lambda a: np.sqrt(a**2),
    "square": lambda a: a * a,
    "sqrt": lambda a: np.sign(a) * np.sqrt(np.abs(a) + EPS),
    "erf": np.vectorize(math.erf, otypes=[float]),
}

MOMENTS: dict[str, Callable[[Array], Array]] = {  # of rows: the last axis is reduced
    "mean": lambda rows: rows.mean(-1),
    "rms": lambda rows: np.sqrt((rows**2).mean(-1) + EPS),
    "std": lambda rows: np.sqrt((rows**2).mean(-1) - rows.mean(-1) ** 2 + EPS),
}


def aggregate(op: str, a: Array, groups: int) -> Array:
    """`op`, for example "std_ghw", of a (batch, channels, positions), spread back to its shape."""
    name, index_set = op.split("_")
    batch, channels, positions = a.shape
    moment = MOMENTS[name]
    match index_set:
        case "bhw":
            each = moment(a.transpose(1, 0, 2).reshape(channels, -1)).reshape(1, channels, 1)
        case "chw":
            each = moment(a.reshape(batch, -1)).reshape(batch, 1, 1)
        case "hw":
            each = moment(a).reshape(batch, channels, 1)
        case "ghw":
            of_groups = moment(a.reshape(batch, groups, -1)).reshape(batch, groups, 1)
            each = np.repeat(of_groups, channels // groups, axis=1)
        case "c":
            each = moment(a.transpose(0, 2, 1)).reshape(batch, 1, positions)
        case _:
            raise AssertionError(f"no oracle for {op}")
    return np.broadcast_to(each, a.shape)


def flat(x: Array, channel_dim: int) -> Array:
    """x as (batch, channels, positions)."""
    first = np.moveaxis(x, channel_dim, 1)
    return first.reshape(*first.shape[:2], -1)


def unflat(a: Array, shape: tuple[int, ...], channel_dim: int) -> Array:
    """The inverse of `flat` for an x of `shape`."""
    first = np.moveaxis(np.empty(shape), channel_dim, 1).shape
    return np.moveaxis(a.reshape(first), 1, channel_dim)


def interpret(
    graph: Graph,
    x: Array,
    parameters: dict[str, Array],
    *,
    groups: int,
    channel_dim: int = 1,
    rounding: np.random.Generator | None = None,
) -> Array:
    """The output of the genotype in training; `rounding` disturbs every node by 1e-12, to see what is stable."""
    given = flat(x.astype(np.float64), channel_dim)
    values: list[Array] = []
    for leaf in graph.leaves:
        if leaf.kind == "input":
            values.append(given)
        elif leaf.name in parameters:
            values.append(np.broadcast_to(parameters[leaf.name].reshape(1, -1, 1), given.shape))
        else:
            values.append(np.full(given.shape, leaf.value))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            inputs = [values[i] for i in node.inputs]
            value = ELEMENTWISE[node.op](*inputs) if node.op in ELEMENTWISE else aggregate(node.op, inputs[0], groups)
            if rounding is not None:
                value = value * (1 + 1e-12 * rounding.standard_normal(value.shape))
            values.append(value)
    return unflat(values[graph.output], x.shape, channel_dim)
