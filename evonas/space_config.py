"""The section `space` of a config: which graphs may be drawn."""

from functools import cached_property
from random import Random
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from evonas.evolution_config import is_none
from evonas.search_space.analysis import batch_dependent
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.sampling import pad, random_dependent_graph, random_graph
from evonas.search_space.screening import Screening
from evonas.search_space.space import PAPER_INDEX_SETS, PAPER_LEAVES, PAPER_PRIMITIVES, Space
from evonas.workers.frozen import Count, Frozen, Name, Positive
from evonas.workers.own_primitives import Named, OwnPrimitive

Names = Annotated[tuple[Name, ...], Field(max_length=100)]
DRAWS_TO_FIND_ONE = 2000  # random graphs that meet the constraints of a space


class SpaceConfig(Frozen):
    """Which graphs may be drawn: see evonas.search_space.space.Space."""

    nodes: Count = Field(10, description="of a graph, dead ones included")
    primitives: Literal["paper"] | Annotated[tuple[Named, ...], Field(max_length=100)] = Field(
        "paper",
        description="elementwise ones by name, a user's own as my_ops:softsign; or paper for its twelve",
    )
    aggregations: Names = Field(("mean", "rms", "std"), description="statistics, each over every index set")
    index_sets: Names = Field(
        PAPER_INDEX_SETS, description="bhw: the batch, chw: one image, hw: a channel, ghw: a group; beyond the paper c"
    )
    leaves: Names = Field(
        PAPER_LEAVES, description="x, zero, v0, v1; beyond the paper numbers, scalar(0.5), vector(0.9)"
    )
    sampler: Literal["uniform", "depends_on_x"] = Field(
        "uniform", description="how random graphs are drawn: uniformly, or redrawn until the output depends on x"
    )

    batch_dependent: bool = Field(True, description="false: no layer that depends on the other images of its batch")
    live_nodes_max: Count | None = Field(None, description="most nodes that the output depends on")
    amplification_max: Positive | None = Field(
        None,
        exclude_if=is_none,  # dumps of runs from before it stay as they were
        description="by how much a layer may multiply input of one position a channel: x / std_hw(x) has 316",
    )

    @field_validator("leaves", mode="before")
    @classmethod
    def _numbers_are_text(cls, leaves: Any) -> Any:
        """`[x, 0.5]` is how a person writes a number."""
        if not isinstance(leaves, (list, tuple)):
            return leaves
        number = (int, float)
        return tuple(repr(e) if isinstance(e, number) and not isinstance(e, bool) else e for e in leaves)

    @model_validator(mode="after")
    def _valid(self) -> "SpaceConfig":
        _ = self.unconstrained.ops  # building it raises InputError, a ValueError
        rng = Random(0)
        if not any(self.allows(Screening(self.draw(rng))) for _ in range(DRAWS_TO_FIND_ONE)):
            names = "batch_dependent, live_nodes_max, amplification_max"
            raise ValueError(f"{names}: none of {DRAWS_TO_FIND_ONE} random graphs meets them")
        if "y" in self.leaves:
            raise ValueError("leaves: y: the proxies give a layer one input, x; graphs with y are written by hand")
        return self

    def draw(self, rng: Random) -> Graph:
        """A fresh random graph."""
        return (random_dependent_graph if self.sampler == "depends_on_x" else random_graph)(self.unconstrained, rng)

    def allows(self, screening: Screening) -> bool:
        """Whether a graph meets the constraints; one that does not is drawn anew."""
        graph = screening.graph
        if self.live_nodes_max is not None and graph.live_nodes > self.live_nodes_max:
            return False
        if not self.batch_dependent and batch_dependent(graph):
            return False
        return self.amplification_max is None or screening.amplifications["position"] <= self.amplification_max

    def refusal(self, layer: str) -> str | None:
        """Why a layer cannot be a birth; None where it can."""
        try:
            graph = pad(named_graph(layer).graph, self.unconstrained, Random(0))
        except InputError as error:
            return str(error)
        return None if self.allows(Screening(graph)) else "the constraints of space do not allow it"

    def of_catalog(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The catalog's graphs of one input that can be births, and those that cannot."""
        names = [name for name, graph in LAYERS.graphs.items() if not graph.takes_y]
        refused = {name for name in names if self.refusal(name)}
        return tuple(name for name in names if name not in refused), tuple(name for name in names if name in refused)

    @property
    def own(self) -> tuple[OwnPrimitive, ...]:
        """The primitives of a user's own."""
        return tuple(each for each in self.primitives if isinstance(each, OwnPrimitive))

    @cached_property
    def unconstrained(self) -> Space:
        """The space of graphs that these options span, before the constraints."""
        chosen = PAPER_PRIMITIVES if self.primitives == "paper" else self.primitives
        names = tuple(each.name if isinstance(each, OwnPrimitive) else each for each in chosen)
        return Space(self.nodes, names, self.aggregations, self.index_sets, self.leaves)
