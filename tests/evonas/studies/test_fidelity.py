"""The trainings of `evonas fidelity`: which are made, kept and used again."""

import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from evonas.config import Config
from evonas.config_file import parse_config
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.session import Stopped
from evonas.studies.fidelity import fidelity
from evonas.studies.rankings import looks
from evonas.studies.results import ResultFile
from evonas.workers.outcome import Crash, Evaluation, Fitness, Point, Rejection
from evonas.workers.pool import InProcessPool
from evonas.workers.protocol import Job
from tests.conftest import ROOT

NAMES = ["BN-ReLU", "GN-ReLU", "BN-SiLU", "EvoNorm-B0", "EvoNorm-S0", "tanh(x)"]
PROXIES = ("resnet", "mobilenet")

Answer = Callable[[str, Job], Evaluation]
DIGESTS = {Graph.parse(LAYERS[each].text if each in LAYERS else each).digest: each for each in NAMES}


def answered(name: str, job: Job) -> Evaluation:
    """The layer's place in NAMES is its accuracy."""
    (proxy,), steps = job.protocol.proxies, job.protocol.recipe.steps  # its name, the same for all
    accuracy = 0.9 - 0.1 * NAMES.index(name)
    at = [*(gate.steps for gate in job.protocol.gates), steps]  # type: ignore[union-attr]
    points = tuple(Point(proxy, step, accuracy, 1.0 - accuracy) for step in at)
    return Evaluation(Fitness({proxy: accuracy}), points=points, seconds=3.0)


def network(job: Job) -> str:
    """The name that `tiny` or LONG gives to a job's proxy."""
    (proxy,) = job.protocol.proxies.values()
    return "mobilenet" if proxy.architecture == "mobilenet_v2" else {8: "resnet", 16: "wide"}[int(proxy.width)]


class TablePool(InProcessPool):
    """Answers from a function, and remembers what it was asked."""

    asked: Counter[tuple[str, str]]
    answer: Answer

    def next(self, timeout: float) -> tuple[int, Evaluation] | None:
        key, job = self._waiting.popleft()
        name = DIGESTS[Graph.parse(job.graph).digest]
        self.asked[name, network(job)] += 1
        return key, self.answer(name, job)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], TablePool]:
    def use(answer: Answer) -> TablePool:
        @contextmanager
        def opened(config: Config) -> Iterator[TablePool]:
            assert "wide" in config.proxies  # the reference's workers: its trainings take longest
            yield pool

        pool = TablePool(parse_config(json.dumps(LONG)).protocol)
        pool.asked, pool.answer = Counter(), answer
        monkeypatch.setattr("evonas.studies.fidelity.open_pool", opened)
        monkeypatch.setattr("evonas.studies.rankings.RESAMPLES", 20)
        return pool

    return use


LONG = {
    "name": "long",
    "data": {"source": "embedded", "train": 256, "validation": 100, "test": 100, "image_size": 8},
    "recipe": {"batch_size": 16, "steps": 7},
    "proxies": {"wide": {"architecture": "preact_resnet", "width": 16, "blocks": [1], "groups": 4}},
    "evolution": {"births": 1},
    "workers": {"count": 1, "cpus": 2},
}


def test_every_layer_is_trained_once_on_the_proxies_of_both(
    pools: Callable[[Answer], TablePool], tiny: dict[str, Any]
) -> None:
    pool = pools(answered)
    counted: list[tuple[int, int]] = []
    measured = fidelity(tiny, LONG, [*NAMES, NAMES[0]], on_progress=lambda *count: counted.append(count))
    assert pool.asked == {(name, proxy): 1 for name in NAMES for proxy in (*PROXIES, "wide")}
    assert counted == [(done, 18) for done in range(19)]
    assert [row.correlation for row in measured.rows] == pytest.approx([1.0] * len(measured.rows))
    assert [each.layer for each in measured.layers] == NAMES
    last = measured.rows[-1]
    assert (last.proxy, last.step, last.seconds) == ("mean", 6, 2 * 3.0 * 2)  # proxies, seconds, threads
    assert repr(measured) == f"<Fidelity on 6 layers: accuracy on resnet at step {looks(6)[0]} is nearest, 1.00>"
    assert measured._repr_html_().count("<tr>") == 1 + len(measured.rows) + 1 + len(NAMES)


