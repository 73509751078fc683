"""Every code block of README and of docs/ is run, or says why it is not."""

import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import evonas
from evonas.layers.source import layer_source
from evonas.search_space.catalog import LAYERS
from evonas.search_space.mutation import OPERATORS
from tests.conftest import ROOT
from tests.evonas.documents.blocks import OTHER, PAGES, RUN, blocks, run
from tests.evonas.own.own_cases import forget

LANGUAGES = {"python", "sh", "yaml", "sql", "layer", "text"}  # text: what is printed, and formulas
ELSEWHERE = {  # page -> the test that runs its blocks
    "docs/queries.md": "tests/evonas/test_queries_page.py",
    "docs/how-to/networks.md": "tests/evonas/layers/test_networks_page.py",
}
FRAGMENTS = (  # run by test_one_row.py, test_one_file.py and test_package.py
    *("# search_space/", "# workers/"),
    "import timm, torchvision\nfrom my_layers ",
)
NOT_RUN = 12
RECORDED = ROOT / "tests" / "evonas" / "databases" / "0003.db"  # a finished search of 30 births
QUICK = {  # the others run searches, trainings and exports
    *("docs/developers/extend.md", "docs/explanation/gates.md", "docs/how-to/cluster.md", "docs/index.md"),
    *("docs/explanation/noise.md", "docs/reference/language.md", "docs/reference/output.md", "README.md"),
}
ALL = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small finished run, the configs, and an exported layer."""
    folder = tmp_path_factory.mktemp("reader")
    for name in (RUN, OTHER):
        (folder / name).mkdir(parents=True)
        shutil.copy(RECORDED, folder / name / "run.db")
        with closing(sqlite3.connect(folder / name / "run.db")) as connection, connection:
            connection.execute("UPDATE run SET name = ?", [Path(name).name])
        evonas.open_run(folder / name)  # upgrades it
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "layer.py").write_text(layer_source(LAYERS["EvoNorm-S0"].graph))
    return folder


@pytest.fixture
def reader(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that folder as the working directory of somebody who has evonas installed."""
    folder = tmp_path / "reader"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    modules, operators = set(sys.modules), dict(OPERATORS)
    with torch.compiler.set_stance("force_eager"):  # what compiles takes a minute, and is tested elsewhere
        yield folder
    forget()
    OPERATORS.clear()
    OPERATORS.update(operators)
    for name in set(sys.modules) - modules:
        if name == "layer" or name.startswith("my_"):
            del sys.modules[name]


def pages() -> Iterator[Any]:
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        if name not in ELSEWHERE and any(each.language != "text" for each in blocks(page)):
            yield pytest.param(page, id=name, marks=() if name in QUICK else pytest.mark.long)


@pytest.mark.parametrize("page", list(pages()))
def test_the_blocks_of_a_page_run_as_they_stand(page: Path, reader: Path) -> None:
    names: dict[str, Any] = {"__name__": "page", "layer": evonas.layer("EvoNorm-S0", 64)}
    mine = [each for each in blocks(page) if not each.reason and not each.text.startswith(FRAGMENTS)]
    for block in sorted(mine, key=lambda each: each.file is None):  # files first: commands read them
        run(block, names)


def test_every_block_has_a_language_and_none_is_indented() -> None:
    assert [f"{each.page}:{each.line}" for each in ALL if each.language not in LANGUAGES] == []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        assert re.findall(r"\n\n    \S.*", prose) == [], page


def test_what_is_not_run_says_why() -> None:
    reasons = [each.reason for each in ALL if each.reason is not None]
    assert len(reasons) == NOT_RUN
    assert all(len(reason.split()) >= 3 for reason in reasons)
    marks = sum(page.read_text(encoding="utf-8").count("<!-- not run: ") for page in PAGES)
    assert marks == NOT_RUN + 1  # CONTRIBUTING.md tells of them


def test_the_tests_of_pages_with_their_own_exist() -> None:
    assert [each for each in ELSEWHERE.values() if not (ROOT / each).is_file()] == []


def test_readme_can_be_read_at_once() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("name", ["docs/developers/architecture.md"])
def test_the_files_that_a_page_names_exist(name: str) -> None:
    named = re.findall(r"`((?:search_space|workers|evonas|tests)/[\w./]*)`", (ROOT / name).read_text(encoding="utf-8"))
    assert len(named) > 20
    assert [each for each in named if not (ROOT / each).exists()] == []
