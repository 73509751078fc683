"""What the command line can, Python can, with the same values and the same errors."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import evonas
from evonas.cli.main import COMMANDS, main
from evonas.layers.resolve import trainable
from evonas.report.picture import draw
from evonas.run import Run
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.studies.results import ResultFile
from tests.conftest import ROOT, TINY

OLD = ROOT / "tests" / "evonas" / "databases" / "0003.db"  # 30 births of a tiny config, with audits and a final table
METHODS = {"status", "top", "find", "lineage", "dump", "replay", "funnel"}  # of a run, under the command's name
# `init` writes a file from a template: nothing for Python; `evonas.report` is a package
OTHERS = {"show": Run.candidate, "init": None, "report": evonas.write_report}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evonas.open_run(shutil.copy(OLD, tmp_path_factory.mktemp("run") / "run.db"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there_from_python(command: str) -> None:
    if command not in OTHERS:
        assert hasattr(Run, command) if command in METHODS else command in evonas.__all__
        assert command in METHODS or getattr(evonas, command) is not None


BIRTHS = r"no birth {}; expected 1 to 30"
QUERIES: dict[str, tuple[Callable[[Run], Any], str]] = {
    "candidate 99999": (lambda run: run.candidate(99999), BIRTHS.format(99999)),
    "candidate 0": (lambda run: run.candidate(0), BIRTHS.format(0)),
    "candidate '1'": (lambda run: run.candidate("1"), "birth: expected a whole number, got '1'"),  # type: ignore[arg-type]
    "candidate 1.5": (lambda run: run.candidate(1.5), r"birth: expected a whole number, got 1\.5"),  # type: ignore[arg-type]
    "graph": (lambda run: run.graph(99999), BIRTHS.format(99999)),
    "children": (lambda run: run.children(99999), BIRTHS.format(99999)),
    "evaluation": (lambda run: run.evaluation(99999), BIRTHS.format(99999)),
    "lineage": (lambda run: run.lineage(99999), BIRTHS.format(99999)),
    "export": (lambda run: run.export(99999, "layer.py"), BIRTHS.format(99999)),
    "top after": (lambda run: run.top(after=99999), BIRTHS.format(99999)),
    "top 0": (lambda run: run.top(0), "n: expected 1 to 1000000000, got 0"),
    "top -1": (lambda run: run.top(-1), "n: expected 1 to 1000000000, got -1"),
    "top None": (lambda run: run.top(None), "n: expected a whole number, got None"),  # type: ignore[arg-type]
    "top 10^30": (lambda run: run.top(10**30), "n: expected 1 to 1000000000, got 10"),
    "front": (lambda run: run.front(0), "n: expected 1 to 1000000000, got 0"),
    "find": (lambda run: run.find(n=0), "n: expected 1 to 1000000000, got 0"),
    "candidate True": (lambda run: run.candidate(True), "birth: expected a whole number, got True"),
    "top True": (lambda run: run.top(True), "n: expected a whole number, got True"),
    "top by 5": (lambda run: run.top(by=5), "no proxy '5'; expected one of"),  # type: ignore[arg-type]
    "top by a list": (lambda run: run.top(by=["resnet"]), r"no proxy '\['resnet'\]'; "),  # type: ignore[arg-type]
    "find 5": (lambda run: run.find(uses=5), "uses: expected texts, got 5"),  # type: ignore[arg-type]
    "find None": (lambda run: run.find(uses=None), "uses: expected texts, got None"),  # type: ignore[arg-type]
    "find [[]]": (lambda run: run.find(lacks=[[]]), r"lacks: expected texts, got \[\]"),  # type: ignore[list-item]
    "find by a pattern": (lambda run: run.find(uses="*_bwh"), r"no operation '\*_bwh'; did you mean '\*_bhw'\?"),
    "find of nodes": (lambda run: run.find(max_nodes=1.5), r"max_nodes: expected a whole number, got 1\.5"),  # type: ignore[arg-type]
    "find of few nodes": (lambda run: run.find(max_nodes=-1), "max_nodes: expected 0 to 100, got -1"),
    "find a minimum": (lambda run: run.find(minimum=0.5), r"minimum: expected accuracies by proxy, got 0\.5"),  # type: ignore[arg-type]
    "find above 1": (lambda run: run.find(minimum={"resnet": 55}), "minimum of resnet: expected 0 to 1, got 55"),
    "find on no proxy": (lambda run: run.find(minimum={"resnt": 0.5}), "no proxy 'resnt'; did you mean 'resnet'"),
    "find by a text": (lambda run: run.find(batch_dependent="no"), "batch_dependent: expected true, false or none"),  # type: ignore[arg-type]
    "funnel a": (lambda run: run.funnel("a"), "within: expected a number, got 'a'"),  # type: ignore[arg-type]
    "funnel nan": (lambda run: run.funnel(float("nan")), "within: expected 0 to 1, got nan"),
    "validate 99999": (lambda run: evonas.validate(run.reference, 99999), BIRTHS.format(99999)),
    "funnel": (lambda run: run.funnel(within=-0.1), r"within: expected 0 to 1, got -0\.1"),
    "validate": (lambda run: evonas.validate(run.reference, seeds=0), "seeds: expected 1 to 1000, got 0"),
}


@pytest.mark.parametrize(("query", "message"), QUERIES.values(), ids=QUERIES)
def test_a_query_that_cannot_be_answered_is_one_error(run: Run, query: Callable[[Run], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        query(run)


STUDIES: dict[str, tuple[Callable[[], Any], str]] = {
    "no seed": (lambda: evonas.evaluate("x", TINY, seeds=0), "seeds: expected 1 to 1000, got 0"),
    "no layer": (lambda: evonas.evaluate([], TINY), "layers: expected at least one"),
    "two inputs": (lambda: evonas.evaluate("x + y", TINY), "takes two inputs"),
    "no graph": (
        lambda: evonas.evaluate([3], TINY),
        "expected a graph, a text, a name of the catalog, a record or RUN#BIRTH, got 3",
    ),  # type: ignore[list-item]
    "no layers": (lambda: evonas.evaluate(5, TINY), "expected a graph, a text, .*, got 5"),  # type: ignore[arg-type]
    "settings 5": (lambda: evonas.noise(TINY, settings=[5]), "settings: expected texts, got 5"),  # type: ignore[list-item]
    "one seed": (lambda: evonas.noise(TINY, seeds=1), "seeds: expected 2 to 1000, got 1"),
    "noise of two inputs": (lambda: evonas.noise(TINY, Graph.parse("x + y")), "takes two inputs"),
    "noise of nothing known": (lambda: evonas.noise(TINY, "BN-RelU"), "did you mean 'BN-ReLU'"),
    "one layer": (
        lambda: evonas.fidelity(TINY, TINY, ["x"] * 9),
        "layers: a ranking takes at least 5, got 1",
    ),
    "no reference": (lambda: evonas.fidelity(TINY, "nowhere.yaml"), "nowhere.yaml"),
    "no step": (lambda: evonas.bench(TINY, steps=0), "steps: expected 1 to 1000000, got 0"),
    "identity": (lambda: evonas.bench(TINY, "x"), "layers: expected one other than the identity"),
    "no device": (lambda: evonas.bench(TINY, device="tpu"), "device: expected auto, cpu, cuda, got 'tpu'"),  # type: ignore[arg-type]
    "no config": (lambda: evonas.doctor("nowhere.yaml"), "nowhere.yaml"),
    "no setting": (lambda: evonas.submit(TINY, "http://127.0.0.1:1", settings=["births"]), "births"),
}


@pytest.mark.parametrize(("study", "message"), STUDIES.values(), ids=STUDIES)
def test_a_study_refuses_what_it_cannot_do(study: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        study()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("top", "-n", "0"), "n: expected 1 to 1000000000, got 0"),
        (("top", "--front", "-n", "-1"), "n: expected 1 to 1000000000, got -1"),
        (("lineage", "99999"), "no birth 99999; expected 1 to 30"),
        (("validate", "--seeds", "0"), "seeds: expected 1 to 1000, got 0"),
    ],
)
def test_the_command_line_prints_the_same_error(
    run: Run,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["evonas", arguments[0], run.reference, *arguments[1:]])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert message in capfd.readouterr().err


def test_one_operation_is_a_text(run: Run) -> None:
    assert run.find("tanh") == run.find(["tanh"])


def test_a_funnel_is_short_in_a_terminal_and_a_table_in_a_notebook(run: Run) -> None:
    funnel = run.funnel()
    stopped = {row.gate: row for row in funnel.rows if row.stopped}
    assert len(repr(funnel)) < 100 * (1 + len(stopped))
    for gate, row in stopped.items():
        assert f"{gate}: stopped {row.stopped} of {row.asked}" in repr(funnel)
    shown = funnel._repr_html_()
    rows = re.findall(r"<tr>(<td>.*?)</tr>", shown)
    assert [re.findall(r"<td>(.*?)</td>", row)[:3] for row in rows] == [
        [row.gate, str(row.asked), str(row.stopped)] for row in funnel.rows
    ]


def test_timings_are_short_in_a_terminal_and_a_table_in_a_notebook() -> None:
    config = TINY | {"proxies": {"resnet": TINY["proxies"]["resnet"]}}
    measured = evonas.bench(config, "BN-ReLU", steps=1, compiled=False)
    assert re.fullmatch(r"<Bench of 8 timings: \w+, channels \w+, eager is fastest>", repr(measured))
    assert measured._repr_html_().count("<tr>") == 9
    assert set(measured.seconds) == {
        f"{dtype}, channels {o}, eager" for dtype in ("float32", "bfloat16") for o in ("first", "last")
    }


def test_noise_and_doctor_answer_from_python(tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    rows = evonas.noise(TINY, "x / rms_hw(x)", seeds=2, on_progress=lambda *count: counted.append(count))
    assert [(row.layer, row.proxy) for row in rows[:3]] == [
        ("BN-ReLU", each) for each in ("resnet", "mobilenet", "mean")
    ]
    assert {row.layer for row in rows} == {"BN-ReLU", "x / rms_hw(x)"}
    assert counted == [(done, 4) for done in range(5)]
    heard: list[Any] = []
    findings = evonas.doctor(TINY, tmp_path, settings=["evolution.births=7"], on_finding=heard.append)
    assert heard == findings
    assert findings[0].text.startswith("7 births")


def test_one_setting_is_a_text() -> None:
    assert evonas.load_config(TINY, "seed=7") == evonas.load_config(TINY, ["seed=7"])
    assert evonas.load_config(TINY, "seed=7").seed == 7


def test_a_record_and_its_graph_are_taken_as_its_reference_is(run: Run) -> None:
    record = run.top(1)[0]
    forms = [record, run.graph(record.birth), f"{run.reference}#{record.birth}"]
    assert len({trainable(each)[0] for each in forms}) == 1
    assert trainable(forms) == [trainable(each)[0] for each in forms]
    x = torch.randn(4, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = evonas.layer(forms[2], 8)(x)
    for each in forms:
        assert torch.equal(evonas.layer(each, 8)(x), expected)
        assert torch.equal(evonas.norm_layer(each)(8)(x), expected)


PLACES = {"a null byte": "a\0b", "a long name": "x" * 300, "a long path": "a/" * 3000, "no text": "\ud800"}
DOORS: dict[str, Callable[[Any], Any]] = {
    "search": lambda path: evonas.search(TINY, path, progress=False),
    "config": evonas.load_config,
    "resume": evonas.resume,
    "open_run": evonas.open_run,
    "runs": evonas.runs,
    "validate": evonas.validate,
    "export": lambda path: evonas.export("x", path),
    "export of a run": lambda path: evonas.export(f"{path}#1", "layer.py"),
    "layer of a run": lambda path: evonas.layer(f"{path}#1", 4),
    "results": lambda path: ResultFile(Path(path), evonas.load_config(TINY)),
    "picture": lambda path: draw(Graph.parse("x"), Path(f"{path}x.svg")),
}


@pytest.mark.parametrize("path", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_path_that_no_system_has_is_one_short_line(door: Callable[[Any], Any], path: str) -> None:
    with pytest.raises(InputError) as refused:
        door(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("door", [DOORS["search"], DOORS["export"], lambda path: evonas.doctor(TINY, path)])
def test_what_is_no_path_is_one_line(door: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError, match="5"):
        door(5)


SIZES = {
    "proxies.resnet.width=1000000": ("proxies.resnet.width", "parameters; expected at most 1,000,000,000"),
    "proxies.resnet.blocks=[200, 200, 200]": ("proxies.resnet.blocks", "1,201 layers; expected at most 1,000"),
    "data={image_size: 4096, train: 8000}": ("data", "values at its layers in a step of 8000 images"),
}


@pytest.mark.parametrize("setting", SIZES)
def test_a_network_beyond_every_machine_is_refused_before_it_is_built(setting: str) -> None:
    key, said = SIZES[setting]
    with pytest.raises(InputError, match=f"--set {key}: proxies.resnet: a network of .*{said}"):
        evonas.load_config(TINY | {"recipe": TINY["recipe"] | {"batch_size": 9000}}, setting)


def test_the_deepest_network_of_the_paper_is_a_config() -> None:
    """ResNet-1001 of arXiv:1603.05027: 111 blocks of three layers a stage, and the last before the head."""
    settings = ["proxies.resnet.blocks=[111, 111, 111]", "proxies.resnet.bottleneck=true"]
    assert evonas.load_config(TINY, settings).proxies["resnet"].blocks == (111, 111, 111)
