"""docs/bring-your-own.md: its files are a search as they stand; and what is said where one of them is wrong."""

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import evonas
from evonas.config_file import load_config
from evonas.driver import resume, search, try_plugins
from evonas.layers.verbatim import expect_torch_alone
from evonas.run import open_run
from evonas.search_space.errors import InputError
from evonas.search_space.latex import latex
from evonas.search_space.primitives import BUILT_IN, PRIMITIVES
from evonas.search_space.space import Space
from evonas.workers import own_primitives, plugins, protocol
from evonas.workers.evaluation import evaluate
from evonas.workers.protocol import Job
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "bring-your-own.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
TINY = (
    "data.train=64",
    "data.validation=40",
    "recipe.batch_size=16",
    "recipe.steps=2",
    "evolution.births=4",
    "evolution.rerank.top=0",
    "cluster.address=in_process",
    "gates=[depends_on_x, finite]",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """The page's files, in a folder that is not the working directory."""
    before = set(sys.modules)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    forget()
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def forget() -> None:
    """Leave the process as a new one is, that knows no module and no primitive of theirs."""
    plugins.look_in([])
    for source in plugins._imported.values():
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "") in source.files:
                del sys.modules[name]
    plugins._imported.clear()
    own_primitives._functions.clear()
    protocol._loaded.cache_clear()
    for name in set(PRIMITIVES) - set(BUILT_IN):
        del PRIMITIVES[name]


def complaint(folder: Path, *settings: str) -> str:
    with pytest.raises(InputError) as caught:
        try_plugins(load_config(folder / "own.yaml", settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_page_has_the_files_of_a_search() -> None:
    assert list(FILES) == ["own.yaml", "my_data.py", "my_networks.py", "my_gates.py", "my_goals.py", "my_ops.py"]
    assert yaml.safe_load(FILES["own.yaml"])["name"] == "own"


def test_its_networks_are_what_it_says(folder: Path) -> None:
    config = load_config(folder / "own.yaml")
    assert try_plugins(config) == ["softsign", "small", "resnet18", "my_gates:Calm", "my_goals:worst"]
    assert list(config.plugins) == ["my_ops", "my_data", "my_networks", "my_gates", "my_goals"]


def test_a_search_goes_on_with_the_same_source_alone(folder: Path) -> None:
    settings = [*TINY, "evolution.warm_start=[EvoNorm-S0]"]
    text = yaml.safe_load(FILES["own.yaml"])
    del text["proxies"]["resnet18"]
    (folder / "own.yaml").write_text(yaml.safe_dump(text))
    run = search(folder / "own.yaml", folder / "run", settings=settings, progress=False)
    assert [len(each.accuracy) for each in run.top(1)] == [1]
    recorded = run.config.plugins["my_networks"]
    assert recorded.folder == str(folder)

    changed = FILES["my_networks.py"].replace("3, 2, 1", "5, 2, 2")
    (folder / "my_networks.py").write_text(changed)
    # what was recorded can be read
    plugins.look_in([])
    plugins._imported.clear()
    assert open_run(folder / "run").top(1)[0].formula == run.top(1)[0].formula
    assert resume(folder / "run", progress=False).finished  # nothing is left to do
    # a new run of the resolved config is refused, and one without `plugins` is not
    with pytest.raises(InputError, match=r"restore it, or begin a new run without plugins\.my_networks$"):
        load_config(folder / "run" / "config.yaml")
    assert load_config(folder / "own.yaml", settings).plugins["my_networks"].digest != recorded.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("my_networks:small", "my_network:small", "no module 'my_network' is installed or in '{folder}'"),
        ("my_networks:small", "my_networks:smal", "has no 'smal'; did you mean 'small'?"),
        ("my_networks:small", "my_networks.small:", "architecture: expected module:name, such as my_networks:resnet"),
        (
            "width: 16",
            "wdth: 16",
            "proxies.small.options.wdth: my_networks:small takes no 'wdth'; did you mean 'width'?",
        ),
        ("groups: 4", "group: 4", "proxies.small.group: unknown key; did you mean 'groups'?"),
        (
            "groups: 4",
            "groups: 16",
            "proxies.small.groups: with 16, a site of 16 channels has 16 groups, so that ghw is hw",
        ),
        ("width: 16", "width: -1", "my_networks:small: failed at {folder}/my_networks.py:"),
    ],
)
def test_what_is_wrong_in_the_config_is_one_line(folder: Path, old: str, new: str, message: str) -> None:
    assert FILES["own.yaml"].count(old) == 1
    (folder / "own.yaml").write_text(FILES["own.yaml"].replace(old, new))
    assert message.format(folder=folder) in complaint(folder)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "my_networks:small: expected a torch.nn.Module, got int"),
        ("return nn.Flatten()", "proxies.small: my_networks:small: 0 of 0 layers made by norm_act are used"),
        (
            "return nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.Linear(64, 3))",
            "proxies.small: my_networks:small: expected logits of shape (4, 10), got (4, 3)",
        ),
        (
            "return nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.Linear(65, 10))",
            "proxies.small: my_networks:small: failed at ",
        ),
        (
            "model = nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.Linear(64, 10))\n"
            "    model.other = norm_act(4)\n    model.forward = model[:3].forward\n    return model",
            "proxies.small: my_networks:small: 1 of 2 layers made by norm_act are used",
        ),
        (
            "model = nn.Linear(64, num_classes)\n"
            "    nn.init.constant_(model.weight, __import__('random').random())\n"
            "    return nn.Sequential(norm_act(in_channels), nn.Flatten(), model)",
            "proxies.small: my_networks:small: two networks of one seed differ; expected torch's generator alone",
        ),
    ],
)
def test_what_is_wrong_in_a_network_is_one_line(folder: Path, body: str, message: str) -> None:
    text = f"from torch import nn\n\n\ndef small(norm_act, num_classes, in_channels, width=8):\n    {body}\n"
    (folder / "my_networks.py").write_text(text)
    own = {"architecture": "my_networks:small"}
    (folder / "own.yaml").write_text(
        yaml.safe_dump(
            {"name": "own", "data": {"image_size": 8}, "proxies": {"small": own}, "space": {"index_sets": ["hw"]}}
        )
    )
    assert message in complaint(folder)


