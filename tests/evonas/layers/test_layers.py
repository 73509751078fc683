"""A layer leaves: by graph, text or name; and as a file that trains bit for bit as the layer it was written from."""

import ast
import inspect
import math
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import Tensor

import evonas
from evonas.config_file import load_config
from evonas.layers.candidate import judged_groups
from evonas.layers.source import layer_source
from evonas.search_space.analysis import depends_on_x
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError
from evonas.search_space.fingerprint import probe
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.printing import print_formula
from evonas.search_space.screening import CHANGE_MIN, change, largest_value
from tests.conftest import ROOT
from tests.evonas.layers import exported_process
from tests.evonas.layers.exported_class import exported_class
from tests.search_space.graphs import woven

Results = dict[str, dict[str, Tensor] | str]  # by case; a traceback where it failed

SHAPE, LAST = (4, 8, 3, 5), (4, 5, 8)
STATEFUL = "mean_bhw(x) + tanh(alpha * x) * beta / max(std_bhw(x), 0.25) - 3 * v0"


@dataclass(frozen=True)
class Case:
    """A graph, the shape that it is run on, and the options of its layer."""

    graph: Graph
    shape: tuple[int, ...] = SHAPE
    options: dict[str, Any] = field(default_factory=lambda: {"groups": 4})

    @property
    def inputs(self) -> int:
        return 1 + any(leaf.name == "y" for i, leaf in enumerate(self.graph.leaves) if i in self.graph.live)


def woven_cases(count: int) -> list[Case]:
    """Random graphs that depend on x and have no overflow, with learned scalars, vectors and numbers among them."""
    drawn = (woven(Random(seed)) for seed in range(10_000))
    useful = (
        graph
        for graph in drawn
        if change(graph, probe(graph)) > CHANGE_MIN and math.isfinite(largest_value(graph)) and graph.live_nodes >= 4
    )
    return [Case(graph) for graph in islice(useful, count)]


def cases() -> dict[str, Case]:
    last: dict[str, Any] = {"channel_dim": -1, "groups": 2}
    texts = {
        "numbers": "x * 0.5 - 3 + max(x, -1e-7)",
        "a_negated_number": "neg(0.5) * x",
        "two_numbers": "(1 + 2) * x",
        "scalar": "alpha = scalar(0.5)\ntanh(alpha * x)",
        "vector": "beta = vector(-2)\nx * sigmoid(beta * x)",
        "stateful": f"alpha = scalar(0.5)\nbeta = vector(-2)\n{STATEFUL}",
        "shared": "a = tanh(x)\nb = std_hw(a) + a\nb * a / std_hw(a)",
        "leaf": "x",
        "parameter_alone": "v1",
        "number_alone": "3",
        "aggregation_alone": "std_bhw(x)",
        "same_batch_node_twice": "mean_bhw(x) * mean_bhw(x) + x",
        "second_input": "x * sigmoid(y) / std_ghw(y)",
        "subtractions": "x - (v1 - (v0 - x)) - -x",
        "named_mean": "mean = scalar(0.5)\nx * mean - mean_hw(x)",
        "named_self": "self = scalar(0.5)\nx * self - mean_hw(x)",
        "named_tanh_like": "std = vector(0.5)\nx / (std + std_bhw(x))",
        "named_like_a_number": "k6 = scalar(0.5)\ntanh(k6 * x) * 2",
        "named_like_a_module": "torch = scalar(0.5)\nsqrt(torch * x)",
        "named_genotype": "genotype = scalar(0.5)\nx * genotype",
    }
    found = {name.replace("-", "_"): Case(graph) for name, graph in LAYERS.graphs.items()}
    found |= {f"{name.replace('-', '_')}_last": Case(graph, LAST, last) for name, graph in LAYERS.graphs.items()}
    found |= {f"{op}_of_x": Case(Graph.parse(f"{op}(x{', v1' * (row.arity - 1)})")) for op, row in PRIMITIVES.items()}
    found |= {f"woven_{i}": case for i, case in enumerate(woven_cases(15))}
    found |= {f"woven_{i}_last": Case(case.graph, LAST, last) for i, case in enumerate(woven_cases(5))}
    for name, text in texts.items():
        try:
            found[name] = Case(Graph.parse(text))
        except InputError:
            assert name.startswith("named_"), f"{text!r} must be a graph"  # a name may be refused, not miscompiled
    found["stateful_last"] = Case(found["stateful"].graph, LAST, last)
    options = {"groups": 4, "momentum": 0.3, "eps": 0.01}
    found["stateful_options"] = Case(found["stateful"].graph, SHAPE, options)
    found["stateful_affine"] = Case(found["stateful"].graph, SHAPE, {"apply_act": False})
    found["one_group_left"] = Case(Graph.parse("x / std_ghw(x)"), (4, 7, 3), {"groups": 4})
    return found


