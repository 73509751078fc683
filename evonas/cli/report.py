"""evonas report: one HTML file on runs."""

from pathlib import Path

import click

import evonas
from evonas.cli.output import STANDARD_OUTPUT


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True,
    help="The file to write; - is the standard output.",
)  # fmt: skip
def report(runs: tuple[str, ...], output: Path) -> None:
    """Write one HTML file on RUN, or on several beside each other; it works offline.

    It shows what was found, the best fitness over births and core-seconds, the Pareto fronts, what each gate stopped
    and each operator proposed, what survived, how busy the workers were, and the config. A click on a layer shows its
    picture, formula, curves and ancestors. A run that failed or is not finished is shown as far as it came.

    \b
    Example: evonas report results/quickstart-000 -o report.html
             evonas report results/search results/random
    """
    if output == STANDARD_OUTPUT:
        from evonas.report.page import html
        from evonas.report.run_view import document

        print(html(document(list(runs))))
        return
    path = evonas.write_report(list(runs), output)
    print(f"Wrote {path}.")
