"""The card of a layer: what follows from the graph, what was recorded, and what says how to measure it."""

import json
import re
import shlex
import shutil
from math import exp, sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import evonas
from evonas.cli.main import app
from evonas.run import Run
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store.database import Database
from evonas.studies import layer_speed
from evonas.studies.half_precision import half_precision
from evonas.studies.layer_speed import TORCHS, measure_speed, peak_mb
from evonas.studies.sweep import BATCH_SIZES, RATES, cheapest, plan_sweep
from evonas.studies.trainings import NAME
from evonas.workers.outcome import Crash, CrashKind, Evaluation, Fitness
from evonas.workers.protocol import Job
from tests.conftest import TINY
from tests.evonas.studies.answering import AnsweringPool, answering

# --------------------------------------------------------------------------- the graph alone


def test_a_layer_of_the_catalog() -> None:
    card = evonas.card("EvoNorm-S0", speed=False)
    assert (card.title, card.run, card.birth, card.batch_dependent) == ("EvoNorm-S0", None, None, False)
    assert card.parameters == {"weight": "one a channel", "bias": "one a channel", "v1": "one a channel"}
    assert card.moments == ()
    assert (card.same_as, card.speed, card.validations, card.sweep, card.ablation) == (None, (), (), None, None)
    assert repr(card) == "<Card of EvoNorm-S0: does not depend on the batch, 0 validations>"
    told = json.loads(json.dumps(card.as_json()))
    assert told["formula"] == LAYERS["EvoNorm-S0"].graph.formula
    assert told["digest"] == LAYERS["EvoNorm-S0"].graph.digest


def test_a_text_with_a_scalar_and_a_batch_statistic() -> None:
    card = evonas.card("a = scalar(0.5)\ntanh(a * x) / std_bhw(x)", speed=False)
    assert card.batch_dependent
    assert card.parameters["a"] == "one"
    assert len(card.moments) == 1
    assert evonas.card("2 * x / rms_hw(2 * x)", speed=False).title == "A layer"


def test_what_repeats_a_known_layer_says_so() -> None:
    text = "max(zero, (x - mean_bhw(x)) / std_bhw(x))"
    assert evonas.card(text, speed=False).same_as == "BN-ReLU"
    assert "the same function as BN-ReLU" in evonas.card(text, speed=False).markdown()


# --------------------------------------------------------------------------- half precision


def errors(text: str) -> dict[str, tuple[float, float]]:
    return {row.dtype: (row.forward, row.backward) for row in half_precision(named_graph(text))[:3]}


def test_a_layer_that_rounds_nothing_has_no_error() -> None:
    assert errors("x") == dict.fromkeys(("float32", "bfloat16", "float16"), (0.0, 0.0))


def test_one_rounding_is_that_of_its_type() -> None:
    """Rounding makes x (1 + d) of x, with |d| at most 2^-9 in bfloat16 and 2^-12 in float16."""
    for dtype, unit in (("bfloat16", 2.0**-9), ("float16", 2.0**-12)):
        for error in errors("x * x")[dtype]:
            assert unit / 4 < error < unit * 1.01


def test_an_overflow_is_infinite() -> None:
    assert exp(12) > torch.finfo(torch.float16).max
    rows = errors("exp(12 + sigmoid(x))")
    assert rows["float16"][0] == float("inf")
    assert rows["bfloat16"][0] < 0.01


# --------------------------------------------------------------------------- speed


def test_ratios_are_of_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer takes 2, 4, 12 times as long as torch's, and one that is timed once takes what it takes."""
    clock = iter([1.0] * 6 + [2.0, 1.0, *[5.0] * 4] + [*[5.0] * 4, 2.0, 8.0] + [36.0, 3.0, *[5.0] * 4])
    monkeypatch.setattr(layer_speed, "timed", lambda step, device, repeats=1: next(clock))
    monkeypatch.setattr(layer_speed, "peak_mb", lambda step, device: 1.0)
    counted: list[tuple[int, int]] = []
    rows = measure_speed(
        named_graph("tanh"), shapes=[(1, 4, 2, 2)], rounds=3, on_progress=lambda *count: counted.append(count)
    )
    assert [row.layer for row in rows] == [
        "tanh", TORCHS, "BN-ReLU (evonas)", "GN-ReLU (evonas)", "EvoNorm-B0 (timm)", "EvoNorm-S0 (timm)",
    ]  # fmt: skip
    mine, torchs, *_ = rows
    assert (mine.seconds, mine.ratio, mine.ratio_range) == (8.0, 4.0, (2.0, 12.0))
    assert (torchs.seconds, torchs.ratio) == (2.0, 1.0)
    assert counted[-1] == (24, 24)


