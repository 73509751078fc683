"""The YAML of a run: composed of the protocol's types, validated, with errors that point at the line."""

import re
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from evonas.evolution_config import CATALOG, LAYERS_MAX, Evolution
from evonas.search_space.analysis import index_sets
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.graph import Graph
from evonas.search_space.moments import lowered_groups
from evonas.search_space.wording import counted
from evonas.space_config import SpaceConfig
from evonas.units import Units
from evonas.workers.architectures import Size, size
from evonas.workers.calls import check_call
from evonas.workers.data import NATIVE_SIZES
from evonas.workers.frozen import Frozen, Name, SmallCount, Text
from evonas.workers.gates import AnyGate, check_order, from_text
from evonas.workers.gates.base import TrainingGate
from evonas.workers.outcome import JudgedBy
from evonas.workers.plugins import LOADS, Own, Plugins, check, is_own, kind_of, may_load
from evonas.workers.protocol import Corpus, Data, Device, Execution, Protocol, Recipe, is_default_text
from evonas.workers.proxies import FORESEEING, TEXT_PROXIES, OwnArchitecture, Proxies

Measure = Literal["accuracy", "loss", "step_time", "memory", "nodes"]
Objective = Annotated[Annotated[Measure, Tag("known")] | Own, Discriminator(kind_of)]
BASELINE = "BN-ReLU"  # what every layer is compared with unless a config says otherwise


class Workers(Frozen):
    """The processes that evaluate; `auto` takes as many as the machine or the cluster holds, also of nodes that
    join. With `cluster.address: in_process` it is one with one thread,
    without a time limit; what the machine may have caused is tried once more."""

    count: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(
        "auto", description="processes; auto: as many as the machine or the cluster holds, also of nodes that join"
    )
    cpus: SmallCount = Field(1, description="threads of a worker")
    device: Device = Field("auto", description="auto: a GPU where the machine, or the cluster, has one")
    gpus: Annotated[float, Field(gt=0.0, le=1000.0)] = Field(
        1.0, description="a worker's share of a GPU, such as 0.25, where it uses one"
    )
    memory_gb: Annotated[float, Field(gt=0.0, le=1e6)] | None = Field(
        None, description="memory that Ray sets aside on a node for each worker"
    )
    time_limit_seconds: Annotated[float, Field(gt=0.0, le=1e8)] = Field(600.0, description="for one evaluation")
    retries: Annotated[int, Field(ge=0, le=1000)] = Field(
        1,
        description="further attempts where the machine may be the cause: a dead worker, a full memory or disk",
    )


class Cluster(Frozen):
    """The workers' place: `in_process` (one, for debugging), `local`, or the address of a Ray cluster."""

    address: Text = Field("local", description="in_process, local, or such as head:6379 or auto")


class StoreConfig(Frozen):
    """`null` is SQLite in the run's folder."""

    url: Text | None = Field(None, description="such as sqlite:///all.db or postgresql://user@host/database")


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"expected letters a to z, digits, '.', '_' and '-', a letter or digit first, got '{name}'")
    return name


