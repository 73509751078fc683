"""The command `evonas`."""

import os
import sys

import click

from evonas.cli import catalog, explore, launch, query, search, study
from evonas.search_space.errors import InputError
from evonas.store.store import StoreError
from evonas.workers.ray_pool import ClusterLost

KEPT = "what was recorded is kept, and `evonas resume` goes on"


@click.group(context_settings={"max_content_width": 100})
@click.version_option(package_name="evonas")
def app() -> None:
    """Evolve normalization-activation layers: launch a search, query what it found, export the winners."""


for _command in (
    *(search.init, search.search, search.resume),
    *(query.status, query.top, query.show, query.dump, query.export),
    *(explore.find, explore.lineage, explore.replay),
    *(launch.doctor, launch.submit),
    *(study.funnel, study.validate, study.noise, study.bench_command),
    catalog.catalog,
):
    app.add_command(_command)


def main() -> None:
    """Run the command; bad input is one line and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(2)
    except click.ClickException as error:
        _fail(f"{error.format_message()} (see evonas --help)", 2)
    except InputError as error:
        _fail(str(error), 2)
    except StoreError as error:
        _fail(f"{error}; {KEPT}", 1)
    except ClusterLost as error:
        print(f"evonas: {error}; {KEPT}", file=sys.stderr, flush=True)
        os._exit(1)  # all is closed but Ray, which would wait for the head
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _fail(message: str, code: int) -> None:
    print(f"evonas: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
