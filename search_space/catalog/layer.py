"""The three kinds of known layers: a graph, a reference module, a formula that is only listed."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from evonas.search_space.analysis import batch_dependent
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph, Leaf

if TYPE_CHECKING:
    from evonas.search_space.catalog.modules.base import ReferenceModule

Label = Literal["verified", "remembered"]

_CHANNELS = 64  # of the reference module whose parameters are looked at
_KINDS: dict[tuple[int, ...], str] = {(1,): "scalar", (_CHANNELS,): "vector", (32,): "group"}  # 32 groups


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLayer(ABC):
    """A layer of the literature: what its three kinds share.

    survey_number: of its paper in the survey that the catalog was made from; None for a baseline beside it.
    text: a graph in the language; of the other kinds the paper's formula, with mean_I, s_I (with eps in the root) and
        m2_I (mean of squares) over an index set I. A formula of two inputs calls the second one y.
    source: where the formula is from.
    label: verified: official or named code was read; remembered: a summary, third-party code or memory.
    note: where this entry differs from its paper, and what to know of it.
    """

    name: str
    survey_number: int | None
    text: str
    paper: str
    year: int
    source: str
    label: Label
    note: str = ""

    kind: ClassVar[Literal["graph", "module", "listed"]]

    @property
    @abstractmethod
    def graph(self) -> Graph:
        """Raises InputError where the layer is no graph."""

    @property
    @abstractmethod
    def batch_dependent(self) -> bool | None:
        """Whether a sample's output depends on other samples in training; None where that is unknown."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """The number of tensors that the layer takes: x alone, or x and y; 0 where no layer can be built."""

    @property
    @abstractmethod
    def parameters(self) -> tuple[Leaf, ...]:
        """The learned parameters: their state_dict keys, kinds and initial values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphLayer(KnownLayer):
    """A known layer as a graph, after which comes the affine `weight * graph + bias`, as after every graph.

    norm: the graph that is left without the activation; "" where only the affine is left.
    """

    norm: str = ""

    kind: ClassVar = "graph"

    @property
    def graph(self) -> Graph:
        return Graph.parse(self.text)

    @property
    def batch_dependent(self) -> bool:
        return batch_dependent(self.graph)

    @property
    def inputs(self) -> int:
        graph = self.graph
        return sum(graph.leaves[i].kind == "input" for i in graph.live if i < len(graph.leaves))

    @property
    def parameters(self) -> tuple[Leaf, ...]:
        graph = self.graph.canonical()
        learned = (leaf for i, leaf in enumerate(graph.leaves) if i in graph.live and leaf.learned)
        return (Leaf("vector", "weight", 1.0), Leaf("vector", "bias", 0.0), *learned)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleLayer(KnownLayer):
    """A known layer with a state or a backward that no graph has: a reference module.

    module: name of its class in evonas.search_space.catalog.modules.
    latex: formula of its forward.
    """

    module: str
    latex: str

    kind: ClassVar = "module"

    @property
    def graph(self) -> Graph:
        raise InputError(f"{self.name} is no graph; its reference is {self.path}")

    @property
    def path(self) -> str:
        """The class, as it is imported."""
        return f"evonas.search_space.catalog.modules.{self.module}"

    @property
    def module_class(self) -> "type[ReferenceModule]":
        from evonas.search_space.catalog import modules

        return getattr(modules, self.module)  # type: ignore[no-any-return]

    @property
    def batch_dependent(self) -> bool:
        return self.module_class.batch_dependent

    @property
    def inputs(self) -> int:
        return 1

    @property
    def parameters(self) -> tuple[Leaf, ...]:
        layer = self.module_class(_CHANNELS)
        return tuple(
            Leaf(_KINDS[tuple(each.shape)], name, each.detach().flatten()[0].item())
            for name, each in layer.named_parameters()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedLayer(KnownLayer):
    """A formula of the literature that is no drop-in layer here, for the `reason` given in one line."""

    reason: str

    kind: ClassVar = "listed"

    @property
    def graph(self) -> Graph:
        raise InputError(f"{self.name} is no layer that can be built here: {self.reason}")

    @property
    def batch_dependent(self) -> None:
        return None

    @property
    def inputs(self) -> int:
        return 0

    @property
    def parameters(self) -> tuple[Leaf, ...]:
        return ()
