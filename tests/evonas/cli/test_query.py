"""`evonas status`, `top`, `show`, `dump` and `export`: what each prints, as text and as JSON."""

import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

import evonas
from evonas.config_file import parse_config
from evonas.search_space.graph import Graph
from evonas.search_space.latex import latex
from evonas.store.address import Address
from evonas.store.database import Database
from evonas.store.records import Event
from evonas.workers.outcome import Evaluation, Fitness, Rejection
from tests.evonas.cli.cases import LONG, Command, arguments, candidate, config_file, refused, strict, unfinished

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
    assert told["state"] == "finished"
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


def test_status_tells_a_live_run_from_a_stopped_and_a_dead_one(command: Command, tmp_path: Path) -> None:
    """As `evonas runs` does; only a live one has a time left."""
    folder = unfinished(tmp_path)

    def state() -> tuple[str, bool, str]:
        told = strict(command("status", folder, "--json").out)
        (line,) = strict(command("runs", folder, "--json").out)
        assert line["state"] == told["state"]
        return told["state"], told["seconds_left"] is not None, command("status", folder).lines[-1]

    assert state() == ("dead", False, f"dead; go on with: evonas resume {folder}")
    driver = Database.open(folder).own()
    assert state() == ("running", False, "no outcome yet since the last start")
    driver.record(3, Graph.parse(LONG), Evaluation(Fitness({"resnet": 0.5, "mobilenet": 0.5})), 3, 0, 0.1)
    driver.flush()
    live = state()
    assert live[:2] == ("running", True)
    assert re.fullmatch(r"about .+ left", live[2])
    assert repr(evonas.open_run(folder)).startswith(f"<Run '{folder}': running, 3 of 40 births, best ")
    driver.event(Event.STOPPED, "asked to stop")
    driver.close()
    assert state() == ("stopped", False, f"stopped; go on with: evonas resume {folder}")
    assert repr(evonas.open_run(folder)).startswith(f"<Run '{folder}': stopped, 3 of 40 births, best ")


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
    answer = command("export", run, str(best.birth), "--no-compile", "-o", path)
    assert (answer.code, answer.err) == (0, "")
    assert str(path) in answer.out
    source = path.read_text()
    assert f"Birth {best.birth} of run" in source
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"torch"}
    compile(source, str(path), "exec")


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", ["show", "export"])
@pytest.mark.parametrize("birth", ["0", "41", "9" * 30])
def test_an_unknown_birth_is_refused(command: Command, run: Path, name: str, birth: str) -> None:
    refused(command(*arguments(name, run, birth)), f"no birth {birth}", "1 to 40")
    assert not (run.parent / "never.py").exists()


def test_an_unknown_proxy_is_refused_and_the_nearest_named(command: Command, run: Path) -> None:
    refused(command("top", run, "--by", "mobilnet"), "no proxy 'mobilnet'; did you mean 'mobilenet'?")


def test_an_export_that_cannot_be_written_is_refused(command: Command, run: Path, tmp_path: Path) -> None:
    birth = str(evonas.open_run(run).top(1)[0].birth)
    refused(command("export", run, birth, "--no-compile", "-o", tmp_path / "none" / "layer.py"), "cannot be written")
    refused(command("export", run, birth, "--no-compile", "-o", tmp_path), "cannot be written")


# --------------------------------------------------------------------------- infinities, crashes, brackets


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
    store.propose(candidate(1))
    store.record(1, Graph.parse(LONG), rejection, 1, 0, None)
    store.close()
    answer = command("top", folder)
    assert (answer.code, answer.lines[-1]) == (0, "No candidate has been trained to the full budget yet.")
    empty = {"baseline": None, "baseline_spread": {}, "seed_noise": None, "top": []}
    assert strict(command("top", folder, "--json").out) == empty
