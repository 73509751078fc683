"""`evonas funnel`, `validate`, `noise`, `fidelity` and `bench`."""

import json
from pathlib import Path

import torch
import yaml

import evonas
from evonas.config_file import parse_config
from evonas.search_space.catalog import LAYERS
from evonas.store.database import Database
from evonas.workers.evaluation import evaluate
from evonas.workers.outcome import Fitness
from evonas.workers.protocol import Job
from tests.evonas.cli.cases import Command, config_file, refused, strict


def test_funnel_prints_every_gate_with_its_costs(command: Command, run: Path) -> None:
    answer = command("funnel", run)
    assert (answer.code, answer.err) == (0, "")
    states, gates = Database.open(run).reader().counts()
    shown = {line.split()[0]: line.split() for line in answer.lines if line.strip()}
    for gate, stopped in gates.items():
        numbers = [int(word) for word in shown[gate] if word.isdigit()]
        assert stopped in numbers
    assert f"{sum(states.values())} candidates" in answer.out
    assert "No rejected candidate was audited: evolution.audit_share is 0." in answer.lines
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
    titles = next(i for i, line in enumerate(answer.lines) if line.startswith("birth"))
    rows = [line for line in answer.lines[titles + 1 :] if line.strip()]
    assert {line.split()[0] for line in rows if not line.endswith("  BN-ReLU")} == {str(best.birth)}
    assert sum(line.endswith("  BN-ReLU") for line in rows) == 1
    told = strict(command("validate", tmp_path / "run", "--seeds", "2", "--json").out)
    assert {row["birth"] for row in told} == {best.birth, None}
    refused(command("validate", tmp_path / "run", "999"), "no birth 999")
    refused(command("validate", tmp_path / "run", "--out", "FILE"), "--out: trainings under the search's own protocol")
    refused(command("validate", tmp_path / "run", "--batch-sizes", "8,a"), "'8,a': expected whole numbers with commas")


def test_validate_on_another_config_prints_paired_differences(command: Command, run: Path, tmp_path: Path) -> None:
    path = config_file(tmp_path, recipe={"steps": 3})
    given = (
        "validate",
        run,
        "--top",
        "2",
        "--on",
        path,
        "--set",
        "name=other",
        "--batch-sizes",
        "16,4",
    )
    given = (*given, "--baseline", "GN-ReLU", "--seeds", "2", "--out", tmp_path / "out")
    answer = command(*given)
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[0].startswith(
        "other: test accuracy on embedded at 8x8 (256 training images) after 3 steps with 2 fresh seeds, mean ± "
    )
    births = [str(row.birth) for row in evonas.open_run(run).final_table() if row.birth][:2]
    pairs = [line.split()[:3] for line in answer.lines if " [" in line]
    expected = [(each, base) for each in births for base in ("BN-ReLU", "GN-ReLU")] + [("GN-ReLU", "BN-ReLU")]
    assert sorted(pairs) == sorted([size, *each] for size in ("16", "4") for each in expected)
    kept = (tmp_path / "out").read_text()
    told = strict(command(*given, "--json").out)
    assert (tmp_path / "out").read_text() == kept
    assert len(told["layers"]) == 8
    line = next(line for line in answer.lines if line.split()[:3] == ["4", births[0], "GN-ReLU"])
    mean, (low, high) = next(
        each["mean"] for each in told["differences"]
        if (each["batch_size"], str(each["birth"]), each["baseline"]) == (4, births[0], "GN-ReLU")
    )  # fmt: skip
    assert f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in line
    refused(command(*given[:-1], path), "tiny.yaml", "holds no results")


def test_noise_prints_means_and_spreads(command: Command, tmp_path: Path) -> None:
    path = config_file(tmp_path)
    answer = command("noise", path, "--seeds", "2", "--layer", "GN-ReLU")
    assert (answer.code, answer.err) == (0, "")
    assert [[line.split()[-1], line.split()[0]] for line in answer.lines if line.endswith(("BN-ReLU", "GN-ReLU"))] == [
        [layer, proxy] for layer in ("BN-ReLU", "GN-ReLU") for proxy in ("resnet", "mobilenet", "mean")
    ]
    told = strict(command("noise", path, "--seeds", "2", "--json").out)
    assert [len(row["accuracies"]) for row in told] == [2, 2, 2]
    refused(command("noise", path, "--layer", "GN-ReLo"), "GN-ReLo", "did you mean")
    refused(command("noise", path, "--layer", "PowerNorm"), "--layer PowerNorm", "graph")


def test_fidelity_trains_as_a_search_does(command: Command, tmp_path: Path) -> None:
    names = ["BN-ReLU", "GN-ReLU", "BN-SiLU", "EvoNorm-B0", "EvoNorm-S0"]
    path, out = config_file(tmp_path, data={"train": 64}), tmp_path / "out"
    raw = yaml.safe_load(path.read_text())
    del raw["proxies"]["mobilenet"]
    path.write_text(yaml.safe_dump(raw))
    layers = [part for name in names for part in ("--layer", name)]
    given = ("fidelity", path, path, *layers, "--set", "recipe.steps=4", "--reference-set", "seed=1", "--out", out)
    answer = command(*given)
    assert (answer.code, answer.err) == (0, "")
    assert all(any(line.endswith(name) for line in answer.lines) for name in names)
    told = strict(command(*given, "--json").out)
    assert [(each["proxy"], each["measure"], each["step"]) for each in told["signals"]] == [
        ("resnet", measure, step) for step in (1, 2, 3, 4) for measure in ("accuracy", "loss", "late loss")
    ]
    short, long = (evonas.load_config(path, [setting]) for setting in ("recipe.steps=4", "seed=1"))
    accuracies = []
    for config in (short, long):
        protocol = config.protocol.ungated().model_copy(update={"proxies": {"p": config.proxies["resnet"]}})
        alone = evaluate(Job(graph=LAYERS["EvoNorm-B0"].text, protocol=protocol, seed=config.seed)).outcome
        assert isinstance(alone, Fitness)
        accuracies.append(alone.accuracy["p"])
    shown = next(each for each in told["layers"] if each["layer"] == "EvoNorm-B0")
    assert [shown["accuracy"]["resnet"], shown["reference"]] == accuracies
    refused(command(*given[:-1], path), "tiny.yaml", "holds no results")
    refused(command("fidelity", path, path, "--layer", "BN-ReLo"), "did you mean")


def test_bench_recommends_a_way_to_run(command: Command, tmp_path: Path) -> None:
    path = config_file(tmp_path)
    answer = command("bench", path, "--no-compile", "--steps", "1")
    assert (answer.code, answer.err) == (0, "")
    recommended = answer.out.partition("For the config:")[2]
    assert "compile_from_steps: never" in recommended
    told = strict(command("bench", path, "--no-compile", "--steps", "1", "--json").out)
    assert len(told["timings"]) == 2 * 2 * 2 * 4  # proxies, formats, dtypes, layers with the identity
    execution = yaml.safe_load(recommended)["execution"]
    assert parse_config(path.read_text(), settings=[f"execution={json.dumps(execution)}"]).execution.dtype in (
        "float32",
        "bfloat16",
    )
    if not torch.cuda.is_available():
        refused(command("bench", path, "--device", "cuda"), "no GPU")
