"""Equal for what computes the same, different for what does not, and no more than that."""

import os
import subprocess
import sys
from collections import defaultdict
from itertools import combinations
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from evonas.search_space.analysis import depends_on_x
from evonas.search_space.catalog import LAYERS
from evonas.search_space.fingerprint import SHAPE, Probed, probe
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.primitives import PRIMITIVES
from evonas.search_space.sampling import random_graph
from evonas.search_space.space import Space
from tests.conftest import graphs
from tests.search_space.graphs import twin, woven_graphs
from tests.shapes import checked


def probed(text: str) -> Probed:
    return probe(Graph.parse(text))


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("x + v1 * x", "v1 * x + x"),
        ("max(x, zero)", "max(zero, x)"),
        ("x - mean_hw(x)", "add(x, neg(mean_hw(x)))"),
        ("x", "neg(neg(x))"),
        ("x", "dead = exp(x) / zero\nx"),
        ("x", "max(x, x)"),
        ("x", "x + zero"),
        ("x", "1 * x"),
        ("x + x", "2 * x"),
        ("x / 2", "0.5 * x"),
        ("square(x)", "x * x"),
        ("abs(x)", "abs(abs(x))"),
        ("abs(x)", "max(x, -x)"),
        ("mean_hw(x)", "mean_hw(mean_hw(x))"),
        ("std_hw(std_hw(x))", "std_chw(v1 / v1)"),
        ("x * v1 * v0", "v0 * (v1 * x)"),
        ("exp(-x)", "1 / exp(x)"),
        ("std_bhw(x)", "dead = mean_bhw(x)\nstd_bhw(x)"),
        ("v1 * x", "v1 * x + (v0 - v0)"),  # v0 is live and does nothing
        ("v1 * x", "v1 * x + zero * v0"),
    ],
)
def test_exact_rewrites_have_one_fingerprint(text: str, rewritten: str) -> None:
    assert probed(text).fingerprint == probed(rewritten).fingerprint
    assert probed(text).family == probed(rewritten).family


@given(graphs() | woven_graphs(), st.integers(0, 2**32))
def test_twins_have_one_fingerprint(graph: Graph, seed: int) -> None:
    assert probe(twin(graph, Random(seed))) == probe(graph)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("x", "-x"),
        ("x", "x + v0"),  # v0 is perturbed: it starts at 0 and learns
        ("x", "v1 * x"),
        ("v0 * x", "v1 * x"),
        ("a = scalar(1)\na * x", "a = vector(1)\na * x"),
        ("a = scalar(1)\na * x", "a = scalar(2)\na * x"),
        ("tanh(x)", "1.0001 * tanh(x)"),
        ("square(mean_bhw(x))", "mean_bhw(square(mean_bhw(x)))"),  # one in training, two in evaluation
        ("exp(exp(exp(exp(x))))", "x / zero"),
        ("x * std_chw(v0)", "x * std_chw(v1)"),  # each parameter has its own perturbation
        ("x * mean_chw(v0)", "x * abs(mean_chw(v0))"),  # a parameter may have either sign
        ("v1 * x", "abs(v1) * x"),
        ("x", "max(x, log(std_hw(zero)))"),  # at -5.75, beyond normal input
        ("x", "max(x, -square(log(std_hw(zero))))"),  # at -33
        ("y", "max(y, -6)"),
        ("exp(x)", "exp(x) + x"),  # beside exp(40), the difference is rounding
        ("mean_chw(exp(x))", "x + mean_chw(exp(x))"),
    ],
)
def test_fingerprints_differ(text: str, other: str) -> None:
    assert probed(text).fingerprint != probed(other).fingerprint


@pytest.mark.parametrize(
    "text", [*(LAYERS[name].text for name in LAYERS.graphs), "mean_bhw(x)", "mean_chw(x)", "v1 + std_hw(v1)"]
)
def test_a_factor_changes_the_fingerprint_and_not_the_family(text: str) -> None:
    *before, last = text.splitlines()
    scaled = "\n".join([*before, f"316 * ({last})"])
    assert probed(text).fingerprint != probed(scaled).fingerprint
    assert probed(text).family == probed(scaled).family


# From the first implementation of version 3, which ran the passes one by one through an nn.Module: stored keys stay.
ZERO = "20dd9c20d699bf9d598ced50754a1974"
STORED = {
    "x": ("e56a185599e3e20ff70ad89fb4e92e52", "1bc6bab5dd2199a616a59c071bbc8c34"),
    "y": ("30e439da077a418408f7cfd6b708e568", "a3c05d7c1503efd9d2a85ec29ed5743e"),
    "zero": (ZERO, ZERO),
    "x / zero": ("f7b09078ec1a8e75a1f6cc37667664dc", "92119a5504214bfb57c5a502f9979cbf"),
    "x * sigmoid(v1 * x) / std_ghw(x)": ("bd54e178d22fc189d08b8d37b7aaa423", "fb823f8bf6380d3205bde3a3abeb9e2e"),
    "x / max(std_bhw(x), v1 * x + std_hw(x))": ("720904a977e9688b48277eb1fc7e8000", "a0b3886344243e8bcd7203a12368a2c5"),
    "max((x - mean_bhw(x)) / std_bhw(x), zero)": (
        "154904a0779df7f92a3818be7c5f638c",
        "8c50c58e65b549780dd3c6007a5bc1c7",
    ),
    "alpha = scalar(0.5)\ntanh(alpha * x)": ("adfd8947e9288d23cea323e24ce2abeb", "dc008e5993a07d36db0735925dc2d6c6"),
    "alpha = vector(0.05)\na = x + abs(alpha) * (y / rms_c(y) - x)\na / rms_c(a)": (
        "50a71daf046afac91d871d9d953520cb",
        "73d546ac02eaa1b6eeb9cb73fb0d2434",
    ),
    "a = scalar(2)\nrms_bhw(a * x) + 0.1 * mean_chw(exp(x))": (
        "9eaa982f4b1739588886dce2f1168542",
        "512d8b92c2fda37d0f448601d03d4bc4",
    ),
    "square(mean_bhw(x)) + log(rms_bhw(exp(x)))": ("f1d935653906c2a253608d5daa2bb481", ZERO),
}


