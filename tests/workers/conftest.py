"""Protocols for the tests of the workers: small ones, and changes of them; a small network."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from evonas.search_space.catalog import LAYERS
from evonas.search_space.graph import Graph
from evonas.workers.data import Images, load
from evonas.workers.protocol import Protocol
from tests.conftest import TINY
from tests.workers.networks import Tiny

BN_RELU = LAYERS["BN-ReLU"].text
STABLE = ("BN-ReLU", "GN-ReLU", "BN-SiLU", "EvoNorm-B0", "EvoNorm-S0")  # layers that the literature trains with


def protocol(
    *,
    gates: tuple[dict[str, Any], ...] = (),
    proxies: tuple[str, ...] = ("resnet", "mobilenet"),
    data: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
    execution: dict[str, Any] | None = None,
) -> Protocol:
    """The tiny protocol with some changes; without gates unless given."""
    tiny = copy.deepcopy(TINY)
    raw = {
        "data": {**tiny["data"], **(data or {})},
        "recipe": {**tiny["recipe"], **(recipe or {})},
        "proxies": {name: tiny["proxies"][name] for name in proxies},
        "gates": gates,
        "execution": execution or {},
    }
    return Protocol.model_validate_json(json.dumps(raw))


def images(of: Protocol) -> Images:
    return load(of.data, "cpu")


def graph(text: str) -> Graph:
    """Of a text, or of a known layer's name."""
    return Graph.parse(LAYERS[text].text if text in LAYERS else text)


@pytest.fixture
def tiny_model() -> Iterator[Tiny]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield Tiny()
