"""A pool that answers from a function."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from evonas.config import Config
from evonas.workers.outcome import Evaluation
from evonas.workers.pool import InProcessPool
from evonas.workers.protocol import Job, Protocol

Answer = Callable[[Job], Evaluation]


class AnsweringPool(InProcessPool):
    """Answers at once, and remembers what it was asked."""

    def __init__(self, protocol: Protocol, answer: Answer) -> None:
        super().__init__(protocol)
        self.asked: list[Job] = []
        self.answer = answer

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        key, job = self._waiting.popleft()
        self.asked.append(job)
        return key, self.answer(job)


def answering(monkeypatch: pytest.MonkeyPatch, config: Config, answer: Answer, *studies: str) -> AnsweringPool:
    """The pool that these modules of evonas.studies open from now on."""
    pool = AnsweringPool(config.protocol, answer)

    @contextmanager
    def opened(config: Config) -> Iterator[AnsweringPool]:
        yield pool

    for study in studies:
        monkeypatch.setattr(f"evonas.studies.{study}.open_pool", opened)
    return pool
