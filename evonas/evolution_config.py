"""The section `evolution` of a config: who is born, who breeds, who is believed."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from evonas.search_space.catalog.named import named_graph
from evonas.search_space.errors import did_you_mean
from evonas.search_space.mutation import OPERATORS, PAPER
from evonas.workers.frozen import Count, Frozen, Name, Share, SmallCount

LAYERS_MAX = 100
Layers = Annotated[tuple[Annotated[str, Field(max_length=4000)], ...], Field(max_length=LAYERS_MAX)]


CATALOG = "catalog"  # in a warm start: all graphs of the catalog that the space allows


def is_none(value: Any) -> bool:
    return value is None


def _some_operator(weights: dict[str, float]) -> dict[str, float]:
    for name in weights:
        if name not in OPERATORS:
            raise ValueError(f"unknown operator '{name:.40}'{did_you_mean(name, OPERATORS)}")
    if not any(weights.values()):
        raise ValueError("expected an operator of a weight above 0")
    return weights


Operators = Annotated[
    dict[Name, Annotated[float, Field(ge=0.0, le=1e6)]], Field(max_length=100), AfterValidator(_some_operator)
]


Longer = Annotated[
    Count | None,
    Field(
        exclude_if=lambda steps: steps is None,  # dumps of runs from before it stay as they were
        description="of these trainings, if more than the recipe's: what leads after few steps need not later",
    ),
]


def _resolved(layers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Layers as a config keeps them: each a name of the catalog, or a formula. Whoever loads a config may `resolve`
    what is neither (in the context)."""
    resolve = (info.context or {}).get("resolve", named_graph)
    return tuple(resolve(layer).of_one_input().name for layer in layers)


class Rerank(Frozen):
    """The end of a search: the best `top` and BN-ReLU are trained again, with `seeds` fresh seeds."""

    top: Annotated[int, Field(ge=0, le=1000)] = Field(5, description="candidates to retrain; 0: none")
    seeds: SmallCount = Field(2, description="fresh seeds of each")
    steps: Longer = None
    baselines: Layers = Field(
        (), description="more layers for the final table: names of the catalog, texts, or RUN#BIRTH"
    )

    @field_validator("baselines")
    @classmethod
    def _resolve(cls, layers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return _resolved(layers, info)


class Surrogate(Frozen):
    """Children of a parent are drawn in pools; the one that a model ranks first is the birth: see evonas.surrogate."""

    pool: Annotated[int, Field(ge=2, le=1000)] = Field(32, description="children of which one is chosen")
    unranked: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.2, description="share of births that are not chosen so; they keep the model honest"
    )
    novelty: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        0.15, description="least distance of a birth's output and gradients at the start from those of earlier ones"
    )
    after: Annotated[int, Field(ge=2, le=10**6)] = Field(20, description="survivors before it chooses")
    refit: Count = Field(16, description="trained or stopped candidates from one fit to the next")


class Remeasure(Frozen):
    """The leaders, and with several objectives the front, are trained again with further seeds, as births of their own;
    their fitness is then what all their seeds say (see evonas.leaders). The last births give each leader its seeds."""

    share: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.2, description="of the trainings to the full budget")
    leaders: SmallCount = Field(8, description="the best functions so far")
    seeds: Annotated[int, Field(ge=2, le=100)] = Field(4, description="of a leader in all, the search's own among them")
    steps: Longer = None


class Evolution(Frozen):
    """The asynchronous evolution of arXiv:2004.02967, section 4 (remembered but for the mutation and the selection)."""

    births: Count = Field(400, description="candidates to propose")
    minutes: Annotated[float, Field(gt=0.0, le=1e7)] | None = Field(
        None,
        description="stop proposing after this long, resumes included; such a run cannot be re-run exactly",
    )
    population: Annotated[int, Field(ge=2, le=10**9)] = Field(
        64, description="the newest survivors, from which parents are drawn"
    )
    initial: Count = Field(1, description="survivors to find among random graphs before the first tournament")
    tournament_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.05, description="share of the population that enters a tournament, at least 2 members"
    )
    random_share: Share = Field(0.5, description="share of births that are fresh random graphs; 1.0 is random search")
    founders_share: Share = Field(
        0.0,
        exclude_if=lambda share: not share,
        description="share of the other births whose parent is a layer of the warm start, drawn uniformly, and no "
        "tournament's winner",
    )
    mutations: SmallCount = Field(2, description="edits of a tournament's winner")
    operators: Operators = Field(
        PAPER,
        exclude_if=lambda weights: (
            weights == PAPER
        ),  # as the options below: dumps of runs from before stay as they were
        description=f"weights of the edits: {', '.join(OPERATORS)}; redraw alone is the paper's",
    )
    entrants: Literal["uniform", "fewer_children"] = Field(
        "uniform",
        exclude_if=lambda entrants: entrants == "uniform",
        description="how members enter a tournament: uniformly, or with weight 1 / (1 + children so far), for which "
        "members of one function share a count",
    )
    family_max: Count | None = Field(
        None,
        exclude_if=is_none,
        description="most members of the population of one family: layers whose outputs at the start are nearly equal, "
        "each channel standardised",
    )
    remeasure: Remeasure | None = Field(
        None, exclude_if=is_none, description="train the leaders again with further seeds"
    )
    surrogate: Surrogate | None = Field(
        None, exclude_if=is_none, description="choose births from pools of children, by a model"
    )
    selection: Literal["pareto", "average", "crowding"] = Field(
        "pareto",
        description="a tournament's winner: any of its Pareto front, the best mean, or the most isolated of the front",
    )
    warm_start: Layers = Field(
        (),
        description="layers that are the first births: names of the catalog, texts, RUN#BIRTH, or `catalog` for all of "
        "its graphs that the space allows",
    )
    neighbours_of: Layers = Field(
        (),
        exclude_if=lambda layers: not layers,
        description="layers whose single edits are the next births, each once, in a drawn order, before evolution",
    )
    patience: Count | None = Field(
        None, description="stop proposing after this many outcomes in a row without a better survivor"
    )
    duplicates: Literal["mutate_again", "inherit", "evaluate"] = Field(
        "mutate_again",
        description="a child whose function is not new: draw again, take the outcome of the first, or train it as the "
        "paper does",
    )
    audit_share: Share = Field(
        0.0,
        description="share of rejected candidates trained all the same, outside the population: see evonas funnel",
    )
    rerank: Rerank = Rerank()

    @property
    def seeds_of_leaders(self) -> int:
        return self.remeasure.seeds if self.remeasure else 1

    @field_validator("warm_start", "neighbours_of")
    @classmethod
    def _resolve(cls, layers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """`catalog` is left to the config, which knows the space."""
        in_turn = ((each,) if each == CATALOG else _resolved((each,), info) for each in layers)
        return tuple(name for names in in_turn for name in names)
