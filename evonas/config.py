"""The YAML of a run: composed of the protocol's types, validated, with errors that point at the line."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator
from torch import nn

from search_space import catalog
from search_space.errors import InputError, did_you_mean
from search_space.primitives import ELEMENTWISE
from search_space.space import PAPER_INDEX_SETS, PAPER_LEAVES, Space
from workers.architectures import build
from workers.protocol import (
    SCREENING,
    Count,
    Data,
    Execution,
    Frozen,
    Gate,
    Protocol,
    Proxy,
    Quality,
    Recipe,
    Share,
)

BASELINE = "BN-ReLU"  # what every layer is compared with


def _gate_by_name(value: Any) -> Any:
    """`finite` and `quality: {steps: 30}` are how a person writes a gate."""
    if isinstance(value, str):
        return {"gate": value}
    if isinstance(value, dict) and len(value) == 1 and "gate" not in value:
        ((name, options),) = value.items()
        if options is None or isinstance(options, dict):
            return {"gate": name, **(options or {})}
    return value


class SpaceConfig(Frozen):
    """Which graphs may be drawn: see search_space.space.Space."""

    nodes: Count = 10
    primitives: Literal["paper"] | tuple[str, ...] = Field(
        "paper", description="the elementwise ones, or paper for all 12"
    )
    aggregations: tuple[str, ...] = ("mean", "rms", "std")
    index_sets: tuple[str, ...] = PAPER_INDEX_SETS
    leaves: tuple[str, ...] = PAPER_LEAVES

    @model_validator(mode="after")
    def _valid(self) -> "SpaceConfig":
        assert self.space.ops  # building it raises InputError, a ValueError
        return self

    @cached_property
    def space(self) -> Space:
        primitives = ELEMENTWISE if self.primitives == "paper" else self.primitives
        return Space(self.nodes, primitives, self.aggregations, self.index_sets, self.leaves)


class Rerank(Frozen):
    """The end of a search: the best `top` and BN-ReLU are trained again, with `seeds` fresh seeds."""

    top: Annotated[int, Field(ge=0)] = 5
    seeds: Count = 2
    baselines: tuple[str, ...] = Field((), description="more catalog layers for the final table")

    @field_validator("baselines")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            catalog.catalog[name]
        return names


class Evolution(Frozen):
    """The asynchronous evolution of arXiv:2004.02967, section 4 (remembered but for the mutation and the selection)."""

    births: Count = Field(400, description="candidates to propose")
    minutes: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="propose no more after so long, counted anew by a resume; such a run cannot be re-run exactly"
    )
    population: Annotated[int, Field(ge=2)] = Field(
        64, description="the newest survivors, from which parents are drawn"
    )
    initial: Count = Field(1, description="survivors to find among random graphs before the first tournament")
    tournament_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    random_share: Share = Field(0.5, description="of the births are fresh random graphs; 1.0 is random search")
    mutations: Count = Field(2, description="applied to a tournament's winner")
    selection: Literal["pareto", "average"] = "pareto"
    duplicates: Literal["mutate_again", "inherit", "evaluate"] = "mutate_again"
    rerank: Rerank = Rerank()


class Workers(Frozen):
    """The processes that evaluate; `auto` takes as many as the machine or the cluster holds."""

    count: Count | Literal["auto"] = "auto"
    cpus: Count = Field(1, description="threads of a worker")
    gpus: Annotated[float, Field(ge=0.0)] = Field(0.0, description="a worker's share of a GPU, or a number of GPUs")
    time_limit_seconds: Annotated[float, Field(gt=0.0)] = Field(600.0, description="for one evaluation")


class Cluster(Frozen):
    """Where the workers run: `in_process` (one, for debugging), `local`, or the address of a Ray cluster."""

    address: str = "local"


class StoreConfig(Frozen):
    """`null` is SQLite in the run's folder."""

    url: str | None = None


