"""The code blocks of README and of the pages in docs/, and a folder in which they run as they stand."""

import json
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

import evonas
from evonas.cli.main import app
from evonas.config_file import parse_config
from evonas.search_space.graph import Graph
from tests.conftest import ROOT, TINY

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.M | re.S)
RUN, OTHER = "results/quickstart-000", "results/quickstart-001"
SMALL = (  # settings that make a search of any config end in a second
    "data.source=embedded",
    "data.path=null",
    "data.train=64",
    "data.validation=40",
    "data.test=40",
    "recipe.batch_size=16",
    "recipe.steps=2",
    "gates=[depends_on_x, finite]",
    "evolution.births=9",
    "evolution.rerank.top=1",
    "evolution.rerank.seeds=1",
    "evolution.rerank.baselines=[]",
    "cluster.address=in_process",
)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    reason: str | None  # why it is not run

    @property
    def file(self) -> str | None:
        """The name in its first line, where the block is a whole file."""
        first = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return first[1] if first else None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, text[: found.start()].count("\n") + 1, found["language"], found["text"], found["reason"])
        for found in BLOCK.finditer(text)
    ]


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a block in the working directory; `names` are those of the page's Python so far."""
    if block.file:
        Path(block.file).write_text(block.text, encoding="utf-8")
    match block.language:
        case "python":
            text = re.sub(r"^STEPS = \d+$", "STEPS = 1", block.text, flags=re.MULTILINE)
            with small_searches():
                exec(compile(text, f"{block.page}:{block.line}", "exec"), names)
        case "sh":
            for line in block.text.splitlines():
                run_command(line)
        case "yaml" if not block.file:
            parse_config(json.dumps(laid_over(yaml.safe_load(block.text))))
        case "layer":
            assert str(Graph.parse(block.text))
        case "sql":
            with closing(sqlite3.connect(f"{RUN}/run.db")) as connection:
                assert connection.execute(block.text).fetchall()


def run_command(line: str) -> None:
    """A command in this process, on small data. RUN and a birth stand for those of the folder."""
    words = shlex.split(line, comments=True)
    if not words:
        return
    assert words[0] == "evonas", line
    words = words[1 : words.index(">") if ">" in words else None]
    command = app.get_command(click.Context(app), words[0])
    birth = str(evonas.open_run(RUN).top(1)[0].birth)
    runs, given = iter((RUN, OTHER)), [""]
    for word in words:
        if word == "RUN":
            word = next(runs)
        elif word.isdecimal() and given[-1] == RUN:
            word = birth
        given.append(re.sub(rf"({RUN})#\d+", rf"\1#{birth}", word))
    given = given[1:]
    parameters = {each.name for each in command.params} if command else set()
    if {"config", "settings"} <= parameters and words[0] not in ("card", "ablate", "validate"):
        given += [word for setting in SMALL for word in ("--set", setting)]
    if words[0] == "export" and "--format" not in words:
        given.append("--no-compile")
    answer = CliRunner().invoke(app, given, catch_exceptions=False)
    assert answer.exit_code == 0, f"{line}\n{answer.output}"


def laid_over(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of a config, over those of a small one."""
    raw: dict[str, Any] = json.loads(json.dumps(TINY))
    for key, value in values.items():
        raw[key] = raw[key] | value if isinstance(value, dict) and key in raw else value
    return raw


@contextmanager
def small_searches() -> Iterator[None]:
    """Within it, functions of evonas that take settings get small ones."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("search", "evaluate"):
            patch.setattr(evonas, name, _on_small_data(getattr(evonas, name)))
        yield


def _on_small_data(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, settings=(), **options: function(*given, settings=(*settings, *SMALL), **options)
