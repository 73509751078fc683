"""Write a layer as a Python file, an ONNX model or a program of torch.export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

import evonas
from evonas.files import expect_writable, write
from evonas.layers.candidate import described, judged_groups
from evonas.layers.parity import Parity, Refused, parity
from evonas.layers.programs import onnx_bytes, onnx_of, place_of, program_bytes, program_of
from evonas.layers.resolve import candidate_reference, resolve
from evonas.layers.source import layer_source
from evonas.layers.trials import Format as Compared
from evonas.search_space.catalog import LAYERS, ModuleLayer
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError, did_you_mean
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.store.records import Record

Format = Literal["python", "onnx", "program"]
FORMATS: tuple[Format, ...] = get_args(Format)


def export(
    layer: "Graph | str | Record | nn.Module",
    path: str | Path,
    format: Format = "python",
    *,
    num_features: int | None = None,
    compiled: bool = True,
    force: bool = False,
    **options: Any,
) -> Parity:
    """Write a layer as a file, after its parity has been checked; `evonas.parity` says how.

    format "python": a file that imports torch alone and defines `EvolvedLayer(num_features)`, without a state. Its
    docstring states the origin, the figures of a candidate, and the errors of eager and compiled.
    "onnx" (extra `onnx`) and "program" (torch.export): the layer in evaluation mode with its state, of float32, for any
    batch and image size. Origin and errors are the model's metadata and the program's extra file `parity.json`.

    Args:
        layer: a layer's module, with its state; or a graph, its text, a name of the catalog, a record of a run, or
            RUN#BIRTH. For the last two the default of `groups` is the one that the candidate was judged with.
        path: the file.
        num_features: of a layer that is no module, in the formats onnx and program.
        compiled: False leaves torch.compile, which takes a minute, out of the check of a Python file.
        force: write the file also where a format is refused.
        options: of the layer, such as `groups` and `channel_dim=-1`, in the formats onnx and program.

    Returns the errors that were measured.
    Raises Refused (an InputError) where a format has too large an error; InputError for what is no layer, a layer whose
    output does not change with x, a layer in training mode, a missing extra, and a file that cannot be written.

    >>> evonas.export("EvoNorm-S0", "layer.py")
    >>> evonas.export(model.bn1.eval(), "layer.onnx", "onnx")
    """
    expect_writable(path)
    content, measured = file_of(layer, format, num_features=num_features, compiled=compiled, force=force, **options)
    write(path, content)
    return measured


def file_of(
    layer: "Graph | str | Record | nn.Module",
    format: Format = "python",
    *,
    num_features: int | None = None,
    compiled: bool = True,
    force: bool = False,
    **options: Any,
) -> tuple[str | bytes, Parity]:
    """The file that `export` writes, and the errors that were measured."""
    if format not in FORMATS:
        raise InputError(f"format: unknown format {format!r:.80}{did_you_mean(format, FORMATS)}")
    origin = _origin(layer)
    if origin.graph is not None:
        NamedGraph(origin.name, origin.graph).of_use()
    if format == "python":
        if num_features is not None or options:
            name = "num_features" if num_features is not None else next(iter(options))
            raise InputError(f"{name}: an argument of the file's class, not of the file")
        if origin.graph is None:
            raise InputError(f"{origin.name} is no graph; its formats are {', '.join(FORMATS[1:])}")
        judged: tuple[Compared, ...] = ("compiled",) if compiled else ()
        measured = _judged(layer if isinstance(layer, nn.Module) else origin.graph, judged, force)
        source = layer_source(
            origin.graph, title=origin.title, about=origin.about, groups=origin.groups, checks=_docstring(measured)
        )
        return source, measured
    module = _module(layer, origin, format, num_features, options)
    made = onnx_of(module) if format == "onnx" else program_of(module)
    measured = _judged(module, (format,), force)
    return (onnx_bytes if format == "onnx" else program_bytes)(made, origin.notes(measured)), measured


def _judged(layer: "Graph | nn.Module", formats: tuple[Compared, ...], force: bool) -> Parity:
    measured = parity(layer, formats)
    refusal = next(filter(None, map(measured.refusal, formats)), "")
    if refusal and not force:
        raise Refused(refusal, measured)
    return measured


def _docstring(measured: Parity) -> str:
    table = "\n".join(f"    {line}" for line in repr(measured).splitlines())
    return f"Checked against float64 before it was written; evonas.parity defines the figures:\n\n{table}"


# --------------------------------------------------------------------------- where a layer comes from


@dataclass(frozen=True, slots=True)
class _Origin:
    """A layer's name, graph and provenance, as its file states them. A reference module has no graph."""

    name: str
    graph: Graph | None
    title: str = "A normalization-activation layer."
    about: str = ""
    groups: int = 32

    def notes(self, measured: Parity) -> dict[str, str]:
        """Names and values for a file's metadata."""
        notes = {"layer": self.title, "origin": self.about, "evonas": evonas.__version__, "torch": torch.__version__}
        if self.graph is not None:
            notes |= {"formula": self.graph.formula, "digest": self.graph.digest}
        return {f"evonas.{name}": value for name, value in notes.items()} | {"parity.json": measured.notes()}


def _origin(layer: object) -> _Origin:
    if isinstance(layer, nn.Module):
        place_of(layer)  # raises for what is no layer
        graph = layer.genotype if isinstance(layer, NormAct) else None
        return _Origin(type(layer).__name__, graph, groups=int(getattr(layer, "groups", 32)))
    if isinstance(layer, Record):
        layer = f"{layer.run}#{layer.birth}"
    if isinstance(layer, Graph):
        return _Origin(layer.formula, layer)
    if not isinstance(layer, str):
        raise InputError(f"expected a graph, a text, a name of the catalog, a record or RUN#BIRTH, got {layer!r:.80}")
    reference = candidate_reference(layer)
    if reference is not None:
        from evonas.run import open_run  # slow to import; names and texts do not need it

        run, birth = open_run(reference[0]), reference[1]
        title, about = described(run.candidate(birth), run.name, run.config.baseline)
        return _Origin(layer, run.runnable(birth), title, about, judged_groups(run.config))
    if layer in LAYERS:
        row = LAYERS[layer]
        about = f"{row.paper}, {row.year}; {row.label}: {row.source}."
        graph = None if isinstance(row, ModuleLayer) else row.graph
        return _Origin(row.name, graph, f"{row.name}.", about)
    named = resolve(layer)
    return _Origin(named.name, named.graph)


def _module(
    layer: Any, origin: _Origin, format: Format, num_features: int | None, options: dict[str, Any]
) -> nn.Module:
    """The module that is exported: the given one, or one at its initial state, in evaluation mode."""
    if isinstance(layer, nn.Module):
        if num_features is not None or options:
            name = "num_features" if num_features is not None else next(iter(options))
            raise InputError(f"{name}: the module has its own")
        return layer
    if num_features is None:
        raise InputError(f"num_features is missing: the number of channels of a layer in the format {format}")
    if origin.graph is None:
        return evonas.layer(origin.name, num_features, **options).eval()
    return evonas.layer(origin.graph, num_features, **{"groups": origin.groups, **options}).eval()
