"""Layers as programs of torch.export and as ONNX models, for any batch and image size."""

import copy
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from evonas.layers.whole_models import is_exported
from evonas.search_space.errors import InputError
from evonas.search_space.layer import Layer
from evonas.search_space.lowering import NormAct

_SIZES = {"batch": 4, "height": 8, "width": 7}  # of the example that a layer is traced with: any others fit later
_OPSET = 20
_EXTRA = "ONNX needs the extra onnx: pip install 'evonas[onnx]'"


def place_of(layer: nn.Module) -> tuple[int, int]:
    """The number of channels of a layer, and their axis: 1 or -1. Raises InputError for what is no layer of evonas, and
    for channels at another axis."""
    if not isinstance(layer, Layer) and not is_exported(layer):
        raise InputError(
            f"{type(layer).__name__} is no layer of evonas; export a whole model with torch.export.export or "
            "torch.onnx.export(..., dynamo=True)"
        )
    axis: Any = layer.channel_dim
    if axis not in (1, -1):
        raise InputError(f"channel_dim: expected 1 or -1 in a file and its check, got {axis!r:.80}")
    return len(layer.get_parameter("weight")), axis


def inputs_of(layer: nn.Module) -> tuple[str, ...]:
    """The names of a layer's inputs: x, and y where its graph has two."""
    if is_exported(layer):
        return tuple(signature(layer.forward).parameters)
    return ("x", "y") if isinstance(layer, NormAct) and layer.genotype.takes_y else ("x",)


def copy_of(layer: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy on the CPU, whose batch statistics are those of this process: others do not take part."""
    group = getattr(layer, "process_group", None)
    copied = copy.deepcopy(layer, {} if group is None else {id(group): None})  # which cannot be copied
    if isinstance(copied, Layer):
        copied.synchronized, copied.process_group = False, None
    return copied.to("cpu", dtype)


# --------------------------------------------------------------------------- torch.export


def program_of(layer: nn.Module, dtype: torch.dtype = torch.float32) -> ExportedProgram:
    """A layer in evaluation mode as a program of torch.export, on the CPU. The layer stays as it is.

    dtype: of the inputs.
    Raises InputError for a layer in training mode, and for one that torch cannot export.
    """
    channels, axis = place_of(layer)
    if layer.training:
        raise InputError(
            "the layer is in training mode: its program would take the statistics of each batch, and move no running "
            "moment; call eval() first"
        )
    return _program(copy_of(layer), inputs_of(layer), channels, axis, dtype)


def _program(
    module: nn.Module, names: tuple[str, ...], channels: int, axis: int, dtype: torch.dtype
) -> ExportedProgram:
    sizes = list(_SIZES.values())
    sizes.insert(1 if axis == 1 else 3, channels)
    axes = [each for each in range(4) if each != axis % 4]
    shape = {each: Dim(name) for each, name in zip(axes, _SIZES, strict=True)}
    example = tuple(torch.ones(sizes, dtype=dtype) for _ in names)
    shapes: tuple[Any, ...] = (shape,) * len(names)
    kinds = [each.kind for each in signature(module.forward).parameters.values()]
    fixed = len(kinds) - kinds.count(Parameter.VAR_POSITIONAL)
    if fixed < len(shapes):  # the others go to *others
        shapes = (*shapes[:fixed], shapes[fixed:])
    with undisturbed(), told("torch.export"):
        return torch.export.export(module, example, dynamic_shapes=shapes)


def program_bytes(program: ExportedProgram, notes: Mapping[str, str]) -> bytes:
    """The file of a program, with notes as its extra files."""
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files=dict(notes))
    return stream.getvalue()


# --------------------------------------------------------------------------- ONNX


class _Rounded(nn.Module):
    """A layer with inputs of half precision, as a module of single precision: numpy knows no bfloat16."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.dtype = layer, dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.layer(*(each.to(self.dtype) for each in inputs))
        return result.float()


def onnx_of(layer: nn.Module, dtype: torch.dtype = torch.float32) -> Any:
    """A layer in evaluation mode as an `onnx.ModelProto` of single precision. The layer stays as it is.

    dtype: that the inputs are rounded to, and the output.
    Raises InputError for a layer in training mode, one that torch cannot export, and where the extra is missing.
    """
    expect_onnx()
    if dtype == torch.float32:
        program = program_of(layer)
    else:
        channels, axis = place_of(layer)
        program = _program(_Rounded(copy_of(layer), dtype), inputs_of(layer), channels, axis, torch.float32)
    with undisturbed(), told("torch.onnx"):
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=_OPSET,
            input_names=inputs_of(layer),
            output_names=("output",),
        )
        assert made is not None
        return _with_named_sizes(made.model_proto, place_of(layer)[1])


def _with_named_sizes(model: Any, axis: int) -> Any:
    """A model whose sizes have names, in place of the numbers of torch's symbols."""
    sizes = [each for number, each in enumerate(model.graph.input[0].type.tensor_type.shape.dim) if number != axis % 4]
    names = {each.dim_param: name for each, name in zip(sizes, _SIZES, strict=True)}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = names.get(size.dim_param, size.dim_param)
    return model


def onnx_bytes(model: Any, notes: Mapping[str, str]) -> bytes:
    """The file of an ONNX model, with notes as its metadata."""
    from onnx.helper import set_model_props

    set_model_props(model, dict(notes))
    content: bytes = model.SerializeToString()
    return content


def expect_onnx() -> None:
    """Raises InputError where the extra is missing."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(name) is None:
            raise InputError(f"{_EXTRA} ({name} is missing)")


# --------------------------------------------------------------------------- quiet


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without warnings about torch's own code, and with the random numbers of the process as they are."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raises InputError, in one line, for what torch cannot export."""
    try:
        yield
    except Exception as error:  # its exporters raise anything
        raise InputError(f"{what} fails on the layer ({type(error).__name__}: {error})".splitlines()[0]) from error
