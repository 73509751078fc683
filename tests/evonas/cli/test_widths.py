"""No command prints a line past the terminal's width, nor prose past 120 columns in a pipe."""

import math
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import evonas
from evonas.search_space.graph import Graph
from evonas.store.records import Figures
from evonas.studies.ablate import AblatedLayer, Ablation
from evonas.studies.bench import IDENTITY, TIMED, Bench, BenchRow
from evonas.studies.doctor import Finding
from evonas.studies.evaluate import Judgement
from evonas.studies.noise import NoiseRow
from evonas.studies.rankings import MEASURES, Fidelity, FidelityLayer, FidelityRow
from evonas.studies.validation import PairedDifference, ValidatedLayer, Validation
from evonas.units import Units
from evonas.workers.outcome import Measurement, Rejection
from evonas.workers.protocol import Execution
from tests.conftest import ROOT
from tests.evonas.cli.cases import LONG, Command, config_file

OLD = ROOT / "tests" / "evonas" / "databases" / "0003.db"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
PROXIES = ("resnet", "mobilenet")
COMMANDS = {
    "status": ("status", "run"),
    "top": ("top", "run", "--all", "-n", "100"),
    "top of several": ("top", "run", "wider"),
    "show": ("show", "run", "22"),
    "show rejected": ("show", "run", "1"),
    "find": ("find", "run", "--lacks", "exp"),
    "lineage": ("lineage", "run", "30"),
    "replay": ("replay", "run"),
    "funnel": ("funnel", "run"),
    "validate": ("validate", "run"),
    "validate on": ("validate", "run", "--on", "tiny.yaml"),
    "runs": ("runs", "."),
    "neighbours": ("neighbours", "tanh", "tiny.yaml"),
    "catalog": ("catalog",),
    "catalog show": ("catalog", "show", "EvoNorm-S0"),
    "catalog listed": ("catalog", "show", "SPADE"),
    "evaluate": ("evaluate", "x", "tiny.yaml"),
    "ablate": ("ablate", "x", "tiny.yaml"),
    "card": ("card", "run", "22", "--no-speed"),
    "noise": ("noise", "tiny.yaml"),
    "fidelity": ("fidelity", "tiny.yaml", "tiny.yaml"),
    "bench": ("bench", "tiny.yaml"),
    "doctor": ("doctor", "tiny.yaml"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, one of wider networks, one that cannot be read, and a config. No command changes them."""
    folder = tmp_path_factory.mktemp("widths")
    for name in ("run", "unreadable"):
        (folder / name).mkdir()
        shutil.copy(OLD, folder / name / "run.db")
    shutil.copytree(folder / "run", folder / "wider")
    with closing(sqlite3.connect(folder / "wider" / "run.db")) as connection, connection:
        connection.execute("UPDATE run SET config = json_set(config, '$.proxies.resnet.width', 16)")
    (folder / "unreadable" / "run.db").write_bytes(b"SQLite format 3" + bytes(5000))
    config_file(folder)
    evonas.compare([folder / "run", folder / "wider"])  # upgraded: no test sees the words of the upgrade
    return folder


@pytest.fixture(autouse=True)
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies have their results already."""
    monkeypatch.chdir(folder)
    figures = Figures(3, 0, dict.fromkeys(PROXIES, (0.7123, 0.0456)), -0.1234, 0.0456, 3)
    gates = (Measurement("quality", "mobilenet", 0.123456, 0.234567, 40, False, 12.345),)
    judged = Judgement(
        LONG, Graph.parse(LONG), figures, 316.2278, gates, Rejection("quality", "mobilenet", 0.1, 0.2, 40)
    )
    noise = [NoiseRow(layer, proxy, (0.5, 0.6, 0.7), 1, 0.0123) for layer in ("BN-ReLU", LONG) for proxy in PROXIES]
    rows = [
        BenchRow(layer, proxy, last, dtype, compiled, 0.0123, 12.3 * compiled, captured)  # type: ignore[arg-type]
        for layer in (IDENTITY, *TIMED)
        for proxy in PROXIES
        for last in (False, True)
        for dtype in ("float32", "bfloat16")
        for compiled in (False, True)
        for captured in (False, True)
    ]
    bench = Bench(tuple(rows), Execution(compile_from_steps=12345, channels_last=True), math.inf, {"eager": 12.3})
    signals = [
        FidelityRow(proxy, measure, step, -0.1234, (-0.5678, 0.2345), -0.1234, (-0.5678, 0.2345), 123.456, True)
        for proxy in (*PROXIES, "mean")
        for measure in MEASURES
        for step in (125, 250)
    ]
    figure = dict.fromkeys(PROXIES, 0.7123)
    ranked = [FidelityLayer(layer, 0.7123, figure, figure, 1) for layer in ("BN-ReLU", LONG)]
    conditions = {f"cuda, x86_64, NVIDIA H200, {n} threads, torch 2.11.0+cu130, bfloat16": n for n in (2, 12)}
    crashed = {LONG: "time_limit: no answer within 600 s; " * 6}
    fidelity = Fidelity(tuple(signals), tuple(ranked), crashed, conditions, Units(PROXIES), Units(PROXIES))
    final = evonas.open_run("run").final_table()
    on = validation()

    def validate(*given: Any, **options: Any) -> Any:
        return on if options.get("on") else final

    findings = [Finding("cost", "warning", "a full evaluation takes about 5.2 s; " * 6)]

    def doctor(*given: Any, on_finding: Any, **options: Any) -> list[Finding]:
        for each in findings:
            on_finding(each)
        return findings

    estimates = dict.fromkeys(PROXIES, (-0.1234, (-0.5678, 0.2345)))
    whole, part = (
        AblatedLayer(*of, LONG, 1, (0.7123, 0.0456), dict.fromkeys(PROXIES, (0.7123, 0.0456)), estimate, estimates)
        for of, estimate in (((None, None), (0.0, (0.0, 0.0))), ((LONG, "x"), (-0.1234, (-0.5678, 0.2345))))
    )
    ablation = Ablation((whole, part), 5, crashed, conditions, Units(PROXIES))
    results = {"evaluate": [judged], "ablate": ablation, "noise": noise, "fidelity": fidelity, "bench": bench}
    for name, result in results.items():
        monkeypatch.setattr(evonas, name, lambda *given, result=result, **options: result, raising=False)
    monkeypatch.setattr(evonas, "doctor", doctor, raising=False)
    monkeypatch.setattr(evonas, "validate", validate, raising=False)


def validation() -> Validation:
    """Two layers at two batch sizes."""
    figure, estimate = (0.7123, 0.0456), (-0.1234, (-0.2345, 0.0123))
    layers = [
        ValidatedLayer(birth, name, LONG, None, None, size, 5, 1, figure, dict.fromkeys(PROXIES, figure))
        for size in (128, 8)
        for birth, name in ((1234, None), (5678, None), (None, "BN-ReLU"))
    ]
    differences = [
        PairedDifference(1234, None, name, size, estimate, dict.fromkeys(PROXIES, estimate))
        for size in (128, 8)
        for name in ("BN-ReLU", "EvoNorm-B0")
    ]
    crashed = {LONG: "time_limit: no answer within 600 s; " * 6}
    conditions = {f"cuda, x86_64, NVIDIA H200, {n} threads, torch 2.11.0+cu130, bfloat16": n for n in (2, 12)}
    return Validation(tuple(layers), tuple(differences), crashed, conditions, Units(PROXIES))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_no_line_is_longer_than_the_terminal_is_wide(
    command: Command, arguments: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    monkeypatch.setenv("COLUMNS", str(width))
    lines = COLOURS.sub("", command(*arguments).out).splitlines()
    assert lines
    assert [line for line in lines if len(line) > width] == []


def test_evaluate_keeps_figures_and_formula_together_at_80_columns(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    lines = COLOURS.sub("", command("evaluate", "x", "tiny.yaml").out).splitlines()
    (row,) = (line for line in lines if line.split()[:1] == ["1"])
    assert "0.712 ±0.046" in row
    assert "-12.3 ±4.6 (3)" in row
    assert "x * sigmoid(v1 * x)" in row
    properties = "depends on the batch; amplification: 316 at one position a channel"
    assert properties in " ".join(line.strip() for line in lines)


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_in_a_pipe_only_rows_and_formulas_are_longer_than_120_columns(
    command: Command, arguments: tuple[str, ...]
) -> None:
    wide = [line for line in command(*arguments).out.splitlines() if len(line) > 120]
    if arguments[0] == "bench":  # a row of ten numbers is one line
        wide = [line for line in wide if "channels" not in line and "proxy" not in line]
    assert [line for line in wide if LONG not in line] == []
