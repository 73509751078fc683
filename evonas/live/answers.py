"""Answers that clients share. Each is built once for each state of what it tells, however many ask for it.

Building rests: after an answer that was there before is built again, none is for REST times as long. So following runs
takes a twentieth of a core at most from a search beside it, however many pages are open and however large the runs are.
What is asked for the first time is built at once, beyond that. No transaction is open while an answer is sent: slow
clients delay nobody.
"""

import gzip
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from hashlib import sha256
from threading import Lock
from typing import Any

from evonas.search_space.errors import InputError, NotThere
from evonas.store.choice import BadChoice

REST = 20.0
GLANCE_SECONDS = 1.0  # until the state is looked at again
KEPT = 200  # answers; the one that nobody asked for longest goes first


@dataclass(frozen=True, slots=True)
class Answer:
    """A status of HTTP and a body, gzipped. `tag` tells bodies apart."""

    status: int
    body: bytes
    tag: str
    version: Hashable
    looked_at: float  # when the state was last the version's, or building rested

    @property
    def text(self) -> str:
        return gzip.decompress(self.body).decode()


class Answers:
    """The answers of one server, by the question."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: OrderedDict[Hashable, Answer] = OrderedDict()
        self._building = Lock()
        self._rests_until = 0.0

    def get(self, question: Hashable, version: Callable[[], Hashable], build: Callable[[], Any]) -> Answer:
        """The answer to a question: text, or JSON of any other value.

        Args:
            version: a value that changes with the state that the answer tells.
            build: makes the answer. Where it raises InputError, the message is the answer.
        """
        answer = self._answers.get(question)
        if answer is not None and self._is_young(answer):
            return answer
        # Whoever finds another building takes the old answer; there is none of a first question.
        if not self._building.acquire(blocking=answer is None):
            assert answer is not None
            return answer
        try:
            answer = self._answers.get(question)
            if answer is None or not self._is_young(answer):
                answer = self._renewed(answer, version, build)
                self._answers[question] = answer
            self._answers.move_to_end(question)
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
            return answer
        finally:
            self._building.release()

    def _is_young(self, answer: Answer) -> bool:
        return self._clock() - answer.looked_at < GLANCE_SECONDS

    def _renewed(self, old: Answer | None, version: Callable[[], Hashable], build: Callable[[], Any]) -> Answer:
        started = self._clock()
        if old is not None and started < self._rests_until:
            return replace(old, looked_at=started)
        try:
            now = version()
            if old is not None and old.version == now:
                return replace(old, looked_at=started)
            new = _answer(200, build(), now, started)
        except InputError as error:
            status = 404 if isinstance(error, NotThere) else 422 if isinstance(error, BadChoice) else 503
            new = _answer(status, {"error": " ".join(str(error).split())}, object(), started)
        ended = self._clock()
        if old is not None:
            self._rests_until = ended + REST * (ended - started)
        return replace(new, looked_at=ended)


def _answer(status: int, value: Any, version: Hashable, at: float) -> Answer:
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Answer(status, gzip.compress(text.encode(), 5, mtime=0), sha256(text.encode()).hexdigest()[:20], version, at)
