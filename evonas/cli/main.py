"""The command `evonas`: the table of its commands, and the handling of every error."""

import os
import sys
from importlib import import_module

import click
from click.shell_completion import CompletionItem

import evonas
from evonas.cli.output import OutputError, standard_streams
from evonas.search_space.errors import InputError, did_you_mean

KEPT = "what was recorded is kept, and `evonas resume` goes on"
COMMANDS = {  # name -> file of this folder, short help
    "init": ("search", "Write a commented config to start from."),
    "search": ("search", "Launch a search."),
    "resume": ("search", "Go on with a stopped or killed run."),
    "runs": ("runs", "List the runs of a folder or a database."),
    "status": ("status", "Show how far a run is, once or until it ends."),
    "top": ("query", "List the best layers, those retrained with fresh seeds first."),
    "show": ("query", "Show one candidate: formula, outcome, measurements, costs."),
    "find": ("explore", "List the best layers that use, or lack, some operations."),
    "lineage": ("explore", "List a candidate's ancestors and children."),
    "export": ("export", "Write a layer as a Python file, an ONNX model or a program."),
    "dump": ("export", "Print all records as JSON lines."),
    "replay": ("explore", "Derive every proposal again from the records before it."),
    "funnel": ("study", "Show what each gate stopped, and what each operator proposed."),
    "validate": ("validate", "Judge a finished search's best layers on its test data."),
    "evaluate": ("evaluate", "Train layers of your own on a config's proxies."),
    "ablate": ("ablate", "Remove or replace each part of a layer, and train the rest."),
    "report": ("report", "Write one HTML file on runs, to look at and to hand on."),
    "serve": ("serve", "Serve a page that follows runs while they search."),
    "tensorboard": ("tensorboard", "Write a run's scalars for TensorBoard."),
    "card": ("card", "Show what is known of a layer: costs, validations, ablation."),
    "noise": ("study", "Measure how far figures spread over seeds."),
    "fidelity": ("fidelity", "Measure how well a config's proxies predict long trainings."),
    "bench": ("study", "Time dtypes, memory formats and torch.compile on this machine."),
    "doctor": ("launch", "Check everything before a launch, and estimate its cost."),
    "submit": ("launch", "Send a search to a Ray cluster, as a job."),
    "neighbours": ("explore", "List the single edits of a layer."),
    "catalog": ("catalog", "List the known layers of the literature."),
}


class _Commands(click.Group):
    """Imports a command only to invoke it or to show its own help; completion and the list of commands import none."""

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
    """Evolve normalization-activation layers: launch a search, query its records, export its layers."""


def main() -> None:
    """Run the command and exit.

    Bad input prints one line and exits with 2. An output that cannot be written prints one line and exits with 1. A
    closed pipe exits quietly with 141, as Unix tools do.
    """
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
        return _say(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OutputError:
        raise
    except Exception as error:
        return _lost(error)


def _lost(error: Exception) -> int:
    """The exit code where a run's database or cluster was lost; any other error is raised again."""
    from evonas.store.writer import StoreError  # slow to import; only a failing command pays
    from evonas.workers.ray_pool import ClusterLost

    match error:
        case StoreError():
            return _say(f"{error}; {KEPT}", 1)
        case ClusterLost():
            _say(f"{error}; {KEPT}", 1)
            sys.stdout.flush()
            os._exit(1)  # everything else is closed; Ray's own exit would wait for the head
        case _:
            raise error


def _say(message: str, code: int) -> int:
    print(f"evonas: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code
