"""A config as a person gives it, in which RUN#BIRTH stands for a layer: it becomes the candidate's text, so that the
resolved config needs no other run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evonas import config_file
from evonas.config import Config
from evonas.layers.resolve import resolve
from evonas.search_space.errors import texts


def load_config(config: Config | Mapping[str, Any] | str | Path, settings: Sequence[str] = ()) -> Config:
    """Read and validate a YAML file, a mapping or a Config, with `key.key=value` settings laid over it. Raises
    InputError in one line."""
    if isinstance(config, Config) and not settings:
        return config
    if isinstance(config, str | Path):
        return config_file.load_config(config, settings, resolve)
    return config_file.parse_config(config_file.dump_config(config), "config", settings, resolve)


def load_ungated(config: Config | Mapping[str, Any] | str | Path, settings: Sequence[str] = ()) -> Config:
    """`load_config` for trainings that ask no gate: without gates, so that no setting need fit them."""
    return load_config(config, ["gates=[]", *texts("settings", settings)])
