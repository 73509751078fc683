"""A server of the live page in a thread, and a search that waits."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import uvicorn

import evonas
from evonas.live.api import app
from evonas.live.places import Places
from evonas.store.writer import FLUSH_SECONDS
from evonas.workers.outcome import Evaluation, Fitness
from evonas.workers.protocol import Job
from tests.evonas.browser import eventually
from tests.evonas.search_cases import FakePool, answer, configured, searched


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The URL of a server."""
    config = uvicorn.Config(app(Places([folder])), port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join()


@contextmanager
def waiting_search(folder: Path, tiny: dict[str, Any], after: int) -> Iterator[Event]:
    """A search of 40 births that waits after so many answers, until the event is set. What was trained by then is in
    its database."""
    go_on, waits, answers = Event(), Event(), list[Evaluation]()

    def respond(job: Job) -> Evaluation:
        if len(answers) >= after:
            waits.set()
            go_on.wait(60)
        else:
            time.sleep(2 * FLUSH_SECONDS)  # each is written before the next
        answers.append(answer(job))
        return answers[-1]

    def is_written() -> bool:
        trained = sum(isinstance(each.outcome, Fitness) for each in answers) - 1  # without BN-ReLU
        return sum(isinstance(each.outcome, Fitness) for each in evonas.open_run(folder).reader.candidates()) >= trained

    folder.mkdir()
    search = Thread(target=lambda: searched(folder, configured(tiny), FakePool(1, respond)), daemon=True)
    search.start()
    assert waits.wait(60)
    assert eventually(is_written)
    yield go_on
    go_on.set()
    search.join(60)
