"""Arguments and options that several commands share."""

from pathlib import Path

import click

RUN = click.argument("run")
BIRTH = click.argument("birth", type=int)
CONFIG = click.argument("config", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
COUNT = click.option("-n", type=click.IntRange(1, 1_000_000), default=10, show_default=True, help="How many.")
PICTURE = click.option("--picture", metavar="FILE", type=click.Path(path_type=Path), help="Draw it: .svg or .png.")
SET = click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Lay a value over the config; repeatable."
)
