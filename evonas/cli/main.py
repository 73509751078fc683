"""The command `evonas`: its commands by name, and the one door of every error."""

import os
import sys
from importlib import import_module

import click
from click.shell_completion import CompletionItem

import evonas
from evonas.cli.output import OutputError, standard_streams
from evonas.search_space.errors import InputError, did_you_mean

KEPT = "what was recorded is kept, and `evonas resume` goes on"
COMMANDS = {  # name: the file of this folder that has it, and what it does
    "init": ("search", "Write a commented config to start from."),
    "search": ("search", "Launch a search."),
    "resume": ("search", "Go on with a stopped or killed run."),
    "runs": ("runs", "The runs of a folder or a database."),
    "status": ("query", "Counts by state and gate, and the time left."),
    "top": ("query", "The best layers, those retrained with fresh seeds first."),
    "show": ("query", "One candidate, with all that is known."),
    "find": ("explore", "The best survivors that use some operations, or none of others."),
    "lineage": ("explore", "A candidate's ancestors and children."),
    "export": ("query", "Write a layer as a Python file."),
    "dump": ("query", "All records as JSON lines."),
    "replay": ("explore", "Derive every proposal again from the records before it."),
    "funnel": ("study", "What each gate stopped, at what cost, and how often wrongly."),
    "validate": ("study", "Test accuracy of a finished search's best."),
    "evaluate": ("evaluate", "How good a layer of your own is on a config's proxies."),
    "noise": ("study", "How far accuracies spread over seeds."),
    "bench": ("study", "Which way to run pays on this machine."),
    "doctor": ("launch", "Check everything before a launch, and tell what it costs."),
    "submit": ("launch", "Send a search to a Ray cluster, as a job."),
    "catalog": ("catalog", "The known layers of the literature."),
}


class _Commands(click.Group):
    """Imports a command when it is invoked or its own help is asked; the help of all and completion need none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in COMMANDS:
            raise InputError(f"no command '{cmd_name}'{did_you_mean(cmd_name, COMMANDS)}")
        file, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"evonas.cli.{file}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=COMMANDS[name][1]) for name in names), *options]


@click.group(cls=_Commands, context_settings={"max_content_width": 100})
@click.version_option(evonas.__version__)
def app() -> None:
    """Evolve normalization-activation layers: launch a search, query what it found, export the winners."""


def main() -> None:
    """Run the command. Bad input is one line and exit code 2, an output that cannot be written one line and 1, a closed
    pipe the quiet end of a Unix tool (141)."""
    with standard_streams():
        try:
            code = _run()
            sys.stdout.flush()
        except OutputError as error:
            code = error.exit_code if error.is_quiet else _say(str(error), error.exit_code)
    sys.exit(code)


def _run() -> int:
    """The exit code."""
    try:
        return app(prog_name="evonas", standalone_mode=False) or 0
    except SystemExit as stop:
        return int(stop.code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        return _say(f"{error.format_message()} (see evonas --help)", 2)
    except InputError as error:
        return _say(str(error), 2)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OutputError:
        raise
    except Exception as error:
        return _lost(error)


def _lost(error: Exception) -> int:
    """The exit code where a run's database or cluster was lost; any other error is raised again."""
    from evonas.store.writer import StoreError  # seconds, which a command that does not fail saves
    from evonas.workers.ray_pool import ClusterLost

    match error:
        case StoreError():
            return _say(f"{error}; {KEPT}", 1)
        case ClusterLost():
            _say(f"{error}; {KEPT}", 1)
            sys.stdout.flush()
            os._exit(1)  # all is closed but Ray, which would wait for the head
        case _:
            raise error


def _say(message: str, code: int) -> int:
    print(f"evonas: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code