def test_a_failure_counts_as_guessing_among_the_classes_of_its_data(
    pools: Callable[[Answer], TablePool], tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(name: str, job: Job) -> Evaluation:
        fails = name == "tanh(x)"
        return Evaluation(Rejection("diverged", "", inf, inf, 3)) if fails else answered(name, job)

    classes = {6: 10, 7: 4}  # by the steps, which tell the two apart here
    monkeypatch.setattr("evonas.studies.trainings.count_classes", lambda data: classes[data.train // 32])
    pools(diverges)
    tiny["data"]["train"] = 6 * 32
    measured = fidelity(tiny, LONG | {"data": LONG["data"] | {"train": 7 * 32}}, NAMES)  # type: ignore[operator]
    failed = next(each for each in measured.layers if each.layer == "tanh(x)")
    assert (failed.reference, failed.accuracy, failed.failed) == (0.25, dict.fromkeys(PROXIES, 0.1), 3)


def test_it_goes_on_where_it_was_stopped(
    pools: Callable[[Answer], TablePool], tiny: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "fidelity.jsonl"
    whole = (pools(answered), fidelity(tiny, LONG, NAMES))[1]

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            signal.raise_signal(signal.SIGINT)

    first = pools(answered)
    with pytest.raises(Stopped):
        fidelity(tiny, LONG, NAMES, out=out, on_progress=interrupt)
    assert first.asked.total() == len(out.read_text().splitlines()) - 1 == 4
    second = pools(answered)
    assert fidelity(tiny, LONG, NAMES, out=out) == whole
    assert second.asked.total() == 14
    assert set(second.asked) & set(first.asked) == set()
    last = pools(answered)
    assert fidelity(tiny, LONG, NAMES[:5], out=out).layers == whole.layers[:5]
    assert last.asked.total() == 0
    lost = json.loads(out.read_text().splitlines()[-1])
    out.write_text(out.read_text()[:-9])  # killed while it wrote the last line
    mended = pools(answered)
    assert fidelity(tiny, LONG, NAMES, out=out) == whole
    assert mended.asked == {(lost["layer"], lost["proxy"]): 1}


REFERENCE, SHORT = {"wide"}, set(PROXIES)


@pytest.mark.parametrize(
    ("settings", "reference_settings", "trained"),
    [
        (["execution.compile_from_steps=3", "execution.channels_last=true", "workers.cpus=1"], [], set()),
        (["data.source=folder", "data.path=elsewhere"], ["data.source=folder", "data.path=moved"], set()),
        (["gates=[]", "space.nodes=5", "recipe.seeds=2", "name=other"], ["workers.device=cpu"], set()),
        (["proxies.resnet.groups=2"], [], {"resnet"}),
        (["recipe.learning_rate=0.3"], [], SHORT),
        (["data.validation=50"], [], SHORT),
        (["data.split_seed=1"], ["data.split_seed=1"], SHORT | REFERENCE),
        (["seed=3"], [], SHORT),
        ([], ["recipe.steps=8"], REFERENCE),
        ([], ["proxies.wide.blocks=[2]"], REFERENCE),
    ],
    ids=lambda each: str(sorted(each)),
)
def test_a_change_trains_anew_what_it_decides_and_nothing_else(
    pools: Callable[[Answer], TablePool],
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    reference_settings: list[str],
    trained: set[str],
) -> None:
    monkeypatch.setattr("evonas.studies.trainings.count_classes", lambda data: 10)
    monkeypatch.setattr("evonas.studies.trainings.split_digest", lambda data: "of no image")
    on_folder = ["data.source=folder", "data.path=here"] if "data.source=folder" in settings else []
    out = tmp_path / "fidelity.jsonl"
    pools(answered)
    first = fidelity(tiny, LONG, NAMES, out=out, settings=on_folder, reference_settings=on_folder)
    before = out.read_text()
    pool = pools(answered)
    fidelity(tiny, LONG, NAMES, out=out, settings=settings, reference_settings=reference_settings)
    assert pool.asked == {(name, proxy): 1 for name in NAMES for proxy in trained}
    assert out.read_text().startswith(before)
    again = pools(answered)
    assert fidelity(tiny, LONG, NAMES, out=out, settings=on_folder, reference_settings=on_folder) == first
    assert again.asked.total() == 0


def test_a_proxy_is_known_by_its_network_and_a_layer_by_its_formula(
    pools: Callable[[Answer], TablePool], tiny: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "fidelity.jsonl"
    pools(answered)
    first = fidelity(tiny, LONG, NAMES, out=out)
    tiny["proxies"] = {"renamed": tiny["proxies"]["mobilenet"], "mobilenet": tiny["proxies"]["resnet"]}
    formulas = [LAYERS[each].text if each in LAYERS else each for each in NAMES]
    pool = pools(answered)
    second = fidelity(tiny, LONG, formulas, out=out)
    assert pool.asked.total() == 0
    values = [each.accuracy["mobilenet"] for each in first.layers]
    assert [each.accuracy["renamed"] for each in second.layers] == values


def test_a_training_with_more_looks_serves_and_one_with_fewer_does_not(
    pools: Callable[[Answer], TablePool], tiny: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "fidelity.jsonl"
    pool = pools(answered)
    fidelity(tiny, LONG, NAMES, out=out)
    fidelity(LONG, LONG, NAMES, out=out)  # the reference was not looked at on its way
    assert pool.asked["BN-ReLU", "wide"] == 2
    lines = out.read_text().splitlines()
    rows = [row for row in map(json.loads, lines[1:]) if row["proxy"] != "wide" or row["looks"]]
    out.write_text("\n".join([lines[0], *map(json.dumps, rows), ""]))
    last = pools(answered)
    fidelity(tiny, LONG, NAMES, out=out)
    assert last.asked.total() == 0


def test_trainings_say_where_they_were_computed(
    pools: Callable[[Answer], TablePool], tiny: dict[str, Any], tmp_path: Path
) -> None:
    def on(device: str) -> Answer:
        return lambda name, job: replace(answered(name, job), conditions=device)

    out = tmp_path / "fidelity.jsonl"
    pools(on("a GPU"))
    with pytest.raises(InputError, match="data"):
        fidelity(tiny | {"data": {"source": "folder", "path": "none"}}, LONG, NAMES, out=out)
    fidelity(LONG, LONG, NAMES, out=out, settings=["recipe.steps=3", "execution.dtype=bfloat16"])
    pools(on("a CPU"))
    assert fidelity(tiny, LONG, NAMES, out=out).conditions == {"a CPU": 12, "a GPU": 6}
    assert fidelity(LONG, LONG, NAMES, out=out, settings=["recipe.steps=3"]).conditions == {
        "a GPU, bfloat16": 6,
        "a GPU": 6,
    }


def test_the_published_trainings_serve_the_shipped_reference(
    pools: Callable[[Answer], TablePool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = ROOT / "results" / "fidelity-cifar10"
    pool = pools(answered)  # which would be asked for a training that the file lacks
    monkeypatch.setattr("evonas.studies.trainings.count_classes", lambda data: 10)
    measured = fidelity(
        folder / "rate-0.3.yaml",
        ROOT / "configs" / "cifar10-reference.yaml",
        ["BN-ReLU", "GN-ReLU", "BatchNorm", "EvoNorm-B0", "SELU"],
        out=shutil.copy(folder / "fidelity.jsonl", tmp_path),
        reference_settings=["data.source=folder", "data.path=none"],
    )
    assert pool.asked.total() == 0
    # by hand, from the lines of the file
    assert [each.layer for each in measured.layers] == ["BN-ReLU", "EvoNorm-B0", "GN-ReLU", "BatchNorm", "SELU"]
    assert measured.layers[0].by_network == pytest.approx(
        {"mobilenet": 0.634, "resnet18": 0.7372, "vgg": 0.7406}, abs=1e-9
    )
    assert (measured.layers[-1].reference, measured.layers[-1].failed) == (pytest.approx(0.1), 5)


@pytest.mark.parametrize("kind", ["another study", "an earlier format", "text"])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tiny: dict[str, Any], tmp_path: Path, kind: str) -> None:
    out, config = tmp_path / "file", parse_config(json.dumps(tiny))
    if kind == "text":
        out.write_text("name: tiny")
    else:
        configs = (config,) if kind == "another study" else (config, parse_config(json.dumps(LONG)))
        ResultFile(out, *configs).keep({"layer": "BN-ReLU"})
    before = out.read_text()
    with pytest.raises(InputError, match="expected a new file"):
        fidelity(tiny, LONG, NAMES, out=out)
    assert out.read_text() == before


def test_a_crash_is_no_failure_of_the_layer(
    pools: Callable[[Answer], TablePool], tiny: dict[str, Any], tmp_path: Path
) -> None:
    out, crashes = tmp_path / "fidelity.jsonl", Counter[str]()

    def crashing(name: str, job: Job) -> Evaluation:
        crashes[name] += network(job) == "wide"
        once = name == "GN-ReLU" and crashes[name] == 1
        lost = Evaluation(Crash("out_of_memory", "no room"))  # type: ignore[arg-type]
        return lost if network(job) == "wide" and (once or name == "tanh(x)") else answered(name, job)

    pools(crashing)
    measured = fidelity(tiny, LONG, NAMES, out=out)
    assert measured.crashed == {"tanh(x)": "out_of_memory: no room"}
    assert [each.layer for each in measured.layers] == NAMES[:5]
    assert [each.failed for each in measured.layers] == [0] * 5
    again = pools(answered)
    assert [each.layer for each in fidelity(tiny, LONG, NAMES, out=out).layers] == NAMES
    assert again.asked == {("tanh(x)", "wide"): 1}
    pools(crashing)
    with pytest.raises(InputError, match=r"1 of 5 layers could not be trained, such as tanh\(x\): out_of_memory"):
        fidelity(tiny, LONG, NAMES[1:])


def test_a_ranking_takes_five_layers(tiny: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="layers: a ranking takes at least 5, got 4"):
        fidelity(tiny, LONG, [*NAMES[:4], NAMES[0]])
