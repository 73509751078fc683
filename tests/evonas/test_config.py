"""Configs: the shipped ones load, bad ones say where, what and what instead, in one line."""

import copy
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from evonas.config import Config
from evonas.config_file import dump_config, load_config, parse_config
from evonas.search_space.errors import InputError
from evonas.search_space.graph import NODES_MAX
from evonas.search_space.space import PAPER_PRIMITIVES
from evonas.workers.gates.depends_on_x import DependsOnX
from evonas.workers.gates.finite import Finite
from evonas.workers.gates.quality import Quality
from evonas.workers.gates.signal import Signal
from evonas.workers.gates.stability import Stability
from evonas.workers.protocol import PreactResNet, Protocol
from tests.conftest import ROOT, TINY
from tests.evonas.config_fuzz import LAUGHS, paths

SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))
NAMES = [path.stem for path in SHIPPED]

TEXT = """\
# line 1
name: table
seed: 3
space: {nodes: 6}
data: {image_size: 8, train: 256, validation: 100}
recipe:
  steps: 20
  learning_rate: 0.1
  schedule: cosine
proxies:
  small:
    architecture: preact_resnet
    width: 8
    blocks: [1, 1]
    groups: 4
  rows:
    architecture: mobilenet_v2
    width: 0.25
    stages:
      - {expand: 1, channels: 32, blocks: 1, stride: 2}
gates:
  - depends_on_x
  - finite:
  - quality: {steps: 10, of_baseline: 0.5}
  - stability:
      steps: 5
evolution:
  births: 10
  tournament_share: 0.1
  rerank: {top: 1}
"""


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def complaint(text: str, *settings: str) -> str:
    """The one line that is said of a bad config."""
    with pytest.raises(InputError) as caught:
        parse_config(text, "run.yaml", settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def set_complaint(*settings: str) -> str:
    return complaint(TEXT, *settings)


# --------------------------------------------------------------------------- good ones


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_shipped_configs_load(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert len(config.proxies) >= 2
    assert any(isinstance(gate, Stability) for gate in config.gates)


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_shipped_configs_are_complete(path: Path) -> None:
    """A config is the whole run: every section stands in the file."""
    written = yaml.safe_load(path.read_text())
    assert set(Config.model_fields) - set(written) <= {"objectives"}


def test_the_table_is_read_as_it_stands() -> None:
    config = parse_config(TEXT)
    assert (config.name, config.seed, config.space.nodes, config.recipe.learning_rate) == ("table", 3, 6, 0.1)
    assert config.gates == (DependsOnX(), Finite(), Quality(steps=10, of_baseline=0.5), Stability(steps=5))
    assert config.proxies["small"] == PreactResNet(architecture="preact_resnet", width=8, blocks=(1, 1), groups=4)
    assert config.space.graphs.nodes == 6
    assert set(PAPER_PRIMITIVES) < set(config.space.graphs.ops)


def test_the_protocol_is_the_configs_part_that_decides_an_outcome() -> None:
    config = parse_config(TEXT)
    protocol = config.protocol
    for name in Protocol.model_fields:
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


@pytest.mark.parametrize("name", ["1e5", "007", "true", "null", "a-b.c_d", "2026-11-22", "0x1F", "1_000", "on"])
def test_any_name_survives_the_resolved_file(name: str) -> None:
    """The store and the run's folder keep what YAML might take for a number."""
    config = Config.model_validate_json(json.dumps({**copy.deepcopy(TINY), "name": name}))
    assert parse_config(dump_config(config)) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e8", 1e8),
        ("1E8", 1e8),
        ("1.0e+8", 1e8),
        ("2.5e-3", 2.5e-3),
        ("100000000", 1e8),
        (".5", 0.5),
        ("5.", 5.0),
        ("010", 10),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    """YAML 1.1 takes 1e8 for a text."""
    config = parse_config(changed("      steps: 5", f"      gradient_norm_max: {text}"))
    (gate,) = [each for each in config.gates if isinstance(each, Stability)]
    assert gate.gradient_norm_max == value


@pytest.mark.parametrize("word", ["yes", "no", "on", "off"])
def test_only_true_and_false_are_booleans(word: str) -> None:
    assert complaint(changed("  steps: 20", f"  flip: {word}")).startswith("run.yaml:7: recipe.flip: ")
    assert parse_config(changed("name: table", f"name: {word}")).name == word


def test_reading_a_config_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    parse_config(TEXT)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_too_large_for_this_machine_may_be_meant_for_another() -> None:
    assert parse_config(TEXT, settings=["proxies.small.width=1000000"]).proxies["small"].width == 1_000_000


# --------------------------------------------------------------------------- bad ones


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # unknown keys
        ("seed: 3", "sed: 3", "run.yaml:3: sed: unknown key; did you mean 'seed'?"),
        (
            "tournament_share",
            "tournement_share",
            "run.yaml:29: evolution.tournement_share: unknown key; did you mean 'tournament_share'?",
        ),
        ("width: 8", "wdth: 8", "run.yaml:13: proxies.small.wdth: unknown key; did you mean 'width'?"),
        ("      steps: 5", "      stps: 5", "run.yaml:26: gates.3.stability.stps: unknown key; did you mean 'steps'?"),
        ("{steps: 10,", "{stp: 10,", "run.yaml:24: gates.2.quality.stp: unknown key; did you mean 'steps'?"),
        ("{top: 1}", "{tpo: 1}", "run.yaml:30: evolution.rerank.tpo: unknown key; did you mean 'top'?"),
        (
            "blocks: 1, stride",
            "block: 1, stride",
            "run.yaml:20: proxies.rows.stages.0.blocks: missing (and 1 more)",
        ),
        (
            "stride: 2}",
            "stride: 2, kernl: 3}",
            "run.yaml:20: proxies.rows.stages.0.kernl: unknown key; did you mean 'kernel'?",
        ),
        # types
        ("seed: 3", "seed: three", "run.yaml:3: seed: should be a valid integer, got 'three'"),
        ("seed: 3", "seed: true", "run.yaml:3: seed: should be a valid integer, got True"),
        ("seed: 3", "seed: 3.5", "run.yaml:3: seed: should be a valid integer, got 3.5"),
        ("seed: 3", "seed:", "run.yaml:3: seed: should be a valid integer, got None"),
        ("seed: 3", "seed: '3'", "run.yaml:3: seed: should be a valid integer, got '3'"),
        ("name: table", "name: 3", "run.yaml:2: name: should be a valid string, got 3"),
        ("{nodes: 6}", "6", "run.yaml:4: space: should be an object, got 6"),
        ("blocks: [1, 1]", "blocks: 2", "run.yaml:14: proxies.small.blocks: should be a valid array, got 2"),
        ("steps: 20", "crop: true", "run.yaml:7: recipe.crop: should be a valid integer, got True"),
        (
            "learning_rate: 0.1",
            "learning_rate: false",
            "run.yaml:8: recipe.learning_rate: should be a valid number, got False",
        ),
        ("train: 256", "path: [a]", "run.yaml:5: data.path: should be a valid string, got ['a']"),
        # ranges
        ("births: 10", "births: 0", "run.yaml:28: evolution.births: should be greater than or equal to 1, got 0"),
        ("seed: 3", "seed: -1", "run.yaml:3: seed: should be greater than or equal to 0, got -1"),
        (
            "tournament_share: 0.1",
            "tournament_share: 1.5",
            "run.yaml:29: evolution.tournament_share: should be less than or equal to 1, got 1.5",
        ),
        ("learning_rate: 0.1", "learning_rate: 0", "run.yaml:8: recipe.learning_rate: should be greater than 0, got 0"),
        ("[1, 1]", "[1, 0]", "run.yaml:14: proxies.small.blocks.1: should be greater than or equal to 1, got 0"),
        ("nodes: 6", "nodes: 1000", f"run.yaml:4: space.nodes: expected 1 to {NODES_MAX}, got 1000"),
        ("stride: 2}", "stride: 3}", "run.yaml:20: proxies.rows.stages.0.stride: expected 1 or 2, got 3"),
        (
            "name: table",
            "name: a/b",
            "run.yaml:2: name: string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', got 'a/b'",
        ),
        # names
        (
            "schedule: cosine",
            "schedule: cosin",
            "run.yaml:9: recipe.schedule: expected 'constant' or 'cosine', got 'cosin'; did you mean 'cosine'?",
        ),
        (
            "- depends_on_x",
            "- depend_on_x",
            "run.yaml:22: gates.0: unknown gate 'depend_on_x'; did you mean 'depends_on_x'?",
        ),
        ("- stability:", "- stablity:", "run.yaml:25: gates.3: unknown gate 'stablity'; did you mean 'stability'?"),
        (
            "architecture: preact_resnet",
            "architecture: resnet",
            "run.yaml:11: proxies.small: unknown architecture 'resnet'; did you mean 'preact_resnet'?",
        ),
        (
            "{nodes: 6}",
            "{index_sets: [hw, hwb]}",
            "run.yaml:4: space.index_sets: unknown name 'hwb'; did you mean 'hw'?",
        ),
        (
            "{nodes: 6}",
            "{primitives: [sigmod]}",
            "run.yaml:4: space.primitives: unknown name 'sigmod'; did you mean 'sigmoid'?",
        ),
        (
            "{nodes: 6}",
            "{leaves: [x, y]}",
            "run.yaml:4: space.leaves: y: the proxies give a layer one input, x; graphs with y are written by hand",
        ),
        (
            "{nodes: 6}",
            "{leaves: [x, vectr(1)]}",
            "run.yaml:4: space.leaves: 'vectr(1)': graph text, line 1, column 1: unknown primitive 'vectr'; "
            "did you mean 'vector'?",
        ),
        (
            "{nodes: 6}",
            "{sampler: all}",
            "run.yaml:4: space.sampler: expected 'uniform' or 'depends_on_x', got 'all'",
        ),
        ("{nodes: 6}", "{leaves: [v0]}", "run.yaml:4: space.leaves: expected x among them, got v0"),
        (
            "{nodes: 6}",
            "{aggregations: [mean, mean]}",
            "run.yaml:4: space.aggregations: a name stands twice in mean, mean",
        ),
        (
            "{top: 1}",
            "{baselines: [BN-RELU]}",
            "run.yaml:30: evolution.rerank.baselines: unknown layer 'BN-RELU'; did you mean 'BN-ReLU'?",
        ),
        (
            "{top: 1}",
            "{baselines: [PCNorm]}",
            "run.yaml:30: evolution.rerank.baselines: PCNorm is no layer that can be built here: needs a "
            "two-dimensional Fourier transform and complex values",
        ),
        (
            "{top: 1}",
            "{baselines: [FAdaIN]}",
            "run.yaml:30: evolution.rerank.baselines: FAdaIN takes two inputs, x and y; the proxies give a layer one",
        ),
        (
            "{image_size: 8,",
            "{source: embeded,",
            "run.yaml:5: data.source: expected 'embedded', 'folder', 'CIFAR10', 'CIFAR100', 'SVHN' or 'FashionMNIST', "
            "got 'embeded'; did you mean 'embedded'?",
        ),
        # what is missing or too much
        (
            "    architecture: preact_resnet\n",
            "",
            "run.yaml:11: proxies.small: architecture is missing in {'width': 8, 'blocks': [1, 1], 'groups': 4}",
        ),
        ("{image_size: 8,", "{source: folder,", "run.yaml:5: data.path: missing; an image folder needs one"),
        (
            "{image_size: 8,",
            "{path: images,",
            "run.yaml:5: data.path: 'images' is never read; only the sources other than embedded have one",
        ),
        (", of_baseline: 0.5", "", "run.yaml:24: gates.2.quality: expected one of of_baseline and min_accuracy"),
        (
            "of_baseline: 0.5",
            "of_baseline: 0.5, min_accuracy: 0.2",
            "run.yaml:24: gates.2.quality: expected one of of_baseline and min_accuracy",
        ),
        (
            "stride: 2}",
            "stride: 2}\n    groups: 1",
            "run.yaml:21: proxies.rows.groups: should be greater than or equal to 2, got 1",
        ),
        ("seed: 3", "seed: 3\nseed: 4", "run.yaml:4: 'seed' stands twice"),
        ("width: 8", "width: 8\n    width: 9", "run.yaml:14: 'width' stands twice"),
        ("stride: 2}", "stride: 2, expand: 2}", "run.yaml:20: 'expand' stands twice"),
    ],
)
def test_mistakes_of_one_place(old: str, new: str, message: str) -> None:
    assert complaint(changed(old, new)) == message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  - depends_on_x\n  - finite:\n",
            "  - stability\n  - finite:\n",
            "run.yaml:21: gates: finite needs the layer alone and comes before stability",
        ),
        (
            "{steps: 10,",
            "{steps: 21,",
            "run.yaml:21: gates: quality after 21 steps, but recipe.steps is 20",
        ),
        (
            "  - finite:",
            "  - rung: {steps: 10}\n  - rung: {steps: 10}\n  - finite:",
            "run.yaml:21: gates: finite needs the layer alone and comes before rung",
        ),
        (
            "groups: 4",
            "groups: 8",
            "run.yaml:15: proxies.small.groups: with 8, a site of 8 channels has 8 groups, so that ghw is hw; "
            "expected at least 2 groups of 2 channels",
        ),
        (
            "width: 8",
            "width: 7",
            "run.yaml:15: proxies.small.groups: with 4, a site of 7 channels has 1 group, so that ghw is chw; "
            "expected at least 2 groups of 2 channels",
        ),
        (
            "steps: 20",
            "steps: 20\n  crop: 9",
            "run.yaml:8: recipe.crop: 9 is larger than data.image_size, 8",
        ),
        (
            "seed: 3",
            "seed: 3\nobjectives: [nodes]",
            "run.yaml:4: objectives: expected accuracy among them, got nodes",
        ),
        ("seed: 3", "seed: 3\nobjectives: []", "run.yaml:4: objectives: expected accuracy among them, got none"),
    ],
)
def test_contradictions_between_places_point_at_one_of_them(old: str, new: str, message: str) -> None:
    assert complaint(changed(old, new)) == message


