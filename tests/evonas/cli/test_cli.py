"""The command line: what each command prints, as text and as JSON, and how it refuses bad input."""

import json
import math
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import evonas
from evonas.cli.main import COMMANDS, main
from evonas.config_file import parse_config
from evonas.driver import BEST_LAYER
from evonas.run import Run
from evonas.search_space.catalog import ListedLayer
from evonas.search_space.fingerprint import Probed
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.records import Candidate
from evonas.workers.outcome import Crash, Evaluation, Fitness, Measurement, Rejection
from tests.conftest import TINY
from tests.evonas.driver_process import EVONAS

READERS = ("status", "top", "show", "dump", "export", "funnel")


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Command = Callable[..., Answer]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`evonas ARGUMENTS` in this process."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["evonas", *map(str, arguments)])
        capfd.readouterr()
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        output = capfd.readouterr()
        assert code is None or isinstance(code, int)
        return Answer(code or 0, output.out, output.err)

    return run


def config_file(folder: Path, **changes: Any) -> Path:
    raw = json.loads(json.dumps(TINY))
    for section, values in changes.items():
        raw[section] = raw[section] | values if isinstance(values, dict) else values
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


@pytest.fixture
def run(calm: Run) -> Path:
    """The folder of a finished run."""
    return Path(calm.folder)


def strict(text: str) -> Any:
    """JSON as the standard has it, without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def arguments(name: str, run: Path, birth: int | str = 1) -> list[str]:
    """A reader's arguments after its own name."""
    more = {"show": [str(birth)], "export": [str(birth), "-o", str(run.parent / "never.py")]}
    return [name, str(run), *more.get(name, [])]


