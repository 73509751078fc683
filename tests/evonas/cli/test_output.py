"""The output of every command: into a closed pipe, a full device, no output at all, and ASCII alone."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click
import pytest
import yaml

import evonas
from evonas.cli.main import COMMANDS, app, main
from evonas.cli.output import CLOSED_PIPE, readable, standard_streams
from evonas.config_file import parse_config
from evonas.store.address import Address
from evonas.store.database import Database
from tests.conftest import TINY
from tests.evonas.store_cases import FIT, REJECTED, propose_and_record

# The output of each command on a run whose first candidate is trained and whose second is rejected.
PRINTS = {
    "init": ["-o", "{folder}/new.yaml"],
    "search": ["{folder}/tiny.yaml", "--set", "evolution={births: 1, rerank: {top: 0}}", "--run", "{folder}/searched"],
    "runs": ["{run}"],
    "status": ["{run}"],
    "top": ["{run}"],
    "show": ["{run}", "1"],
    "find": ["{run}"],
    "lineage": ["{run}", "1"],
    "export": ["{run}", "1", "--no-compile", "-o", "{folder}/layer.py"],
    "dump": ["{run}"],
    "replay": ["{run}"],
    "funnel": ["{run}"],
    "neighbours": ["x", "{folder}/tiny.yaml"],
    "report": ["{run}", "-o", "{folder}/report.html"],
    "tensorboard": ["{run}", "-o", "{folder}/board"],
    "catalog": [],
}
HELP_ALONE = {
    "resume",
    "validate",
    "evaluate",
    "ablate",
    "card",
    "noise",
    "fidelity",
    "bench",
    "doctor",
    "serve",
    "submit",
}  # what they print costs trainings or clusters, or never ends
PRINTING = [
    *([name, *words] for name, words in PRINTS.items()),
    *([name, "--help"] for name in COMMANDS),
    *([name, "--json"] for name in ("catalog",)),
    *([name, "{run}", "--json"] for name in ("status", "top", "funnel")),
    ["--help"],
    ["--version"],
    ["catalog", "show", "EvoNorm-S0"],
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output") / "run"
    store = Database(Address.of_file(folder / "run.db", "run", folder)).create(parse_config(json.dumps(TINY)), {})
    propose_and_record(store, 1, FIT, 1, advantage=0.1)
    propose_and_record(store, 2, REJECTED, 2)
    store.close()
    return folder


@pytest.fixture
def printed_into(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[TextIO | None, list[str]], tuple[int, str]]:
    """The exit code and the error output of `evonas ARGUMENTS` whose standard output is a stream."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))

    def answer(stream: TextIO | None, arguments: list[str]) -> tuple[int, str]:
        words = [word.replace("{run}", str(run)).replace("{folder}", str(tmp_path)) for word in arguments]
        monkeypatch.setattr(sys, "argv", ["evonas", *words])
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return end.value.code, capfd.readouterr().err

    return answer


Printed = Callable[[TextIO | None, list[str]], tuple[int, str]]


def test_every_command_is_printed_here() -> None:
    assert {*PRINTS, *HELP_ALONE} == set(COMMANDS)


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_closed_pipe_is_a_quiet_end(printed_into: Printed, arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        code, error = printed_into(pipe, arguments)
    if arguments[0] == "search" and "--help" not in arguments:  # it ends, and says how it goes on
        assert error.startswith("Stopped; nothing recorded is lost. Go on with: evonas resume ")
        assert len(error.splitlines()) == 1
    else:
        assert error == ""
    assert code == CLOSED_PIPE == 141


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_device_is_one_line(printed_into: Printed, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as device:
        code, error = printed_into(device, arguments)
    assert error.splitlines()[-1] == "evonas: the output cannot be written (No space left on device)"
    assert len(error.splitlines()) == (2 if "births" in " ".join(arguments) else 1)
    assert code == 1


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_an_output_of_ascii_gets_ascii(printed_into: Printed, arguments: list[str], tmp_path: Path) -> None:
    with (tmp_path / "printed").open("w", encoding="ascii") as file:
        code, error = printed_into(file, arguments)
    assert code == (1 if arguments == ["replay", "{run}"] else 0)  # the proposals of this run follow from no history
    assert error == ""
    assert (tmp_path / "printed").read_bytes().decode("ascii")


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "2>/dev/full >/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("--version", 1), ("no-such-command", 2), ("catalog shwo", 2)])
def test_closed_streams_are_one_line(redirection: str, words: str, code: int) -> None:
    script = f'"{sys.executable}" -m evonas {words} {redirection}'
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == code
    lines = answer.stderr.splitlines()
    assert len(lines) == (redirection == ">&-")
    if lines and code == 1:
        assert lines == ["evonas: the output cannot be written (Bad file descriptor)"]


@pytest.mark.parametrize("arguments", [words for words in PRINTING if words[0] != "search"], ids=" ".join)
def test_a_closed_output_is_one_line(printed_into: Printed, arguments: list[str]) -> None:
    """As in GNU's tools: what was asked for is nowhere."""
    code, error = printed_into(None, arguments)
    assert (code, error) == (1, "evonas: the output cannot be written (Bad file descriptor)\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "{run}", "1", "--no-compile", "-o", "/dev/full"],
        ["show", "{run}", "1", "--picture", "{folder}/full.svg"],
    ],
    ids=" ".join,
)
def test_a_file_on_a_full_device_is_one_line(printed_into: Printed, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "full.svg").symlink_to("/dev/full")
    with (tmp_path / "printed").open("w") as stream:
        code, error = printed_into(stream, arguments)
    assert (code, len(error.splitlines())) == (1, 1)
    assert error.endswith(": cannot be written (No space left on device)\n")


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (
            ["export", "{run}", "1", "--no-compile", "-o", "-"],
            ["export", "{run}", "1", "--no-compile", "-o", "{folder}/file"],
        ),
        (
            ["export", "EvoNorm-S0", "--no-compile", "-o", "-"],
            ["export", "EvoNorm-S0", "--no-compile", "-o", "{folder}/file"],
        ),
        (["init", "-o", "-"], ["init", "-o", "{folder}/file"]),
    ],
)
def test_a_dash_is_the_standard_output(
    printed_into: Printed, arguments: list[str], written: list[str], tmp_path: Path
) -> None:
    for words, name in ((arguments, "printed"), (written, "said")):
        with (tmp_path / name).open("w") as stream:
            assert printed_into(stream, words) == (0, "")
    assert (tmp_path / "printed").read_bytes() == (tmp_path / "file").read_bytes() != b""
    assert (tmp_path / "said").read_text().splitlines()[-1].startswith("Wrote ")