CASES = cases()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the exported file of each case did in a process without evonas."""
    folder = tmp_path_factory.mktemp("exported")
    for name, case in CASES.items():
        (folder / f"{name}.py").write_text(layer_source(case.graph), encoding="utf-8")
    torch.save({name: (case.shape, case.inputs, case.options) for name, case in CASES.items()}, folder / "cases.pt")
    command = [sys.executable, "-W", "error", exported_process.__file__, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    results: Results = torch.load(folder / "results.pt")
    return results


def test_the_process_had_no_evonas(exported: Results) -> None:
    refused = {name for name, result in exported.items() if result == "refused"}
    assert refused == {"import evonas", "import evonas.search_space.graph", "import evonas.workers"}


def both(name: str, exported: Results) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What evonas' own layer of the case's formula gives, and what the exported file gave."""
    case, theirs = CASES[name], exported[name]
    assert not isinstance(theirs, str), theirs
    channels = case.shape[case.options.get("channel_dim", 1)]
    layer = NormAct(Graph.parse(case.graph.formula), channels, **case.options)
    return exported_process.exercise(layer, case.shape, case.inputs), theirs


def different(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """The keys whose tensors differ in a bit or in their type; NaN equals NaN."""
    return [
        key
        for key, value in ours.items()
        if value.dtype != theirs[key].dtype or not torch.equal(value.nan_to_num(1e30), theirs[key].nan_to_num(1e30))
    ]


@pytest.mark.parametrize("name", CASES)
def test_an_exported_layer_trains_and_evaluates_bit_for_bit(name: str, exported: Results) -> None:
    ours, theirs = both(name, exported)
    assert list(ours) == list(theirs)  # the names and the order of the state_dict among them
    assert not [key for key in different(ours, theirs) if not key.startswith("gradient")]


@pytest.mark.parametrize("name", CASES)
def test_the_gradients_of_an_exported_layer_are_its_own_bit_for_bit(name: str, exported: Results) -> None:
    ours, theirs = both(name, exported)
    assert not different(ours, theirs)


def test_the_cases_move_what_they_compare(exported: Results) -> None:
    result = exported["stateful"]
    assert isinstance(result, dict)
    state = {key.removeprefix("initial ") for key in result if key.startswith("initial ")}
    assert state == {"weight", "bias", "alpha", "beta", "v0", "running_0", "running_1"}
    assert all(not torch.equal(result[f"initial {name}"], result[f"final {name}"]) for name in state)
    woven_ones = [result for name, result in exported.items() if name.startswith("woven") and isinstance(result, dict)]
    assert len(woven_ones) == 20
    assert all(result["gradient 0 input 0"].any() for result in woven_ones)
    assert all(depends_on_x(case.graph) for name, case in CASES.items() if name.startswith("woven"))


# --------------------------------------------------------------------------- the file


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_a_file_imports_torch_alone(name: str) -> None:
    source = layer_source(LAYERS[name].graph)
    imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    roots = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    roots |= {node.module or "" for node in imported if isinstance(node, ast.ImportFrom)}
    assert {root.split(".")[0] for root in roots} - sys.stdlib_module_names == {"torch"}


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_a_file_says_what_it_is(name: str) -> None:
    graph = LAYERS[name].graph
    source = layer_source(graph, title=f"{name}, found again.", about="By hand.")
    described = ast.get_docstring(ast.parse(source)) or ""
    assert described.startswith(f"{name}, found again.")
    assert "By hand." in described
    assert f"evonas {evonas.__version__} with torch {torch.__version__}" in " ".join(described.split())
    assert graph.digest in described
    assert Graph.parse(dedent(described.split("\n\n")[1])).digest == graph.digest


def test_a_file_is_a_function_of_the_graph() -> None:
    texts = ("max(x, zero)", "dead = exp(x)\nmax(zero, x)")
    assert len({layer_source(Graph.parse(text)) for text in texts}) == 1


def test_groups_of_the_file_are_its_default() -> None:
    assert exported_class(LAYERS["GN-ReLU"].graph, groups=5)(10).groups == 5


def test_a_file_has_the_groups_that_most_proxies_had() -> None:
    settings = ["proxies.vgg.groups=2", "proxies.mobilenet.groups=2"]
    assert judged_groups(load_config("configs/quickstart.yaml", settings)) == 2


def test_a_file_holds_what_its_graph_needs() -> None:
    source = layer_source(LAYERS["EvoNorm-S0"].graph)
    assert len(source.splitlines()) <= 110
    assert len([line for line in source.splitlines() if line.strip()]) <= 92
    defined = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    named = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert defined - named - attributes == {"forward"}


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("tanh(x)", {"eps", "momentum"}),
        ("x - mean_hw(x)", {"eps", "momentum"}),
        ("x / std_ghw(x)", {"momentum"}),
        ("x / std_bhw(x)", set()),
        ("x - mean_bhw(x)", {"eps"}),
    ],
)
def test_a_class_has_the_arguments_of_timms_norm_act_layers(text: str, unused: set[str]) -> None:
    layer_class: Any = exported_class(Graph.parse(text))
    arguments = inspect.signature(layer_class).parameters
    groups = ["groups"] * ("ghw" in text)
    assert list(arguments)[:4] == ["num_features", "apply_act", "eps", "momentum"]
    assert list(arguments)[4:] == [*groups, "channel_dim", "device", "dtype"]
    described = [line.strip() for line in layer_class.__doc__.replace("\n        ", " ").splitlines()]
    assert {line.split(":")[0] for line in described if line.endswith("unused here.")} == unused
    layer = layer_class(8, eps=0.01, momentum=0.3)
    assert (layer.eps, layer.momentum) == (0.01, 0.3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'inplace'"):
        layer_class(8, inplace=True)


def test_a_file_is_as_ruff_writes_it_for_any_length_of_lines(tmp_path: Path) -> None:
    """The ruff of this project, and every project whose lines have 88 letters."""
    for name, case in CASES.items():
        (tmp_path / f"{name}.py").write_text(layer_source(case.graph, about="Birth 17 of a run; " * 9))
    for command in ("check --isolated", f"check --config {ROOT / 'pyproject.toml'}", "format --check --isolated"):
        for width in ("88", "120"):
            words = [sys.executable, "-m", "ruff", *command.split(), "--line-length", width, "--no-cache", "."]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_a_file_passes_a_strict_type_check(tmp_path: Path) -> None:
    """With the options and the cache of this project: `strict = true`."""
    for name, case in CASES.items():
        (tmp_path / f"{name}.py").write_text(layer_source(case.graph))
    command = [sys.executable, "-m", "mypy", *map(str, tmp_path.glob("*.py"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("width", [30, 60])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("woven") and not name.endswith("last")])
def test_a_formula_of_short_lines_is_the_same_graph(name: str, width: int) -> None:
    graph = CASES[name].graph.canonical()
    text = print_formula(graph, width)
    assert Graph.parse(text).digest == graph.digest
    assert max(map(len, text.splitlines())) <= max(width, 40)  # one call has up to 40 letters


def test_a_parameter_may_be_named_as_a_function_of_the_file() -> None:
    graph = Graph.parse("variance = scalar(0.5)\nfull_precision = vector(2)\nvariance * full_precision * x / std_hw(x)")
    x = torch.randn(2, 8, 3)
    evolved, layer = exported_class(graph)(8), NormAct(graph, 8)
    assert list(evolved.state_dict()) == list(layer.state_dict())
    assert torch.equal(evolved(x), layer(x))


def test_the_example_of_the_file_runs() -> None:
    assert exported_class(LAYERS["EvoNorm-S0"].graph)(64)(torch.randn(2, 64, 3, 3)).shape == (2, 64, 3, 3)


# --------------------------------------------------------------------------- evonas.layer


@pytest.mark.parametrize("name", LAYERS.graphs)
def test_a_layer_is_asked_for_by_graph_text_or_name(name: str) -> None:
    row = LAYERS[name]
    inputs = [torch.randn(2, 8, 3, 3) for _ in range(row.inputs)]
    layers = [evonas.layer(asked, 8, groups=4) for asked in (row.graph, row.text, name)]
    assert all(isinstance(layer, NormAct) for layer in layers)
    outputs = [layer(*inputs) for layer in layers]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_options_reach_the_layer() -> None:
    layer = evonas.layer("x / std_ghw(x)", 12, channel_dim=-1, groups=5, momentum=0.2, eps=0.01)
    assert (layer.num_features, layer.channel_dim, layer.groups, layer.momentum, layer.eps) == (12, -1, 4, 0.2, 0.01)


def test_a_malformed_text_is_an_input_error() -> None:
    with pytest.raises(InputError, match="unknown primitive 'sigmod'; did you mean 'sigmoid'"):
        evonas.layer("x * sigmod(x)", 8)


@pytest.mark.parametrize(
    ("name", "option", "nearest"),
    [("x", "num_groups", "groups"), ("EvoNorm-B0", "momentums", "momentum"), ("UnifiedNorm", "windows", "window")],
)
def test_an_unknown_option_names_the_nearest(name: str, option: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"^unknown option '{option}'; did you mean '{nearest}'"):
        evonas.layer(name, 8, **{option: 4})


@pytest.mark.parametrize("name", [name for name, row in evonas.catalog.items() if row.kind != "listed"])
def test_every_row_takes_the_options_that_all_layers_have(name: str) -> None:
    layer = evonas.layer(name, 8, channel_dim=-1, groups=4, eps=1e-3, device="meta", dtype=torch.bfloat16)
    assert (layer.channel_dim, layer.eps) == (-1, 1e-3)
    assert {(each.device.type, each.dtype) for each in layer.parameters()} == {("meta", torch.bfloat16)}
