"""The config of a validation: another one, or that of the search with other data, networks, steps."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evonas.config import Config
from evonas.config_input import load_config, load_ungated
from evonas.search_space.errors import InputError, did_you_mean, texts, whole
from evonas.workers.data import NATIVE_SIZES

COUNT_MAX = 10**9  # steps

Source = Config | Mapping[str, Any] | str | Path


def validation_config(
    searched: Config,
    on: Source | None = None,
    *,
    data: str | None = None,
    architectures: str | Sequence[str] = (),
    steps: int | None = None,
    settings: Sequence[str] = (),
) -> Config:
    """`on`, by default the config of the search, with other data, networks and steps, then with `settings`; without its
    gates, which are not asked. Raises InputError.

    Args:
        data: a source such as CIFAR10, MODULE:NAME, or a folder of images. The numbers of images and their size stay.
        architectures: names of the config's proxies, which keep their sizes, or kinds of networks (vgg, efficientnet
            ...; MODULE:NAME) with their default sizes. They replace the proxies.
        steps: of each training.
    """
    given = texts("settings", settings)
    if on is not None and data is None and not architectures and steps is None:
        return load_ungated(on, given) if given else load_config(on)
    base = searched if on is None else load_config(on)
    raw: dict[str, Any] = {**base.model_dump(mode="json"), "gates": []}
    if data is not None:
        raw["data"] = raw["data"] | _source(data, base)
    if architectures:
        raw["proxies"] = _proxies(texts("architectures", architectures), raw["proxies"])
    if steps is not None:
        raw["recipe"] = raw["recipe"] | {"steps": whole("steps", steps, 1, COUNT_MAX)}
    return load_config(raw, given)


def _source(data: str, base: Config) -> dict[str, Any]:
    if data == base.data.source and data != "folder":
        return {}
    if data in NATIVE_SIZES or ":" in data:
        return {"source": data, "path": None, "options": {}}
    if Path(data).is_dir():
        return {"source": "folder", "path": data, "options": {}}
    raise InputError(f"data: no source and no folder '{data:.200}'{did_you_mean(data, list(NATIVE_SIZES))}")


def _proxies(names: Sequence[str], proxies: Mapping[str, Any]) -> dict[str, Any]:
    """The networks by name. A name of the config's proxies is that proxy; any other is a kind of network. MODULE:NAME
    is called NAME, or MODULE_NAME where another one is."""
    networks: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        short = name.rpartition(":")[2]
        label = re.sub(r"\W", "_", name) if short in networks else short
        networks[label] = proxies.get(name, {"architecture": name})
    return networks
