"""`evonas.export`: Python files, ONNX models, programs; what is in them, what they compute, and what is refused."""

import copy
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import evonas
from evonas.search_space.errors import InputError
from tests.evonas.layers.exported_class import exported_class
from tests.search_space.tensors import normal

CHANNELS = 8
SIZES = [(4, 8, 7), (1, 8, 8), (3, 1, 1), (1, 1, 1), (2, 5, 31)]  # batch, height, width
HALF_A_PIXEL = "x * sigmoid(y) / std_ghw(y)"


def trained(layer: Any, *shape: int) -> Any:
    """A layer with a state that is nobody's default, in evaluation mode, with gradients."""
    for seed in range(3):
        layer(normal(*shape, seed=seed).float()).square().mean().backward()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return layer.eval()


def shape_of(size: tuple[int, int, int], axis: int) -> tuple[int, ...]:
    batch, height, width = size
    return (batch, CHANNELS, height, width) if axis == 1 else (batch, height, width, CHANNELS)


# --------------------------------------------------------------------------- programs


@pytest.mark.parametrize(
    ("make", "axis"),
    [
        (lambda: evonas.layer("EvoNorm-B0", CHANNELS), 1),
        (lambda: evonas.layer("EvoNorm-S0", CHANNELS, groups=4, channel_dim=-1), -1),
        (lambda: exported_class(evonas.catalog["BN-SiLU"].graph)(CHANNELS, momentum=0.5), 1),
    ],
    ids=["a layer", "channels last", "an exported class"],
)
def test_a_program_is_the_layer_with_its_state_for_any_size(make: Any, axis: int, tmp_path: Path) -> None:
    layer, path = trained(make(), *shape_of((4, 6, 5), axis)), tmp_path / "layer.pt2"
    evonas.export(layer, path, "program")
    notes = {"parity.json": "", "evonas.digest": "", "evonas.formula": "", "evonas.torch": ""}
    program = torch.export.load(path, extra_files=notes).module()
    for size in SIZES:
        x = normal(*shape_of(size, axis)).float()
        torch.testing.assert_close(program(x), layer(x), rtol=1e-6, atol=1e-6)
        if axis == 1:
            x = x.contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(program(x), layer(x), rtol=1e-6, atol=1e-6)
    assert len(json.loads(notes["parity.json"])["comparisons"]) == 3 * 7 * 2 * 2
    assert notes["evonas.torch"] == torch.__version__
    if hasattr(layer, "genotype"):
        assert notes["evonas.digest"] == layer.genotype.digest


def state(layer: nn.Module) -> dict[str, Any]:
    """All that an export could disturb."""
    seen: dict[str, Any] = {name: value.clone() for name, value in layer.state_dict().items()}
    seen |= {f"gradient of {name}": value.grad for name, value in layer.named_parameters()}
    return seen | {"mode": torch.tensor(layer.training), "random": torch.random.get_rng_state()}


def test_a_layer_stays_as_it_is(tmp_path: Path) -> None:
    layer = trained(evonas.layer("EvoNorm-B0", CHANNELS), 4, CHANNELS, 3, 5)
    before = copy.deepcopy(state(layer))
    evonas.export(layer, tmp_path / "layer.pt2", "program")
    evonas.export(layer, tmp_path / "layer.py", compiled=False)
    after = state(layer)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert before["gradient of weight"] is not None


def test_a_synchronized_layer_is_exported_by_one_process_alone(tmp_path: Path) -> None:
    layer: Any = evonas.layer("x / std_bhw(x)", CHANNELS, synchronized=True).eval()
    layer.process_group = threading.Lock()  # which cannot be copied, like a group
    evonas.export(layer, tmp_path / "layer.pt2", "program")
    assert layer.synchronized
    assert layer.process_group is not None


@pytest.mark.parametrize("form", ["program", "onnx"])
def test_training_mode_is_refused_with_its_reason(form: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the layer is in training mode: its program .* call eval\(\) first$"):
        evonas.export(evonas.layer("EvoNorm-B0", CHANNELS), tmp_path / "layer", form)
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------- ONNX


def test_an_onnx_model_is_the_layer_with_its_state_for_any_size(tmp_path: Path) -> None:
    import onnx
    from onnxruntime import InferenceSession

    layer, path = trained(evonas.layer("EvoNorm-B0", CHANNELS), 4, CHANNELS, 3, 5), tmp_path / "layer.onnx"
    measured = evonas.export(layer, path, "onnx")
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in SIZES:
        x = normal(*shape_of(size, 1)).float()
        (output,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), layer(x), rtol=1e-5, atol=1e-6)
    model = onnx.load(path)
    assert [each.dim_param or each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim] == [
        *("batch", CHANNELS, "height", "width")
    ]
    notes = {each.key: each.value for each in model.metadata_props}
    assert notes["evonas.formula"] == layer.genotype.formula
    rows = json.loads(notes["parity.json"])["comparisons"]
    compared = [each["ulp"]["onnx"] for each in rows if "onnx" in each["ulp"]]
    assert len(compared) == 3 * 7  # forward, in one order of memory
    assert max(compared) <= 8
    assert "onnx" in repr(measured)