def test_contradictions_say_what_contradicts_what() -> None:
    """As above, whatever the line."""
    assert "gates: finite needs the layer alone and comes before stability" in complaint(
        changed("- depends_on_x", "- stability")
    )
    assert "quality after 21 steps, but recipe.steps is 20" in complaint(changed("{steps: 10,", "{steps: 21,"))
    assert "with 8, a site of 8 channels has 8 groups, so that ghw is hw" in complaint(
        changed("groups: 4", "groups: 8")
    )
    assert "9 is larger than data.image_size, 8" in complaint(changed("steps: 20", "crop: 9"))
    assert "with 4, a site of 7 channels has 1 group, so that ghw is chw" in complaint(changed("width: 8", "width: 7"))
    assert "objectives: expected accuracy among them, got nodes" in set_complaint("objectives=[nodes]")
    assert "objectives: expected accuracy among them, got none" in set_complaint("objectives=[]")


def test_gates_of_one_kind_are_told_apart() -> None:
    """In the funnel each has its own row."""
    several = "  - amplification\n  - amplification: {at: constant}\n  - finite:"
    gates = parse_config(changed("  - finite:", several)).gates
    assert [gate.label for gate in gates[1:3]] == ["amplification position", "amplification constant"]


def test_groups_matter_only_where_the_space_has_them() -> None:
    text = changed("groups: 4", "groups: 8").replace("{nodes: 6}", "{index_sets: [bhw, hw]}")
    assert parse_config(text).proxies["small"].groups == 8


