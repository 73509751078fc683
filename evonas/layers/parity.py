"""The parity gate: whether a layer computes the same in every format that it is handed over in."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import evonas
from evonas.layers.fragility import fragility
from evonas.layers.programs import copy_of, expect_onnx, place_of
from evonas.layers.trials import (
    DTYPES,
    FORMATS,
    LAYOUTS,
    RUNNERS,
    Format,
    Tensors,
    Trial,
    in_eager,
    in_layout,
    trial_inputs,
)
from evonas.layers.whole_models import batch_moments
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct

if TYPE_CHECKING:
    from evonas.store.records import Record

OF_EAGER, ULPS = 4.0, 8.0  # a format may have so many times the error of eager, and so many ulp
CHANNELS, GROUPS = 16, 4  # of the layer of a graph
_ULP = torch.finfo(torch.float32).eps
_DIRECTIONS = ("forward", "backward")


class Refused(InputError):
    """A format that computes something else than the layer."""

    exit_code = 1

    def __init__(self, message: str, parity: "Parity") -> None:
        super().__init__(message)
        self.parity = parity


@dataclass(frozen=True, slots=True)
class Comparison:
    """The errors of one trial in one direction, in ulp; of the formats that were compared in it."""

    trial: Trial
    direction: str
    eager: float
    errors: dict[Format, float]

    @property
    def allowed(self) -> float:
        return max(OF_EAGER * self.eager, ULPS)

    def __str__(self) -> str:
        mode = " in training" * self.trial.is_training
        return f"{self.direction} in {self.trial.dtype} on '{self.trial.input}', {self.trial.layout}{mode}"


@dataclass(frozen=True, slots=True, repr=False)
class Parity:
    """The errors that the gate measured. `print` shows their table.

    fragility: of the graph; None for a module without one.
    """

    comparisons: tuple[Comparison, ...]
    formats: tuple[Format, ...]
    fragility: float | None

    def refusals(self, made: Format) -> list[Comparison]:
        """The comparisons in which a format has too large an error, the worst first."""
        worse = [each for each in self.comparisons if made in each.errors and each.errors[made] > each.allowed]
        return sorted(worse, key=lambda each: each.errors[made] / each.allowed, reverse=True)

    def refusal(self, made: Format) -> str:
        """Why a format is refused, in one line; empty if it is not."""
        refusals = self.refusals(made)
        if not refusals:
            return ""
        worst = refusals[0]
        compared = sum(made in each.errors for each in self.comparisons)
        return (
            f"{made}: {_written(worst.errors[made])} ulp {worst}, where eager has {_written(worst.eager)} and at most "
            f"{_written(worst.allowed)} are allowed; refused in {len(refusals)} of {compared} comparisons"
        )

    def notes(self) -> str:
        """All comparisons as JSON, for a file's metadata. What is no number is null."""
        rows: list[dict[str, Any]] = [
            {
                "dtype": each.trial.dtype,
                "layout": each.trial.layout,
                "input": each.trial.input,
                "training": each.trial.is_training,
                "direction": each.direction,
                "ulp": {"eager": _number(each.eager)} | {name: _number(value) for name, value in each.errors.items()},
            }
            for each in self.comparisons
        ]
        figures = None if self.fragility is None else _number(self.fragility)
        return json.dumps({"torch": torch.__version__, "fragility": figures, "comparisons": rows})

    def __repr__(self) -> str:
        names = ["eager", *self.formats]
        lines = [f"{'Largest error in ulp':<21}" + "".join(f"{name:>11}" for name in names)]
        for dtype, direction in product(DTYPES, _DIRECTIONS):
            own = [each for each in self.comparisons if (each.trial.dtype, each.direction) == (dtype, direction)]
            errors: list[dict[str, float]] = [{"eager": each.eager} | dict(each.errors) for each in own]
            cells = [[each[name] for each in errors if name in each] for name in names]
            words = "".join(f"{_written(max(cell)) if cell else '-':>11}" for cell in cells)
            lines.append(f"{dtype:<11}{direction:<10}{words}")
        if self.fragility is not None:
            lines.append(f"Fragility: {_written(self.fragility)}")
        return "\n".join(lines)