class Config(Frozen):
    """The whole of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    space: SpaceConfig = SpaceConfig()
    data: Data = Data()
    recipe: Recipe = Recipe()
    proxies: dict[str, Proxy]
    gates: tuple[Annotated[Gate, BeforeValidator(_gate_by_name)], ...] = ()
    objectives: tuple[Literal["accuracy", "nodes"], ...] = ("accuracy",)
    evolution: Evolution = Evolution()
    execution: Execution = Execution()
    workers: Workers = Workers()
    cluster: Cluster = Cluster()
    store: StoreConfig = StoreConfig()

    @property
    def protocol(self) -> Protocol:
        return Protocol(
            data=self.data, recipe=self.recipe, proxies=self.proxies, gates=self.gates, execution=self.execution
        )

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if not self.proxies:
            raise ValueError("proxies: expected at least one")
        if "accuracy" not in self.objectives:
            raise ValueError(f"objectives: expected accuracy among them, got {', '.join(self.objectives) or 'none'}")
        screening = [isinstance(gate, SCREENING) for gate in self.gates]
        if screening != sorted(screening, reverse=True):
            raise ValueError("gates: depends_on_x and finite need no training and come first")
        for gate in self.gates:
            if isinstance(gate, Quality) and gate.steps > self.recipe.steps:
                raise ValueError(f"gates: quality after {gate.steps} steps, but recipe.steps is {self.recipe.steps}")
        if self.data.image_size and self.recipe.crop and self.recipe.crop > self.data.image_size:
            raise ValueError(f"recipe.crop: {self.recipe.crop} is larger than data.image_size, {self.data.image_size}")
        if "ghw" in self.space.index_sets:
            for name, proxy in self.proxies.items():
                _check_groups(name, proxy)
        return self


def _check_groups(name: str, proxy: Any) -> None:
    """Every site has at least two groups of two channels; else ghw would silently be hw or chw."""
    sites: set[int] = set()

    def count(num_features: int, channel_dim: int = 1) -> nn.Module:
        sites.add(num_features)
        return nn.Identity()

    with torch.device("meta"):  # sizes alone: no memory, no random numbers
        build(proxy, count, 3, 10)
    for channels in sorted(sites):
        groups = next(g for g in range(min(proxy.groups, channels), 0, -1) if channels % g == 0)
        if groups < 2 or channels // groups < 2:
            same = "chw" if groups < 2 else "hw"
            raise ValueError(
                f"proxies.{name}.groups: with {proxy.groups}, a site of {channels} channels has {groups} "
                f"group{'s' * (groups > 1)}, so that ghw is {same}; expected at least 2 groups of 2 channels"
            )


# --------------------------------------------------------------------------- reading


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `1e8` is a number, `2026-11-22` a text, `yes` a text."""


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list(_first))


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as something else."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def dump_config(config: Config | Mapping[str, Any]) -> str:
    """A config as YAML that `parse_config` reads; the order of the proxies is kept."""
    raw = config.model_dump(mode="json") if isinstance(config, Config) else dict(config)
    return yaml.dump(raw, Dumper=_Dumper, sort_keys=False)


