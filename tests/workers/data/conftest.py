"""Data read anew in each test, and the images that are read."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from evonas.workers import data
from evonas.workers.protocol import Data


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    data._load.cache_clear()
    yield
    data._load.cache_clear()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of all images that are read."""
    seen: list[int] = []
    opened = data.open_source

    def open_and_listen(asked: Data) -> data.Source:
        source = opened(asked)

        def read(indices: np.ndarray) -> np.ndarray:
            seen.extend(int(index) for index in indices)
            return source.read(indices)

        return replace(source, read=read)

    monkeypatch.setattr(data, "open_source", open_and_listen)
    return seen
