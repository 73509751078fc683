"""Several layers as one Python package that imports torch alone, with a factory for `norm_layer=`."""

import re
from collections.abc import Iterable
from pathlib import Path
from textwrap import indent

from evonas.files import expect_folder, make_folder, write
from evonas.layers.export import file_of
from evonas.layers.parity import Parity
from evonas.layers.resolve import candidate_reference, named_layer
from evonas.layers.source import WIDTH
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.printing import print_formula
from evonas.store.records import Record

_INIT = '''"""{title}

{rows}

`norm_layer` makes a `norm_layer=` for timm and torchvision:

    from {package} import norm_layer

    timm.create_model("resnetv2_50", norm_layer=norm_layer("{first}"))
    torchvision.models.resnet18(norm_layer=norm_layer("{first}"))
"""

import functools
from typing import Any

from torch import nn

from . import {modules}

LAYERS: dict[str, type[nn.Module]] = {{
{entries}
}}


def make(
    num_features: int,
    apply_act: bool = True,
    *,
    name: str,
    inplace: bool = False,
    act_layer: object = None,
    act_kwargs: object = None,
    **options: Any,
) -> nn.Module:
    """A layer by its name, with its options.

    inplace, act_layer, act_kwargs: of an activation beside the norm; ignored, since the
    layer has its own. apply_act=False leaves the affine alone.
    """
    return LAYERS[name](num_features, apply_act, **options)


def norm_layer(name: str, **options: Any) -> functools.partial[nn.Module]:
    """A function from a number of features to a layer; it can be pickled.

    timm takes classes that it knows, functions, and partials of functions.
    """
    if name not in LAYERS:
        raise ValueError(f"unknown layer {{name!r}}; expected one of {{', '.join(LAYERS)}}")
    return functools.partial(make, name=name, **options)
'''


def export_package(
    layers: "Iterable[Graph | str | Record]",
    folder: str | Path,
    *,
    title: str = "Layers found by evonas.",
    compiled: bool = True,
    force: bool = False,
) -> dict[str, Parity]:
    """Write layers as a package: a file for each, as `evonas.export` writes it, and `norm_layer(name, **options)`.

    Args:
        layers: graphs, texts, names of the catalog, records such as those of `run.front()`, or RUN#BIRTH. A layer that
            comes twice is written once.
        folder: the package; new or empty, with a name that Python can import.
        title: of its docstring.
        compiled, force: as in `evonas.export`.

    Returns the errors that were measured, by the names of the layers: `birth_17` for a candidate.
    Raises Refused where a layer is refused, before anything is written; InputError for what is no layer, and for a
    folder that cannot be written.

    >>> evonas.export_package(evonas.open_run("results/quickstart-000").front(), "my_layers")
    """
    place = Path(folder)
    if not place.name.isidentifier():
        raise InputError(f"{place}: expected a folder whose name Python can import, such as my_layers")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"{place}: exists already")
    expect_folder(place)
    named = _named(layers)
    if not named:
        raise InputError("expected at least one layer")
    sources, measured = {}, {}
    for name, (layer, _) in named.items():
        sources[name], measured[name] = file_of(layer, compiled=compiled, force=force)
    texts = {
        "__init__.py": _init({name: graph for name, (_, graph) in named.items()}, place.name, title),
        "py.typed": "",
    }
    texts |= {f"{name}.py": str(source) for name, source in sources.items()}
    make_folder(place)
    for file, text in texts.items():
        write(place / file, text)
    return measured


def _named(layers: "Iterable[Graph | str | Record]") -> "dict[str, tuple[Graph | str | Record, Graph]]":
    """Names of modules -> layers, each with its graph."""
    named: dict[str, tuple[Graph | str | Record, Graph]] = {}
    digests = set[str]()
    for number, layer in enumerate(layers, 1):
        graph = named_layer(layer).graph
        if graph.digest not in digests:
            digests.add(graph.digest)
            name = _name(layer, number)
            named[f"{name}_{number}" if name in named else name] = (layer, graph)  # one birth of each of two runs
    return named


def _name(layer: "Graph | str | Record", number: int) -> str:
    if isinstance(layer, Record):
        return f"birth_{layer.birth}"
    if isinstance(layer, str) and (reference := candidate_reference(layer)):
        return f"birth_{reference[1]}"
    if isinstance(layer, str) and layer in LAYERS:
        return re.sub(r"\W", "_", layer).lower()
    return f"layer_{number}"


def _init(graphs: dict[str, Graph], package: str, title: str) -> str:
    formulas = {name: indent(print_formula(graph.canonical(), WIDTH - 4), 4 * " ") for name, graph in graphs.items()}
    modules = sorted(graphs)
    imported = ", ".join(modules)
    if len(imported) > 66:
        imported = "(\n" + "".join(f"    {name},\n" for name in modules) + ")"
    return _INIT.format(
        title=title,
        rows="\n".join(f"{name}\n{formula}" for name, formula in formulas.items()),
        package=package,
        first=next(iter(graphs)),
        modules=imported,
        entries="\n".join(f'    "{name}": {name}.EvolvedLayer,' for name in graphs),
    )