def test_peak_memory_is_of_what_lives_at_once() -> None:
    def in_turn() -> None:
        for _ in range(3):
            torch.empty(2**20)

    def at_once() -> list[torch.Tensor]:
        return [torch.empty(2**20) for _ in range(3)]

    assert peak_mb(in_turn, "cpu") == pytest.approx(4.0, abs=0.1)
    assert peak_mb(at_once, "cpu") == pytest.approx(12.0, abs=0.1)


# --------------------------------------------------------------------------- records of a run


def answered(job: Job) -> Evaluation:
    """BN-ReLU has 0.5; others are better at small batches, and worse at large rates."""
    recipe, seed = job.protocol.recipe, job.seed
    better = 0.0 if Graph.parse(job.graph).digest == LAYERS["BN-ReLU"].graph.digest else 0.1 / recipe.batch_size
    worse = 0.1 * (recipe.learning_rate > 0.5 and recipe.batch_size == 16)
    return Evaluation(Fitness({NAME: 0.5 + better * seed - worse * bool(better)}), seconds=1.0, conditions="a CPU")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> AnsweringPool:
    return answering(monkeypatch, evonas.load_config(TINY), answered, "card", "ablate", "validate")


@pytest.fixture
def folder(calm: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calm.folder, tmp_path / "run"))


def best(folder: Path) -> int:
    return next(row.birth for row in evonas.open_run(folder).final_table() if row.birth)


def test_the_sweep_is_trained_when_asked_for_and_recorded(pool: AnsweringPool, folder: Path) -> None:
    layer, proxy = f"{folder}#{best(folder)}", cheapest(Database.open(folder).reader())[0]
    before = evonas.card(layer, speed=False, seeds=2)
    assert before.sweep is None
    assert before.sweep_cost is not None
    count = 2 * 2 * (len(BATCH_SIZES) + len(RATES) - 1)  # the recipe's own place is on both
    assert (before.sweep_cost.trainings, before.sweep_cost.steps, before.sweep_cost.proxy) == (count, 6, proxy)
    assert before.sweep_cost.seconds > 0
    made = evonas.card(layer, speed=False, seeds=2, trained=True)
    assert len(pool.asked) == count
    assert {job.judged_on for job in pool.asked} == {"validation"}
    assert made.sweep is not None
    assert made.sweep_cost is None
    assert (made.sweep.proxy, made.sweep.steps) == (proxy, 6)
    assert [row.batch_size for row in made.sweep.batch_sizes] == list(BATCH_SIZES)
    for row in made.sweep.batch_sizes:
        assert row.learning_rate == pytest.approx(0.1 * row.batch_size / 16)  # in proportion
    assert [row.learning_rate for row in made.sweep.rates] == pytest.approx([0.1 / 9, 0.1 / 3, 0.1, 0.3, 0.9])
    one = made.sweep.batch_sizes[0]  # with seeds 1 and 2: 0.6 and 0.7 against 0.5
    assert (one.seeds, one.failed) == (2, 0)
    assert one.accuracy == pytest.approx((0.65, 0.1 / sqrt(2)))
    assert one.baseline == (0.5, 0.0)
    assert one.difference == (
        pytest.approx(0.15),
        (pytest.approx(0.15 - 12.706205 * 0.05), pytest.approx(0.15 + 12.706205 * 0.05)),
    )
    assert made.sweep.rates[-1].difference[0] == pytest.approx(0.1 / 16 * 1.5 - 0.1)
    recorded = Database.open(folder).reader().trainings()
    assert {(each.purpose, each.proxy) for each in recorded} == {("card", proxy)}
    pool.asked.clear()
    assert evonas.card(layer, speed=False, seeds=2, trained=True).sweep == made.sweep
    assert evonas.card(layer, speed=False, seeds=2).sweep == made.sweep
    assert pool.asked == []


def test_a_crash_leaves_its_place_out_and_says_why(pool: AnsweringPool, folder: Path) -> None:
    def fails(job: Job) -> Evaluation:
        crashes = job.protocol.recipe.batch_size == 256
        return Evaluation(Crash(CrashKind.OUT_OF_MEMORY, "too large")) if crashes else answered(job)

    pool.answer = fails
    made = evonas.card(f"{folder}#{best(folder)}", speed=False, seeds=1, trained=True)
    assert made.sweep is not None
    assert [row.batch_size for row in made.sweep.batch_sizes] == list(BATCH_SIZES[:-1])
    assert made.crashed["BN-ReLU"] == "out_of_memory: too large"
    assert "Not complete: `evonas card" in made.markdown()