def test_no_proxies() -> None:
    head, _, rest = TEXT.partition("proxies:\n")
    tail = rest[rest.index("gates:") :]
    assert complaint(f"{head}{tail}") == "run.yaml:2: proxies: missing"
    assert complaint(f"{head}proxies: {{}}\n{tail}") == "run.yaml:10: proxies: expected at least one"
    assert complaint(f"{head}proxies:\n{tail}") == "run.yaml:10: proxies: should be an object, got None"


def test_a_proxy_has_a_name() -> None:
    assert "a name is empty" in complaint(changed("  small:", '  "":'))


def test_an_empty_table_of_stages_is_no_network() -> None:
    text = TEXT.replace("    stages:\n      - {expand: 1, channels: 32, blocks: 1, stride: 2}\n", "    stages: []\n")
    assert complaint(text).startswith("run.yaml:19: proxies.rows.stages: ")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("{nodes: 6}", "{primitives: {add: 1}}", "run.yaml:4: space.primitives: "),
        ("seed: 3", "workers: {count: {}}", "run.yaml:3: workers.count: "),
        ("seed: 3", "execution: {compile_from_steps: [1]}", "run.yaml:3: execution.compile_from_steps: "),
        ("seed: 3", "workers: {count: atuo}", "run.yaml:3: workers.count: "),
    ],
)
def test_values_of_two_kinds_are_named_by_their_key(old: str, new: str, place: str) -> None:
    message = complaint(changed(old, new))
    assert message.startswith(place)
    assert " got " in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.yaml:1: expected keys such as name and proxies, found NoneType"),
        ("# nothing\n", "run.yaml:1: expected keys such as name and proxies, found NoneType"),
        ("- a\n- b\n", "run.yaml:1: expected keys such as name and proxies, found list"),
        ("quickstart", "run.yaml:1: expected keys such as name and proxies, found str"),
        ("name: a\nseed: b: c\n", "run.yaml:2: not YAML: mapping values are not allowed here"),
        ("name: a\nproxies: {\n", "run.yaml:3: not YAML: expected the node content, but found '<stream end>'"),
        ("name: a\n\tseed: 1\n", "run.yaml:2: not YAML: found character '\\t' that cannot start any token"),
        ("name: *a\n", "run.yaml:1: not YAML: found undefined alias 'a'"),
        (
            "name: a\x00",
            "run.yaml: not YAML that evonas reads: unacceptable character #x0000: special characters are not allowed",
        ),
        ("name: a\n---\nname: b\n", "run.yaml:2: not YAML: but found another document"),
    ],
)
def test_what_is_no_config_at_all(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3000,
        "a: &a [*a]\n",  # contains itself
        "name: a\nseed: " + "9" * 5000 + "\n",
        "name: a\nseed: !!int abc\n",
        "name: !!binary aGVsbG8=\n",
        "name: !!timestamp 2026-11-22\n",
        "name: !!python/object:os.system [true]\n",
        "? [a]\n: 3\n",
        'name: "\\ud800"\n',
        "null: 3\n1: 2\n",
    ],
)
def test_strange_yaml_is_one_line(text: str) -> None:
    assert complaint(text).startswith("run.yaml")