@pytest.mark.parametrize("text", STORED)
def test_stored_keys_stay(text: str) -> None:
    assert (probed(text).fingerprint, probed(text).family) == STORED[text]


def test_known_layers_differ_in_fingerprint() -> None:
    found = {probe(graph).fingerprint: name for name, graph in LAYERS.graphs.items()}
    assert len(found) == len(LAYERS.graphs)


BASELINES = ("BN-ReLU", "GN-ReLU", "BN-SiLU", "ReLU", "EvoNorm-B0", "EvoNorm-S0")


@pytest.mark.parametrize(("first", "second"), list(combinations(BASELINES, 2)))
def test_baselines_differ_in_family(first: str, second: str) -> None:
    assert probe(LAYERS[first].graph).family != probe(LAYERS[second].graph).family


def test_no_two_primitives_coincide_on_the_probe() -> None:
    texts = [f"{op}(x)" if row.arity == 1 else f"{op}(x, v1)" for op, row in PRIMITIVES.items()]
    assert len({probed(text).fingerprint for text in texts}) == len(texts)


def test_the_probe_does_not_depend_on_threads_or_global_randomness() -> None:
    drawn = [random_graph(Space(), Random(seed)) for seed in range(20)] + list(LAYERS.graphs.values())
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    expected = [probe(graph) for graph in drawn]
    assert torch.equal(torch.get_rng_state(), state)
    try:
        torch.set_num_threads(2)
        torch.manual_seed(123)
        assert [probe(graph) for graph in drawn] == expected
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def test_the_probe_does_not_depend_on_the_processors_instructions() -> None:
    """Without AVX, torch's exponentials and sums round otherwise."""
    drawn = [random_graph(Space(), Random(seed)) for seed in range(300)] + list(LAYERS.graphs.values())
    program = (
        "import sys; from evonas.search_space.fingerprint import probe; from evonas.search_space.graph import Graph\n"
        "for text in sys.stdin.read().split('|'): print(probe(Graph.parse(text)).fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="|".join(map(str, drawn)),
        env=os.environ | {"ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == [probe(graph).fingerprint for graph in drawn]


@pytest.mark.parametrize("text", ["x * zero", "x - x", "v1", "zero", "3", "x / x", "std_hw(std_hw(x))", "mean_bhw(v1)"])
def test_the_change_of_a_constant_is_nothing(text: str) -> None:
    assert probed(text).change == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("text", ["exp(exp(x)) * zero", "zero * exp(exp(x) / 8)"])
def test_the_change_is_of_normal_input(text: str) -> None:
    """Heavy tails make these not a number."""
    assert probed(text).change == 0


@pytest.mark.parametrize(
    "text", ["x", "mean_bhw(x)", "1e-9 * x", "1e9 * x", *(LAYERS[name].text for name in LAYERS.graphs)]
)
def test_the_change_is_relative(text: str) -> None:
    assert 0.01 < probed(text).change < 10


# --------------------------------------------------------------------------- soundness


@torch.no_grad()
def outputs(graph: Graph) -> list[Tensor]:
    """In training and evaluation, on inputs and parameters that the probe does not use."""
    layer = NormAct(graph, SHAPE[1], groups=2).double()
    generator = torch.Generator().manual_seed(5)
    learned = {name: 0.5 * torch.randn(SHAPE[1], generator=generator, dtype=torch.float64) for name in ("v0", "v1")}
    learned["v1"] += 1
    layer.load_state_dict({name: value for name, value in learned.items() if name in layer.state_dict()}, strict=False)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return [layer(1.2 * x), layer.eval()(x.flip(0) - 0.1)]


@pytest.mark.parametrize("nodes", [3, 10])
def test_graphs_of_one_fingerprint_agree_on_other_inputs(nodes: int) -> None:
    by_fingerprint: dict[str, dict[str, Graph]] = defaultdict(dict)
    for seed in range(600):
        graph = random_graph(Space(nodes), Random(seed))
        if depends_on_x(graph):
            by_fingerprint[probe(graph).fingerprint][graph.digest] = graph
    compared = 0
    for same in by_fingerprint.values():
        first, *others = (outputs(graph) for graph in same.values())
        for other in others:
            for a, b in zip(first, other, strict=True):
                if torch.isfinite(a).all() and torch.isfinite(b).all():
                    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()))
                    compared += 1
    assert compared > 5


# --------------------------------------------------------------------------- shapes in types


def test_the_probe_keeps_the_shapes_in_its_types() -> None:
    copy = checked("evonas.search_space.fingerprint")
    for text in ("x", "1 + 1", "x * v1 + y", "x / std_hw(x) + mean_ghw(y)", "a = scalar(2)\nstd_bhw(x) * a"):
        assert copy.probe(Graph.parse(text)).fingerprint == probed(text).fingerprint, text
    with pytest.raises(TypeCheckError, match="'single'"):
        copy._digest(torch.zeros(9, *SHAPE).double(), torch.zeros(1, *SHAPE).double())
