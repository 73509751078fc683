"""Arguments and options shared by several commands."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from evonas.search_space.catalog.named import NamedGraph


EVERY_SECONDS, LEAST_SECONDS = 1.0, 0.1  # between two looks


class LayerType(click.ParamType["NamedGraph"]):
    """A layer that the proxies can train: a name of the catalog, a text, or RUN#BIRTH."""

    name = "layer"

    def convert(
        self, value: "str | NamedGraph", param: click.Parameter | None, ctx: click.Context | None
    ) -> "NamedGraph":
        from evonas.layers.resolve import resolve
        from evonas.search_space.errors import InputError

        try:
            return resolve(value).of_one_input() if isinstance(value, str) else value
        except InputError as error:
            place = f"{param.opts[0]} " if isinstance(param, click.Option) else ""
            raise InputError(f"{place}{error}") from None


class MinimumType(click.ParamType[tuple[str, float]]):
    """A proxy and its least accuracy, or the most bits per byte."""

    name = "minimum"

    def convert(
        self, value: str | tuple[str, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        if not isinstance(value, str):
            return value
        proxy, _, accuracy = value.partition("=")
        try:
            return proxy, float(accuracy)
        except ValueError:
            self.fail(f"'{value}': expected PROXY=FIGURE, such as resnet=0.55", param, ctx)


class ListType(click.ParamType[tuple[Any, ...]]):
    """Values with commas between them."""

    def __init__(self, name: str, kind: Callable[[str], Any]) -> None:
        self.name = name
        self.kind = kind

    def convert(
        self, value: str | tuple[Any, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if not isinstance(value, str):
            return value
        try:
            return tuple(self.kind(part.strip()) for part in value.split(","))
        except ValueError:
            self.fail(f"'{value}': expected {self.name} with commas between them", param, ctx)


class SecondsType(click.ParamType[float]):
    """A time between two looks."""

    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"'{value}': expected seconds, such as 5; RUN stands before --watch", param, ctx)
        if not LEAST_SECONDS <= seconds <= 1e6:
            self.fail(f"'{value}': expected {LEAST_SECONDS} seconds at least", param, ctx)
        return seconds


LAYER = LayerType()
NAMES = ListType("names", str)
COUNTS = ListType("whole numbers", int)
MINIMUM = MinimumType()
RUN = click.argument("run")
BIRTH = click.argument("birth", type=int)
CONFIG = click.argument("config", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
COUNT = click.option("-n", type=int, default=10, show_default=True, help="How many.")
PICTURE = click.option("--picture", metavar="FILE", type=click.Path(path_type=Path), help="Draw it: .svg or .png.")
SET = click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override a value of the config; repeatable."
)


def layers_option(*default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """--layer, which names one or several."""
    return click.option(
        "--layer", "layers", metavar="LAYER", type=LAYER, multiple=True, default=default, show_default=True,
        help="A name of evonas catalog, a text such as 'x / rms_hw(x)', or RUN#BIRTH; repeatable.",
    )  # fmt: skip


def watch_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--watch, with the seconds between two looks or without."""
    return click.option(
        "--watch", metavar="[SECONDS]", type=SecondsType(), is_flag=False, flag_value=str(EVERY_SECONDS), help=text
    )