def refused(answer: Answer, *parts: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that says these things."""
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1, answer.err
    assert answer.err.startswith("evonas: ")
    assert answer.out == ""
    for part in parts:
        assert part.lower() in answer.err.lower()


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
        (["top", "x", "-n", "0"], "0"),
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


# --------------------------------------------------------------------------- init


@pytest.mark.parametrize("template", ["quickstart", "cifar10", "evonorm-b", "evonorm-s"])
def test_init_writes_a_config_that_loads(command: Command, tmp_path: Path, template: str) -> None:
    path = tmp_path / "my.yaml"
    answer = command("init", "--template", template, "-o", path)
    assert (answer.code, answer.err) == (0, "")
    assert str(path) in answer.out
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
    assert any(line.startswith(("0/10 births", "1/10 births")) for line in answer.lines)


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


# --------------------------------------------------------------------------- reading


def test_status_counts_by_state_and_gate(command: Command, run: Path) -> None:
    answer = command("status", run)
    assert (answer.code, answer.err) == (0, "")
    states, gates = Database.open(run).reader().counts()
    shown = {" ".join(line.split()[:-1]): line.split()[-1] for line in answer.lines if len(line.split()) > 1}
    for state, number in states.items():
        assert shown[state] == str(number)
    for gate, number in gates.items():
        assert shown[f"by {gate}"] == str(number)
    assert answer.lines[0] == "run: 40 of 40 births"
    best = evonas.open_run(run).top(1)[0]
    assert answer.lines[-2] == "finished"
    assert answer.lines[-1].startswith(f"best: birth {best.birth}, ")


def test_status_as_json(command: Command, run: Path) -> None:
    told = strict(command("status", run, "--json").out)
    assert (told["run"], told["finished"], told["births"], told["births_wanted"]) == ("run", True, 40, 40)
    assert sum(told["by_state"].values()) == 40
    assert sum(told["by_gate"].values()) == told["by_state"]["rejected"]
    assert told["seconds_left"] == 0


def test_status_counts_what_is_left(command: Command, tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    told = strict(command("status", folder, "--json").out)
    assert (told["finished"], told["births"]) == (False, 3)
    assert told["by_state"] == {"pending": 1, "evaluated": 1, "crashed": 1}
    assert told["by_gate"] == {"out_of_memory": 1}
    answer = command("status", folder)
    assert answer.code == 0
    assert "  by out_of_memory" in answer.out
    assert "left" in answer.lines[-1]


def test_pages_of_top_are_the_whole_in_its_order(command: Command, run: Path) -> None:
    whole = [each["birth"] for each in strict(command("top", run, "-n", "100", "--json").out)["top"]]
    first = [each["birth"] for each in strict(command("top", run, "-n", "2", "--json").out)["top"]]
    rest = strict(command("top", run, "-n", "100", "--after", str(first[-1]), "--json").out)["top"]
    assert first + [each["birth"] for each in rest] == whole
    assert command("top", run, "--after", str(whole[-1])).lines[-3].strip() == f"No layer follows birth {whole[-1]}."
    for option in (("--by", "resnet"), ("--after", "0")):
        refused(command("top", run, "--front", *option), "takes neither --by nor --after")


def test_top_front_lists_what_no_other_one_beats(command: Command, run: Path) -> None:
    told = strict(command("top", run, "--front", "--json").out)["top"]
    everyone = strict(command("top", run, "-n", "100", "--json").out)["top"]
    for each in told:
        better = [o for o in everyone if all(o["accuracy"][p] > each["accuracy"][p] for p in each["accuracy"])]
        assert better == []
    assert everyone[0]["birth"] in {each["birth"] for each in told}
    assert strict(command("top", run, "--front", "-n", "1", "--json").out)["top"] == told[:1]


def test_find_lists_survivors_by_their_operations(command: Command, run: Path) -> None:
    everyone = strict(command("top", run, "-n", "100", "--all", "--json").out)["top"]
    op = next(op for op in ("sqrt", "tanh", "neg", "mul", "add", "div") for e in everyone if f"{op}(" in e["formula"])
    with_it = [each["birth"] for each in strict(command("find", run, "--uses", op, "--json").out)]
    without = [each["birth"] for each in strict(command("find", run, "--lacks", op, "-n", "100", "--json").out)]
    assert with_it
    assert sorted([*with_it, *without]) == sorted(each["birth"] for each in everyone)
    assert str(with_it[0]) in command("find", run, "--uses", op).out
    refused(command("find", run, "--uses", "std_gwh"), "did you mean 'std_ghw'?")


def test_lineage_goes_back_to_a_root(command: Command, run: Path) -> None:
    records = {each.birth: each for each in Database.open(run).reader().candidates()}
    birth = max(birth for birth, each in records.items() if each.parent)
    line = [birth]
    while (parent := records[line[-1]].parent) is not None:
        line.append(parent)
    told = strict(command("lineage", run, str(birth), "--json").out)
    assert [each["birth"] for each in told["line"]] == line[::-1]
    assert birth in strict(command("lineage", run, str(line[1]), "--json").out)["children"]
    answer = command("lineage", run, str(birth))
    assert answer.code == 0
    assert answer.lines[-1] == "children: none"


def test_replay_derives_a_run_and_names_what_was_changed(command: Command, run: Path, tmp_path: Path) -> None:
    answer = command("replay", run)
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines == ["run: 40 births; every one follows from the records before it."]
    copy = tmp_path / "run.db"
    shutil.copy(run / "run.db", copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE candidate SET operator = 'catalog' WHERE birth = 20")
        connection.execute("UPDATE candidate SET formula = 'x' WHERE birth = 30")
        connection.commit()
    changed = command("replay", copy)
    assert changed.code == 1
    assert "2 values do not follow" in changed.lines[0]
    assert [line.split(":")[0].strip() for line in changed.lines[1:]] == ["birth 20", "birth 30"]


def test_top_lists_the_best_in_order(command: Command, run: Path) -> None:
    answer = command("top", run, "-n", "3")
    assert (answer.code, answer.err) == (0, "")
    best = evonas.open_run(run).top(3)
    rows = [line.split() for line in answer.lines if line.strip() and line.split()[0].isdigit()]
    assert answer.lines[-1].startswith("Noise: BN-ReLU alone spreads over 3 seeds by resnet ±")
    assert [int(row[0]) for row in rows] == [each.birth for each in best]
    for row, record in zip(rows, best, strict=True):
        fresh = record.retrained.accuracy if record.retrained else {}
        means = {proxy: (fresh.get(proxy) or (one_seed, None))[0] for proxy, one_seed in record.accuracy.items()}
        assert [cell for cell in row[1:] if cell.startswith("0.")][:2] == [f"{mean:.3f}" for mean in means.values()]
    assert any("BN-ReLU" in line.split("  ")[-1] for line in answer.lines[1:-1])


def test_a_row_of_top_is_one_line_with_its_whole_formula_in_a_pipe(command: Command, tmp_path: Path) -> None:
    lines = [line.rstrip() for line in command("top", unfinished(tmp_path)).lines]
    row = next(line for line in lines if line.split()[0] == "1")
    assert row.endswith("; ".join(Graph.parse(LONG).formula.splitlines()))


def test_top_of_more_than_any_database_holds_is_no_traceback(command: Command, run: Path) -> None:
    answer = command("top", run, "-n", "9" * 30)
    assert answer.code in (0, 2)
    assert len(answer.err.splitlines()) <= 1


def test_top_by_a_proxy_and_as_json(command: Command, run: Path) -> None:
    answer = strict(command("top", run, "-n", "5", "--by", "mobilenet", "--json").out)
    told = answer["top"]
    assert set(answer["baseline"]) == {"resnet", "mobilenet"}
    spread = evonas.open_run(run).spread()
    assert spread
    noise = {proxy: {"deviation": deviation, "seeds": seeds} for proxy, (deviation, seeds) in spread.items()}
    assert answer["baseline_spread"] == noise
    assert [each["birth"] for each in told] == [each.birth for each in evonas.open_run(run).top(5, "mobilenet")]
    accuracies = [each["accuracy"]["mobilenet"] for each in told]
    assert accuracies == sorted(accuracies, reverse=True)
    for each in told:
        assert Graph.parse(each["formula"]) == Graph.parse(each["graph"]).canonical()


def test_show_tells_all_of_a_candidate(command: Command, run: Path) -> None:
    best = evonas.open_run(run).top(1)[0]
    answer = command("show", run, str(best.birth))
    assert (answer.code, answer.err) == (0, "")
    text = " ".join(answer.out.split())
    assert " ".join(best.formula.split()) in text
    assert " ".join(best.graph.split()) in text
    assert " ".join(latex(Graph.parse(best.graph)).split()) in text
    assert "trained to the full budget" in text
    assert f"mutation of birth {best.parent}" in text if best.parent else "random" in text
    evaluation = Database.open(run).reader().evaluation_of(best.birth)
    assert evaluation is not None
    for each in evaluation.measurements:
        assert any(line.split()[:2] == [each.gate, each.proxy or "-"] for line in answer.lines)


def test_show_as_json_parses_for_every_birth(command: Command, run: Path) -> None:
    reader = Database.open(run).reader()
    for record in reader.candidates():
        told = strict(command("show", run, str(record.birth), "--json").out)
        assert (told["birth"], told["graph"], told["seq"]) == (record.birth, record.graph, record.seq)
        assert Graph.parse(told["formula"]) == Graph.parse(told["graph"]).canonical()
        assert told["verdict"] == type(record.outcome).__name__.lower()
        assert told["latex"] == latex(Graph.parse(record.graph))


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_show_draws_a_picture(command: Command, run: Path, tmp_path: Path, suffix: str) -> None:
    picture = tmp_path / f"layer{suffix}"
    answer = command("show", run, "1", "--picture", picture)
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[-1] == f"Wrote {picture}."
    assert picture.stat().st_size > 1000
    assert strict(command("show", run, "1", "--picture", tmp_path / f"other{suffix}", "--json").out)["birth"] == 1
    assert (tmp_path / f"other{suffix}").read_bytes() == picture.read_bytes()


def test_a_picture_that_cannot_be_drawn_is_refused(command: Command, run: Path, tmp_path: Path) -> None:
    refused(command("show", run, "1", "--picture", tmp_path / "layer.gif"), "layer.gif", ".svg or .png")
    refused(command("show", run, "1", "--picture", tmp_path / "none" / "layer.svg"), "no such folder")
    assert list(tmp_path.iterdir()) == []


def test_dump_is_one_strict_json_record_a_line(command: Command, run: Path) -> None:
    logical, whole = command("dump", run, "--logical"), command("dump", run)
    for answer in (logical, whole):
        assert (answer.code, answer.err) == (0, "")
        rows = [strict(line) for line in answer.lines]
        assert [row["birth"] for row in rows[1:41]] == list(range(1, 41))
        assert [row["purpose"] for row in rows[41:48]] == ["baseline"] + ["rerank"] * 6
    assert len(logical.lines) == 48
    rows = [strict(line) for line in whole.lines]
    assert rows[0]["versions"] == Database.open(run).reader().versions
    assert all(row["epoch"] == 1 and row["at"] > 0 and row["host"] for row in rows[1:48])
    assert [row["event"] for row in rows[48:]][:3] == ["started", "evolved", "finished"]
    for time_or_place in ('"host"', '"seconds"', '"memory_mb"', '"at"', '"epoch"'):
        assert time_or_place not in logical.out


def test_export_writes_a_module_that_computes_the_layer(command: Command, run: Path, tmp_path: Path) -> None:
    best, path = evonas.open_run(run).top(1)[0], tmp_path / "layer.py"
    answer = command("export", run, str(best.birth), "-o", path)
    assert (answer.code, answer.err) == (0, "")
    assert str(path) in answer.out
    source = path.read_text()
    assert f"Birth {best.birth} of run" in source
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"torch"}
    compile(source, str(path), "exec")


# --------------------------------------------------------------------------- the catalog


def test_catalog_has_each_row_with_its_kind_and_formula_or_reason(command: Command) -> None:
    answer = command("catalog")
    assert (answer.code, answer.err) == (0, "")
    assert max(map(len, answer.lines)) <= 120
    whole = re.sub(r"\n +", " ", answer.out)  # a folded formula goes on below
    shown = {line.split()[0]: line for line in whole.splitlines()}
    assert list(shown) == ["name", *evonas.catalog]
    for name, row in evonas.catalog.items():
        year, kind, depends, *_ = shown[name].split()[1:]
        assert (year, kind) == (str(row.year), row.kind)
        assert depends == {True: "yes", False: "no", None: "-"}[row.batch_dependent]
        last = row.reason if isinstance(row, ListedLayer) else row.text.splitlines()[-1]
        assert shown[name].rstrip().endswith(last)
    assert [shown[name].split()[4] for name in ("BN-ReLU", "EvoNorm-S0", "TD-LN", "SPADE")] == ["-", "1", "8", "-"]


def test_catalog_as_json(command: Command) -> None:
    told = {row["name"]: row for row in strict(command("catalog", "--json").out)}
    assert list(told) == list(evonas.catalog)
    assert {row["survey_number"] for row in told.values()} == {None, *range(1, 39)}
    for row in told.values():
        parts = {part for part in ("latex", "module", "reason") if row[part]}
        assert parts == {"graph": {"latex"}, "module": {"latex", "module"}, "listed": {"reason"}}[row["kind"]]
    learned = [(each["name"], each["kind"], each["start"]) for each in told["DyT"]["parameters"]]
    assert learned == [("weight", "vector", 1.0), ("bias", "vector", 0.0), ("alpha", "scalar", 0.5)]


@pytest.mark.parametrize("name", evonas.catalog)
def test_catalog_show_tells_all_of_a_layer(command: Command, name: str) -> None:
    answer, row = command("catalog", "show", name), evonas.catalog[name]
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[0] == f"{name}: {row.paper}, {row.year}"
    text = " ".join(answer.out.split())
    told = strict(command("catalog", "show", name, "--json").out)
    assert told == strict(command("catalog", "--json", "show", name).out)
    for part in (row.text, told["latex"], told["module"], told["reason"], row.note, f"({row.label}): {row.source}"):
        assert " ".join((part or "").split()) in text
    for each in told["parameters"]:
        assert f"{each['name']} {each['kind']} {each['start']:g}" in text


def test_catalog_show_draws_a_graph_and_refuses_what_is_none(command: Command, tmp_path: Path) -> None:
    assert command("catalog", "show", "EvoNorm-S0", "--picture", tmp_path / "s0.svg").code == 0
    assert "std ghw" in (tmp_path / "s0.svg").read_text().replace("_", " ")
    refused(command("catalog", "show", "SPADE", "--picture", tmp_path / "spade.svg"), "no layer that can be built here")


def test_catalog_show_of_an_unknown_layer_names_the_nearest(command: Command) -> None:
    refused(command("catalog", "show", "EvNorm-B0"), "unknown layer 'EvNorm-B0'; did you mean 'EvoNorm-B0'?")


# --------------------------------------------------------------------------- infinities, crashes, brackets


def unfinished(tmp_path: Path) -> Path:
    """A stopped run with an infinite measurement, a crash whose message has brackets, and one pending candidate."""
    folder = tmp_path / "half"
    config = parse_config(config_file(tmp_path).read_text())
    store = Database(Address.of_file(folder / "run.db", "half", folder)).create(config, {})
    measured = Measurement("stability", "resnet", math.inf, 1e8, 3, True, 0.1)
    crash = Crash("out_of_memory", "[enforce fail at alloc.cpp:118] err [/dev/shm] [bold]x[/italic]")
    outcomes = [Evaluation(Fitness({"resnet": 0.5, "mobilenet": 0.5}), (measured,)), Evaluation(crash)]
    for birth, evaluation in enumerate(outcomes, start=1):
        store.propose(_candidate(birth))
        store.record(birth, Graph.parse(LONG), evaluation, birth, 0, 0.1 if birth == 1 else None)
    store.propose(_candidate(3))
    store.close()
    return folder


LONG = "x * sigmoid(v1 * x) / max(std_bhw(v0 + x * x), sqrt(mean_ghw(exp(v1 * x)) + rms_hw(log(v0 * x))))"


def _candidate(birth: int) -> Candidate:
    return Candidate.of(Graph.parse(LONG), Probed(f"f{birth}", f"f{birth}", 1.0), birth, seen=0)


def test_an_infinite_measurement_is_strict_json_and_readable_text(command: Command, tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    told = strict(command("show", folder, "1", "--json").out)
    assert told["measurements"][0]["value"] == "inf"
    assert all(strict(line) for line in command("dump", folder).lines)
    assert "inf" in command("show", folder, "1").out


def test_a_message_with_brackets_is_shown_as_it_is(command: Command, tmp_path: Path) -> None:
    answer = command("show", unfinished(tmp_path), "2")
    assert answer.code == 0
    assert "[enforce fail at alloc.cpp:118] err [/dev/shm] [bold]x[/italic]" in " ".join(answer.out.split())


def test_a_runs_name_with_brackets_is_shown_as_it_is(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "[red]run[1]"
    shutil.copytree(unfinished(tmp_path), folder)
    with closing(sqlite3.connect(folder / "run.db")) as connection, connection:
        connection.execute("UPDATE run SET name = '[red]run[1]'")
    assert "[red]run[1]" in command("status", folder).out
    assert "[red]run[1]" in command("show", folder, "1").out


def test_a_pending_candidate_is_shown_as_pending(command: Command, tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    answer = command("show", folder, "3")
    assert answer.code == 0
    assert "pending" in answer.lines[0]
    assert strict(command("show", folder, "3", "--json").out)["verdict"] is None


def test_a_run_without_a_survivor_says_so(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = parse_config(config_file(tmp_path).read_text())
    store = Database(Address.of_file(folder / "run.db", "run", folder)).create(config, {})
    rejection = Evaluation(Rejection("depends_on_x", "", 0.0, 1e-6, 0))
    store.propose(_candidate(1))
    store.record(1, Graph.parse(LONG), rejection, 1, 0, None)
    store.close()
    answer = command("top", folder)
    assert (answer.code, answer.lines[-1]) == (0, "No candidate has been trained to the full budget yet.")
    empty = {"baseline": None, "baseline_spread": {}, "top": []}
    assert strict(command("top", folder, "--json").out) == empty


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", ["show", "export"])
@pytest.mark.parametrize("birth", ["0", "41", "9" * 30])
def test_an_unknown_birth_is_refused(command: Command, run: Path, name: str, birth: str) -> None:
    refused(command(*arguments(name, run, birth)), f"no birth {birth}", "1 to 40")
    assert not (run.parent / "never.py").exists()


def test_an_unknown_proxy_is_refused_and_the_nearest_named(command: Command, run: Path) -> None:
    refused(command("top", run, "--by", "mobilnet"), "no proxy 'mobilnet'; did you mean 'mobilenet'?")


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


BAD_CONFIGS = {
    "unknown key": ("name: a\nproxies: {}\nevolution: {tournement: 3}\n", ":3: evolution.tournement"),
    "wrong type": ("name: a\nseed: zero\nproxies: {}\n", ":2: seed"),
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


def test_an_export_that_cannot_be_written_is_refused(command: Command, run: Path, tmp_path: Path) -> None:
    birth = str(evonas.open_run(run).top(1)[0].birth)
    refused(command("export", run, birth, "-o", tmp_path / "none" / "layer.py"), "cannot be written")
    refused(command("export", run, birth, "-o", tmp_path), "cannot be written")


# --------------------------------------------------------------------------- the real command


def piped(*given: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([EVONAS, *given], capture_output=True, text=True, timeout=120, check=False)


def test_the_installed_command_refuses_in_one_line(run: Path) -> None:
    answer = piped("top", str(run), "--by", "nothing")
    refused(Answer(answer.returncode, answer.stdout, answer.stderr), "no proxy 'nothing'")


def test_a_reader_that_closes_the_pipe_early_ends_the_command_as_any_unix_tool(run: Path) -> None:
    script = 'set -o pipefail; "$0" dump "$1" | head -n 1'
    answer = subprocess.run(
        ["bash", "-c", script, EVONAS, str(run)], capture_output=True, text=True, timeout=120, check=False
    )
    assert strict(answer.stdout)["run"] == "tiny"
    assert (answer.returncode, answer.stderr) == (141, "")


def test_equal_seeds_give_equal_dumps_in_other_processes(run: Path, tmp_path: Path) -> None:
    answer = piped("search", str(config_file(tmp_path)), "--run", str(tmp_path / "run"))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "\x1b" not in answer.stdout
    both = [list(dump(Database.open(each).reader())) for each in (run, tmp_path / "run")]
    assert both[0] == both[1]


# --------------------------------------------------------------------------- funnel, noise, bench


def test_funnel_prints_every_gate_with_its_costs(command: Command, run: Path) -> None:
    answer = command("funnel", run)
    assert (answer.code, answer.err) == (0, "")
    states, gates = Database.open(run).reader().counts()
    shown = {line.split()[0]: line.split() for line in answer.lines if line.strip()}
    for gate, stopped in gates.items():
        numbers = [int(word) for word in shown[gate] if word.isdigit()]
        assert stopped in numbers
    assert f"{sum(states.values())} candidates" in answer.out
    assert "audit_share is 0" in answer.lines[-1]
    told = strict(command("funnel", run, "--json").out)
    assert told["by_state"] == states
    by_gate = {each["gate"].split()[0]: each for each in told["gates"]}
    assert by_gate["depends_on_x"]["asked"] == sum(states.values()) - told["inherited"]
    assert by_gate["depends_on_x"]["interval"] is None


def test_funnel_shows_the_audits_of_a_run(command: Command, tmp_path: Path) -> None:
    evonas.search(config_file(tmp_path, evolution={"births": 25, "audit_share": 1.0}), tmp_path / "run")
    told = strict(command("funnel", tmp_path / "run", "--json", "--within", "100").out)
    for gate in told["gates"]:
        assert gate["audited"] == gate["stopped"]
    assert sum(gate["wrong"] for gate in told["gates"]) > 0  # within 100 points everything that trains is near
    shown = command("funnel", tmp_path / "run")
    assert " %]" in shown.out
    assert "audit_share is 0" not in shown.out


def test_validate_prints_test_accuracies(command: Command, tmp_path: Path) -> None:
    evonas.search(config_file(tmp_path, evolution={"births": 25}), tmp_path / "run")
    answer = command("validate", tmp_path / "run", "--seeds", "2")
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[0].startswith("Trained with 2 fresh seeds: test accuracy, ")
    best = next(row for row in evonas.open_run(tmp_path / "run").final_table() if row.birth)
    rows = [line for line in answer.lines[3:] if line.strip()]
    assert {line.split()[0] for line in rows if not line.endswith("  BN-ReLU")} == {str(best.birth)}
    assert sum(line.endswith("  BN-ReLU") for line in rows) == 1
    told = strict(command("validate", tmp_path / "run", "--seeds", "2", "--json").out)
    assert {row["birth"] for row in told} == {best.birth, None}
    refused(command("validate", tmp_path / "run", "999"), "no birth 999")


def test_noise_prints_means_and_spreads(command: Command, tmp_path: Path) -> None:
    path = config_file(tmp_path)
    answer = command("noise", path, "--seeds", "2", "--layer", "GN-ReLU")
    assert (answer.code, answer.err) == (0, "")
    assert [line.split()[:2] for line in answer.lines if line.startswith(("BN-", "GN-"))] == [
        [layer, proxy] for layer in ("BN-ReLU", "GN-ReLU") for proxy in ("resnet", "mobilenet", "mean")
    ]
    told = strict(command("noise", path, "--seeds", "2", "--json").out)
    assert [len(row["accuracies"]) for row in told] == [2, 2, 2]
    refused(command("noise", path, "--layer", "GN-ReLo"), "GN-ReLo", "did you mean")
    refused(command("noise", path, "--layer", "PowerNorm"), "--layer PowerNorm", "graph")


def test_bench_recommends_a_way_to_run(command: Command, tmp_path: Path) -> None:
    path = config_file(tmp_path)
    answer = command("bench", path, "--no-compile", "--steps", "1")
    assert (answer.code, answer.err) == (0, "")
    recommended = answer.lines[-1].strip()
    assert recommended.startswith("execution: { compile_from_steps: never, channels_last: ")
    told = strict(command("bench", path, "--no-compile", "--steps", "1", "--json").out)
    assert len(told["timings"]) == 2 * 2 * 2 * 4  # proxies, formats, dtypes, layers with the identity
    execution = yaml.safe_load(recommended)["execution"]
    assert parse_config(path.read_text(), settings=[f"execution={json.dumps(execution)}"]).execution.dtype in (
        "float32",
        "bfloat16",
    )
    if not torch.cuda.is_available():
        refused(command("bench", path, "--device", "cuda"), "no GPU")


def test_reading_a_run_loads_nothing_that_takes_seconds_and_is_not_needed(run: Path) -> None:
    code = (
        "import atexit, sys; from evonas.cli.main import main;"
        "slow = {'matplotlib', 'ray', 'scipy', 'torchvision', 'torch._dynamo'};"
        "atexit.register(lambda: print(sorted(slow & set(sys.modules)))); main()"
    )
    for words in (("status", run), ("top", run), ("show", run, "1")):
        asked = [sys.executable, "-c", code, *map(str, words)]
        answer = subprocess.run(asked, check=True, timeout=120, capture_output=True, text=True)
        assert answer.stdout.splitlines()[-1] == "[]", words[0]