def load_config(path: str | Path, settings: Sequence[str] = ()) -> Config:
    """Read and validate a YAML file, with `key.key=value` settings laid over it. Raises InputError in one line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [str(each) for each in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file{did_you_mean(str(path), beside) if beside else ''}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return parse_config(text, str(path), settings)


def parse_config(text: str, where: str = "config", settings: Sequence[str] = ()) -> Config:
    """As `load_config`, of text."""
    try:
        root = yaml.compose(text, _Loader)
        raw = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{where}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{where}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(raw, dict) or root is None:
        raise InputError(f"{where}:1: expected keys such as name and proxies, found {type(raw).__name__}")
    _refuse_double_keys(root, where)
    overrides = dict(_setting(raw, each) for each in settings)
    try:
        return Config.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        details = error.errors()
        first = details[0]
        reason, path = _reason(first), _yaml_path(raw, first["loc"])
        named, colon, rest = reason.partition(": ")
        inner = [*path, *named.split(".")]
        if first["type"] == "value_error" and colon and _yaml_path(raw, tuple(inner)) == inner:
            reason, path = rest, inner  # a contradiction that names its key
        dotted = ".".join(map(str, path))
        place = f"--set {dotted}" if dotted in overrides else f"{where}:{_line(root, path)}: {dotted}".rstrip(": ")
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise InputError(f"{place}: {reason}{more}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None


def _setting(raw: dict[str, Any], setting: str) -> tuple[str, Any]:
    """Lay `a.b=c` over the raw config."""
    key, equals, value = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {setting}: expected key=value, such as evolution.births=100")
    try:
        parsed = yaml.load(value, _Loader)
    except yaml.YAMLError:
        raise InputError(f"--set {setting}: '{value}' is not a YAML value") from None
    place: Any = raw
    for part in parts[:-1]:
        place = _step(place, part, setting)
    if isinstance(place, list):
        _step(place, parts[-1], setting)
        place[int(parts[-1])] = parsed
    else:
        place[parts[-1]] = parsed
    return ".".join(parts), parsed


def _step(place: Any, part: str, setting: str) -> Any:
    if isinstance(place, dict):
        if place.get(part) is None:
            place[part] = {}
        inner = place[part]
    elif isinstance(place, list) and part.isdigit() and int(part) < len(place):
        inner = place[int(part)]
    else:
        raise InputError(f"--set {setting}: there is no '{part}' to set")
    return inner


def _refuse_double_keys(node: yaml.Node, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InputError(f"{where}:{key.start_mark.line + 1}: '{key.value}' stands twice")
            seen.add(key.value)
            _refuse_double_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_double_keys(value, where)


def _yaml_path(raw: Any, location: tuple[str | int, ...]) -> list[str | int]:
    """The error's location without the union tags that are no keys of the file; a missing last key stays."""
    path: list[str | int] = []
    place = raw
    for position, part in enumerate(location):
        is_last = position == len(location) - 1
        if isinstance(place, dict) and (part in place or (is_last and isinstance(part, str) and part not in _TAGS)):
            path.append(part)
            place = place.get(part)
        elif isinstance(place, list) and isinstance(part, int) and part < len(place):
            path.append(part)
            place = place[part]
    return path


def _line(root: yaml.Node, path: Sequence[str | int]) -> int:
    node, line = root, root.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1


def _reason(error: Mapping[str, Any]) -> str:
    kind, got, context = error["type"], error["input"], error.get("ctx", {})
    shown = f"{got!r}" if len(f"{got!r}") < 60 else f"{f'{got!r}':.57}..."
    match kind:
        case "extra_forbidden":
            return f"unknown key{did_you_mean(str(error['loc'][-1]), _valid_keys(error['loc']))}"
        case "missing":
            return "missing"
        case "union_tag_invalid":
            tag = context["tag"]
            return f"unknown {context['discriminator'].strip(chr(39))} '{tag}'" + did_you_mean(
                tag, [each.strip(" '") for each in context["expected_tags"].split(",")]
            )
        case "union_tag_not_found":
            return f"{context['discriminator'].strip(chr(39))} is missing in {shown}"
        case "literal_error":
            expected = context["expected"]
            options = expected.replace("'", "").replace(" or ", ", ").split(", ")
            return f"expected {expected}, got {shown}" + (did_you_mean(got, options) if isinstance(got, str) else "")
        case "value_error":
            return str(context["error"])
        case _:
            return f"{str(error['msg'])[:1].lower()}{str(error['msg'])[1:]}, got {shown}".replace(
                "input should", "should"
            )


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _tag(model: type[BaseModel]) -> str | None:
    for name in ("architecture", "gate"):
        if name in model.model_fields:
            return str(get_args(model.model_fields[name].annotation)[0])
    return None


_TAGS = {_tag(model) for name in ("proxies", "gates") for model in _models(Config.model_fields[name].annotation)}


def _valid_keys(location: tuple[str | int, ...]) -> list[str]:
    """The keys that the file may have at an error's place."""
    models: list[type[BaseModel]] = [Config]
    for part in location[:-1]:
        inner = [
            model.model_fields[part].annotation
            for model in models
            if isinstance(part, str) and part in model.model_fields
        ]
        if inner:
            models = [model for annotation in inner for model in _models(annotation)]
        elif part in _TAGS:
            models = [model for model in models if _tag(model) == part]
    return sorted({name for model in models for name in model.model_fields})
