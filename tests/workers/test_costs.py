"""What an evaluation tells of its costs, over one seed or several."""

import gc
import math
from pathlib import Path

import pytest
import torch

from evonas.search_space.graph import Graph
from evonas.workers import data
from evonas.workers.evaluation import evaluate
from evonas.workers.machine import peak_mb
from evonas.workers.outcome import Fitness
from evonas.workers.training import Training
from tests.workers.evaluation_cases import QUALITY, SIGNAL, STABILITY, job


def test_several_seeds_are_trained_and_averaged() -> None:
    alone = [evaluate(job(seed=seed, proxies=("resnet",))) for seed in (7, 8, 9)]
    together = evaluate(job(seed=7, proxies=("resnet",), recipe={"seeds": 3}, gates=(QUALITY,)))
    assert isinstance(together.outcome, Fitness)
    accuracies = [each.points[-1].accuracy for each in alone]
    assert together.outcome.accuracy == {"resnet": pytest.approx(sum(accuracies) / 3)}
    last = [(each.repeat, each.accuracy) for each in together.points if each.step == 6]
    assert last == list(enumerate(accuracies))
    assert [each.repeat for each in together.points if each.step == 3] == [0]  # gates ask the first seed


@pytest.mark.parametrize(("steps", "late"), [(3, 1), (6, 2), (8, 2)])
def test_the_loss_is_that_of_the_last_quarter_of_the_steps(steps: int, late: int) -> None:
    asked = job(seed=7, proxies=("resnet",), recipe={"steps": steps, "seeds": 2}, gates=())
    answer = evaluate(asked)
    assert isinstance(answer.outcome, Fitness)
    losses = []
    for seed in (7, 8):
        images = data.load(asked.protocol.data)
        training = Training(Graph.parse(asked.graph), asked.protocol, "resnet", images, seed)
        training.run(steps)
        losses += training.losses.tolist()[steps - late :]
    assert answer.outcome.loss == {"resnet": pytest.approx(sum(losses) / len(losses), rel=1e-6)}
    assert answer.outcome.scores("loss") == {"resnet": pytest.approx(math.exp(-sum(losses) / len(losses)))}


def test_a_training_tells_what_its_steps_cost() -> None:
    answer = evaluate(job(gates=(QUALITY,)))
    assert isinstance(answer.outcome, Fitness)
    for seconds in answer.outcome.step_seconds.values():
        assert 0 < seconds < answer.seconds
    larger = evaluate(job(recipe={"batch_size": 32}))
    assert isinstance(larger.outcome, Fitness)
    for proxy, mb in answer.outcome.saved_mb.items():
        assert larger.outcome.saved_mb[proxy] == pytest.approx(2 * mb, rel=0.05)  # of activations, not of weights


def test_saved_memory_counts_each_tensor_once() -> None:
    """tanh keeps its result, which the affine keeps as its input; BN-ReLU by hand keeps more."""
    found = {}
    for text in ("tanh(x)", "BN-ReLU"):
        answer = evaluate(job(text, proxies=("resnet",)))
        assert isinstance(answer.outcome, Fitness)
        found[text] = answer.outcome.saved_mb["resnet"]
    site = 16 * 8 * 8 * 8 * 4 / 2**20  # batch x channels x height x width, float32; the network has three sites
    assert found["tanh(x)"] < found["BN-ReLU"]
    assert 3 * site < found["tanh(x)"] < 9 * site


def test_saved_memory_is_the_same_twice() -> None:
    """What is freed within the forward leaves its address to others: here the layer's value has no gradient to x."""
    found = set()
    for _ in range(4):
        outcome = evaluate(job("abs(v0)", proxies=("resnet",))).outcome
        assert isinstance(outcome, Fitness)
        found.add(outcome.saved_mb["resnet"])
    assert len(found) == 1


def test_an_evaluation_leaves_no_tensor_behind() -> None:
    """A worker evaluates thousands. (A hook of autograd that keeps a node's own result keeps the node alive, too.)"""

    def live() -> int:
        gc.collect()
        return sum(type(each) in (torch.Tensor, torch.nn.Parameter) for each in gc.get_objects())

    asked = [job(name, gates=(SIGNAL, STABILITY)) for name in ("EvoNorm-B0", "x * x * x * x", "exp(exp(x))")]
    for each in asked:
        evaluate(each)
    before = live()
    for each in asked * 3:
        evaluate(each)
    assert live() < before + 20  # a network that stayed would be so many


def test_conditions_name_what_decides_the_bits() -> None:
    told = evaluate(job(recipe={"steps": 1})).conditions
    assert told.startswith("cpu, ")
    assert f"torch {torch.__version__}" in told
    assert f"{torch.get_num_threads()} thread" in told
    assert torch.backends.cpu.get_cpu_capability() in told


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a peak that can be forgotten")
def test_the_peak_is_that_of_one_evaluation() -> None:
    block = torch.ones(2**26)  # 256 MiB that are gone before the evaluation
    before = peak_mb()
    del block
    assert evaluate(job(recipe={"steps": 1})).memory_mb < before - 128
