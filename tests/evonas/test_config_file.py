"""Configs in files and mappings: read, written again, and refused in one line that names the file."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evonas.config import Config
from evonas.config_file import dump_config, load_config, parse_config
from evonas.search_space.errors import InputError
from tests.conftest import TINY
from tests.evonas.config_cases import TEXT, changed
from tests.evonas.config_fuzz import paths


@pytest.mark.parametrize("name", ["1e5", "007", "true", "null", "a-b.c_d", "2026-11-22", "0x1F", "1_000", "on"])
def test_any_name_survives_the_resolved_file(name: str) -> None:
    """The store and the run's folder keep what YAML might take for a number."""
    config = Config.model_validate_json(json.dumps({**copy.deepcopy(TINY), "name": name}))
    assert parse_config(dump_config(config)) == config


def test_reading_a_config_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    parse_config(TEXT)
    assert torch.equal(torch.get_rng_state(), before)


def test_missing_file(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(TEXT)
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "quikstart.yaml")
    near = tmp_path / "quickstart.yaml"
    assert str(caught.value) == f"{tmp_path / 'quikstart.yaml'}: no such file; did you mean '{near}'?"
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "nowhere" / "a.yaml")
    assert str(caught.value) == f"{tmp_path / 'nowhere' / 'a.yaml'}: no such file"


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


@pytest.mark.parametrize("name", ["\0", "x" * 300, "x" * 5000, "/dev/zero", "."])
def test_a_file_that_cannot_be_is_one_short_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500
