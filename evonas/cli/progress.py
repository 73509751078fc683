"""The progress of a study, on standard error so that piped output stays clean."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console

from evonas.cli.tables import duration

LINE_SECONDS = 10.0  # between two lines where nothing can be drawn over


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many of the study's trainings, or of `what` else it counts, are done, and the time left: in a terminal
    one line that changes, elsewhere a line now and then. Ctrl-C ends quietly."""
    from evonas.session import Stopped

    began, said = 0.0, time.monotonic()
    console = Console(stderr=True, highlight=False)
    with console.status("starting the workers") as status:

        def progress(done: int, total: int) -> None:
            nonlocal began, said
            now = time.monotonic()
            began = began or now
            left = f", about {duration((now - began) / done * (total - done))} left" if 0 < done < total else ""
            line = f"{done} of {total} {what}{left}"
            status.update(line)
            if not console.is_terminal and now >= said + LINE_SECONDS:
                said = now
                console.print(line, soft_wrap=True)

        try:
            yield progress
        except (Stopped, KeyboardInterrupt):
            raise click.Abort from None
