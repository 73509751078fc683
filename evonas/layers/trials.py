"""The inputs on which the formats of a layer are compared, and how each format is run."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from evonas.layers.fragility import realistic
from evonas.layers.programs import copy_of, inputs_of, onnx_of, place_of, program_of, told, undisturbed
from evonas.search_space.moments import HALF

Format = Literal["compiled", "program", "onnx"]  # beside eager
FORMATS: tuple[Format, ...] = get_args(Format)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYOUTS = ("NCHW", "channels last")  # of the memory
_COMPILE = "torch.compile, which compiled=False (--no-compile) leaves out,"
BATCH, HEIGHT, WIDTH = 4, 8, 8
Tensors = dict[str, Tensor]  # "output", and gradients by the name of the input or parameter


def trial_inputs(layer: nn.Module) -> dict[str, list[Tensor]]:
    """Realistic and adversarial inputs of a layer, in float32."""
    channels, axis = place_of(layer)
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, channels, HEIGHT, WIDTH)

    def alike(make: Callable[[], Tensor]) -> list[Tensor]:
        return [make() if axis == 1 else make().permute(0, 2, 3, 1).contiguous() for _ in inputs_of(layer)]

    signs = (torch.arange(HEIGHT)[:, None] + torch.arange(WIDTH)) % 2 * 2.0 - 1
    return {
        "realistic": alike(lambda: realistic(generator, shape)),
        "constant": alike(lambda: torch.full(shape, 0.7)),
        "1e-4": alike(lambda: 1e-4 * torch.randn(shape, generator=generator)),
        "+-512": alike(lambda: (512 * signs).expand(shape).contiguous()),
        "3e4": alike(lambda: torch.full(shape, 3e4)),
        "one pixel": alike(lambda: realistic(generator, (BATCH, channels, 1, 1))),
        "one sample": alike(lambda: realistic(generator, (1, *shape[1:]))),
    }


def in_layout(x: Tensor, axis: int, layout: str) -> Tensor:
    """The same values, in another order in memory."""
    if axis == 1:
        return x.contiguous(memory_format=torch.channels_last if layout != "NCHW" else torch.contiguous_format)
    return x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) if layout == "NCHW" else x.contiguous()


# --------------------------------------------------------------------------- one trial


@dataclass(frozen=True, slots=True)
class Trial:
    """One comparison.

    is_training: of a layer whose running moments make a difference.
    """

    dtype: str
    layout: str
    input: str
    is_training: bool


Runner = Callable[[Trial, list[Tensor]], Tensors | None]  # None: not compared


def in_eager(layer: nn.Module, dtype: torch.dtype = torch.float32) -> Runner:
    """The layer itself; in float64 the reference."""
    module, state = copy_of(layer, dtype), copy_of(layer, dtype).state_dict()

    def run(trial: Trial, inputs: list[Tensor]) -> Tensors:
        module.load_state_dict(state)
        return _tried(module.train(trial.is_training), module, inputs, trial)

    return run


def in_compiled(layer: nn.Module) -> Runner:
    """torch.compile. To spare minutes, one pixel and one sample are compared once: each is compiled for itself."""
    module, state = copy_of(layer), copy_of(layer).state_dict()
    compiled: Any = torch.compile(module, dynamic=True, fullgraph=True)

    def run(trial: Trial, inputs: list[Tensor]) -> Tensors | None:
        once = trial.dtype == "float32" and trial.layout == "NCHW"
        if trial.input in ("one pixel", "one sample") and not once:
            return None
        module.load_state_dict(state)
        module.train(trial.is_training)
        with undisturbed(), told(_COMPILE), torch._dynamo.config.patch(recompile_limit=64):
            return _tried(compiled, module, inputs, trial)

    return run


def in_program(layer: nn.Module) -> Runner:
    """The program that torch.export makes for inputs of each type."""
    modules = {name: program_of(layer, dtype).module() for name, dtype in DTYPES.items()}
    return lambda trial, inputs: _tried(modules[trial.dtype], modules[trial.dtype], inputs, trial)


def in_onnx(layer: nn.Module) -> Runner:
    """onnxruntime on the CPU; forward alone. It takes arrays in one order."""
    from onnxruntime import InferenceSession

    files = {name: onnx_of(layer, dtype).SerializeToString() for name, dtype in DTYPES.items()}
    options = {"providers": ["CPUExecutionProvider"]}
    sessions = {name: InferenceSession(content, **options) for name, content in files.items()}

    def run(trial: Trial, inputs: list[Tensor]) -> Tensors | None:
        if trial.layout != LAYOUTS[0]:
            return None
        values = {name: each.float().numpy() for name, each in zip(inputs_of(layer), inputs, strict=True)}
        (output,) = sessions[trial.dtype].run(None, values)
        return {"output": torch.from_numpy(output).to(DTYPES[trial.dtype])}

    return run


RUNNERS: dict[Format, Callable[[nn.Module], Runner]] = {
    "compiled": in_compiled,
    "program": in_program,
    "onnx": in_onnx,
}


def _tried(call: Callable[..., Tensor], module: nn.Module, inputs: list[Tensor], trial: Trial) -> Tensors:
    """The output, under autocast in half precision, and the gradients of inputs and parameters for a fixed slope."""
    given = [each.detach().clone(memory_format=torch.preserve_format).requires_grad_() for each in inputs]
    half, of_type = given[0].dtype in HALF, DTYPES[trial.dtype]
    with torch.autocast("cpu", dtype=given[0].dtype) if half else nullcontext():
        output = call(*given)
    learned = {f"input {number}": each for number, each in enumerate(given)} | dict(sorted(module.named_parameters()))
    slope = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(of_type).to(output.dtype)
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    gradients = torch.autograd.grad(output, list(learned.values()), slope, **options)
    return {"output": output.detach()} | dict(zip(learned, gradients, strict=True))
