"""A config, and a store of it: in a file and at a server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.config import Config
from evonas.config_file import parse_config
from evonas.run import Run
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.writer import Writer
from tests.conftest import TINY
from tests.evonas import driver_process
from tests.evonas.browser import CHROMIUM
from tests.evonas.search_cases import EVERYTHING, configured


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search of the tiny config that nothing disturbed. Whoever changes it, changes a copy of its folder."""
    return evonas.search(TINY, tmp_path_factory.mktemp("calm") / "run")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(autouse=True)
def no_driver_outlives_its_test() -> Iterator[None]:
    yield
    driver_process.stop_all()


@pytest.fixture
def config(tiny: dict[str, Any]) -> Config:
    return parse_config(json.dumps(tiny))


@pytest.fixture
def everything(tiny: dict[str, Any]) -> Config:
    """A search with every option of evolution that the paper does not have."""
    return configured(tiny, births=60, **EVERYTHING)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """A run that is not there yet, in a file or at a server: one contract."""
    folder = tmp_path / "run-000"
    if request.param == "postgresql":
        return Address.of_url(request.getfixturevalue("server_database"), folder.name, folder)
    return Address.of_file(folder / "run.db", folder.name, folder)


@pytest.fixture
def store(address: Address, config: Config) -> Iterator[Writer]:
    with_store = Database(address).create(config, {"evonas": "test"})
    yield with_store
    with_store.close()