class Config(Frozen):
    """The whole of a run."""

    name: Annotated[str, Field(max_length=100), AfterValidator(_folder_name)] = Field(
        description="of the run, and of its folder: results/<name>-<nnn>"
    )
    seed: Annotated[int, Field(ge=0, lt=2**62)] = Field(0, description="decides every random choice")
    space: SpaceConfig = SpaceConfig()
    data: Data = Data()
    text: Corpus = Field(default_factory=Corpus, exclude_if=is_default_text)
    recipe: Recipe = Recipe()
    proxies: Proxies = Field(description="the networks that a layer is trained in, by name; the cheapest first")
    gates: Annotated[tuple[Annotated[AnyGate, BeforeValidator(from_text)], ...], Field(max_length=100)] = Field(
        (), description="the tests that stop a candidate, in this order; a name, or a name with its options"
    )
    baseline: Name = Field(
        BASELINE,
        exclude_if=lambda name: name == BASELINE,  # dumps of runs from before it stay as they were
        description="the layer of the catalog that all are compared with; of transformers LayerNorm",
    )
    objectives: tuple[Objective, ...] = Field(
        ("accuracy",),
        max_length=20,
        description="accuracy on each proxy, of text 2^-(bits per byte), is maximised, the others minimised, and what "
        "a function gives, as in my_goals:worst, maximised; loss, in place of accuracy, is the "
        "mean training loss of the last quarter of the steps (TSE-E: arXiv:2006.04492). A run with step_time cannot be "
        "re-run exactly",
    )
    evolution: Evolution = Evolution()
    execution: Execution = Execution()
    workers: Workers = Workers()
    cluster: Cluster = Cluster()
    store: StoreConfig = StoreConfig()
    plugins: Plugins = Field(
        default_factory=dict,
        exclude_if=lambda plugins: not plugins,  # dumps of runs without any stay as they were
        description="the source of each module that the config names; evonas writes it, and compares it afterwards",
    )

    @field_validator("evolution")
    @classmethod
    def _expand_catalog(cls, evolution: Evolution, info: ValidationInfo) -> Evolution:
        """`catalog` as the names that it stands for here, so that a run does not change with the catalog."""
        space: SpaceConfig | None = info.data.get("space")
        changed: dict[str, tuple[str, ...]] = {}
        for key in ("warm_start", "neighbours_of"):
            names: tuple[str, ...] = getattr(evolution, key)
            if space and CATALOG in names:
                mine = {name: None for each in names for name in (space.of_catalog()[0] if each == CATALOG else [each])}
                changed[key] = tuple(mine)
                if len(mine) > LAYERS_MAX:
                    raise ValueError(f"{key}: expected at most {LAYERS_MAX} layers, got {len(mine)}")
        return evolution.model_copy(update=changed) if changed else evolution

    @field_validator("baseline")
    @classmethod
    def _baseline_is_known(cls, name: str) -> str:
        graphs = [each for each, graph in LAYERS.graphs.items() if not graph.takes_y]
        if name not in graphs:
            raise ValueError(f"no graph '{name}' of one input in the catalog{did_you_mean(name, graphs)}")
        return name

    @property
    def in_bits(self) -> tuple[str, ...]:
        """The proxies whose fitness is shown in bits per byte."""
        return tuple(name for name, proxy in self.proxies.items() if isinstance(proxy, TEXT_PROXIES))

    @property
    def units(self) -> Units:
        return Units(tuple(self.proxies), self.in_bits)

    def foresees(self, graph: Graph) -> bool:
        """Whether a layer would see the bytes that a network predicts, so that none can train it."""
        return bool(self.in_bits and FORESEEING & index_sets(graph))

    @property
    def protocol(self) -> Protocol:
        return Protocol(
            data=self.data,
            recipe=self.recipe,
            proxies=self.proxies,
            gates=self.gates,
            execution=self.execution,
            plugins=self.plugins,
            primitives=self.space.own,
            text=self.text,
        )

    @property
    def leaders_protocol(self) -> Protocol:
        """The protocol of leaders that are measured again."""
        remeasure = self.evolution.remeasure
        return self.protocol.with_recipe(steps=(remeasure and remeasure.steps) or self.recipe.steps)

    @property
    def trains_leaders_longer(self) -> bool:
        return self.leaders_protocol.recipe.steps > self.recipe.steps

    def counted_seeds(self, seeds: Collection[int]) -> list[int]:
        """The seeds of a leader whose scores count: the search's own does not beside two with which it was trained
        longer."""
        return [each for each in seeds if each != self.seed or not self.trains_leaders_longer or len(seeds) < 3]

    def longest_seeds(self, seeds: Collection[int]) -> list[int]:
        """The seeds with which a layer was trained longest: all but the search's own for a leader."""
        own = range(self.seed, self.seed + self.recipe.seeds)
        longer = [each for each in seeds if each not in own] if self.trains_leaders_longer else []
        return longer or list(seeds)

    @property
    def final_protocol(self) -> Protocol:
        """The protocol of the final table: without gates, and with one seed an evaluation."""
        return self.protocol.ungated(seeds=1, steps=self.evolution.rerank.steps or self.recipe.steps)

    def loaded(self) -> "Config":
        """This config, the modules that it names run. Raises InputError where their source is another than the
        run's."""
        if not self.plugins:
            return self
        check(self.plugins)
        return Config.model_validate_json(self.model_dump_json(), context={LOADS: True})

    @property
    def references(self) -> tuple[str, ...]:
        """Each `module:name` of the config."""
        primitives = [each.primitive for each in self.space.own]
        sources = [self.data.source] if self.data.is_own else []
        gates = [each.gate for each in self.gates if is_own(each.gate)]
        goals = [each for each in self.objectives if is_own(each)]
        networks = [each.architecture for each in self.proxies.values() if isinstance(each, OwnArchitecture)]
        return (*primitives, *sources, *networks, *gates, *goals)

    @property
    def judged_by(self) -> JudgedBy:
        """The measure that decides which layer is better."""
        return "loss" if "loss" in self.objectives else "accuracy"

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> "Config":
        if ("accuracy" in self.objectives) == ("loss" in self.objectives):
            got = ", ".join(self.objectives) or "none"
            raise ValueError(f"objectives: expected either accuracy or loss among them, got {got}")
        if self.evolution.selection == "average" and self.objectives != (self.judged_by,):
            others = ", ".join(name for name in self.objectives if name != self.judged_by)
            of = "accuracies" if self.judged_by == "accuracy" else "losses"
            raise ValueError(f"evolution.selection: average cannot weigh {others} against {of}; expected pareto")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives: one stands twice: {', '.join(self.objectives)}")
        for own in filter(is_own, self.objectives if may_load(info) else ()):
            check_call(own, "objectives", ("fitness", "graph"), (), ())
        check_order(self.gates, self.recipe.steps)
        for key, longer in (("remeasure", self.leaders_protocol), ("rerank", self.final_protocol)):
            if longer.recipe.steps < self.recipe.steps:
                steps = f"at least the recipe's {self.recipe.steps}, got {longer.recipe.steps}"
                raise ValueError(f"evolution.{key}.steps: expected {steps}")
        for only in (gate.only for gate in self.gates if isinstance(gate, TrainingGate)):
            if only is not None and only not in self.proxies:
                raise ValueError(f"gates: no proxy '{only}'{did_you_mean(only, self.proxies)}")
        self._check_crop()
        births, first = self.evolution.births, len(self.evolution.warm_start)
        if births < first:
            raise ValueError(
                f"evolution.births: expected one for each of the {counted(first, 'layer')} of warm_start, got {births}"
            )
        if self.execution.cuda_graphs and self.workers.device == "cpu":
            raise ValueError("execution.cuda_graphs: true, but workers.device is cpu; expected false, or auto or cuda")
        for key in ("warm_start", "neighbours_of"):
            for name in getattr(self.evolution, key):
                if reason := self.space.refusal(name):
                    raise ValueError(f"evolution.{key}: {name}: {reason}")
        self._check_text()
        for name, proxy in self.proxies.items():
            if not isinstance(proxy, OwnArchitecture):  # of which only a trial on images tells the sites
                network = size(proxy, self._side, self.text.context)
                self._check_size(name, network)
                self.check_groups(name, network.channels)
        return self

    @property
    def _side(self) -> int:
        """The side of the images of a training step; 1, which bounds nothing, where their files say it."""
        return self.recipe.crop or self.data.image_size or NATIVE_SIZES.get(self.data.source, 1)

    def _check_size(self, name: str, network: Size) -> None:
        """Raises ValueError for a network that no machine can train, before anything is built."""
        if reason := network.excess(min(self.recipe.batch_size, self.data.train)):
            raise ValueError(f"proxies.{name}: {reason}")

    def check_groups(self, proxy: str, channels: tuple[int, ...]) -> None:
        """Raises ValueError unless every site, of so many channels, has at least two groups of two channels; else ghw
        would silently be hw or chw."""
        asked = self.proxies[proxy].groups
        for each in channels if "ghw" in self.space.index_sets else ():
            groups = lowered_groups(asked, each)
            if groups < 2 or each // groups < 2:
                same = "chw" if groups < 2 else "hw"
                raise InputError(
                    f"proxies.{proxy}.groups: with {asked}, a site of {counted(each, 'channel')} has "
                    f"{counted(groups, 'group')}, so that ghw is {same}; expected at least 2 groups of 2 channels"
                )

    def _check_text(self) -> None:
        """Raises ValueError where a layer of the space could see the bytes that a network predicts."""
        over = [each for each in self.space.index_sets if each in FORESEEING]
        if self.in_bits and over:
            raise ValueError(
                f"space.index_sets: over {', '.join(over)} a layer sees the bytes after a position, which "
                f"proxies.{self.in_bits[0]} predicts; expected c, or c and bhw"
            )

    def _check_crop(self) -> None:
        crop, asked, native = self.recipe.crop, self.data.image_size, NATIVE_SIZES.get(self.data.source)
        if crop and asked and crop > asked:
            raise ValueError(f"recipe.crop: {crop} is larger than data.image_size, {asked}")
        if crop and not asked and native and crop > native:
            raise ValueError(f"recipe.crop: {crop} is larger than the images of {self.data.source}, {native}")
