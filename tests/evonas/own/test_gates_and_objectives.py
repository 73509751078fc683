"""Gates and objectives of a user's own in a search, in a database, and where they are wrong."""

import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evonas.cli.main import app
from evonas.config_file import load_config
from evonas.driver import search
from evonas.report.panels import panel
from evonas.run import Run, open_run
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.workers import plugins
from tests.evonas.own.own_cases import FILES, TINY, complaint, forget

WARM = ["BN-ReLU", "EvoNorm-S0", "max(x, zero)", "x / std_hw(x)"]
GOALS = """\
def few(fitness, graph):
    return -graph.live_nodes


def size(fitness, graph):
    return 1e-3 * len(graph.nodes) - fitness.accuracy["small"]
"""


def searched(folder: Path, *goals: str, **evolution: object) -> Run:
    """A search of the page's with objectives of GOALS."""
    text = yaml.safe_load(FILES["own.yaml"])
    text["proxies"] = {"small": text["proxies"]["small"]}
    text["objectives"] = ["accuracy", *goals]
    text["evolution"] = {"births": 4, "rerank": {"top": 0}, **evolution}
    (folder / "own.yaml").write_text(yaml.safe_dump(text))
    (folder / "my_goals.py").write_text(GOALS)
    settings = [each for each in TINY if not each.startswith("evolution")]
    return search(folder / "own.yaml", folder / "run", settings=settings, progress=False)


def test_an_objective_decides_the_front_and_replay_computes_it_again(folder: Path) -> None:
    run = searched(folder, "my_goals:few", warm_start=WARM)
    records = {each.birth: (each.accuracy["small"], -each.live_nodes) for each in run.top(9, every=True)}
    assert len(records) == 4
    best = {
        birth
        for birth, mine in records.items()
        if not any(other != mine and other[0] >= mine[0] and other[1] >= mine[1] for other in records.values())
    }
    firsts = {min(birth for birth in best if records[birth] == each) for each in {records[birth] for birth in best}}
    assert {each.birth for each in run.front()} == firsts
    assert run.replay() == []


def test_an_objective_is_recorded_shown_without_its_module_and_checked_by_replay(folder: Path) -> None:
    again = {"leaders": 1, "seeds": 2}
    warm = [*WARM, "-(-x / std_hw(x))"]
    run = searched(
        folder, "my_goals:few", "my_goals:size", warm_start=warm, remeasure=again, duplicates="inherit", births=9
    )
    assert run.replay() == []

    (folder / "my_goals.py").unlink()
    forget()
    run = open_run(folder / "run")
    trained = [each for each in run.candidates(range(1, 10)) if each.accuracy]
    assert {each.operator for each in trained if each.equal_to} >= {"again", "text"}
    for each in trained:
        nodes = len(Graph.parse(each.graph).nodes)
        expected = {"my_goals:few": -each.live_nodes, "my_goals:size": 1e-3 * nodes - each.accuracy["small"]}
        assert each.own_objectives == expected
    frame = run.to_frame().set_index("birth")
    records = {each["birth"]: each["own_objectives"] for each in run.dump() if "own_objectives" in each}
    assert set(records) == {each.birth for each in trained}
    for each in trained:
        assert records[each.birth] == each.own_objectives == frame.loc[each.birth, list(records[1])].to_dict()
    shown = CliRunner().invoke(app, ["show", str(folder / "run"), "1"]).stdout
    assert f"my_goals:few: {-trained[0].live_nodes}," in shown
    listed = CliRunner().invoke(app, ["top", str(folder / "run"), "--csv", "--all"]).stdout.splitlines()
    assert {"my_goals:few", "my_goals:size"} <= set(listed[0].split(","))
    assert "my_goals:few" in CliRunner(env={"COLUMNS": "200"}).invoke(app, ["top", str(folder / "run")]).stdout
    document = panel(run, 1)
    assert document["own_objectives"] == trained[0].own_objectives


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective = 'my_goals:many'", "objective 'my_goals:many' is unknown"),
        ("objective = 'accuracy'", "objective 'accuracy' is unknown"),
        ("value = 9e999", "score , my_goals:few: value is inf, not finite"),
        ("proxy = 'small'", "objective 'my_goals:few' is unknown"),
    ],
)
def test_a_damaged_objective_is_one_line_and_a_changed_one_a_difference(
    folder: Path, change: str, message: str
) -> None:
    run = searched(folder, "my_goals:few", warm_start=WARM)
    with closing(sqlite3.connect(folder / "run" / "run.db")) as connection, connection:
        connection.execute("UPDATE score SET value = value - 1 WHERE proxy = ''")
    assert {(each.field, each.stored - each.derived) for each in run.replay()} == {("my_goals:few", -1)}
    with closing(sqlite3.connect(folder / "run" / "run.db")) as connection, connection:
        connection.execute(f"UPDATE score SET {change} WHERE proxy = ''")
    with pytest.raises(InputError, match=message):
        open_run(folder / "run").top(3)


GATES = """\
from evonas.workers.frozen import Count
from evonas.workers.gates.base import LayerGate, NetworkGate, RankedGate


class FewNodes(LayerGate):
    most: Count = 5

    def measure(self, screening):
        live = screening.graph.live_nodes
        return self.measured(live, self.most, passed=live <= self.most)


class Race(RankedGate):
    once = True
    no_threshold = 100.0

    def threshold(self, earlier):
        return earlier[len(earlier) // 2] if len(earlier) >= 2 else None

    def measure(self, trainings, proxy):
        loss = min(trainings.mean_loss(each, 0, self.steps) for each in trainings.proxies)
        threshold = trainings.threshold(self)
        return self.measured(loss, threshold, passed=loss <= threshold, step=self.steps)


class Half(NetworkGate):
    ...


class Named(NetworkGate):
    gate: str = "named"

    def measure(self, networks, proxy): ...


class Wrong(NetworkGate):
    def measure(self, networks, proxy):
        return networks.initial_pas(proxy, 4)


class Nothing(NetworkGate):
    def measure(self, networks, proxy): ...
"""


