"""Graph -> NormAct: the one lowering. Always of the canonical graph, so graphs of equal digest run identically."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evonas.search_space.graph import Graph
from evonas.search_space.layer import Layer
from evonas.search_space.moments import HALF, full_precision
from evonas.search_space.primitives import PRIMITIVES, Primitive
from evonas.search_space.structure import SECOND


class NormAct(Layer):
    """The layer of a graph, followed by the channel-wise affine: y = weight * graph(x) + bias.

    `weight` (C,) starts at 1 and `bias` (C,) at 0; learned vectors and scalars are parameters under their own names,
    and only if they are live. The k-th live `*_bhw` node of the canonical graph owns the buffer `running_k` (C,): its
    mean (starts at 0), mean square or biased variance (start at 1), moved by `momentum` in each training step and used
    in evaluation. `x` is (N, C, ...) or, with `channel_dim=-1`, (N, ..., C); the result has its shape and dtype.
    """

    def __init__(self, graph: Graph, num_features: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.genotype = graph.canonical()
        self._live = self.genotype.live  # here, not in the graph's cache: a copy must compile, too
        self._running = running_moments(self.genotype)
        if not self.apply_act:
            return
        for index in sorted(self._live):
            if index < len(self.genotype.leaves) and (leaf := self.genotype.leaves[index]).learned:
                shape = (self.num_features,) if leaf.kind == "vector" else (1,)  # FSDP shards no scalar without axes
                self.register_parameter(leaf.name, nn.Parameter(self.new_full(shape, leaf.value)))
        for name, start in self._running.values():
            self.register_buffer(name, self.new_full((self.num_features,), start))

    def transform(self, x: Tensor, *others: Tensor) -> Tensor:
        genotype = self.genotype
        inputs_wanted = 1 + (SECOND in self._live)
        if 1 + len(others) != inputs_wanted:
            raise ValueError(f"this layer takes {inputs_wanted} inputs, got {1 + len(others)}")
        values: list[Tensor] = []
        for index, leaf in enumerate(genotype.leaves):
            if index not in self._live:
                values.append(x)  # never read
            elif leaf.kind == "input":
                values.append(x if index != SECOND else others[0])
            elif leaf.learned:
                values.append(self.per_channel(getattr(self, leaf.name), x))
            else:
                values.append(self.number(leaf.value, x))
        wide: dict[int, Tensor] = {}  # inputs of aggregations, each widened once

        def aggregate(index: int, row: Primitive, a: Tensor) -> Tensor:
            source = genotype.nodes[index - len(genotype.leaves)].inputs[0]
            if source not in wide:
                wide[source] = full_precision(a)
            running = getattr(self, self._running[index][0]) if index in self._running else None
            moment = self.over(row.reduces or "", row.fn, wide[source], running)
            return torch.sqrt(moment + self.eps) if row.rooted else moment

        return evaluate(genotype, values, aggregate)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, formula={self.genotype.formula!r}"


def evaluate(graph: Graph, leaves: Sequence[Tensor], aggregate: Callable[[int, Primitive, Tensor], Tensor]) -> Tensor:
    """The output of a graph by the primitives' functions: of a layer's forward, and of the probe's passes at once.

    leaves: one value a leaf; those of dead leaves are never read.
    aggregate: an aggregation, by its value's index, its row and its input.
    """
    values = list(leaves)
    for index, node in enumerate(graph.nodes, start=len(values)):
        row = PRIMITIVES[node.op]
        inputs = [values[i] for i in node.inputs]
        values.append(aggregate(index, row, *inputs) if row.reduces else rounded(row.fn(*inputs), inputs))
    return values[graph.output]


def rounded(result: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """An elementwise result in half precision where an input is; a float32 statistic or number beside it widens it."""
    for each in inputs:
        if each.dtype in HALF:
            return result.to(each.dtype)
    return result


def running_moments(canonical: Graph) -> dict[int, tuple[str, float]]:
    """Value of each node that reduces over the batch -> its buffer's name and initial value."""
    rows = [(index, PRIMITIVES[node.op]) for index, node in enumerate(canonical.nodes, start=len(canonical.leaves))]
    owners = [(index, row.running_start) for index, row in rows if row.reduces == "bhw"]
    return {index: (f"running_{k}", start) for k, (index, start) in enumerate(owners)}