def test_a_format_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    """onnxruntime's sigmoid has an absolute error of 1e-8, so that x / sigmoid(x) is wrong where sigmoid is small."""
    path = tmp_path / "layer.onnx"
    with pytest.raises(
        evonas.Refused, match=r"^onnx: \d+.* ulp forward in float32 on .*; refused in \d+ of 21 comp"
    ) as refused:
        evonas.export("x / sigmoid(x)", path, "onnx", num_features=CHANNELS)
    assert not path.exists()
    rows = [each for each in refused.value.parity.comparisons if each.trial.dtype == "float32" and each.errors]
    realistic = next(each for each in rows if each.trial.input == "realistic")
    assert realistic.eager < 1
    assert realistic.errors["onnx"] > 16


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"^ONNX needs .*: pip install 'evonas\[onnx\]' \({missing} is missing\)$"):
        evonas.export("EvoNorm-S0", tmp_path / "layer.onnx", "onnx", num_features=CHANNELS)


# --------------------------------------------------------------------------- what is asked for


def test_a_second_input_has_the_sizes_of_the_first(tmp_path: Path) -> None:
    evonas.export(HALF_A_PIXEL, path := tmp_path / "layer.pt2", "program", num_features=CHANNELS, groups=4)
    program, layer = torch.export.load(path).module(), evonas.layer(HALF_A_PIXEL, CHANNELS, groups=4).eval()
    x, y = (normal(3, CHANNELS, 2, 9, seed=seed).float() for seed in (0, 1))
    torch.testing.assert_close(program(x, y), layer(x, y))


def test_a_reference_module_is_a_program_and_no_python_file(tmp_path: Path) -> None:
    evonas.export("PowerNorm", path := tmp_path / "layer.pt2", "program", num_features=CHANNELS)
    x = normal(3, CHANNELS, 2, 9).float()
    torch.testing.assert_close(torch.export.load(path).module()(x), evonas.layer("PowerNorm", CHANNELS).eval()(x))
    with pytest.raises(InputError, match="PowerNorm is no graph; its formats are onnx, program"):
        evonas.export("PowerNorm", tmp_path / "layer.py")


def test_a_python_file_of_a_module_has_its_groups_and_the_table(tmp_path: Path) -> None:
    layer = evonas.layer("EvoNorm-S0", CHANNELS, groups=2)
    measured = evonas.export(layer, path := tmp_path / "layer.py", compiled=False)
    source = path.read_text()
    assert "groups: int = 2," in source
    assert all(f"    {line}\n" in source for line in repr(measured).splitlines())


@pytest.mark.parametrize(
    ("layer", "form", "options", "message"),
    [
        ("EvoNorm-S0", "pyhton", {}, "format: unknown format 'pyhton'; did you mean 'python'"),
        ("EvoNorm-S0", "onnx", {}, "num_features is missing: the number of channels of a layer in the format onnx"),
        ("EvoNorm-S0", "python", {"num_features": 8}, "num_features: an argument of the file's class"),
        ("EvoNorm-S0", "program", {"num_features": 8, "group": 2}, "unknown option 'group'; did you mean 'groups'"),
        (nn.Conv2d(3, 4, 1), "program", {}, "Conv2d is no layer of evonas; export a whole model with"),
        (evonas.layer("x", 4).eval(), "program", {"num_features": 8}, "num_features: the module has its own"),
        ("EvoNorm-S0", "onnx", {"num_features": 8, "channel_dim": 2}, "channel_dim: expected 1 or -1 in a file"),
        (evonas.layer("x", 4, channel_dim=-2), "python", {}, "channel_dim: expected 1 or -1 in a file"),
        (5, "python", {}, "expected a graph, a text, a name of the catalog, a record or RUN#BIRTH, got 5"),
    ],
)
def test_a_bad_request_is_one_line(layer: Any, form: Any, options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        evonas.export(layer, tmp_path / "layer", form, **options)
    assert str(refused.value).startswith(message)
    assert not list(tmp_path.iterdir())
