"""A known layer: one row of the catalog, text alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evonas.search_space.analysis import batch_dependent
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph, Leaf

if TYPE_CHECKING:
    from evonas.search_space.catalog.modules.base import ReferenceModule

Label = Literal["verified", "remembered"]
Kind = Literal["graph", "module", "listed"]

_CHANNELS = 64  # of the reference module whose parameters are looked at
_KINDS = {(): "scalar", (_CHANNELS,): "vector", (32,): "group"}  # 32 groups


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLayer:
    """A layer of the literature. It is a graph, or a reference module, or it is listed with the reason why neither.

    A graph's `text` is in the language; after it comes the affine `weight * graph + bias`, as after every graph. Other
    texts are the paper's formula, with mean_I, s_I (with eps in the root) and m2_I (mean of squares) over an index set
    I. A formula of two inputs calls the second one y.
    """

    name: str
    row: int | None  # in the survey that the catalog was made from; None for a baseline beside it
    text: str
    paper: str
    year: int
    source: str  # where the formula is from
    label: Label  # verified: official or named code was read; remembered: a summary, third-party code or memory
    norm: str = ""  # graph that is left without the activation; "": then no graph is left, but the affine only
    module: str = ""  # its class in evonas.search_space.catalog.modules
    module_latex: str = ""  # the formula of a reference module's forward; a graph's is made from it
    reason: str = ""  # one line: why it is no drop-in layer here
    note: str = ""  # where this entry differs from its paper, and what to know of it

    @property
    def kind(self) -> Kind:
        if self.module:
            return "module"
        return "listed" if self.reason else "graph"

    @property
    def graph(self) -> Graph:
        """Raises InputError where the row is no graph."""
        match self.kind:
            case "graph":
                return Graph.parse(self.text)
            case "module":
                raise InputError(
                    f"{self.name} is no graph; its reference is evonas.search_space.catalog.modules.{self.module}"
                )
            case "listed":
                raise InputError(f"{self.name} is no layer that can be built here: {self.reason}")

    @property
    def module_class(self) -> "type[ReferenceModule]":
        """Raises InputError where the row is no reference module."""
        if not self.module:
            raise InputError(f"{self.name} is no reference module")
        from evonas.search_space.catalog import modules

        found: type[ReferenceModule] = getattr(modules, self.module)
        return found

    @property
    def batch_dependent(self) -> bool | None:
        """Derived of a graph, declared by a reference module, unknown (None) of a row that is only listed."""
        match self.kind:
            case "graph":
                return batch_dependent(self.graph)
            case "module":
                return self.module_class.batch_dependent
            case "listed":
                return None

    @property
    def inputs(self) -> int:
        """How many tensors the layer takes: x alone, or x and y; 0 for a row that is only listed."""
        match self.kind:
            case "graph":
                graph = self.graph
                return sum(graph.leaves[i].kind == "input" for i in graph.live if i < len(graph.leaves))
            case "module":
                return 1
            case "listed":
                return 0

    @property
    def parameters(self) -> tuple[Leaf, ...]:
        """The learned parameters: their state_dict keys, kinds and initial values."""
        match self.kind:
            case "graph":
                graph = self.graph.canonical()
                learned = (leaf for i, leaf in enumerate(graph.leaves) if i in graph.live and leaf.learned)
                return (Leaf("vector", "weight", 1.0), Leaf("vector", "bias", 0.0), *learned)
            case "module":
                layer = self.module_class(_CHANNELS)
                return tuple(
                    Leaf(_KINDS[tuple(each.shape)], name, each.detach().flatten()[0].item())
                    for name, each in layer.named_parameters()
                )
            case "listed":
                return ()