def gated(folder: Path, *gates: object) -> Path:
    """The page's search with other gates."""
    (folder / "my_gates.py").write_text(GATES)
    text = yaml.safe_load(FILES["own.yaml"])
    text["proxies"] = {"small": text["proxies"]["small"]}
    text["gates"] = list(gates)
    (folder / "own.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    return folder / "own.yaml"


def test_gates_are_asked_recorded_compared_and_read_without_their_module(folder: Path) -> None:
    path = gated(folder, "depends_on_x", {"my_gates:FewNodes": {"most": 2}}, {"my_gates:Race": {"steps": 2}})
    settings = [each for each in TINY if not each.startswith(("gates", "evolution.births"))]
    births = ["evolution.births=30", "evolution.random_share=1.0", "space.sampler=depends_on_x"]
    run = search(path, folder / "run", settings=[*settings, *births], progress=False)
    assert [gate.label for gate in run.config.gates] == ["depends_on_x", "my_gates:FewNodes", "my_gates:Race 2"]
    rows = {row.gate: (row.asked, row.stopped) for row in run.funnel().rows}
    assert rows["my_gates:FewNodes"][0] == rows["depends_on_x"][0] - rows["depends_on_x"][1]
    assert 0 < rows["my_gates:Race 2"][0] <= rows["my_gates:FewNodes"][0] - rows["my_gates:FewNodes"][1]
    assert min(stopped for gate, (_, stopped) in rows.items() if "my_" in gate) > 0
    assert run.replay() == []

    (folder / "my_gates.py").unlink()
    plugins.look_in([])
    again = open_run(folder / "run")
    assert {row.gate: (row.asked, row.stopped) for row in again.funnel().rows} == rows
    assert [each.birth for each in again.top(3)] == [each.birth for each in run.top(3)]
    assert again.config == again.config.model_validate_json(again.config.model_dump_json())
    assert again.config.model_dump() == run.config.model_dump()
    with pytest.raises(InputError, match="no module 'my_gates' is installed or in"):
        again.replay()


def test_a_protocol_travels_without_the_module_and_finds_it(folder: Path) -> None:
    asked = load_config(gated(folder, {"my_gates:FewNodes": {"most": 2}})).protocol
    travelled = pickle.loads(pickle.dumps(asked))
    assert type(travelled.gates[0]).__name__ == "AbsentGate"
    assert travelled.model_dump() == asked.model_dump()
    assert travelled.loaded() == asked
    (folder / "my_gates.py").write_text(GATES.replace("most: Count = 5", "most: Count = 6"))
    plugins.look_in([folder])
    with pytest.raises(InputError, match=r"my_gates: the source in .* restore it, or begin a new run"):
        travelled.loaded()


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"my_gates:FewNodes": {"mos": 3}}, "gates.0.my_gates:FewNodes.mos: unknown key; did you mean 'most'?"),
        ({"my_gates:FewNodes": {"most": 0}}, "my_gates:FewNodes.most: should be greater than or equal to 1, got 0"),
        ({"my_gates:Race": {}}, "my_gates:Race.steps: missing"),
        ({"my_gates:Race": {"steps": 900}}, "my_gates:Race after 900 steps, but recipe.steps is 100"),
        ("my_gates:Few", "has no 'Few'; did you mean 'FewNodes'?"),
        (
            "my_gates:Half",
            "my_gates:Half: expected a class that derives from one of LayerGate, NetworkGate, RankedGate,",
        ),
        ("my_gates:Count", "my_gates:Count: expected a class that derives from one of LayerGate"),
        ("my_gates:Named", "my_gates:Named: defines `gate`, which is 'my_gates:Named'; expected none"),
        ("my_gates:Wrong", "my_gates:Wrong: failed at {folder}/my_gates.py:38: AttributeError: 'Judged' object has no"),
        ("my_gates:Nothing", "my_gates:Nothing: expected self.measured(...) of `measure`, got NoneType"),
    ],
)
def test_what_is_wrong_in_a_gate_is_one_line(folder: Path, gate: object, message: str) -> None:
    gated(folder, gate)
    assert message.format(folder=folder) in complaint(folder)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def worst(fitness): ...",
            "objectives: my_goals:worst(fitness): expected a function of (fitness, graph, ...)",
        ),
        ("def best(fitness, graph): ...", "has no 'worst'; expected one of best"),
        ("def worst(fitness, graph): return None", "objectives: my_goals:worst: expected a finite number, got None"),
        ("def worst(fitness, graph): return 1e400", "objectives: my_goals:worst: expected a finite number, got inf"),
        ("def worst(fitness, graph): return fitness.acuracy", "my_goals:worst: failed at {folder}/my_goals.py:1: Attr"),
    ],
)
def test_what_is_wrong_in_an_objective_is_one_line(folder: Path, body: str, message: str) -> None:
    (folder / "my_goals.py").write_text(body)
    assert message.format(folder=folder) in complaint(folder, "proxies.resnet18.architecture=my_networks:small")
