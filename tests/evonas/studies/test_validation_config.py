"""The config of a validation: what its options change, and what they leave."""

from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.config_input import load_ungated
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.errors import InputError
from evonas.studies.trainings import asked, complete
from evonas.studies.validation_config import validation_config
from tests.conftest import TINY

SEARCHED = evonas.load_config(TINY)
ON = TINY | {"name": "other", "seed": 7}


def changed(**options: Any) -> dict[str, Any]:
    """The keys in which the config of the validation differs from that of the search."""
    before, after = SEARCHED.model_dump(mode="json"), validation_config(SEARCHED, **options).model_dump(mode="json")
    return {key: after[key] for key in after if after[key] != before.get(key)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"steps": 9}, {"recipe": SEARCHED.recipe.model_dump() | {"steps": 9}}),
        ({"data": "embedded"}, {}),
        ({"data": "CIFAR10"}, {"data": SEARCHED.data.model_dump() | {"source": "CIFAR10"}}),
        ({"architectures": "resnet"}, {"proxies": {"resnet": SEARCHED.proxies["resnet"].model_dump(mode="json")}}),
        (
            {"architectures": ["vgg"], "settings": ["proxies.vgg.width=16"]},
            {"proxies": {"vgg": {"architecture": "vgg", "width": 16, "blocks": [1, 1, 2], "groups": 4}}},
        ),
    ],
    ids=str,
)
def test_an_option_changes_its_part_and_the_gates_go(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert changed(**options) == {"gates": []} | expected


def test_two_networks_of_one_name_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("one_of_two_hosts", "other_of_two_hosts"):
        (tmp_path / f"{module}.py").write_text(NETWORK)
    names = ["one_of_two_hosts:host", "other_of_two_hosts:host", "one_of_two_hosts:host"]
    proxies = validation_config(SEARCHED, architectures=names).proxies
    assert {name: each.architecture for name, each in proxies.items()} == {
        "host": "one_of_two_hosts:host",
        "other_of_two_hosts_host": "other_of_two_hosts:host",
    }


def test_another_config_is_the_basis() -> None:
    assert validation_config(SEARCHED, ON) == evonas.load_config(ON)
    config = validation_config(SEARCHED, ON, steps=9)
    assert (config.name, config.seed, config.recipe.steps, config.gates) == ("other", 7, 9, ())


def test_steps_need_not_fit_gates_that_are_not_asked() -> None:
    with pytest.raises(InputError, match="gates: quality after 3 steps, but recipe"):
        evonas.load_config(TINY, ["recipe.steps=1"])
    for config in (
        load_ungated(TINY, ["recipe.steps=1"]),
        validation_config(SEARCHED, ON, settings=["recipe.steps=1"]),
    ):
        assert (config.recipe.steps, config.gates) == (1, ())


def test_a_folder_of_images_is_data(tmp_path: Path) -> None:
    assert changed(data=str(tmp_path))["data"] == SEARCHED.data.model_dump() | {
        "source": "folder",
        "path": str(tmp_path),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "nowhere"}, "data: no source and no folder 'nowhere'"),
        ({"architectures": ["vgg", "resnets"]}, "proxies.resnets: unknown architecture 'resnets'"),
        ({"settings": ["recipe.step=3"]}, "did you mean"),
        ({"architectures": [3]}, "architectures: expected texts, got 3"),
        ({"on": "nowhere.yaml"}, "nowhere.yaml"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validation_config(SEARCHED, **options)


NETWORK = """
from torch import nn


def host(norm_act, num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), norm_act(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    )
"""


BAD = """
import torch
from torch import nn


def raises(norm_act, num_classes, in_channels):
    raise RuntimeError("no")


def ignores(norm_act, num_classes, in_channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


def misshapen(norm_act, num_classes, in_channels):
    return nn.Sequential(norm_act(in_channels), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, 11))


def lazy(norm_act, num_classes, in_channels):
    return nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.LazyLinear(num_classes))
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "failed at .*: RuntimeError: no"),
        ("ignores", "0 of 0 layers made by norm_act are used"),
        ("misshapen", r"expected logits of shape \(4, 10\), got \(4, 11\)"),
        ("lazy", "a parameter has no size yet; expected a network that was called once"),
    ],
)
@pytest.mark.parametrize("train", ["evaluate", "noise", "complete"])
def test_a_network_of_ones_own_is_tried_before_anything_is_trained(
    train: str, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad_hosts_of_validation.py").write_text(BAD)
    config = validation_config(SEARCHED, architectures=[f"bad_hosts_of_validation:{name}"])

    def opened(_: Any) -> Any:
        raise AssertionError("a pool was opened")

    for module in ("evaluate", "noise"):
        monkeypatch.setattr(f"evonas.studies.{module}.open_pool", opened)
    with pytest.raises(InputError, match=message):
        if train == "complete":
            complete(list(asked(config, named_graph("tanh"), 1)), None, config, opened, lambda done, total: None)
        else:
            getattr(evonas, train)("tanh" if train == "evaluate" else config, *[config] * (train == "evaluate"))


def test_a_network_of_ones_own_is_a_host_and_its_source_decides_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_host_of_validation.py").write_text(NETWORK)
    config = validation_config(SEARCHED, architectures=["my_host_of_validation:host", "resnet"])
    assert list(config.proxies) == ["host", "resnet"]
    host, resnet = asked(config, named_graph("tanh"), 1)
    (name, plugin), digest = next(iter(config.plugins.items())), host.digest
    other = config.model_copy(update={"plugins": {name: plugin.model_copy(update={"digest": "0123456789abcdef"})}})
    changed_host, same_resnet = asked(other, named_graph("tanh"), 1)
    assert changed_host.digest != digest
    assert same_resnet.digest == resnet.digest
    moved = config.model_copy(update={"plugins": {name: plugin.model_copy(update={"folder": "elsewhere"})}})
    assert next(asked(moved, named_graph("tanh"), 1)).digest == digest
