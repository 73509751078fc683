"""The pass at the initial weights that `signal` and `gradient` share."""

import copy
import math

import pytest
import torch
from torch import Tensor

from evonas.workers.gradients import InitialPass, norm
from tests.workers.networks import Tiny, batch, faint, gradient_norm


def test_the_initial_pass_is_the_logits_spread_and_the_gradients_norm(tiny_model: Tiny) -> None:
    reference = copy.deepcopy(tiny_model).train()
    logits = reference(batch()[0]).detach()
    spread = torch.stack([(column - column.mean()).square().sum() / 5 for column in logits.T]).sqrt().max()
    norm = gradient_norm(copy.deepcopy(tiny_model).train()).detach()
    found = InitialPass(tiny_model.eval(), *batch())
    assert found.logits_std == pytest.approx(float(spread), rel=1e-5)
    assert found.gradient_norm == pytest.approx(float(norm), rel=1e-5)
    assert tiny_model.passes == 1
    assert tiny_model.trained == {True}
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_logits_that_are_the_same_for_every_image_do_not_spread(tiny_model: Tiny) -> None:
    class Blind(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mean(0, keepdim=True).expand(len(x), -1)

    found = InitialPass(Blind(), *batch())
    assert found.logits_std < 1e-6
    assert found.gradient_norm > 0  # which is why the gradient alone does not tell


def test_logits_of_any_size_spread() -> None:
    """The squares of 1e-30 vanish in float32, those of 1e30 overflow."""
    expected = InitialPass(faint(1.0), *batch()).logits_std
    for share in (1e-30, 1e30):
        assert InitialPass(faint(share), *batch()).logits_std == pytest.approx(expected * share, rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_initial_pass_that_is_not_finite_is_infinitely_steep(value: float) -> None:
    class Broken(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * value

    found = InitialPass(Broken(), *batch())
    assert not math.isfinite(found.logits_std)
    assert found.gradient_norm == math.inf


@pytest.mark.parametrize("size", [1e-200, 1e-170, 1e-30, 1.0, 1e200])
def test_a_norm_neither_underflows_nor_overflows(size: float) -> None:
    tensors = [torch.tensor([3.0, 0.0], dtype=torch.float64) * size, torch.tensor([[4.0]], dtype=torch.float64) * size]
    assert norm(tensors) == pytest.approx(5 * size, rel=1e-15)
    assert norm([torch.tensor([3e-30]), torch.tensor([4e-30])]) == pytest.approx(5e-30, rel=1e-6)  # float32


def test_a_norm_is_zero_infinite_or_no_number_where_its_values_are() -> None:
    assert norm([]) == norm([torch.zeros(3)]) == 0.0
    assert norm([torch.tensor([1.0, -math.inf])]) == math.inf
    assert math.isnan(norm([torch.tensor([1.0, math.nan]), torch.tensor([math.inf])]))
