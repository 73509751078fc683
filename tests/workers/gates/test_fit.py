"""`fit` learns one batch."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evonas.workers.data import load
from evonas.workers.gates.fit import Fit, fit
from evonas.workers.protocol import Recipe
from evonas.workers.step import optimizer_of
from evonas.workers.training import build_model
from tests.workers.conftest import STABLE, graph
from tests.workers.networks import PROXIES, QUICKSTART, Tiny, batch


def losses_of(model: Tiny, recipe: Recipe, steps: int) -> list[float]:
    """Of a model before each of so many steps on the one batch, and after the last."""
    images, labels = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    found = []
    for _ in range(steps + 1):
        loss = F.cross_entropy(model(images), labels)
        found.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


@pytest.mark.parametrize("rate", [0.1, 3.0])  # at the second the loss rises again
def test_fit_is_the_least_loss_on_one_batch(tiny_model: Tiny, rate: float) -> None:
    recipe = Recipe(learning_rate=rate, weight_decay=0.0, warmup=0.5, schedule="cosine")
    losses = losses_of(copy.deepcopy(tiny_model), recipe, 6)
    least, step = fit(tiny_model.eval(), *batch(), optimizer_of(tiny_model, recipe), steps=6, goal=0.0)
    assert least == pytest.approx(min(losses), rel=1e-5)
    assert step == losses.index(min(losses)) > 0
    assert tiny_model.passes == 7
    assert tiny_model.trained == {True}


def test_fit_stops_at_its_goal(tiny_model: Tiny) -> None:
    recipe = Recipe(weight_decay=0.0)
    third = losses_of(copy.deepcopy(tiny_model), recipe, 3)[3]
    assert fit(tiny_model, *batch(), optimizer_of(tiny_model, recipe), steps=50, goal=1.0001 * third) == (
        pytest.approx(third, rel=1e-5),
        3,
    )
    assert tiny_model.passes == 4


def test_fit_stops_where_the_loss_is_not_finite() -> None:
    class Breaks(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits * math.nan if self.passes > 2 else logits

    model = Breaks()
    least, step = fit(model, *batch(), optimizer_of(model, Recipe()), steps=50, goal=0.0)
    assert math.isfinite(least)
    assert step < 2
    assert model.passes == 3
    assert fit(model, *batch(), optimizer_of(model, Recipe()), steps=50, goal=0.0) == (math.inf, 0)


@pytest.mark.parametrize("proxy", PROXIES)
def test_known_layers_learn_one_batch_and_dead_ones_do_not(proxy: str) -> None:
    def share(text: str) -> float:
        images = load(QUICKSTART.data, "cpu")
        of_32 = images.normalise(images.train.images[:32]), images.train.labels[:32]
        model = build_model(graph(text), QUICKSTART.protocol, proxy, images, 0)
        return fit(model, *of_32, optimizer_of(model, QUICKSTART.recipe), steps=10, goal=0.0)[0] / math.log(10)

    assert max(share(name) for name in STABLE) < Fit().max_share
    assert min(share(name) for name in ("InstanceNorm", "DyISRU", "DyT")) > Fit().max_share
