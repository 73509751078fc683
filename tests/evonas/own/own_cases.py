"""The files of docs/bring-your-own.md, tiny settings for their search, and a process that knows none of them."""

import re
import sys
from pathlib import Path

import pytest

from evonas.config_file import load_config
from evonas.driver import try_plugins
from evonas.search_space.errors import InputError
from evonas.search_space.primitives import BUILT_IN, PRIMITIVES
from evonas.workers import own_primitives, plugins, protocol
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "bring-your-own.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
TINY = (
    "data.train=64",
    "data.validation=40",
    "recipe.batch_size=16",
    "recipe.steps=2",
    "evolution.births=4",
    "evolution.rerank.top=0",
    "cluster.address=in_process",
    "gates=[depends_on_x, finite]",
)


def forget() -> None:
    """Leave the process as a new one is, that knows no module and no primitive of theirs."""
    plugins.look_in([])
    for source in plugins._imported.values():
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "") in source.files:
                del sys.modules[name]
    plugins._imported.clear()
    own_primitives._functions.clear()
    protocol._loaded.cache_clear()
    for name in set(PRIMITIVES) - set(BUILT_IN):
        del PRIMITIVES[name]


def complaint(folder: Path, *settings: str) -> str:
    with pytest.raises(InputError) as caught:
        try_plugins(load_config(folder / "own.yaml", settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)
