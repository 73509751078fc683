"""`evonas find`, `lineage`, `replay` and `neighbours`."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from evonas.store.database import Database
from tests.evonas.cli.cases import Command, config_file, refused, strict


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
    assert "2 values cannot be derived" in changed.lines[0]
    assert [line.split(":")[0].strip() for line in changed.lines[1:]] == ["birth 20", "birth 30"]


def test_neighbours_lists_the_single_edits_and_counts_them(command: Command, tmp_path: Path) -> None:
    """All of `exp(x)` over (neg, exp; x): op 1, insert neg before and after (exp(exp(x)) is not finite), delete 1."""
    space = {"nodes": 2, "primitives": ["neg", "exp"], "aggregations": [], "index_sets": [], "leaves": ["x"]}
    path = config_file(tmp_path)
    path.write_text(f"{path.read_text()}\nspace: {json.dumps(space)}\n")
    answer = command("neighbours", "exp(x)", path)
    assert (answer.code, answer.err) == (0, "")
    listed = [line.split(maxsplit=1) for line in answer.lines[1 : answer.lines.index("")]]
    assert sorted(map(tuple, listed)) == [("delete", "x"), ("insert", "-exp(x)"), ("insert", "exp(-x)"), ("op", "-x")]
    assert "4 functions one edit away (op 1, insert 2, delete 1), of 5 graphs" in answer.out
    told = strict(command("neighbours", "exp(x)", path, "--json").out)
    assert (told["by_operator"], told["forms"], len(told["edits"])) == ({"op": 1, "insert": 2, "delete": 1}, 5, 4)
    refused(command("neighbours", "EvoNorm-B9"), "EvoNorm-B9", "did you mean")
