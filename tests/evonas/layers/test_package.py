"""`evonas.export_package`: several layers as one package that timm and torchvision take."""

import importlib
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import evonas
from evonas.search_space.errors import InputError
from tests.conftest import ROOT

TEXT = "x * sigmoid(v1 * x) / std_ghw(x)"
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "my_layers"
    evonas.export_package(["EvoNorm-B0", TEXT, "EvoNorm-S0", "x / rms_hw(x)"], path, compiled=False)
    return path


@pytest.fixture
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(folder.parent))
    yield importlib.import_module("my_layers")
    for name in [name for name in sys.modules if name.split(".")[0] == "my_layers"]:
        del sys.modules[name]


def layers_in(model: nn.Module) -> list[nn.Module]:
    return [each for each in model.modules() if type(each).__name__ == "EvolvedLayer"]


def test_a_layer_that_comes_twice_is_written_once(package: ModuleType) -> None:
    assert list(package.LAYERS) == ["evonorm_b0", "layer_2", "layer_4"]  # TEXT is EvoNorm-S0


@pytest.mark.parametrize("network", ["resnet18", "test_resnet", "test_efficientnet", "test_byobnet"])
def test_timm_takes_its_factory(network: str, package: Any) -> None:
    """resnet18 hands an activation over beside the norm; the others have both in one, and unbind partials."""
    model = timm.create_model(network, norm_layer=package.norm_layer("layer_2", groups=2, eps=1e-4), num_classes=2)
    layers: list[Any] = layers_in(model)
    assert len(layers) >= 5
    assert {(each.eps, min(2, each.groups)) for each in layers} == {(1e-4, 2)}
    model.eval()(X).sum().backward()
    assert all(each.weight.grad is not None for each in layers)


def test_torchvision_takes_its_factory(package: Any) -> None:
    model = torchvision.models.resnet18(norm_layer=package.norm_layer("evonorm_b0"), num_classes=2)
    assert len(layers_in(model)) == 20
    model.train()(X).sum().backward()
    assert model.eval()(X).isfinite().all()


def test_the_example_of_the_page_runs(package: Any) -> None:
    page = (ROOT / "docs" / "export.md").read_text().partition("## A package")[2]
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    with torch.device("meta"):
        exec(example.replace("birth_17", "layer_2"), names)
    assert len(layers_in(names["model"])) == 20


def test_a_factory_gives_what_evonas_gives(package: Any) -> None:
    x = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    made = package.norm_layer("layer_2", groups=4)
    assert torch.equal(made(8)(x), evonas.layer(TEXT, 8, groups=4)(x))
    assert torch.equal(made(8, apply_act=False, act_layer=nn.SiLU, inplace=True)(x), x)
    assert pickle.loads(pickle.dumps(made))(8).groups == 4
    with pytest.raises(ValueError, match="unknown layer 'layer_3'; expected one of evonorm_b0, layer_2, layer_4"):
        package.norm_layer("layer_3")
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_groups'"):
        package.norm_layer("layer_2", num_groups=4)(8)


def test_a_package_is_as_ruff_writes_it_and_imports_torch_alone(folder: Path) -> None:
    for command in ("check --isolated", f"check --config {ROOT / 'pyproject.toml'}", "format --check --isolated"):
        words = [sys.executable, "-m", "ruff", *command.split(), "--no-cache", "."]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    assert not any("evonas" in line for line in (folder / "__init__.py").read_text().splitlines() if "import " in line)
    assert sorted(each.name for each in folder.iterdir()) == [
        *("__init__.py", "evonorm_b0.py", "layer_2.py", "layer_4.py", "py.typed")
    ]


@pytest.mark.parametrize(
    ("layers", "name", "message"),
    [
        (["x"], "my-layers", "expected a folder whose name Python can import"),
        ([], "none", "expected at least one layer"),
        (["x", "EvoNorm-S9"], "unknown", "did you mean 'EvoNorm-S"),
        (["x"], "there/already", "exists already"),
        (["x"], "file/inside", "cannot be made"),
    ],
)
def test_a_bad_package_is_one_line(layers: list[str], name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "there" / "already").mkdir(parents=True)
    (tmp_path / "there" / "already" / "mine.py").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        evonas.export_package(layers, tmp_path / name, compiled=False)
    assert sorted(tmp_path.rglob("*")) == before
