"""The command `evonas`."""

import sys
from collections.abc import Callable

import click
import typer

from evonas.cli import query, search
from evonas.store.store import StoreError
from search_space.errors import InputError

app = typer.Typer(
    help="Evolve normalization-activation layers: launch a search, query what it found, export the winners.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(search.init, search.search, search.resume),
    *(query.status, query.top, query.show, query.dump, query.export),
)
for _command in _COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command; bad input is one line and exit code 2."""
    try:
        app(standalone_mode=False)
    except InputError as error:
        _fail(str(error))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        _fail(error.format_message())
    except click.exceptions.Abort:
        sys.exit(130)
    except StoreError as error:
        _fail(f"{error}; what was recorded is kept, and `evonas resume` goes on", code=1)
    except BrokenPipeError:  # `evonas dump RUN | head`
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str, code: int = 2) -> None:
    print(f"evonas: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
