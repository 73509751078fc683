"""evonas dump, export: records and layers for other programs."""

import json
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evonas.cli.options import RUN
from evonas.cli.output import STANDARD_OUTPUT
from evonas.files import expect_writable, write
from evonas.search_space.errors import InputError

if TYPE_CHECKING:
    from evonas.layers.export import Format

HELD = 20_000  # lines of a dump, of 1 KB, that are read before the first is printed


@click.command()
@RUN
@click.option("--logical", is_flag=True, help="Without versions, times, hosts, memory, epochs and events.")
def dump(run: str, logical: bool) -> None:
    """Print all records as JSON, one a line. Two runs are the same if their logical dumps are equal.

    A damaged run of up to 20,000 records prints nothing but the error. A larger one is printed while it is read, so
    that the error may follow whole lines; the exit code is 2.

    \b
    Example: evonas dump results/a --logical > a; evonas dump results/b --logical | diff a -
    """
    from evonas.run import open_run
    from evonas.store.dump import jsonable

    lines = (json.dumps(jsonable(record)) for record in open_run(run).dump(logical=logical))
    for line in chain(list(islice(lines, HELD)), lines):
        print(line)


@click.command()
@click.argument("layer")
@click.argument("birth", type=int, required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write; - prints Python."
)
@click.option(
    "--format", "form", type=click.Choice(["python", "onnx", "program"]), default="python", show_default=True,
    help="A Python file; an ONNX model (extra onnx); a program of torch.export.",
)  # fmt: skip
@click.option("--front", is_flag=True, help="All layers of a run's Pareto front, as a Python package: a folder.")
@click.option("--num-features", type=int, help="Channels; needed by onnx and program.")
@click.option("--channel-dim", type=int, help="Axis of the channels in onnx and program: 1 (default), or -1.")
@click.option("--groups", type=int, help="Groups of ghw in onnx and program.")
@click.option("--no-compile", is_flag=True, help="Do not check a Python file with torch.compile, which takes a minute.")
@click.option("--force", is_flag=True, help="Write the file even where its format is refused.")
def export(
    layer: str,
    birth: int | None,
    output: Path,
    form: "Format",
    front: bool,
    num_features: int | None,
    channel_dim: int | None,
    groups: int | None,
    no_compile: bool,
    force: bool,
) -> None:
    """Write LAYER as a Python file that imports torch alone and defines EvolvedLayer(num_features). The other formats
    hold the layer in evaluation mode, with its initial parameters, for any batch and image size.

    LAYER is a run with the BIRTH of a candidate, RUN#BIRTH, a name of evonas catalog, or a text.

    First the format is compared with a float64 reference, as is the layer in eager mode: outputs and gradients, in
    float32, bfloat16 and float16, on realistic and adversarial inputs. It is refused if its error exceeds 8 ulp and 4
    times eager's. The table is printed, and kept in the file.

    \b
    Example: evonas export results/quickstart-000 17 -o layer.py
    Example: evonas export "x / rms_hw(x)" -o layer.py
    Example: evonas export EvoNorm-S0 --format onnx --num-features 64 -o layer.onnx
    Example: evonas export results/quickstart-000 --front -o my_layers
    """
    from evonas.layers.export import file_of
    from evonas.layers.parity import Refused

    given = {"num_features": num_features, "channel_dim": channel_dim, "groups": groups}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if front:
        if birth is not None or options or form != "python":
            raise InputError("--front: expected a run alone; a package has Python files of all its layers")
        export_front(layer, output, compiled=not no_compile, force=force)
        return
    if no_compile and form != "python":
        raise InputError(f"--no-compile: expected the format python; {form} is not checked with torch.compile")
    printed = output == STANDARD_OUTPUT
    if printed and form != "python":
        raise InputError(f"-o -: expected a file for the format {form}")
    if not printed:
        expect_writable(output)
    try:
        content, parity = file_of(
            layer if birth is None else f"{layer}#{birth}",
            form, compiled=not no_compile, force=force, **options,
        )  # fmt: skip
    except Refused as refused:
        if not printed:
            print(refused.parity)
        raise
    if printed:
        print(content, end="")
        return
    write(output, content)
    print(parity)
    for refusal in filter(None, map(parity.refusal, parity.formats)):
        print(f"Forced: {refusal}.")
    print(f"Wrote {output}{': class EvolvedLayer(num_features), torch alone' * (form == 'python')}.")


def export_front(run: str, folder: Path, *, compiled: bool, force: bool) -> None:
    from evonas.layers.package import export_package
    from evonas.run import open_run

    opened = open_run(run)
    title = f"The Pareto front of {opened.name}: layers found by evonas."
    for name, parity in export_package(opened.front(), folder, title=title, compiled=compiled, force=force).items():
        print(f"{name}\n{parity}\n")
    print(f"Wrote {folder}: norm_layer(name) for timm and torchvision; torch alone.")
