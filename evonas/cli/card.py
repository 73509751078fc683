"""evonas card: all that is known of a layer."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.layers import section_table
from evonas.cli.options import JSON, SET
from evonas.cli.output import STANDARD_OUTPUT
from evonas.cli.progress import progress_of
from evonas.cli.query import indent
from evonas.cli.tables import say, terminal

if TYPE_CHECKING:
    from evonas.studies.card import Card
    from evonas.workers.protocol import Device


@click.command()
@click.argument("layer")
@click.argument("birth", type=int, required=False)
@click.option("--speed/--no-speed", default=True, help="Time it on this machine: seconds.")
@click.option("--compile", "compiled", is_flag=True, help="Time it compiled, too: minutes.")
@click.option(
    "--train", "trained", is_flag=True,
    help="Train it at batch sizes 1 to 256 and other rates, on the cheapest proxy of the run.",
)  # fmt: skip
@click.option("--seeds", type=int, default=3, show_default=True, help="Fresh seeds of --train.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to time it."
)
@SET
@JSON
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown.")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
    help="Write Markdown, and the picture beside it.",
)  # fmt: skip
def card(
    layer: str, birth: int | None, speed: bool, compiled: bool, trained: bool, seeds: int, device: "Device",
    settings: tuple[str, ...], as_json: bool, as_markdown: bool, output: Path | None,
) -> None:  # fmt: skip
    """Show all that is known of LAYER: a run with the BIRTH of a candidate, RUN#BIRTH, a name of evonas catalog, or a
    text.

    Formula, batch dependence and parameters; its speed and peak memory, forward and backward, beside BN-ReLU, GN-ReLU
    and timm's EvoNorms; its error in half precision. Of a candidate also its figures, how it trains at other batch
    sizes and rates, its validations and its ablation, as far as the run has recorded them. What was not measured says
    how to measure it, and at what cost.

    \b
    Example: evonas card results/quickstart-000 138
             evonas card results/quickstart-000 138 --compile --train -o card.md
             evonas card EvoNorm-B0 --json
    """
    from evonas.report.card_page import picture_beside

    if as_json and (as_markdown or output):
        raise evonas.InputError("--json: takes neither --markdown nor -o")
    if output is not None and output != STANDARD_OUTPUT:
        picture_beside(output)
    reference = layer if birth is None else f"{layer}#{birth}"
    with progress_of("trainings and timings" if trained else "timings") as progress:
        made = evonas.card(
            reference, speed=speed, compiled=compiled, trained=trained, seeds=seeds, device=device, settings=settings,
            on_progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(made.as_json())
    elif output is not None and output != STANDARD_OUTPUT:
        picture = made.save(output)
        print(f"Wrote {output} and {picture}.")
    elif as_markdown or output:
        print(made.markdown(), end="")
    else:
        _print(made)


def _print(made: "Card") -> None:
    from evonas.report.card_page import sections

    console = terminal()
    say(console, made.title, style="bold")
    console.print(indent(made.graph.formula), soft_wrap=True)
    for section in sections(made):
        console.print()
        if section.title:
            say(console, section.title, style="bold")
        for line in section.lines:
            if "`" in line:  # a command, which is copied
                console.print(line.replace("`", ""), soft_wrap=True)
            else:
                say(console, line, hang=2)
        if section.rows:
            console.print()
            console.print(section_table(section))