def test_missing_file(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(TEXT)
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "quikstart.yaml")
    near = tmp_path / "quickstart.yaml"
    assert str(caught.value) == f"{tmp_path / 'quikstart.yaml'}: no such file; did you mean '{near}'?"
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "nowhere" / "a.yaml")
    assert str(caught.value) == f"{tmp_path / 'nowhere' / 'a.yaml'}: no such file"


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    for path in (tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(InputError, match="cannot be read") as caught:
            load_config(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_files_are_named_in_complaints(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(changed("seed: 3", "sed: 3"))
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}:3: sed: unknown key; did you mean 'seed'?"


def test_a_mapping_with_unknown_keys_is_refused() -> None:
    """As a program gives it to `search`."""
    raw = {**copy.deepcopy(TINY), "evolutoin": {"births": 3}}
    text = dump_config(raw)
    line = text.splitlines().index("evolutoin:") + 1
    with pytest.raises(InputError) as caught:
        parse_config(text)
    assert str(caught.value) == f"config:{line}: evolutoin: unknown key; did you mean 'evolution'?"
    with pytest.raises(ValueError, match="evolutoin"):
        Config.model_validate_json(json.dumps(raw))


def test_configs_do_not_change() -> None:
    config = parse_config(TEXT)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 4  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.evolution.births = 4  # type: ignore[misc]


# --------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("seed=7", lambda config: config.seed == 7),
        (" seed = 7 ", lambda config: config.seed == 7),
        ("evolution.births=77", lambda config: config.evolution.births == 77),
        ("recipe.learning_rate=1e-2", lambda config: config.recipe.learning_rate == 0.01),
        ("recipe.flip=true", lambda config: config.recipe.flip is True),
        ("data.path=null", lambda config: config.data.path is None),
        ("proxies.small.blocks.1=3", lambda config: config.proxies["small"].blocks == (1, 3)),
        ("proxies.small.blocks=[2, 2, 2]", lambda config: config.proxies["small"].blocks == (2, 2, 2)),
        ("gates.2.quality.steps=4", lambda config: config.gates[2].steps == 4),
        ("gates.3={stability: {steps: 9}}", lambda config: config.gates[3].steps == 9),
        ("gates.1=signal", lambda config: config.gates[1] == Signal()),
        ("gates=[finite]", lambda config: config.gates == (Finite(),)),
        ("workers.count=2", lambda config: config.workers.count == 2),  # a section that the file lacks
        ("execution={dtype: bfloat16}", lambda config: config.execution.dtype == "bfloat16"),
        ("proxies.new.architecture=efficientnet", lambda config: list(config.proxies) == ["small", "rows", "new"]),
        ("store.url=sqlite:///a=b.db", lambda config: config.store.url == "sqlite:///a=b.db"),
    ],
)
def test_settings_are_laid_over_the_file(setting: str, read: Any) -> None:
    assert not read(parse_config(TEXT)) or setting == "data.path=null"
    assert read(parse_config(TEXT, settings=[setting]))


