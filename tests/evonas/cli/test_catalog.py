"""`evonas catalog` and `catalog show`."""

import re
from pathlib import Path

import pytest

import evonas
from evonas.search_space.catalog import ListedLayer
from tests.evonas.cli.cases import Command, refused, strict


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