def test_a_file_that_is_opened_later_is_never_the_standard_output(tmp_path: Path) -> None:
    """Else a library that writes to number 1 would write into the database."""
    code = (
        "import os; from evonas.cli.output import standard_streams\n"
        "with standard_streams():\n"
        f"    file = open({str(tmp_path / 'run.db')!r}, 'w'); assert file.fileno() > 2; os.write(1, b'stray')\n"
    )
    script = f'"{sys.executable}" -c "$0" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", script, code], timeout=60, check=False).returncode == 0
    assert (tmp_path / "run.db").read_bytes() == b""


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("0.5 ±0.1", "ascii", "0.5 +-0.1"),
        ("μ / σ", "ascii", "mu / sigma"),  # noqa: RUF001
        ("Δ é 語 \udcff", "ascii", "delta e ? ?"),
        ("±é σ 語", "latin-1", "±é sigma ?"),  # noqa: RUF001
        ("± σ 語", "utf-8", "± σ 語"),  # noqa: RUF001
        ("\udcff", "utf-8", "?"),  # of a path that is no text
    ],
)
def test_characters_that_an_encoding_lacks_are_spelled_out(text: str, encoding: str, shown: str) -> None:
    assert readable(text, encoding) == shown


def test_the_streams_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    with standard_streams():
        print("kept")
    assert sys.stdout is memory
    assert memory.getvalue() == "kept\n"


# --------------------------------------------------------------------------- what is imported

HEAVY = {"torch", "ray", "sqlalchemy", "scipy", "matplotlib", "torchvision", "pydantic", "numpy", "yaml", "alembic"}


def imported(code: str, **environment: str) -> set[str]:
    """The heavy modules that a fresh Python has loaded after some code."""
    script = f"import atexit, sys\natexit.register(lambda: print('\\n', *(set(sys.modules) & {HEAVY})))\n{code}"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **environment}, check=True
    )
    return set(answer.stdout.splitlines()[-1].split())


def test_help_of_everything_imports_nothing_heavy() -> None:
    """`evonas --help` and `evonas COMMAND --help`, in one process."""
    words: list[list[str]] = [
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in COMMANDS),
        ["catalog", "show", "--help"],
    ]
    code = f"from evonas.cli.main import app\nfor words in {words}: app(words, standalone_mode=False)"
    assert imported(code) == set()
    assert imported("import numpy") == {"numpy"}  # so that a blind test would be seen


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("evonas s", {"search", "serve", "status", "show", "submit"}), ("evonas top --f", {"--front"})],
)
def test_completion_imports_nothing_heavy(typed: str, expected: set[str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_EVONAS_COMPLETE": "bash_complete"}
    code = "import sys; sys.argv = ['evonas']\nfrom evonas.cli.main import main; main()"
    assert imported(code, **words) == set()
    answer = subprocess.run(
        [sys.executable, "-m", "evonas"], capture_output=True, text=True, env={**os.environ, **words}, check=True
    )
    assert {line.partition(",")[2] for line in answer.stdout.splitlines()} == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_called_as_it_is_listed(name: str) -> None:
    assert app.get_command(click.Context(app), name).name == name


def test_the_version_is_the_packages(capfd: pytest.CaptureFixture[str]) -> None:
    assert app(["--version"], prog_name="evonas", standalone_mode=False) == 0
    assert capfd.readouterr().out == f"evonas, version {evonas.__version__}\n"
    assert (Path(evonas.__file__).parent / "py.typed").is_file()
