"""Serve the live page until Ctrl-C."""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from evonas.live import PORT
from evonas.live.api import LOOPBACK, NEEDED, app
from evonas.live.places import Places
from evonas.report.page import plotly
from evonas.search_space.errors import InputError, whole


def serve(
    places: Sequence[str | Path] | str | Path = "results",
    port: int = PORT,
    host: str = "127.0.0.1",
    *,
    ready: Callable[[str, int], None] = lambda url, runs: None,
) -> None:
    """Serve a page on runs that follows them while they search, and a JSON API, until Ctrl-C. Nothing is written.

    Args:
        places: folders of runs, run folders, .db files, or URLs of databases with or without #run.
        port: 0 takes one that is free.
        host: the address to listen at; all but the default can be reached from other machines.
        ready: called once with the page's URL and the number of runs.

    Raises InputError for a place that is not there, for a single run that cannot be read, for a port in use, and where
    the extra `web` is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise InputError(NEEDED) from None
    plotly()  # raises where it is not installed
    found = Places([places] if isinstance(places, str | Path) else places)
    lines = found.lines().values()
    if len(lines) == 1:
        for line in lines:
            if line.error:
                raise InputError(line.error)
    is_loopback = host in LOOPBACK
    config = uvicorn.Config(
        app(found, is_loopback=is_loopback),
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=0,  # Ctrl-C waits for no client
    )
    with _listening(host, whole("port", port, 0, 65535)) as listener:
        name, number = listener.getsockname()[:2]
        ready(f"http://{f'[{name}]' if ':' in name else name}:{number}", len(lines))
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        hint = "; --port 0 takes a free one" if "in use" in reason else ""
        raise InputError(f"{host}:{port}: cannot be listened at ({reason}){hint}") from None
