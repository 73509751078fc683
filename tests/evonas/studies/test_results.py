"""Files of results that are made in pieces."""

import json
from pathlib import Path

import pytest

from evonas.config import Config
from evonas.search_space.errors import InputError
from evonas.studies.results import ResultFile


def test_rows_are_there_again_without_a_torn_line(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "rows.jsonl"
    ResultFile(path, config, rungs=(1, 2)).keep({"a": 1})
    ResultFile(path, config, rungs=(1, 2)).keep({"a": 2})
    whole = path.read_text()
    path.write_text(whole + '{"a": 3')
    assert ResultFile(path, config, rungs=(1, 2)).rows == [{"a": 1}, {"a": 2}]
    assert path.read_text() == whole
    path.write_text(whole[:20])  # killed in the first line
    assert ResultFile(path, config).rows == []
    assert json.loads(path.read_text()) == {"of": {"protocol": config.protocol.model_dump(mode="json"), "seed": 0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"of": {"seed": 0}}\n{"a": 1}\n{"a', "results of another config or other arguments"),
        ("name: quickstart\nseed: 0", "holds no results"),
        ('{"layer": 1}', "holds no results"),
        ('{"of": {}}\nno JSON\n', "holds no results"),
        ('{"of": {}}\n3\n', "holds no results"),
        ("\n", "holds no results"),
        (b"\xff\xfe", "holds no results"),
    ],
)
def test_the_file_of_something_else_is_refused_and_left_as_it_is(
    tmp_path: Path, config: Config, text: str | bytes, message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    before = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(before)
    with pytest.raises(InputError, match=message):
        ResultFile(path, config)
    assert path.read_bytes() == before


def test_results_are_of_their_configs_and_arguments(tmp_path: Path, config: Config) -> None:
    other = config.model_copy(update={"seed": 1})
    path = tmp_path / "rows.jsonl"
    ResultFile(path, config, other, steps=3)
    ResultFile(path, config, other, steps=3)
    for configs, steps in (((config, other), 4), ((other, config), 3), ((config,), 3), ((), 3)):
        with pytest.raises(InputError, match="another config"):
            ResultFile(path, *configs, steps=steps)


@pytest.mark.parametrize(("name", "message"), [(".", "cannot be read"), ("none/rows", "cannot be written")])
def test_a_place_that_takes_no_file_is_one_line(tmp_path: Path, config: Config, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResultFile(tmp_path / name, config)
