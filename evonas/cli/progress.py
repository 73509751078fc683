"""The progress of a study, on standard error so that piped output stays clean."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console

from evonas.cli.tables import duration


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show in a terminal how many of the study's trainings, or of `what` else it counts, are done, and the time left.
    Ctrl-C ends quietly."""
    from evonas.session import Stopped

    began = 0.0
    with Console(stderr=True, highlight=False).status("starting the workers") as status:

        def progress(done: int, total: int) -> None:
            nonlocal began
            now = time.monotonic()
            began = began or now
            left = f", about {duration((now - began) / done * (total - done))} left" if done else ""
            status.update(f"{done} of {total} {what}{left}")

        try:
            yield progress
        except (Stopped, KeyboardInterrupt):
            raise click.Abort from None
