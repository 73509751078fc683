"""Settings laid over a config by `--set`, and their errors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.config_file import load_config, parse_config
from evonas.search_space.errors import InputError
from evonas.workers.gates.finite import Finite
from evonas.workers.gates.signal import Signal
from evonas.workers.step import check_graphs
from tests.conftest import ROOT
from tests.evonas.config_cases import TEXT, changed, complaint, set_complaint


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
        ("seed=true", "--set seed: should be a valid integer, got true"),
        ("seed=", "--set seed: should be a valid integer, got null"),
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
        (
            ["recipe.steps=9"],
            "--set recipe.steps: gates: quality after 10 steps, but recipe.steps is 9; expected recipe.steps of",
        ),
        (
            ["seed=5", "recipe.steps=9", "seed=4"],
            "--set recipe.steps: gates: quality after 10 steps, but recipe.steps is 9",
        ),
        (["objectives=[nodes]"], "--set objectives: expected either accuracy or loss among them, got nodes"),
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
        (["proxies=null"], "--set proxies: expected keys and values, got null"),
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


@pytest.mark.parametrize("name", ["evonorm-b", "evonorm-s"])
def test_shipped_configs_of_captured_steps_run_on_a_cpu_with_two_settings(name: str) -> None:
    path = ROOT / "configs" / f"{name}.yaml"
    assert load_config(path).execution.cuda_graphs
    with pytest.raises(InputError, match=r"cuda_graphs: true, but workers\.device is cpu; expected false"):
        load_config(path, ["workers.device=cpu"])
    check_graphs(load_config(path, ["workers.device=cpu", "execution.cuda_graphs=false"]).execution, "cpu")
