"""`evonas export`: formats, packages, and what a refused format prints."""

from pathlib import Path

import pytest
import torch

import evonas
from evonas.layers import export as exporting
from evonas.layers.parity import Comparison, Parity
from evonas.layers.trials import Format, Trial
from tests.evonas.cli.cases import Command, refused


def test_a_program_is_written_with_its_table(command: Command, tmp_path: Path) -> None:
    words = ["--format", "program", "--num-features", "6", "--groups", "3", "--channel-dim", "-1"]
    answer = command("export", "EvoNorm-S0", *words, "-o", path := tmp_path / "layer.pt2")
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[0].split() == ["Largest", "error", "in", "ulp", "eager", "program"]
    assert answer.lines[-1] == f"Wrote {path}."
    assert max(map(len, answer.lines[:-1])) <= 80
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = evonas.layer("EvoNorm-S0", 6, groups=3, channel_dim=-1)(x)
    torch.testing.assert_close(torch.export.load(path).module()(x), expected)


@pytest.mark.parametrize("words", [["EvoNorm-S0", "--format", "program", "--num-features", "4"], ["x"]])
def test_a_refused_format_is_a_table_and_one_line(
    words: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tests/evonas/layers/test_export.py` has a layer that is refused of itself."""
    form: Format = "program" if "program" in words else "compiled"
    row = Comparison(Trial("float32", "NCHW", "3e4", False), "forward", 0.5, {form: 1234.0})
    monkeypatch.setattr(exporting, "parity", lambda layer, formats: Parity((row,), formats, 7.0))
    answer = command("export", *words, "-o", path := tmp_path / "layer")
    assert (answer.code, path.exists()) == (1, False)
    assert answer.lines[1].split() == ["float32", "forward", "0.5", "1.23e+03"]
    assert answer.err.startswith(f"evonas: {form}: 1.23e+03 ulp forward in float32 on '3e4', NCHW, where eager has 0.5")
    assert len(answer.err.splitlines()) == 1
    forced = command("export", *words, "--force", "-o", path)
    assert (forced.code, forced.err, path.exists()) == (0, "", True)
    assert forced.lines[-2].startswith(f"Forced: {form}: 1.23e+03 ulp")


def test_the_front_of_a_run_is_a_package(command: Command, run: Path, tmp_path: Path) -> None:
    front = evonas.open_run(run).front()
    answer = command("export", run, "--front", "--no-compile", "-o", folder := tmp_path / "my_layers")
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[-1].startswith(f"Wrote {folder}: norm_layer(name)")
    births = {f"birth_{each.birth}" for each in front}
    written = {each.stem for each in folder.glob("birth_*.py")}
    assert written
    assert written <= births
    assert "The Pareto front of run" in (folder / "__init__.py").read_text()
    assert all(f"Birth {name.removeprefix('birth_')} of run" in (folder / f"{name}.py").read_text() for name in written)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["EvoNorm-S0", "--format", "onnx", "-o", "-"], "-o -: expected a file for the format onnx"),
        (["EvoNorm-S0", "--format", "program", "-o", "{}/a"], "num_features is missing"),
        (["EvoNorm-S0", "--num-features", "4", "-o", "{}/a"], "num_features: an argument of the file's class"),
        (["x", "--format", "program", "--num-features", "0", "-o", "{}/a"], "num_features: expected an integer of at"),
        (["x", "--format", "program", "--num-features", "4", "--no-compile", "-o", "{}/a"], "--no-compile: expected"),
        (["EvoNorm-S0", "--format", "onxx", "-o", "{}/a"], "onxx"),
        (["run", "3", "--front", "-o", "{}/a"], "--front: expected a run alone"),
        (["run", "--front", "-o", "{}/a-b"], "no such run"),
        (["x", "-o", "{}/none/layer.py"], "cannot be written"),
    ],
)
def test_a_bad_request_is_one_line(words: list[str], part: str, command: Command, tmp_path: Path) -> None:
    refused(command("export", *(word.format(tmp_path) for word in words)), part)
    assert not list(tmp_path.iterdir())
