"""`evonas init`, `search` and `resume`."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import evonas
from evonas.cli.display import Display
from evonas.cli.search import REFERENCE, templates
from evonas.driver import BEST_LAYER
from evonas.store.database import Database
from evonas.store.dump import dump
from tests.evonas.cli.cases import Command, config_file, piped, refused

# --------------------------------------------------------------------------- init


VALIDATIONS = ["cifar10-networks-validation", "cifar10-validation", "fashion-validation"]
TEMPLATES = sorted(
    [
        "cifar10",
        "cifar10-reference",
        "evonorm-b",
        "evonorm-s",
        "gpt",
        "quickstart",
        "quickstart-reference",
        "vit",
        *VALIDATIONS,
    ]
)


def test_every_shipped_config_is_a_template_that_the_help_names(command: Command) -> None:
    assert sorted(templates()) == TEMPLATES
    words = command("init", "--help").out.replace(",", " ").replace(".", " ").replace(":", " ").split()
    assert set(TEMPLATES) <= set(words)


@pytest.mark.parametrize("template", TEMPLATES)
def test_init_writes_a_config_that_loads(command: Command, tmp_path: Path, template: str) -> None:
    path = tmp_path / "my.yaml"
    answer = command("init", "--template", template, "-o", path)
    assert (answer.code, answer.err) == (0, "")
    base = template.removesuffix(REFERENCE)
    command_line = f"search {path}" if template == base else f"fidelity {base}.yaml {path}"
    if template in VALIDATIONS:
        command_line = f"validate RUN --on {path}"
    assert answer.out == f"Wrote {path}. Next: evonas {command_line}\n"
    assert evonas.load_config(path).name == template
    assert sum("#" in line for line in path.read_text().splitlines()) > 5  # it is commented


def test_init_needs_no_arguments_and_never_overwrites(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("init").code == 0
    path = tmp_path / "quickstart.yaml"
    path.write_text("mine")
    refused(command("init"), "quickstart.yaml", "exists")
    assert path.read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["quickstart.yaml"]


def test_init_refuses_an_unknown_template_and_names_the_nearest(command: Command, tmp_path: Path) -> None:
    refused(command("init", "--template", "quickstat", "-o", tmp_path / "my.yaml"), "did you mean 'quickstart'?")
    assert list(tmp_path.iterdir()) == []


def test_init_into_no_folder_is_one_line(command: Command, tmp_path: Path) -> None:
    refused(command("init", "-o", tmp_path / "none" / "my.yaml"), "none/my.yaml")


# --------------------------------------------------------------------------- search, resume


def test_search_takes_the_next_free_folder(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_file(tmp_path, evolution={"births": 3, "rerank": {"top": 0, "seeds": 1}})
    (tmp_path / "results" / "tiny-001").mkdir(parents=True)
    for expected in ("tiny-000", "tiny-002"):
        answer = command("search", config)
        assert answer.code == 0
        assert f"results/{expected}" in answer.out
        assert (tmp_path / "results" / expected / "run.db").is_file()
    assert list((tmp_path / "results" / "tiny-001").iterdir()) == []


def test_search_ends_with_the_final_table_and_where_everything_is(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    answer = command("search", config_file(tmp_path), "--set", "evolution.births=20", "--run", folder)
    assert (answer.code, answer.err) == (0, "")
    told = evonas.open_run(folder)
    head = next(line for line in answer.lines if line.split()[:1] == ["birth"])
    assert [word for word in head.split() if word in ("resnet", "mobilenet", "parent")] == [
        *("resnet", "mobilenet", "parent")
    ]
    for row in told.final_table():
        place, name = (0, str(row.birth)) if row.birth else (-1, row.name)
        shown = [line for line in answer.lines if line.split() and line.split()[place] == name]
        assert shown, row
        for mean_and_spread in row.accuracy.values():
            assert mean_and_spread is not None
            assert f"{mean_and_spread[0]:.3f}" in shown[-1]
    assert f"Best layer: {folder / BEST_LAYER}" in answer.lines
    assert any(str(folder) in line and "evonas top" in line for line in answer.lines)


def test_search_in_a_pipe_prints_plain_whole_lines(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "a-folder-with-a-rather-long-name-as-people-have-them" / "run"
    answer = command("search", config_file(tmp_path, evolution={"births": 10}), "--run", folder)
    assert "\x1b" not in answer.out
    assert "\r" not in answer.out
    first = answer.lines[0]
    assert first.startswith("tiny: 10 births on 2 proxies, 1 worker")
    assert first.endswith(str(folder))
    assert any(line.startswith(("0 of 10 births", "1 of 10 births")) for line in answer.lines)


def test_settings_are_laid_over_the_file_and_stored(command: Command, tmp_path: Path) -> None:
    settings = ["--set", "evolution.births=2", "--set", "seed=5", "--set", "evolution.rerank.top=0"]
    assert command("search", config_file(tmp_path), *settings, "--run", tmp_path / "run").code == 0
    config = evonas.open_run(tmp_path / "run").config
    assert (config.evolution.births, config.seed) == (2, 5)


def test_search_into_an_existing_folder_writes_nothing(command: Command, tmp_path: Path) -> None:
    config = config_file(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    refused(command("search", config, "--run", tmp_path / "run"), str(tmp_path / "run"), "exists")
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_equal_seeds_give_equal_dumps_byte_for_byte(command: Command, tmp_path: Path) -> None:
    config, dumps = config_file(tmp_path, evolution={"births": 8, "rerank": {"top": 1, "seeds": 1}}), []
    for name in ("a", "b"):
        assert command("search", config, "--run", tmp_path / name).code == 0
        dumps.append(command("dump", tmp_path / name, "--logical").out)
    assert dumps[0] == dumps[1]
    assert len(dumps[0].splitlines()) > 8
    other = command("search", config, "--set", "seed=1", "--run", tmp_path / "c")
    assert other.code == 0
    assert command("dump", tmp_path / "c", "--logical").out != dumps[0]


def test_resume_of_a_finished_run_shows_its_end_and_changes_nothing(command: Command, run: Path) -> None:
    before = command("dump", run, "--logical").out
    answer = command("resume", run)
    assert (answer.code, answer.err) == (0, "")
    assert f"Best layer: {run / BEST_LAYER}" in answer.lines
    assert command("dump", run, "--logical").out == before


def test_equal_seeds_give_equal_dumps_in_other_processes(run: Path, tmp_path: Path) -> None:
    answer = piped("search", str(config_file(tmp_path)), "--run", str(tmp_path / "run"))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "\x1b" not in answer.stdout
    both = [list(dump(Database.open(each).reader())) for each in (run, tmp_path / "run")]
    assert both[0] == both[1]


BAD_CONFIGS = {
    "unknown key": (
        "name: a\nproxies: {a: {architecture: preact_resnet}}\nevolution: {tournement: 3}\n",
        ":3: evolution.tournement",
    ),
    "wrong type": ("name: a\nseed: zero\nproxies: {a: {architecture: preact_resnet}}\n", ":2: seed"),
    "not YAML": ("name: [a\n", "not YAML"),
    "no mapping": ("- name\n", ":1: expected keys"),
    "empty": ("", ":1: expected keys"),
    "binary": ("\x00\x01", "not YAML"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_malformed_config_is_refused_with_its_place_and_nothing_written(
    command: Command, tmp_path: Path, case: str
) -> None:
    text, part = BAD_CONFIGS[case]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    refused(command("search", path, "--run", tmp_path / "run"), str(path), part)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("evolution.birhts=3", "did you mean 'births'?"),
        ("evolution.births=many", "evolution.births"),
        ("births", "expected key=value"),
        ("proxies.resnet.width=0", "proxies.resnet.width"),
    ],
)
def test_a_bad_setting_is_refused(command: Command, tmp_path: Path, given: str, part: str) -> None:
    refused(command("search", config_file(tmp_path), "--set", given, "--run", tmp_path / "run"), "--set", part)
    assert not (tmp_path / "run").exists()


def test_a_missing_config_is_refused_and_the_nearest_named(command: Command, tmp_path: Path) -> None:
    path = config_file(tmp_path)
    refused(command("search", tmp_path / "tiny.yml"), "no such file", f"did you mean '{path}'?")


# --------------------------------------------------------------------------- the display


@pytest.mark.parametrize("name", ["setting", "config", "run"])
def test_in_a_terminal_bad_input_is_one_line_too(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No worker is announced before all is read."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    given = {
        "setting": ("search", config_file(tmp_path), "--set", "recipe.stops=3"),
        "config": ("search", tmp_path / "none.yaml"),
        "run": ("resume", tmp_path / "none"),
    }
    refused(command(*given[name]), {"setting": "did you mean 'steps'?"}.get(name, "none"))


def test_in_a_terminal_the_workers_are_announced_when_they_start() -> None:
    written = io.StringIO()
    with Display(Console(file=written, force_terminal=True, width=80)) as display:
        assert written.getvalue() == ""
        display.starting()
    assert "starting the workers ..." in written.getvalue()
