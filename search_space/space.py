"""The space of a search: its primitives, index sets, leaves and number of nodes."""

from dataclasses import dataclass, field, replace
from itertools import count

from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.graph import BASE_LEAVES, NODES_MAX, Graph, Leaf
from evonas.search_space.moments import INDEX_SETS
from evonas.search_space.primitives import BUILT_IN, ELEMENTWISE, PRIMITIVES

# arXiv:2004.02967, table 1 (remembered, and confirmed by an independent reimplementation); a new primitive is not there
PAPER_PRIMITIVES = ("add", "mul", "div", "max", "neg", "sigmoid", "tanh", "exp", "log", "abs", "square", "sqrt")
PAPER_AGGREGATIONS = ("mean", "rms", "std")  # the same table
PAPER_LEAVES = ("x", "zero", "v0", "v1")  # arXiv:2004.02967, section 3 (the count of 4 was read, the rest remembered)
PAPER_INDEX_SETS = ("bhw", "chw", "hw", "ghw")


@dataclass(frozen=True)
class Space:
    """The space of all graphs with `nodes` nodes over these primitives; the defaults are the paper's space.

    Every operation of `ops` is drawn with equal probability (whether the paper draws from these 24 rows, or from 13
    with the aggregations as one, is unknown). Beyond the paper, `leaves` may name the second input `y`, and write
    numbers (`0.5`) and learned parameters (`scalar(0.5)`, `vector(0.9)`, or with a name, `alpha = scalar(0.5)`) as the
    language does. Raises InputError for unknown names and empty choices.
    """

    nodes: int = 10
    primitives: tuple[str, ...] = PAPER_PRIMITIVES
    aggregations: tuple[str, ...] = PAPER_AGGREGATIONS
    index_sets: tuple[str, ...] = PAPER_INDEX_SETS
    leaves: tuple[str, ...] = PAPER_LEAVES
    ops: tuple[str, ...] = field(init=False)
    graph_leaves: tuple[Leaf, ...] = field(init=False)  # the leaves of every graph that is drawn
    leaf_indices: tuple[int, ...] = field(init=False)  # those of the five named leaves that nodes may take

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= NODES_MAX:
            raise InputError(f"nodes: expected 1 to {NODES_MAX}, got {self.nodes}")
        for key, names, valid in (
            ("primitives", self.primitives, (*ELEMENTWISE, *(name for name in PRIMITIVES if name not in BUILT_IN))),
            ("aggregations", self.aggregations, ("mean", "rms", "std")),
            ("index_sets", self.index_sets, INDEX_SETS),
        ):
            for name in names:
                if name not in valid:
                    raise InputError(f"{key}: unknown name '{name}'{did_you_mean(name, valid)}")
            _expect_once(key, names)
        _expect_once("leaves", self.leaves)
        if "x" not in self.leaves:
            raise InputError(f"leaves: expected x among them, got {', '.join(self.leaves) or 'none'}")
        aggregations = [f"{name}_{axes}" for name in self.aggregations for axes in self.index_sets]
        ops = tuple(name for name in BUILT_IN if name in self.primitives or name in aggregations)
        ops += tuple(name for name in self.primitives if name not in BUILT_IN)
        if not ops:
            raise InputError("primitives: expected at least one primitive or aggregation, got none")
        object.__setattr__(self, "ops", ops)
        named_leaves = [_leaf(text) for text in self.leaves]
        others = [leaf for leaf in named_leaves if leaf not in BASE_LEAVES]
        free = (name for i in count() if (name := f"p{i}") not in {leaf.name for leaf in others})
        parameters = [leaf if leaf.name else replace(leaf, name=next(free)) for leaf in others if leaf.learned]
        numbers = sorted((leaf for leaf in others if not leaf.learned), key=lambda leaf: leaf.value)
        leaves = (*BASE_LEAVES, *parameters, *numbers) if others else BASE_LEAVES
        try:
            Graph(leaves, (), 0)
        except ValueError as error:
            raise InputError(f"leaves: {error}") from None
        object.__setattr__(self, "graph_leaves", leaves)
        taken = [i for i, leaf in enumerate(BASE_LEAVES) if leaf in named_leaves]
        object.__setattr__(self, "leaf_indices", tuple(taken))


def _expect_once(key: str, names: tuple[str, ...]) -> None:
    if len(set(names)) != len(names):
        raise InputError(f"{key}: a name stands twice in {', '.join(names)}")


def _leaf(text: str) -> Leaf:
    """The leaf written as `text`; a parameter without a name of its own is named ""."""
    name, assigned, _ = (part.strip() for part in text.partition("="))
    if not assigned and text.isidentifier() and text not in {leaf.name for leaf in BASE_LEAVES}:
        raise InputError(f"leaves: unknown name '{text}'{did_you_mean(text, (leaf.name for leaf in BASE_LEAVES))}")
    try:
        graph = Graph.parse(f"{text}\n{name}" if assigned else text)
    except InputError as error:
        raise InputError(f"leaves: '{text}': {error}") from None
    if graph.nodes or graph.output >= len(graph.leaves):
        raise InputError(f"leaves: '{text}' is not a leaf; expected x, a number, scalar(0.5) or vector(0.5)")
    leaf = graph.leaves[graph.output]
    return leaf if assigned or not leaf.learned or leaf in BASE_LEAVES else replace(leaf, name="")
