"""Configs: the shipped ones load, each key has its limits, and an outcome depends on the protocol alone."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from evonas.cli.search import REFERENCE, VALIDATION
from evonas.config import BASELINE, Config
from evonas.config_file import dump_config, load_config, parse_config
from evonas.search_space.space import PAPER_PRIMITIVES
from evonas.workers.gates.depends_on_x import DependsOnX
from evonas.workers.gates.finite import Finite
from evonas.workers.gates.quality import Quality
from evonas.workers.gates.stability import Stability
from evonas.workers.protocol import Protocol
from evonas.workers.proxies import PreactResNet
from tests.conftest import ROOT
from tests.evonas.config_cases import TEXT, changed, complaint

SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))
NAMES = [path.stem for path in SHIPPED]


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_shipped_configs_load(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert len(config.proxies) >= (2 if config.baseline == BASELINE else 1)  # a transformer of its own
    if path.stem.endswith((REFERENCE, VALIDATION)):  # every layer is trained to the end, and nothing is searched
        assert (config.gates, config.evolution.births) == ((), 1)
    else:
        assert config.gates


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if path.stem.endswith(REFERENCE)], ids=lambda path: path.stem
)
def test_a_reference_is_ten_times_as_long_on_the_same_images(path: Path) -> None:
    """More of them may validate."""
    long, short = load_config(path), load_config(path.with_stem(path.stem.removesuffix(REFERENCE)))
    assert long.recipe.steps >= 10 * short.recipe.steps
    assert (long.data.image_size or 0) >= 2 * (short.data.image_size or 0)
    assert long.data.validation >= short.data.validation
    same = {"image_size": None, "validation": 1}
    assert long.data.model_copy(update=same) == short.data.model_copy(update=same)


def test_finds_are_validated_at_ten_times_the_budget_where_the_search_did_not_look() -> None:
    search, larger, networks, fashion = (
        load_config(ROOT / "configs" / f"{name}.yaml")
        for name in ("cifar10", "cifar10-validation", "cifar10-networks-validation", "fashion-validation")
    )
    for each in (larger, networks, fashion):
        assert each.recipe.steps >= 10 * search.recipe.steps
        assert each.data.test == 0 or each.data.model_copy(update={"image_size": 16}) == search.data
    assert larger.proxies == fashion.proxies == search.proxies
    assert larger.recipe.learning_rate == search.recipe.learning_rate
    assert not {*networks.proxies.values()} & {*search.proxies.values()}
    assert (fashion.data.source, fashion.data.train + fashion.data.validation) == ("FashionMNIST", 60_000)


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_shipped_configs_are_complete(path: Path) -> None:
    """A config is the whole run: every section stands in the file."""
    written = yaml.safe_load(path.read_text())
    reads_text = any(each["architecture"] == "gpt" for each in written["proxies"].values())
    unread = "data" if reads_text else "text"
    plugins = "plugins"  # evonas writes it
    assert set(Config.model_fields) - set(written) <= {"objectives", "baseline", plugins, unread}


def test_the_table_is_read_as_it_stands() -> None:
    config = parse_config(TEXT)
    assert (config.name, config.seed, config.space.nodes, config.recipe.learning_rate) == ("table", 3, 6, 0.1)
    assert config.gates == (DependsOnX(), Finite(), Quality(steps=10, of_baseline=0.5), Stability(steps=5))
    assert config.proxies["small"] == PreactResNet(architecture="preact_resnet", width=8, blocks=(1, 1), groups=4)
    assert config.space.unconstrained.nodes == 6
    assert set(PAPER_PRIMITIVES) < set(config.space.unconstrained.ops)


def test_the_protocol_is_the_configs_part_that_decides_an_outcome() -> None:
    config = parse_config(TEXT)
    protocol = config.protocol
    assert protocol.primitives == config.space.own  # what formulas are read with
    for name in Protocol.model_fields.keys() - {"primitives"}:
        assert getattr(protocol, name) == getattr(config, name)
    assert parse_config(TEXT, settings=["seed=9", "evolution.births=3", "workers.count=1"]).protocol == protocol
    assert parse_config(TEXT, settings=["recipe.steps=21"]).protocol != protocol


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_config_round_trips_through_json_and_yaml(path: Path) -> None:
    config = load_config(path)
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert Config.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config
    assert parse_config(dump_config(config)) == config
    assert Protocol.model_validate_json(config.protocol.model_dump_json()) == config.protocol


def test_a_network_too_large_for_this_machine_may_be_meant_for_another() -> None:
    assert parse_config(TEXT, settings=["proxies.small.width=2000"]).proxies["small"].width == 2000


def test_gates_of_one_kind_are_told_apart() -> None:
    """In the funnel each has its own row."""
    several = "  - amplification\n  - amplification: {at: constant}\n  - finite:"
    gates = parse_config(changed("  - finite:", several)).gates
    assert [gate.label for gate in gates[1:3]] == ["amplification position", "amplification constant"]


def test_groups_matter_only_where_the_space_has_them() -> None:
    text = changed("groups: 4", "groups: 8").replace("{nodes: 6}", "{index_sets: [bhw, hw]}")
    assert parse_config(text).proxies["small"].groups == 8


def test_configs_do_not_change() -> None:
    config = parse_config(TEXT)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 4  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.evolution.births = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    "blocks", ["[1e30]", "[9223372036854775808]", "[100000]", "[1, 1001]", "[1, 1, 1, 1, 1, 1, 1, 1, 1]"]
)
def test_a_network_of_too_many_blocks_is_refused(blocks: str) -> None:
    assert complaint(changed("blocks: [1, 1]", f"blocks: {blocks}")).startswith("run.yaml:14: proxies.small.blocks")
    assert complaint(changed("blocks: 1, stride", f"blocks: {blocks}, stride")).startswith("run.yaml:20: proxies.rows.")


def test_the_layers_of_a_deep_network_are_counted() -> None:
    """Two of a basic block, and the last before the head."""
    deep = changed("blocks: [1, 1]", "blocks: [400, 99]")
    assert parse_config(deep).proxies["small"].blocks == (400, 99)
    deeper = changed("blocks: [1, 1]", f"blocks: {[1000] * 8}")
    assert complaint(deeper) == ("run.yaml:11: proxies.small: a network of 16,001 layers; expected at most 1,000")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "births: 10",
            "population: 1e30",
            "run.yaml:28: evolution.population: should be a valid integer, got 1e+30",
        ),
        (
            "births: 10",
            "population: 1000000000000000000000000000000",
            "run.yaml:28: evolution.population: should be less than or equal to 1000000000, got 1" + "0" * 30,
        ),
        (
            "image_size: 8",
            'source: folder, path: "a\\0b"',
            "run.yaml:5: data.path: expected one line without control characters, got 'a\\x00b'",
        ),
        (
            "seed: 3",
            'store: {url: "sqlite:///a\\0b.db"}',
            "run.yaml:3: store.url: expected one line without control characters, got 'sqlite:///a\\x00b.db'",
        ),
        (
            "name: table",
            f"name: {'x' * 300}",
            f"run.yaml:2: name: string should have at most 100 characters, got '{'x' * 56}...",
        ),
    ],
)
def test_numbers_and_texts_have_limits(old: str, new: str, message: str) -> None:
    assert complaint(changed(old, new)) == message


def test_a_space_may_have_many_learned_leaves() -> None:
    leaves = ["x", *(f"scalar({i})" for i in range(99))]
    assert len(parse_config(changed("{nodes: 6}", f"{{leaves: [{', '.join(leaves)}]}}")).space.leaves) == 100
    leaves.append("scalar(99)")
    assert "at most 100" in complaint(changed("{nodes: 6}", f"{{leaves: [{', '.join(leaves)}]}}"))


def leaves_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The plain types that a field's values are made of, with what limits them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from leaves_of(annotation.__origin__, (*metadata, *annotation.__metadata__))
    elif origin in (Union, UnionType):
        for each in get_args(annotation):
            yield from leaves_of(each, metadata)
    elif origin in (tuple, dict):
        yield origin, metadata
        for each in get_args(annotation):
            if each is not ...:
                yield from leaves_of(each)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for field in annotation.model_fields.values():
            yield from leaves_of(field.annotation, tuple(field.metadata))
    elif origin is not Literal:
        yield annotation, metadata


def test_everything_that_a_config_may_ask_has_a_limit() -> None:
    """A new field cannot do without."""
    seen = Counter[Any]()
    for kind, metadata in leaves_of(Config):
        limits = {name for each in metadata for one in getattr(each, "metadata", [each]) for name in vars_of(one)}
        if kind in (int, float):
            assert limits & {"le", "lt"}, (kind, metadata)
        elif kind in (str, tuple, dict):
            assert "max_length" in limits, (kind, metadata)
        else:
            assert kind in (bool, NoneType, Any), kind  # Any: options of a user's own function
        seen[kind] += 1
    assert min(seen[kind] for kind in (int, float, str, tuple, dict)) > 0


def vars_of(constraint: Any) -> set[str]:
    return {name for name in ("le", "lt", "max_length") if getattr(constraint, name, None) is not None}