def test_the_last_setting_wins() -> None:
    assert parse_config(TEXT, settings=["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sed=3", "--set sed: unknown key; did you mean 'seed'?"),
        ("evolution.brths=3", "--set evolution.brths: unknown key; did you mean 'births'?"),
        ("seed=true", "--set seed: should be a valid integer, got True"),
        ("seed=", "--set seed: should be a valid integer, got None"),
        ("evolution.births=0", "--set evolution.births: should be greater than or equal to 1, got 0"),
        (
            "recipe.schedule=cosin",
            "--set recipe.schedule: expected 'constant' or 'cosine', got 'cosin'; did you mean 'cosine'?",
        ),
        ("gates.2.quality.steps=0", "--set gates.2.quality.steps: should be greater than or equal to 1, got 0"),
        ("gates.0=finit", "--set gates.0: unknown gate 'finit'; did you mean 'finite'?"),
        ("proxies.small.blocks.0=0", "--set proxies.small.blocks.0: should be greater than or equal to 1, got 0"),
        ("proxies.small.wdth=3", "--set proxies.small.wdth: unknown key; did you mean 'width'?"),
        ("seed", "--set seed: expected key=value, such as evolution.births=100"),
        ("=3", "--set =3: expected key=value, such as evolution.births=100"),
        ("evolution..births=3", "--set evolution..births=3: expected key=value, such as evolution.births=100"),
        ("gates.9=finite", "--set gates.9: there is no '9' to set"),
        ("gates.first=finite", "--set gates.first: there is no 'first' to set"),
        ("seed=[", "--set seed:1: not YAML: expected the node content, but found '<stream end>'"),
    ],
)
def test_mistakes_of_settings_are_located_there(setting: str, message: str) -> None:
    assert set_complaint(setting) == message