def test_the_cost_is_that_of_its_steps() -> None:
    plan = plan_sweep(evonas.load_config(TINY), "resnet", named_graph("tanh"), 1)
    (place, name, seed) = next(key for key in plan.wanted if key[0][0] == 32)
    assert plan.seconds([(place, name, seed)], 0.5) == pytest.approx(6 * 0.5 * (0.25 + 0.75 * 2))


def test_ablations_and_validations_that_the_run_has_recorded(pool: AnsweringPool, folder: Path) -> None:
    birth = best(folder)
    pool.answer = lambda job: Evaluation(Fitness({NAME: 0.5 + len(job.graph) / 1000}))
    ablation = evonas.ablate(f"{folder}#{birth}", seeds=2)
    evonas.validate(folder, birth, architectures=["resnet"], steps=3, batch_sizes=[16, 4], seeds=2)
    made = evonas.card(evonas.open_run(folder).candidate(birth), speed=False)
    assert made.ablation == ablation
    assert list(made.validations) == evonas.open_run(folder).validations(birth)
    assert [(row.batch_size, row.steps, row.proxy) for row in made.validations] == [(16, 3, "resnet"), (4, 3, "resnet")]
    assert (made.title, made.is_fresh) == (f"Birth {birth} of {evonas.open_run(folder).name}", True)
    page = made.markdown()
    for part in ("## Validation", "## Ablation", "to BN-ReLU"):
        assert part in page
    assert made._repr_html_().count("<table>") == 3  # half precision, validation, ablation


# --------------------------------------------------------------------------- pages and the command line


def test_what_was_not_measured_is_a_command_that_exists(folder: Path) -> None:
    page = evonas.card(f"{folder}#{best(folder)}", speed=False).markdown()
    commands = re.findall(r"`(evonas .*?)`", page)
    assert [shlex.split(each)[1] for each in commands] == ["card", "card", "validate", "ablate"]
    for command in commands:
        name, *options = shlex.split(command)[1:]
        parsed = app.get_command(None, name).make_context(name, options)  # type: ignore[attr-defined]
        assert parsed.params


def test_a_page_has_its_picture_beside_it(tmp_path: Path) -> None:
    made = evonas.card("x * sigmoid(v1 * x)", speed=False)
    assert made.save(tmp_path / "card.md") == tmp_path / "card.svg"
    page = (tmp_path / "card.md").read_text()
    assert page == made.markdown("card.svg")
    assert "![The graph of the layer](card.svg)" in page
    assert (tmp_path / "card.svg").read_text().startswith("<?xml")
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines() if line.startswith("|")}
    assert widths == {5}  # one table, of four columns
    with pytest.raises(InputError, match=r"the page of a card is Markdown; expected a name such as card\.md"):
        made.save(tmp_path / "card.svg")


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        ("BN-RelU", {}, "did you mean 'BN-ReLU'"),
        ("x + y", {}, "takes two inputs"),
        ("x", {"trained": True}, "trained: expected a candidate of a run, since x is of none"),
        ("x", {"settings": ["workers.count=1"]}, "settings: expected none, since nothing is trained"),
        ("x", {"seeds": 0}, "seeds: expected 1 to 1000, got 0"),
        ("x", {"device": "tpu"}, "device: expected auto, cpu, cuda, got 'tpu'"),
        ("x", {"compiled": True}, "compiled: nothing is timed without speed"),
    ],
)
def test_what_cannot_be_done_is_one_line(layer: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evonas.card(layer, speed=False, **options)


@pytest.mark.parametrize(("path", "message"), [("none/card.md", "cannot be written"), ("card.svg", "is Markdown")])
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_timed(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evonas, "card", None)
    answer = CliRunner().invoke(app, ["card", "EvoNorm-B0", "-o", str(tmp_path / path)])
    assert isinstance(answer.exception, InputError)
    assert message in str(answer.exception)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_sections_json_and_markdown(folder: Path, tmp_path: Path) -> None:
    def command(*arguments: Any) -> str:
        result = CliRunner().invoke(app, ["card", str(folder), str(best(folder)), "--no-speed", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.stdout

    made = evonas.card(f"{folder}#{best(folder)}", speed=False)
    shown = command()
    for section in (
        "Speed and peak memory",
        "Half precision",
        "Batch sizes and learning rates",
        "Validation",
        "Ablation",
    ):
        assert f"\n{section}\n" in shown
    assert "`" not in shown
    assert json.loads(command("--json")) == json.loads(json.dumps(made.as_json()))
    assert command("--markdown") == made.markdown()
    assert command("-o", tmp_path / "card.md") == f"Wrote {tmp_path / 'card.md'} and {tmp_path / 'card.svg'}.\n"
