"""The table of primitives: complete, and each row against a formula in numpy, values and gradients."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from evonas.search_space.analysis import depends_on_x
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.moments import INDEX_SETS
from evonas.search_space.primitives import ELEMENTWISE, EPS, PRIMITIVES, Primitive
from evonas.search_space.space import PAPER_PRIMITIVES
from tests.search_space import reference

POINTS = torch.tensor([-3.1, -1.3, -0.4, 0.3, 0.9, 2.7], dtype=torch.float64)  # away from the kinks at 0
OTHERS = torch.tensor([1.7, -2.2, 0.6, -0.8, 1.4, 3.3], dtype=torch.float64)  # and from those at POINTS == OTHERS
AGGREGATIONS = [name for name, row in PRIMITIVES.items() if row.reduces]


def inputs_of(name: str) -> tuple[Tensor, ...]:
    return (POINTS, OTHERS)[: PRIMITIVES[name].arity]


def test_the_papers_primitives_are_twelve() -> None:
    paper = {"add", "mul", "div", "max", "neg", "sigmoid", "tanh", "exp", "log", "abs", "square", "sqrt"}
    assert set(PAPER_PRIMITIVES) == paper
    assert len(PAPER_PRIMITIVES) == len(paper)
    assert set(ELEMENTWISE) >= paper


def test_every_aggregation_has_every_index_set() -> None:
    assert set(INDEX_SETS) == {"bhw", "chw", "hw", "ghw", "c"}
    assert set(AGGREGATIONS) == {f"{name}_{axes}" for name in ("mean", "rms", "std") for axes in INDEX_SETS}
    assert set(PRIMITIVES) == {*ELEMENTWISE, *AGGREGATIONS}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_row_agrees_with_its_function(name: str) -> None:
    row = PRIMITIVES[name]
    inputs = (torch.ones(2, 2),) if row.reduces else inputs_of(name)
    assert row.name == name
    assert row.fn(*inputs, *([[0, 1]] if row.reduces else [])).isfinite().all()
    moment = {"mean": "mean", "mean_square": "rms", "variance": "std"}
    assert name == (f"{moment[row.fn.__name__]}_{row.reduces}" if row.reduces else row.fn.__name__)
    assert row.rooted == name.startswith(("rms_", "std_"))
    assert row.cite


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_elementwise_primitive_is_its_formula(name: str) -> None:
    expected = reference.ELEMENTWISE[name](*(each.numpy() for each in inputs_of(name)))
    result = PRIMITIVES[name].fn(*inputs_of(name))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_elementwise_primitive_has_its_gradient(name: str) -> None:
    inputs = tuple(each.clone().requires_grad_() for each in inputs_of(name))
    assert torch.autograd.gradcheck(PRIMITIVES[name].fn, inputs)
    assert torch.autograd.gradgradcheck(PRIMITIVES[name].fn, inputs)


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("channel_dim", [1, -1])
def test_an_aggregation_has_its_gradient(name: str, channel_dim: int) -> None:
    a = torch.randn(2, 4, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    row = PRIMITIVES[name]
    assert row.reduces
    layer = NormAct(Graph.parse(f"{name}(x)"), 4, channel_dim=channel_dim, groups=2, dtype=a.dtype)
    assert torch.autograd.gradcheck(layer, (a,))
    assert torch.autograd.gradgradcheck(layer, (a,))


@pytest.mark.parametrize("name", ["sqrt", "log"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_at_zero(name: str, dtype: torch.dtype) -> None:
    a = torch.tensor([0.0, -0.0, 1e-30, -1e-30], dtype=dtype, requires_grad=True)
    result = PRIMITIVES[name].fn(a)
    (gradient,) = torch.autograd.grad(result.sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), a, materialize_grads=True, allow_unused=True)
    assert result[:2].tolist() == [0.0, 0.0]
    assert all(torch.isfinite(each).all() for each in (result, gradient, second))


@pytest.mark.parametrize("name", ["sqrt", "log"])
def test_sqrt_and_log_are_odd(name: str) -> None:
    fn = PRIMITIVES[name].fn
    assert torch.equal(fn(-POINTS), -fn(POINTS))


def test_the_epsilon_is_the_papers() -> None:
    one = torch.tensor(1.0, dtype=torch.float64)
    assert EPS == 1e-5
    assert float(PRIMITIVES["sqrt"].fn(1e-9 * one)) == pytest.approx(math.sqrt(1e-9 + 1e-5), rel=1e-12)
    assert float(PRIMITIVES["log"].fn(-1e-9 * one)) == pytest.approx(-math.log(1e-9 + 1e-5), rel=1e-12)


def test_division_is_ieee() -> None:
    result = PRIMITIVES["div"].fn(torch.tensor([1.0, -1.0, 0.0]), torch.zeros(3))
    assert result[:2].tolist() == [math.inf, -math.inf]
    assert torch.isnan(result[2])


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if PRIMITIVES[name].arity == 2])
def test_exactly_the_commutative_rows_commute(name: str) -> None:
    row = PRIMITIVES[name]
    a = torch.tensor([*POINTS.tolist(), math.nan, math.inf, 0.0], dtype=torch.float64)
    b = torch.tensor([*OTHERS.tolist(), 1.0, -math.inf, 0.0], dtype=torch.float64)
    commutes = torch.equal(row.fn(a, b).nan_to_num(1e9), row.fn(b, a).nan_to_num(1e9))
    assert row.commutative == commutes


def test_no_row_of_one_input_is_commutative() -> None:
    assert {row.arity for row in PRIMITIVES.values() if row.commutative} == {2}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_latex_formats_with_its_inputs(name: str) -> None:
    row = PRIMITIVES[name]
    inputs = ("FIRST", row.reduces or "SECOND")
    text = row.latex.format(*inputs)
    assert all(each in text for each in inputs[: row.arity + bool(row.reduces)])
    assert text.count("{") == text.count("}")
    assert "{0}" not in text
    assert "{1}" not in text


def test_only_means_start_their_running_moment_at_zero() -> None:
    for name in AGGREGATIONS:
        assert PRIMITIVES[name].running_start == (0.0 if name.startswith("mean_") else 1.0)


def cube(a: Tensor) -> Tensor:
    return a * a * a


def test_a_new_primitive_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRIMITIVES, "cube", Primitive("cube", 1, cube, r"{0}^3"))
    graph = Graph.parse("cube(x) - x")
    x = torch.randn(2, 3, 4)
    assert Graph.parse(graph.formula) == graph.canonical()
    assert depends_on_x(graph)
    torch.testing.assert_close(NormAct(graph, 3)(x), x**3 - x)
