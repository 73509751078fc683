"""What a search may use: primitives, index sets, leaves and the number of nodes."""

from dataclasses import dataclass, field

from search_space.errors import InputError, did_you_mean
from search_space.graph import BASE_LEAVES, NODES_MAX
from search_space.moments import INDEX_SETS
from search_space.primitives import ELEMENTWISE, PRIMITIVES

PAPER_LEAVES = ("x", "zero", "v0", "v1")  # arXiv:2004.02967, section 3 (the count of 4 was read, the rest remembered)
PAPER_INDEX_SETS = ("bhw", "chw", "hw", "ghw")


@dataclass(frozen=True)
class Space:
    """The space of all graphs with `nodes` nodes over these primitives; the defaults are the paper's space.

    Every operation of `ops` is drawn with equal probability (whether the paper draws from these 24 rows, or from 13
    with the aggregations as one, is unknown). Raises InputError for unknown names and empty choices.
    """

    nodes: int = 10
    primitives: tuple[str, ...] = ELEMENTWISE
    aggregations: tuple[str, ...] = ("mean", "rms", "std")
    index_sets: tuple[str, ...] = PAPER_INDEX_SETS
    leaves: tuple[str, ...] = PAPER_LEAVES
    ops: tuple[str, ...] = field(init=False)
    leaf_indices: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= NODES_MAX:
            raise InputError(f"nodes: expected 1 to {NODES_MAX}, got {self.nodes}")
        names = [leaf.name for leaf in BASE_LEAVES]
        for what, chosen, valid in (
            ("primitives", self.primitives, ELEMENTWISE),
            ("aggregations", self.aggregations, ("mean", "rms", "std")),
            ("index_sets", self.index_sets, INDEX_SETS),
            ("leaves", self.leaves, tuple(name for name in names if name != "y")),
        ):
            for name in chosen:
                if name not in valid:
                    raise InputError(f"{what}: unknown name '{name}'{did_you_mean(name, valid)}")
            if len(set(chosen)) != len(chosen):
                raise InputError(f"{what}: a name stands twice in {', '.join(chosen)}")
        if "x" not in self.leaves:
            raise InputError(f"leaves: expected x among them, got {', '.join(self.leaves) or 'none'}")
        aggregations = [f"{name}_{axes}" for name in self.aggregations for axes in self.index_sets]
        ops = tuple(name for name in PRIMITIVES if name in self.primitives or name in aggregations)
        if not ops:
            raise InputError("primitives: expected at least one primitive or aggregation, got none")
        object.__setattr__(self, "ops", ops)
        object.__setattr__(self, "leaf_indices", tuple(names.index(name) for name in self.leaves))