def test_an_objective_decides_the_front_and_replay_computes_it_again(folder: Path) -> None:
    text = yaml.safe_load(FILES["own.yaml"])
    text["proxies"] = {"small": text["proxies"]["small"]}
    text["objectives"] = ["accuracy", "my_goals:few"]
    (folder / "own.yaml").write_text(yaml.safe_dump(text))
    (folder / "my_goals.py").write_text("def few(fitness, graph):\n    return -graph.live_nodes\n")
    warm = "evolution.warm_start=[BN-ReLU, EvoNorm-S0, 'max(x, zero)', 'x / std_hw(x)']"
    run = search(folder / "own.yaml", folder / "run", settings=[*TINY, warm], progress=False)
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


OPS = """\
import torch
from evonas.search_space.primitives import Primitive

SCALE = 2.0


def half(a):
    return a / SCALE


def twist(a, b):
    return half(a) * torch.cos(b)


TWIST = Primitive("twist", 2, twist, r"{0} \\circlearrowleft {1}")
"""


def with_ops(folder: Path, *primitives: str) -> Path:
    """The page's search of the small network, with other primitives."""
    (folder / "my_ops.py").write_text(OPS)
    text = yaml.safe_load(FILES["own.yaml"])
    text["proxies"] = {"small": text["proxies"]["small"]}
    text["space"]["primitives"] = ["neg", "tanh", *primitives]
    text["objectives"] = ["accuracy"]
    (folder / "own.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    return folder / "own.yaml"


def test_a_primitive_is_searched_with_read_without_its_module_and_exported(folder: Path) -> None:
    path = with_ops(folder, "my_ops:TWIST")
    warm = ["evolution.warm_start=['twist(x, v1)', 'tanh(twist(v1, x))']", "evolution.random_share=0.0"]
    run = search(path, folder / "run", settings=[*TINY, *warm], progress=False)
    assert run.replay() == []
    assert run.candidate(1).formula == "twist(x, v1)"

    forget()
    with pytest.raises(InputError, match="unknown primitive 'twist'"):
        evonas.Graph.parse("twist(x, v1)")
    again = open_run(folder / "run")
    assert again.graph(2).formula == "tanh(twist(v1, x))"
    assert latex(again.graph(2)) == r"\tanh\left(v_1 \circlearrowleft x\right)"
    assert (
        {each.birth for each in again.find(uses="twist")} == {each.birth for each in run.find(uses="twist")} >= {1, 2}
    )
    assert [each.birth for each in again.lineage(1)] == [1]
    assert again.candidate(1) == run.candidate(1)
    assert "my_ops" not in sys.modules
    with pytest.raises(InputError, match="primitive twist is my_ops:TWIST, whose module was not run"):
        evonas.layer("twist(x, v1)", 4)(torch.ones(2, 4))

    x = torch.linspace(-3, 3, 24).view(2, 4, 3)
    expected = x / 2 * torch.cos(torch.ones(()))
    torch.testing.assert_close(evonas.layer(again.candidate(1), 4)(x), expected)  # which runs the module
    assert "my_ops" in sys.modules
    source = again.source(1)
    for line in ("SCALE = 2.0", "def half(a):", "def twist(a, b):", "    return half(a) * torch.cos(b)"):
        assert line in source.splitlines()
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    torch.testing.assert_close(namespace["EvolvedLayer"](4)(x), expected)

    forget()
    (folder / "my_ops.py").write_text(OPS.replace("2.0", "3.0"))
    with pytest.raises(InputError, match=r"plugins\.my_ops: the source in .* restore it, or begin a new run"):
        open_run(folder / "run").source(1)
    assert "my_ops" not in sys.modules  # the other source was not run
    (folder / "my_ops.py").unlink()
    with pytest.raises(InputError, match="no module 'my_ops' is installed or in"):
        open_run(folder / "run").source(1)


def test_a_job_with_a_primitive_travels(folder: Path) -> None:
    config = load_config(with_ops(folder, "my_ops:TWIST"), TINY)
    job = Job(graph="twist(x, v1)", protocol=config.protocol, seed=0)
    sent = pickle.dumps(job)
    here = evaluate(job).outcome
    forget()
    assert evaluate(pickle.loads(sent)).outcome == here


def test_a_space_does_not_depend_on_what_else_the_process_knows(folder: Path) -> None:
    text = OPS + "\n\ndef other(a):\n    return a * a\n"
    path = with_ops(folder, "my_ops:other", "my_ops:TWIST")
    (folder / "my_ops.py").write_text(text)
    ops = load_config(path).space.unconstrained.ops
    assert ops[-2:] == ("other", "twist")
    with_ops(folder, "my_ops:TWIST", "my_ops:other")
    (folder / "my_ops.py").write_text(text)
    assert load_config(path).space.unconstrained.ops == (*ops[:-2], "twist", "other")
    assert "twist" not in Space().ops


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("def f(a): return torch.abs(a)", None),
        ("f = Primitive('f', 1, torch.erf, '{0}', sign='out')", None),
        ("def f(a, b=2.0): return a * b", None),
        ("def f(a, b, c): return a", "expected an elementwise function of 1 or 2 tensors, got 3"),
        ("f = 3", "my_ops:f: expected a function or a Primitive, found int"),
        ("def tanh(a): return a\nf = tanh", "evonas has a primitive 'tanh'; choose another name"),
        ("def x(a): return a\nf = x", "'x' cannot be the name of a primitive; choose another"),
        ("def f(a): return a.mean()", "of (4, 8, 3, 5) it makes ()"),
        ("def f(a): return a - a.mean()", "a value depends on others than its own; aggregations are evonas' own"),
        ("def f(a): return a.double()", "of torch.float32 it makes torch.float64"),
        ("def f(a): return a.mul_(2)", "it changes its input"),
        ("def f(a): return a + torch.rand_like(a)", "two calls differ"),
        ("def f(a): return a.detach()", "it has no gradient"),
        ("def f(a): return 3", "expected a tensor, got int"),
        ("def f(a): return a.missing", "failed at {folder}/my_ops.py:4: AttributeError"),
        ("def g(a): return torch.exp(a)\nf = Primitive('f', 1, g, '{0}', sign='out')", "my_ops:f: sign does not hold"),
        ("def g(a): return a\nf = Primitive('f', 1, g, '{0}', nonnegative=True)", "nonnegative does not hold"),
        ("f = Primitive('f', 2, torch.sub, '{0}', commutative=True)", "commutative does not hold"),
        ("f = Primitive('f', 2, torch.add, '{0}', unit=1.0)", "unit does not hold"),
        ("f = Primitive('f', 2, torch.add, '{0}', idempotent=True)", "idempotent does not hold"),
        ("f = Primitive('f', 1, torch.erf, '{2}')", "latex '{2}' cannot be written"),
        ("f = lambda a: a", "my_ops:f: '<lambda>' cannot be the name of a primitive"),
        (
            "f = Primitive('f', 1, lambda a: a, '{0}')",
            "primitive f: expected a function that its module defines with def",
        ),
        ("import math\ndef f(a): return a * math.pi", "primitive f: 'f' uses 'math'; expected torch, Tensor, nn"),
        ("def mean(a): return a\ndef f(a): return mean(a)", "primitive f: 'mean' is the name of a function of evonas"),
    ],
)
def test_what_is_wrong_in_a_primitive_is_one_line(folder: Path, row: str, message: str | None) -> None:
    path = with_ops(folder, "my_ops:f")
    text = "import torch\nfrom evonas.search_space.primitives import Primitive\n\n"
    (folder / "my_ops.py").write_text(text + row)
    if message is None:
        config = load_config(path)
        expect_torch_alone("f", PRIMITIVES["f"].fn)
        assert config.space.unconstrained.ops[-1] == "f"
    else:
        assert message.replace("{folder}", str(folder)) in complaint(folder)


def test_one_process_has_one_primitive_of_a_name(folder: Path) -> None:
    path = with_ops(folder, "my_ops:TWIST")
    load_config(path)
    load_config(path)
    (folder / "my_ops.py").write_text(OPS.replace("2.0", "3.0"))
    with pytest.raises(InputError, match="this process has another 'twist', of my_ops:TWIST; start a new process"):
        load_config(path)


def test_dropout_is_the_jobs(folder: Path) -> None:
    text = (
        "from torch import nn\n\n\ndef small(norm_act, num_classes, in_channels, width=8):\n"
        "    return nn.Sequential(norm_act(in_channels), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, num_classes))\n"
    )
    (folder / "my_networks.py").write_text(text)
    own = {"architecture": "my_networks:small"}
    (folder / "own.yaml").write_text(
        yaml.safe_dump(
            {"name": "own", "data": {"image_size": 8}, "proxies": {"small": own}, "space": {"index_sets": ["hw"]}}
        )
    )
    config = load_config(folder / "own.yaml", TINY)
    job = Job(graph="max(x, zero)", protocol=config.protocol, seed=0)
    first = evaluate(job)
    torch.manual_seed(5)
    again = evaluate(job)
    assert (first.outcome, first.points) == (again.outcome, again.points)