@pytest.mark.parametrize(
    "setting",
    [
        "name.first=a",  # inside a text
        "seed.x=1",  # inside a number
        "gates.0.steps=3",  # inside a gate's name
        "gates.²=finite",
        "seed=" + "9" * 5000,
        "seed=!!int abc",
        "seed=&a [*a]",
        "evolution={births: 0}",  # below what was set
        "proxies.small.blocks=[0]",
    ],
)
def test_impossible_settings_are_located_there(setting: str) -> None:
    assert set_complaint(setting).startswith(f"--set {setting.partition('=')[0]}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["recipe.steps=9"], "--set recipe.steps: gates: quality after 10 steps, but recipe.steps is 9"),
        (
            ["seed=5", "recipe.steps=9", "seed=4"],
            "--set recipe.steps: gates: quality after 10 steps, but recipe.steps is 9",
        ),
        (["objectives=[nodes]"], "--set objectives: expected accuracy among them, got nodes"),
        (
            ["evolution.selection=average", "objectives=[accuracy, nodes]"],
            "--set evolution.selection: average cannot weigh",
        ),
        (
            ["proxies.small.width=7"],
            "--set proxies.small.width: proxies.small.groups: with 4, a site of 7 channels has",
        ),
        (["data.image_size=12", "recipe.crop=16"], "--set recipe.crop: 16 is larger than data.image_size, 12"),
        (["recipe.crop=8", "data.image_size=6"], "--set recipe.crop: 8 is larger than data.image_size, 6"),
        (["proxies=null"], "--set proxies: should be an object, got None"),
        (["births.x=3"], "--set births.x: births: unknown key"),
    ],
)
def test_what_a_setting_breaks_is_told_of_the_setting(settings: list[str], message: str) -> None:
    """The file alone is a config, so that no line of it is to blame."""
    assert complaint(TEXT, *settings).startswith(message)


