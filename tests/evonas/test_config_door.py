"""What is no file, and what is no text, is one clear line at the door of configs."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas import config_input
from evonas.config_file import load_config
from evonas.search_space.errors import InputError


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        load_config(path)
    return str(refused.value)


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    signal.alarm(20)
    try:
        assert refusal(path) == f"{path}: expected a YAML file, found a pipe"
    finally:
        signal.alarm(0)


def test_a_folder_or_a_device_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: expected a YAML file, found a folder"
    assert refusal(Path("/dev/zero")) == "/dev/zero: expected a YAML file, found a device or a socket"


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"name: \xff\xfe")
    assert refusal(path) == f"{path}: not a text file (byte 6 is not UTF-8)"


@pytest.mark.parametrize(("value", "kind"), [(None, "NoneType"), (3, "int")])
def test_what_is_no_config_is_named(value: Any, kind: str) -> None:
    with pytest.raises(InputError) as refused:
        config_input.load_config(value)
    assert str(refused.value) == f"config: expected a YAML file, a mapping or a Config, found {kind}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"accuracy"}, "{'accuracy'} of type set"),
        (np.int64(3), "np.int64(3) of type int64"),
        (b"accuracy", "b'accuracy' of type bytes"),
    ],
)
def test_a_value_of_a_mapping_that_is_not_plain_is_named(value: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        config_input.load_config({"name": "a", "objectives": value})
    assert str(refused.value) == f"config: {said} is no plain value; expected texts, numbers, lists and mappings"


def test_a_tuple_is_a_list_and_a_subclass_of_a_number_or_a_text_is_one() -> None:
    config = config_input.load_config(
        {
            "name": "a",
            "space": {"leaves": ("x", "v0")},
            "recipe": {"learning_rate": np.float64(0.25), "schedule": np.str_("cosine")},
            "proxies": {"small": {"architecture": "preact_resnet", "blocks": (1, 2)}},
            "gates": ({"quality": {"steps": 3, "min_accuracy": 0.5}}, "stability"),
        }
    )
    assert config.space.leaves == ("x", "v0")
    assert (config.recipe.learning_rate, config.recipe.schedule) == (0.25, "cosine")
    assert config.proxies["small"].blocks == (1, 2)
    assert [gate.gate for gate in config.gates] == ["quality", "stability"]