def parity(
    layer: "Graph | str | Record | nn.Module", formats: Iterable[Format] = FORMATS, *, channel_dim: int = 1
) -> Parity:
    """Compare a layer's formats with a float64 reference on the CPU: eager, torch.compile, torch.export, onnxruntime.

    Outputs and, where the format has them, gradients of inputs and parameters are compared, in float32, and in bfloat16
    and float16 under autocast, with two orders of memory, on realistic and adversarial inputs: constant, 1e-4,
    alternating +-512, 3e4, one pixel, one sample. A layer with running moments is compiled in training mode, and
    exported in evaluation.

    The error of a value is its distance to the reference in ulp: eps max(|value|, rms of its tensor), with eps of its
    type, plus what an input rounded by one ulp of float32 changes in the reference (rms). So a cancellation counts as
    far as the layer computes it worse than its input is known; docs/export.md has the details for sums. A format is
    refused where its largest error exceeds max(4 times eager's, 8 ulp).

    Args:
        layer: a module, with its state, or anything that `evonas.layer` takes, whose parameters are then moved from
            their start.
        formats: of "compiled", "program" and "onnx"; eager is always compared.
        channel_dim: of the layer, unless it is a module.

    Raises InputError for what is no layer, a missing extra, and a format that torch cannot make.
    """
    formats = tuple(formats)
    for each in formats:
        if each not in FORMATS:
            raise InputError(f"formats: unknown format {each!r:.80}{did_you_mean(each, FORMATS)}")
    if "onnx" in formats:
        expect_onnx()
    if not isinstance(layer, nn.Module):
        layer = _moved(evonas.layer(layer, CHANNELS, groups=GROUPS, channel_dim=channel_dim))
    layer = copy_of(layer).eval()
    has_moments = bool(batch_moments(layer))
    modes: dict[bool, list[Format]] = {}
    for each in formats:
        modes.setdefault(each == "compiled" and has_moments, []).append(each)
    axis, comparisons = place_of(layer)[1], list[Comparison]()
    reference, eager = in_eager(layer, torch.float64), in_eager(layer)
    runners = {each: RUNNERS[each](layer) for each in formats}
    for is_training, own in (modes or {has_moments: []}).items():
        for (dtype, of_type), (name, inputs) in product(DTYPES.items(), trial_inputs(layer).items()):
            values = [each.to(of_type) for each in inputs]
            trial = Trial(dtype, LAYOUTS[0], name, is_training)
            exact = reference(trial, [each.double() for each in values])
            moved = reference(trial, [_rounded(each.double(), axis) for each in values])
            assert exact is not None
            assert moved is not None
            summed = _of_sums(exact, moved, [each.double() for each in values], axis)
            for layout in LAYOUTS:
                trial = Trial(dtype, layout, name, is_training)
                given = [in_layout(each, axis, layout) for each in values]
                results = {"eager": eager(trial, given)} | {each: runners[each](trial, given) for each in own}
                comparisons += _comparisons(trial, results, exact, moved, summed)
    figure = fragility(layer.genotype) if isinstance(layer, NormAct) else None
    return Parity(tuple(comparisons), formats, figure)


@torch.no_grad()
def _moved(layer: nn.Module) -> nn.Module:
    """A layer whose parameters are no longer the 1 and 0 that hide rounding."""
    generator = torch.Generator().manual_seed(3)
    for parameter in layer.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return layer


def _rounded(x: Tensor, axis: int) -> Tensor:
    """x with each value moved by one ulp of float32, up or down; by sqrt(n) ulp where all n values of a channel have
    one size, for then the roundings of their sum do not average out."""
    sizes = x.abs()
    ulps = 1.0 if sizes.min() < sizes.max() else (x.numel() / x.shape[axis]) ** 0.5
    signs = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(2)).double() * 2 - 1
    return x * (1 + ulps * _ULP * signs)


def _of_sums(exact: Tensors, moved: Tensors, inputs: list[Tensor], axis: int) -> dict[str, Tensor]:
    """The sum over the batch of |x| times the ulp of its gradient: the ulp that a parameter's gradient adds up."""
    total = torch.zeros(())
    for number, x in enumerate(inputs):
        gradient = exact[f"input {number}"]
        ulp = (x.abs() * _ulp(gradient, moved[f"input {number}"], torch.finfo(torch.float32))).nan_to_num(0.0, 0.0, 0.0)
        total = total + ulp.movedim(axis, 0).flatten(1).sum(1)
    sizes = {name: value.numel() for name, value in exact.items() if name != "output" and not name.startswith("input ")}
    return {name: total if size == total.numel() else total.sum() for name, size in sizes.items()}


def _comparisons(
    trial: Trial, results: dict[Any, Tensors | None], exact: Tensors, moved: Tensors, summed: dict[str, Tensor]
) -> list[Comparison]:
    made = []
    for direction in _DIRECTIONS:
        names = [name for name in exact if (name == "output") == (direction == "forward")]
        errors = {
            each: max(error(result[name], exact[name], moved[name], summed.get(name)) for name in names)
            for each, result in results.items()
            if result is not None and names[0] in result
        }
        made.append(Comparison(trial, direction, errors.pop("eager"), errors))
    return made


def error(result: Tensor, exact: Tensor, moved: Tensor, summed: Tensor | None = None) -> float:
    """The largest error of a tensor in ulp, as `parity` defines it. What overflows the type is infinite, so that the
    largest number stands for it; NaN where the reference has none, or none where it has, is an infinite error."""
    info = torch.finfo(result.dtype)
    if not bool((result.isnan() == exact.isnan()).all()):
        return float("inf")
    ulp = _ulp(exact, moved, info)
    wide, exact = (_finite(each, info) for each in (result, exact))
    return float(((wide - exact).abs() / (ulp if summed is None else ulp + summed.view(-1))).max())


def _ulp(exact: Tensor, moved: Tensor, info: torch.finfo) -> Tensor:
    exact, moved = _finite(exact, info), _finite(moved, info)
    size, conditioning = (each.square().mean().sqrt() for each in (exact, moved - exact))
    return info.eps * exact.abs().clamp(min=max(float(size), info.tiny)) + conditioning


def _finite(value: Tensor, info: torch.finfo) -> Tensor:
    return value.double().nan_to_num(0.0).clamp(-info.max, info.max)


def _number(value: float) -> float | None:
    return float(f"{value:.4g}") if torch.tensor(value).isfinite() else None


def _written(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.3g}"
