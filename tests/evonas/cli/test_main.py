"""The command line as a whole: its help, its refusals, and the installed command."""

import subprocess
import sys
from pathlib import Path

import pytest

from evonas.cli.main import COMMANDS
from tests.evonas.cli.cases import READERS, Answer, Command, arguments, piped, refused
from tests.evonas.driver_process import EVONAS

# --------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(command: Command, name: str) -> None:
    answer = command(name, "--help")
    assert answer.code == 0
    example = next(line for line in answer.lines if "Example:" in line)
    assert f"evonas {name}" in example
    assert answer.err == ""


def test_help_lists_exactly_the_commands_each_with_a_whole_sentence(command: Command) -> None:
    answer = command("--help")
    assert answer.code == 0
    listed = answer.out.partition("Commands:")[2].splitlines()[1:]
    found = {line.split()[0]: " ".join(line.split()[1:]) for line in listed if line.strip()}
    assert set(found) == set(COMMANDS)
    assert [text for text in found.values() if not text.endswith(".") or text.endswith("...")] == []


def test_evonas_alone_prints_its_help(command: Command) -> None:
    answer = command()
    lines = (answer.out + answer.err).splitlines()
    assert "Commands:" in lines
    assert any(line.split()[:1] == ["search"] for line in lines)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["serch", "x.yaml"], "search"),
        (["top"], "RUN"),
        (["top", "x", "--bye", "resnet"], "--by"),
        (["top", "x", "-n", "many"], "many"),
        (["show", "x", "first"], "first"),
        (["show", "x", "-1"], "-1"),
        (["export", "x", "1"], "--output"),
        (["search"], "CONFIG"),
        (["status", "x", "y"], "y"),
        (["catalog", "shwo", "BN-ReLU"], "shwo"),
        (["catalog", "show"], "NAME"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_command_is_one_line(command: Command, given: list[str], part: str) -> None:
    refused(command(*given), part)


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", [*READERS, "resume"])
def test_no_such_run_is_refused_and_the_nearest_named(command: Command, run: Path, name: str) -> None:
    before = sorted(run.parent.iterdir())
    refused(command(*arguments(name, run.with_name("rnu"))), "no such run", f"did you mean '{run}'?")
    assert sorted(run.parent.iterdir()) == before


@pytest.mark.parametrize("name", [*READERS, "resume"])
def test_what_is_no_database_of_evonas_is_refused_and_left_alone(command: Command, tmp_path: Path, name: str) -> None:
    path = tmp_path / "theirs.db"
    path.write_bytes(b"\x00\xffnot a database\n" * 100)
    refused(command(*arguments(name, path)), str(path), "not a database of evonas")
    assert path.read_bytes() == b"\x00\xffnot a database\n" * 100
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [*READERS, "resume"])
def test_a_folder_without_a_run_is_refused(command: Command, tmp_path: Path, name: str) -> None:
    refused(command(*arguments(name, tmp_path)), str(tmp_path), "no run.db")


# --------------------------------------------------------------------------- the real command


def test_the_installed_command_refuses_in_one_line(run: Path) -> None:
    answer = piped("top", str(run), "--by", "nothing")
    refused(Answer(answer.returncode, answer.stdout, answer.stderr), "no proxy 'nothing'")


def test_a_reader_that_closes_the_pipe_early_ends_the_command_as_any_unix_tool(run: Path) -> None:
    """`true` is gone before the first line."""
    script = 'set -o pipefail; "$0" dump "$1" | true'
    answer = subprocess.run(
        ["bash", "-c", script, EVONAS, str(run)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (141, "", "")


def test_reading_a_run_loads_nothing_that_takes_seconds_and_is_not_needed(run: Path) -> None:
    """All commands in one process: whatever one of them loads is there in the end."""
    code = """
import sys
from evonas.cli.main import main

for words in (["status"], ["top"], ["show", "1"]):
    command, *rest = words
    sys.argv = ["evonas", command, RUN, *rest]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
print(sorted({"matplotlib", "ray", "scipy", "torchvision", "torch._dynamo"} & set(sys.modules)))
"""
    asked = [sys.executable, "-c", code.replace("RUN", repr(str(run)))]
    answer = subprocess.run(asked, check=True, timeout=120, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "[]"
    assert "run: 40 of 40 births" in answer.stdout
