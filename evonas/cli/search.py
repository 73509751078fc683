"""evonas init, search, resume."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

import evonas
from evonas.cli.display import Display, print_end
from evonas.run import BEST_LAYER
from search_space.errors import InputError, did_you_mean

Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the config; may be repeated.")
]


def templates() -> dict[str, Path]:
    """The shipped configs by name: packaged in a wheel, or those of the checkout."""
    packaged = Path(str(files("evonas") / "configs"))
    folder = packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def init(
    template: Annotated[str, typer.Option(help="Which of the shipped configs.")] = "quickstart",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write [<template>.yaml].")] = None,
) -> None:
    """Write a commented config to start from.

    Example: evonas init --template cifar10 -o my.yaml
    """
    known = templates()
    if template not in known:
        raise InputError(f"--template: no config '{template}'{did_you_mean(template, known)}")
    output = output or Path(f"{template}.yaml")
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(known[template].read_text(encoding="utf-8"))
    except FileExistsError:
        raise InputError(f"{output}: exists; choose another file with -o") from None
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from None
    print(f"Wrote {output}. Next: evonas search {output}")


def search(
    config: Annotated[Path, typer.Argument(help="A YAML file; `evonas init` writes one.")],
    set_: Setting = None,
    run: Annotated[Path | None, typer.Option("--run", help="The folder to make [results/<name>-<nnn>].")] = None,
) -> None:
    """Launch a search, and wait for its end.

    Example: evonas search quickstart.yaml --set evolution.births=100 --run results/small
    """
    with Display() as display:
        try:
            finished = evonas.search(config, run, settings=set_ or (), watcher=display)
        except (evonas.Stopped, KeyboardInterrupt):
            _say_how_to_resume(display)
    print_end(finished, finished.folder / BEST_LAYER)


def resume(run: Annotated[str, typer.Argument(help="A run's folder, a .db file, or URL#run.")]) -> None:
    """Go on with a stopped or killed run.

    The candidates that were in flight are evaluated again; nothing recorded is.

    Example: evonas resume results/quickstart-000
    """
    with Display() as display:
        try:
            finished = evonas.resume(run, watcher=display)
        except (evonas.Stopped, KeyboardInterrupt):
            _say_how_to_resume(display)
    print_end(finished, finished.folder / BEST_LAYER)


def _say_how_to_resume(display: Display) -> None:
    display.stop()
    if display.reference:
        print(f"Stopped; nothing recorded is lost. Go on with: evonas resume {display.reference}", file=sys.stderr)
    else:
        print("Stopped before anything was recorded.", file=sys.stderr)
    raise typer.Exit(130)
