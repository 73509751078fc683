"""The references that are made from the code leave nothing out."""

import re
from pathlib import Path
from typing import Any

import click
import pytest

import evonas
from docs.site.reference import commands, commands_page, config_page, meaning, models, python_page
from evonas.cli.main import COMMANDS
from evonas.search_space.mutation import OPERATORS
from evonas.workers.gates import GATES
from tests.conftest import ROOT

TAGS = ("gate", "architecture")  # keys whose one value is the name of the section


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda each: each if isinstance(each, str) else "")
def test_every_option_of_a_command_is_documented(name: str, command: click.Command) -> None:
    section = re.split(r"^## ", commands_page(), flags=re.MULTILINE)
    (mine,) = [each for each in section if each.partition("\n")[0] == name]
    assert command.help
    for each in command.params:
        if isinstance(each, click.Option):
            assert each.help, each.name
            assert all(option in mine for option in each.opts), each.name
        else:
            assert each.make_metavar(click.Context(command)) in mine


def test_every_command_is_documented() -> None:
    assert set(COMMANDS) <= {name for name, _ in commands()}


def test_every_key_of_a_config_is_documented() -> None:
    page, silent = config_page(), []
    every = [*models(), *((f"gates.{name}", kind) for name, kind in GATES.items())]
    for path, model in every:
        for name, field in model.model_fields.items():
            if name in TAGS and len(getattr(field.annotation, "__args__", ())) == 1:
                continue
            if not meaning(field):
                silent.append(f"{path}.{name}")
            shown = (ROOT / "docs" / "gates.md").read_text() if path.startswith("gates.") else page
            assert re.search(rf"`{name}[`:]", shown), f"{path}.{name}"
    assert len({path for path, _ in every}) > 20
    assert silent == []


def test_the_page_of_the_config_has_types_defaults_and_operators() -> None:
    page = config_page()
    assert "| `tournament_share` | number, > 0, ≤ 1 | `0.05` |" in page
    assert "| `live_nodes_max` | integer, ≥ 1 or `null` | `null` |" in page
    assert "| `selection` | `pareto`, `average`, `crowding` | `pareto` |" in page
    assert [each for each in OPERATORS if f"| `{each}` |" not in page] == []


@pytest.mark.parametrize("name", evonas.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value: Any = getattr(evonas, name)
    assert value.__doc__ or type(value).__doc__
    assert f"## evonas.{name}\n" in python_page()


def test_what_is_generated_is_not_in_the_repository() -> None:
    made = {"commands.md", "config.md", "python.md"}
    assert {path.name for path in Path(ROOT, "docs", "reference").iterdir()} & made == set()
