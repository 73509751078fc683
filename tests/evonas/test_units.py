"""Bits per byte everywhere: no output of a run that reads text shows 2^-b as an accuracy, and what it shows is -log2 of
what is stored."""

import copy
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import evonas
from evonas.cli.display import print_end
from evonas.cli.main import COMMANDS, app
from evonas.config_file import parse_config
from evonas.listing import figures_json
from evonas.report.run_view import document
from evonas.report.tensorboard import scalars
from evonas.retelling import rebuild
from evonas.search_space.errors import InputError
from evonas.store.records import Figures, Purpose, columns
from evonas.units import Unit, Units
from evonas.workers.outcome import Fitness
from tests.benchmarks.known_layers import by_gate, one_seed, told
from tests.evonas.browser import needs_chromium, opened
from tests.evonas.test_text_search import TEXT

fitnesses = st.floats(1e-6, 1.0)

ALONE = copy.deepcopy(TEXT)
ALONE["proxies"] = {"gpt": TEXT["proxies"]["gpt"]}
ALONE["space"] |= {"sampler": "depends_on_x"}
ALONE["gates"] = [
    *("depends_on_x", "finite"),
    {"quality": {"steps": 3, "of_baseline": 0.6}},
    {"rung": {"steps": 4, "after": 3}},
]
ALONE["evolution"] |= {"births": 8, "audit_share": 1.0, "rerank": {"top": 1, "seeds": 2, "baselines": ["RMSNorm"]}}
WITHOUT_FIGURES = {"init", "resume", "replay", "serve", "bench", "doctor", "submit", "neighbours", "catalog"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on text alone, with all that a card shows."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run = evonas.search(ALONE, run=folder, progress=False)
    best = next(row.birth for row in run.final_table() if row.birth)
    evonas.ablate(f"{folder}#{best}", seeds=2)
    evonas.validate(folder, seeds=2)
    evonas.validate(folder, steps=4, seeds=2)
    return folder


@pytest.fixture
def run(folder: Path) -> evonas.Run:
    return evonas.open_run(folder)


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.output


def best_of(run: evonas.Run) -> int:
    return next(row.birth for row in run.final_table() if row.birth)


def commands(run: evonas.Run, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Every command that shows a figure, on a run."""
    folder, best, config = str(run.folder), str(best_of(run)), str(Path(run.folder) / "config.yaml")
    stopped = [str(each.birth) for each in run.candidates(range(1, 9)) if each.state == "rejected"]
    yield from (("status", folder), ("top", folder), ("runs", str(Path(folder).parent)), ("lineage", folder, best))
    yield from (("show", folder, birth) for birth in [best, *stopped])
    yield from (("find", folder, "--min", "gpt=7.9"), ("funnel", folder, "--within", "0.1"), ("dump", folder))
    yield from (("validate", folder, "--seeds", "2"), ("validate", folder, "--steps", "4", "--seeds", "2"))
    yield from (("ablate", folder, best, "--seeds", "2"), ("card", folder, best, "--no-speed"))
    yield from (("evaluate", "tanh", config, "--seeds", "2"), ("noise", config, "--seeds", "2", "--layer", "tanh"))
    layers = [part for name in ("LayerNorm", "RMSNorm", "DyT", "tanh", "x") for part in ("--layer", name)]
    yield "fidelity", config, config, *layers
    yield "report", folder, "-o", str(tmp_path / "report.html")
    yield "export", folder, best, "--no-compile", "-o", str(tmp_path / "layer.py")
    yield "tensorboard", folder, "-o", str(tmp_path / "scalars")


# --------------------------------------------------------------------------- the law


@given(fitnesses, fitnesses)
def test_bits_are_minus_log2_and_other_figures_are_what_is_recorded(one: float, other: float) -> None:
    assert Unit.BITS.read(one) == -math.log2(one)
    assert Unit.BITS.fitness("gpt", -math.log2(one)) == pytest.approx(one)
    assert Unit.BITS.difference(one, other) == pytest.approx(math.log2(other / one), abs=1e-9)
    assert Unit.BITS.difference_of(one, one - other) == pytest.approx(math.log2(other / one), abs=1e-6)
    for unit in (Unit.ACCURACY, Unit.FITNESS):
        assert (unit.read(one), unit.fitness("net", one)) == (one, one)
        assert unit.difference(one, other) == unit.difference_of(one, one - other) == one - other
    for unit in Unit:  # more is better
        assert (unit.gain(unit.difference(one, other)) > 0) == (unit.read(one) != unit.read(other) and one > other)


def test_a_fitness_that_vanished_takes_infinitely_many_bits() -> None:
    assert Unit.BITS.read(0.0) == math.inf
    assert Unit.BITS.difference(0.0, 0.0) == 0.0
    assert Unit.BITS.amount(Unit.BITS.difference(0.0, 0.5)) == "+inf"


@pytest.mark.parametrize("bits", [-0.1, 1e9, "few", math.nan])
def test_bits_that_nobody_can_have_are_one_line(bits: Any) -> None:
    with pytest.raises(InputError, match="minimum of gpt: expected"):
        Unit.BITS.fitness("minimum of gpt", bits)


def test_the_mean_has_bits_where_all_networks_read_text_and_is_a_fitness_where_some_do() -> None:
    assert Units(("a", "b")).mean is Unit.ACCURACY
    assert Units(("a", "b"), ("b", "a")).mean is Unit.BITS
    mixed = Units(("a", "b"), ("b",))
    assert (mixed.mean, mixed.of("a"), mixed.of("b")) == (Unit.FITNESS, Unit.ACCURACY, Unit.BITS)
    assert mixed.named({"a": 1, "b": 2}) == {"accuracy": {"a": 1}, "bits_per_byte": {"b": 2}}
    assert Units.union([Units(("a",)), mixed]) == mixed


def test_figures_of_images_are_as_they_are_recorded() -> None:
    figures = Figures(2, 0, {"net": (0.5, 0.1)}, 0.02, 0.01, 2)
    fields = columns(figures)
    del fields["in_bits"]
    assert figures_json(figures) == fields
    assert (figures.shown.values, figures.shown.difference, figures.gain) == (figures.accuracy, 0.02, 0.02)
    assert Units(("net",)).as_json() == {}


# --------------------------------------------------------------------------- a run on text


def test_the_final_table_is_the_mean_over_seeds_of_minus_log2_of_what_is_stored(run: evonas.Run) -> None:
    stored: dict[Any, dict[int, float]] = {}
    for each in run.reader.evaluations(Purpose.RERANK):
        assert isinstance(each.evaluation.outcome, Fitness)
        stored.setdefault((each.birth, each.name), {})[each.seed] = each.evaluation.outcome.accuracy["gpt"]
    bits = {key: [-math.log2(each) for each in mine.values()] for key, mine in stored.items()}
    baseline = bits[None, "LayerNorm"]
    rows = run.final_table()
    assert {(row.birth, row.name) for row in rows} == stored.keys()
    for row in rows:
        mine, shown = bits[row.birth, row.name], row.shown
        differences = [a - b for a, b in zip(mine, baseline, strict=True)]
        assert shown.values["gpt"] == (pytest.approx(fmean(mine)), pytest.approx(stdev(mine)))
        assert shown.difference == pytest.approx(fmean(differences))
        assert shown.difference_spread == pytest.approx(stdev(differences))
    shown = [row.shown.difference for row in rows if row.shown.difference is not None]
    assert shown == sorted(shown)  # the best first


def test_json_names_bits_and_holds_minus_log2_of_what_is_stored(run: evonas.Run) -> None:
    best = best_of(run)
    record, evaluation = run.candidate(best), run.evaluation(best)
    assert evaluation is not None
    told = json.loads(invoke("show", run.folder, best, "--json"))
    assert told["bits_per_byte"] == {"gpt": pytest.approx(-math.log2(record.accuracy["gpt"]))}
    assert [each["bits_per_byte"] for each in told["points"]] == pytest.approx(
        [-math.log2(point.accuracy) for point in evaluation.points]
    )
    measured = [each for each in told["measurements"] if each["gate"] == "quality"]
    values = [-math.log2(each.value) for each in evaluation.measurements if each.gate == "quality"]
    assert [(each["value"], each["unit"]) for each in measured] == [
        (pytest.approx(value), "bits per byte") for value in values
    ]
    top = json.loads(invoke("top", run.folder, "--json"))
    assert top["units"] == {"gpt": "bits per byte", "difference": "bits per byte"}
    (baseline,) = (e for e in run.reader.evaluations(Purpose.BASELINE) if e.seed == run.config.seed)
    assert isinstance(baseline.evaluation.outcome, Fitness)
    assert top["baseline"]["gpt"] == pytest.approx(-math.log2(baseline.evaluation.outcome.accuracy["gpt"]))


def test_every_command_shows_figures_or_is_known_to_show_none(run: evonas.Run, tmp_path: Path) -> None:
    assert {name for name, *_ in commands(run, tmp_path)} | WITHOUT_FIGURES | {"search"} == set(COMMANDS)


def test_no_output_names_an_accuracy_and_every_figure_of_the_network_is_in_bits(
    run: evonas.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best_layer = Path(run.folder) / "best_layer.py"
    print_end(run, best_layer)
    outputs = {
        "search": capsys.readouterr().out,
        "best_layer.py": best_layer.read_text() if best_layer.exists() else "",
    }
    for each in commands(run, tmp_path):
        outputs[" ".join(each)] = invoke(*each)
    outputs["layer.py"] = (tmp_path / "layer.py").read_text()
    outputs["repr"] = f"{run!r} {run.top()!r} {run.top()._repr_html_()} {run.funnel()._repr_html_()}"
    outputs["latex"] = invoke("top", run.folder, "--latex")
    outputs["csv"] = invoke("top", run.folder, "--csv")
    outputs["scalars"] = repr(scalars(rebuild(run.reader)))
    for name, output in outputs.items():
        text = output.split("\n", 1)[1] if name.startswith("dump") else output  # after its config
        assert "accurac" not in text.lower(), name
        assert not re.search(r"\bpoints (of|against)", text), name
        for figure in re.findall(r"\bgpt (\d+\.\d+)(?! ms)\b", text):
            assert float(figure) > 2, (name, figure)  # 2^-b is below 1
    shown = " ".join(outputs["search"].split())
    assert "in bits per byte (less is better)" in shown
    assert f"bits per byte against {run.config.baseline}" in shown


@pytest.mark.parametrize("command", ["top", "show", "find", "lineage", "runs", "funnel", "validate", "ablate", "card"])
def test_no_json_holds_a_stored_fitness_or_names_an_accuracy(command: str, run: evonas.Run, tmp_path: Path) -> None:
    stored = {
        each.evaluation.outcome.accuracy["gpt"]
        for purpose in (Purpose.SEARCH, Purpose.BASELINE, Purpose.RERANK, Purpose.VALIDATE)
        for each in run.reader.evaluations(purpose)
        if isinstance(each.evaluation.outcome, Fitness)
    } | {each.accuracy for each in run.reader.trainings()}
    for arguments in commands(run, tmp_path):
        if arguments[0] == command:
            for path, value in leaves(json.loads(invoke(*arguments, "--json"))):
                assert "accurac" not in path, path
                assert value not in stored, path


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a JSON document, each with its keys."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, f"{path}/{key}")
    else:
        yield path, value


def test_the_values_of_a_page_are_in_bits_and_more_is_better(run: evonas.Run) -> None:
    (view,) = document(run)["runs"]
    assert view["unit"] == "bits per byte"
    candidates = view["candidates"]
    assert "accuracy" not in candidates
    for birth, bits, gain in zip(
        candidates["birth"], candidates["bits_per_byte"]["gpt"], candidates["advantage"], strict=True
    ):
        record = run.candidate(birth)
        if record.accuracy and record.advantage is not None:
            fitness = record.accuracy["gpt"]
            assert bits == pytest.approx(-math.log2(fitness), abs=1e-4)
            assert gain == pytest.approx(math.log2(fitness / (fitness - record.advantage)), abs=1e-4)


def test_scalars_are_differences_in_bits(run: evonas.Run) -> None:
    history = rebuild(run.reader)
    values = scalars(history)
    assert history.best
    assert history.baseline
    own = history.baseline.accuracy["gpt"]
    assert values["best bits per byte"] == pytest.approx(math.log2(own / (own + history.best.advantage)))
    assert "best fitness" not in values


def test_a_limit_in_bits_lists_what_needs_no_more(run: evonas.Run) -> None:
    bits = {
        each.birth: each.figures.shown.values["gpt"][0]
        for each in run.top(8, every=True)
        if each.figures and each.figures.shown.values["gpt"]
    }
    limit = sorted(bits.values())[len(bits) // 2]
    found = {each.birth for each in run.find(minimum={"gpt": limit + 1e-9}, n=8)}
    assert found == {birth for birth, each in bits.items() if each <= limit}
    with pytest.raises(InputError, match="minimum of gpt: expected 0 to 1000, got -1"):
        run.find(minimum={"gpt": -1})


def test_an_audit_was_wrong_within_so_many_bits(run: evonas.Run) -> None:
    """Of 1,000 bits more any layer that trained is good enough; the default is nearer."""
    generous, default = run.funnel(1.0), run.funnel()
    assert sum(map(sum, (row.audits for row in generous.rows))) >= sum(map(sum, (row.audits for row in default.rows)))


# --------------------------------------------------------------------------- what is trained beside it


def test_ablations_of_a_gpt_see_no_byte_to_come_and_the_card_shows_them(run: evonas.Run) -> None:
    layer = "x / rms_c(x)"
    measured = evonas.ablate(layer, run.config, seeds=2)
    whole, *parts = measured.layers
    assert parts
    assert not any(run.config.foresees(evonas.Graph.parse(each.formula)) for each in measured.layers)
    assert 2 < whole.mean[0] < 12
    differences = [each.difference[0] for each in parts]
    assert differences == sorted(differences, reverse=True)  # where it loses most first
    card = invoke("card", run.folder, best_of(run), "--no-speed")
    assert "Validation bits per byte" in card
    json.loads(invoke("card", run.folder, best_of(run), "--no-speed", "--json"))


def test_noise_spreads_in_bits(run: evonas.Run) -> None:
    rows = evonas.noise(run.config, "tanh", seeds=2)
    for row in rows:
        assert row.unit is Unit.BITS
        assert row.spread == pytest.approx(stdev(row.accuracies))
        assert all(2 < each < 12 for each in row.accuracies)


def test_known_layers_are_measured_at_every_gate_whatever_the_others_said(run: evonas.Run) -> None:
    gates = ["finite", "signal", {"quality": {"of_baseline": 1.0, "steps": 3}}, {"rung": {"steps": 4}}]
    config = parse_config(json.dumps({**ALONE, "gates": gates}))
    rows = one_seed(config, ["RMSNorm", "DyT"], 0)
    assert [row.layer for row in rows] == ["LayerNorm", "RMSNorm", "DyT"]
    assert not all(each.passed for row in rows for each in row.measured)
    for row in rows:
        assert [each.gate for each in row.measured] == [each.gate for each in config.gates]
        assert row.end is not None
        assert f"end gpt {-math.log2(row.end['gpt']):.3f}" in told(config, row)
    report = "\n".join(by_gate(config, rows))
    assert [line for line in report.splitlines() if line and line[0] != " "] == [
        *("finite", "signal on gpt", "quality on gpt", "rung")
    ]
    assert report.count("  DyT ") == len(config.gates)


@needs_chromium
def test_a_report_shows_bits(run: evonas.Run, browser: Any, tmp_path: Path) -> None:
    page = opened(browser, evonas.write_report(run.folder, tmp_path / "report.html").as_uri(), offline=True)
    assert page.heard == [page.url]
    (row, *_) = run.final_table()
    axis = page.evaluate("document.getElementById('plot-final').layout.xaxis.title.text")
    assert axis.startswith(f"bits per byte below {run.config.baseline}")
    drawn = page.evaluate("document.getElementById('plot-final').data.flatMap((each) => each.x)")
    assert max(drawn) == pytest.approx(row.gain)
    assert "Bits per byte on" in page.inner_text("#filters")
    page.fill("#filter-at_least", "7.9")
    page.press("#filter-at_least", "Tab")  # the field's change draws the table anew
    page.select_option("#filter-proxy", "gpt")
    listed = page.inner_text("#tables-layers tbody")
    assert re.search(r"[+\u2212]\d\.\d{3}\s+\d\.\d{3}\s", listed)
    page.locator("#tables-layers tbody a").first.click()
    page.wait_for_selector("dialog[open]")
    assert "bits per byte on gpt" in page.inner_text("dialog")
    assert "accuracy" not in page.inner_text("dialog")
    page.context.close()
