"""evonas init, search, resume: from a config to a finished run."""

import shlex
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

import evonas
from evonas.cli.options import CONFIG, RUN, SET
from evonas.cli.output import STANDARD_OUTPUT, OutputError
from evonas.files import write
from evonas.search_space.errors import InputError, did_you_mean

REFERENCE = "-reference"  # the end of a template's name that `evonas fidelity` compares another with
VALIDATION = "-validation"  # the end of a template's name that `evonas validate --on` takes


def templates() -> dict[str, Path]:
    """The shipped configs by name: packaged in a wheel, or those of the checkout."""
    packaged = Path(str(files("evonas") / "configs"))
    folder = packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


@click.command()
@click.option("--template", default="quickstart", show_default=True, help="The shipped config to copy.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write [<template>.yaml]; - prints.")
def init(template: str, output: Path | None) -> None:
    """Write a commented config to start from: quickstart, cifar10, gpt, vit, evonorm-b or evonorm-s.

    quickstart-reference and cifar10-reference are long trainings, which evonas fidelity compares with the other two.

    \b
    For evonas validate --on there are
      cifar10-validation           the networks of the search, larger images, ten times the steps
      cifar10-networks-validation  networks that the search did not see
      fashion-validation           data that the search did not see

    \b
    Example: evonas init --template cifar10 -o my.yaml
    """
    paths = templates()
    if template not in paths:
        raise InputError(f"--template: no config '{template}'{did_you_mean(template, paths)}")
    output, text = output or Path(f"{template}.yaml"), paths[template].read_text(encoding="utf-8")
    if output == STANDARD_OUTPUT:
        print(text, end="")
        return
    try:
        write(output, text, "x")
    except FileExistsError:
        raise InputError(f"{output}: exists; choose another file with -o") from None
    print(f"Wrote {output}. Next: evonas {_next(template)} {output}")


def _next(template: str) -> str:
    """The command that a template is for."""
    if template.endswith(VALIDATION):
        return "validate RUN --on"
    return f"fidelity {template.removesuffix(REFERENCE)}.yaml" if template.endswith(REFERENCE) else "search"


@click.command()
@CONFIG
@SET
@click.option("--run", type=click.Path(path_type=Path), help="The folder to make [results/<name>-<nnn>].")
def search(config: Path, settings: tuple[str, ...], run: Path | None) -> None:
    """Launch a search from the YAML file CONFIG and wait for its end. `evonas init` writes a config.

    \b
    Example: evonas search quickstart.yaml --set evolution.births=100 --run results/small
    """
    _watch(lambda display: evonas.search(config, run, settings=settings, watcher=display))


@click.command()
@RUN
@click.option("--end", is_flag=True, help="Propose no further candidate: retrain the best now, and end.")
def resume(run: str, end: bool) -> None:
    """Go on with a stopped or killed RUN: its folder, its .db file, or URL#run.

    Candidates that were in flight are evaluated again. Recorded outcomes are kept.

    \b
    Example: evonas resume results/quickstart-000
             evonas resume results/quickstart-000 --end
    """
    _watch(lambda display: evonas.resume(run, end=end, watcher=display))


def _watch(search_to_end: Callable[[Any], "evonas.Run"]) -> None:
    """Show a search while it runs, then its final table."""
    from evonas.cli.display import Display, print_end
    from evonas.driver import BEST_LAYER

    with Display() as display:
        try:
            finished = search_to_end(display)
        except (evonas.Stopped, KeyboardInterrupt):
            display.stop()
            _say_how_to_resume(display.reference)
            sys.exit(130)
        except OutputError:
            _say_how_to_resume(display.reference)
            raise
    print_end(finished, finished.folder / BEST_LAYER)


def _say_how_to_resume(reference: str) -> None:
    if reference:
        print(f"Stopped; nothing recorded is lost. Go on with: evonas resume {shlex.quote(reference)}", file=sys.stderr)
    else:
        print("Stopped before anything was recorded.", file=sys.stderr)