def test_what_the_file_breaks_is_told_of_the_file() -> None:
    assert complaint(changed("seed: 3", "sed: 3"), "evolution.births=20").startswith("run.yaml:3: sed: unknown key")
    broken = changed("{steps: 10,", "{steps: 21,")
    assert complaint(broken, "recipe.steps=19").startswith("--set recipe.steps: gates: quality after 21 steps, but")
    assert complaint(broken, "seed=9").startswith("run.yaml:21: gates: quality after 21 steps")


def test_a_setting_changes_its_own_place_alone() -> None:
    """Two proxies that one anchor writes are two."""
    text = changed("  small:", "  small: &small").replace("  rows:", "  other: *small\n  rows:")
    config = parse_config(text, settings=["proxies.small.width=16"])
    assert (config.proxies["small"].width, config.proxies["other"].width) == (16, 8)


def test_settings_that_contradict_the_file() -> None:
    assert parse_config(TEXT, settings=["recipe.steps=9", "gates.2.quality.steps=9"]).recipe.steps == 9


# --------------------------------------------------------------------------- anything

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.floats(-2, 2)
    | st.sampled_from(["paper", "never", "x", "", "1e8"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["steps", "gate", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.sampled_from(paths(TINY)), VALUES)
def test_any_change_is_a_config_or_one_line_that_says_where(path: list[Any], value: Any) -> None:
    raw = copy.deepcopy(TINY)
    place: Any = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    text = dump_config(raw)
    try:
        config = parse_config(text, "any.yaml")
    except InputError as error:
        assert "\n" not in str(error)
        line = str(error).removeprefix("any.yaml:").partition(":")[0]
        assert line.isdigit()
        assert 1 <= int(line) <= len(text.splitlines())
    else:
        assert Config.model_validate_json(config.model_dump_json()) == config


@given(
    st.sampled_from(
        ["seed", "gates", "gates.0", "gates.2.quality", "proxies.small", "name", "new", "data.path", "gates.1.a"]
    ),
    st.sampled_from(["", ".a", ".0", ".-1", ".a.b"]),
    st.sampled_from(["3", "a", "[]", "{}", "", "{a: 1}", "[a, b]", "-1", "null"]),
)
def test_any_setting_is_a_config_or_one_line(key: str, more: str, value: str) -> None:
    try:
        parse_config(TEXT, "any.yaml", [f"{key}{more}={value}"])
    except InputError as error:
        assert "\n" not in str(error)


# --------------------------------------------------------------------------- too much

NESTED = "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 'x'}]\n" for i in range(3000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "run.yaml:5: more than 10,000 values"),
        (LAUGHS + TEXT, "run.yaml:5: more than 10,000 values"),
        ("a: &a [*a]\n", "run.yaml:1: contains itself"),
        (NESTED, "run.yaml:20: nested deeper than 20"),
        ("[" * 30 + "]" * 30, "run.yaml:1: not YAML: nested deeper than 20"),
        ("name: " + "x" * 5_000_000, "run.yaml: longer than 100,000 characters; a config is not"),
        (changed("seed: 3", "seed: !!bool maybe"), "run.yaml:3: not YAML: 'maybe' is no bool"),
        (changed("seed: 3", 'seed: !!float ""'), "run.yaml:3: not YAML: '' is no float"),
        (changed("seed: 3", "seed: !!int abc"), "run.yaml:3: not YAML: 'abc' is no int"),
    ],
)
def test_yaml_of_too_much_or_nothing_is_told_at_once(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    "blocks", ["[1e30]", "[9223372036854775808]", "[100000]", "[1, 1001]", "[1, 1, 1, 1, 1, 1, 1, 1, 1]"]
)
def test_a_network_of_too_many_blocks_is_refused(blocks: str) -> None:
    assert complaint(changed("blocks: [1, 1]", f"blocks: {blocks}")).startswith("run.yaml:14: proxies.small.blocks")
    assert complaint(changed("blocks: 1, stride", f"blocks: {blocks}, stride")).startswith("run.yaml:20: proxies.rows.")


def test_the_sites_of_the_deepest_network_are_counted_at_once() -> None:
    """Its blocks are alike from a stage's second on: 8 stages of 1,000 blocks take as long as 16 blocks."""
    deep = changed("blocks: [1, 1]", f"blocks: {[1000] * 8}")
    assert parse_config(deep).proxies["small"].blocks == (1000,) * 8


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


@pytest.mark.parametrize("place", ["name: table", "seed: 3", "schedule: cosine", "- depends_on_x", "{nodes: 6}"])
def test_a_long_value_is_not_echoed(place: str) -> None:
    key = place.partition(":")[0]
    assert len(complaint(changed(place, f"{key}: {'x' * 20_000}" if ":" in place else "x" * 20_000))) <= 500


@pytest.mark.parametrize("name", ["\0", "x" * 300, "x" * 5000, "/dev/zero", "."])
def test_a_file_that_cannot_be_is_one_short_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500


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
            assert kind in (bool, NoneType), kind
        seen[kind] += 1
    assert min(seen[kind] for kind in (int, float, str, tuple, dict)) > 0


def vars_of(constraint: Any) -> set[str]:
    return {name for name in ("le", "lt", "max_length") if getattr(constraint, name, None) is not None}
