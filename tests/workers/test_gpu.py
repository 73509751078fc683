"""The same evaluation on a GPU; where there is none, these are reported as skipped."""

import pytest
import torch

from evonas.workers.data import load
from evonas.workers.evaluation import evaluate
from evonas.workers.machine import conditions, make_deterministic
from evonas.workers.outcome import Fitness
from evonas.workers.pool import InProcessPool
from evonas.workers.protocol import Job
from evonas.workers.step import StaticStep
from evonas.workers.training import Training
from tests.workers.conftest import STABLE, graph, protocol

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")

GATES = (
    {"gate": "signal"},
    {"gate": "gradient"},
    {"gate": "loss", "steps": 20, "max_share": 2.0},
    {"gate": "stability", "steps": 2},
)


def job(text: str, **changes: object) -> Job:
    recipe = {"steps": 30, "crop": 6, "flip": True}
    return Job(graph=str(graph(text)), protocol=protocol(gates=GATES, recipe=recipe, **changes), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STABLE)
def test_the_same_job_is_answered_alike(name: str) -> None:
    first, second = (evaluate(job(name), "cuda") for _ in range(2))
    assert isinstance(first.outcome, Fitness)
    assert first.outcome == second.outcome
    assert first.points == second.points
    assert [m.value for m in first.measurements] == [m.value for m in second.measurements]
    assert first.conditions.startswith("cuda, ")
    assert first.memory_mb > 0


def test_batches_and_initial_weights_are_those_of_the_cpu() -> None:
    asked = job("BN-ReLU").protocol
    here, there = (
        Training(graph("BN-ReLU"), asked, "resnet", load(asked.data, device), 0) for device in ("cpu", "cuda")
    )
    for ours, theirs in zip(here.model.parameters(), there.model.parameters(), strict=True):
        assert theirs.is_cuda
        assert torch.equal(ours, theirs.cpu())
    for _ in range(20):
        (images, labels), (other_images, other_labels) = next(here.batches), next(there.batches)
        assert other_images.is_cuda
        assert torch.equal(images, other_images.cpu())
        assert torch.equal(labels, other_labels.cpu())


def test_early_losses_are_those_of_the_cpu() -> None:
    asked = job("EvoNorm-B0").protocol
    losses = []
    for device in ("cpu", "cuda"):
        training = Training(graph("EvoNorm-B0"), asked, "mobilenet", load(asked.data, device), 0)
        training.run(3)
        losses.append(training.losses[:3].cpu())
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


WAYS: list[dict[str, object]] = [{"channels_last": True}, {"dtype": "bfloat16"}, {"compile_from_steps": 1}]


@pytest.mark.parametrize("execution", [*WAYS, *({**way, "cuda_graphs": True} for way in [{}, *WAYS])])
def test_every_way_to_run_trains(execution: dict[str, object]) -> None:
    assert isinstance(evaluate(job("EvoNorm-S0", execution=execution), "cuda").outcome, Fitness)


@pytest.mark.parametrize("way", [{}, *WAYS])
@pytest.mark.parametrize("name", ["BN-ReLU", "EvoNorm-B0"])
def test_a_captured_training_is_the_static_one(name: str, way: dict[str, object]) -> None:
    """Bit for bit: losses, weights and running moments, with validations on the way and a rate that changes."""
    make_deterministic("cuda")
    recipe = {"steps": 20, "learning_rate": 0.01, "schedule": "cosine", "crop": 6}
    asked = protocol(recipe=recipe, execution={**way, "cuda_graphs": True})
    images = load(asked.data, "cuda")
    captured, static = (Training(graph(name), asked, "mobilenet", images, 0) for _ in range(2))
    static.one_step = StaticStep(static.network, static.recipe)
    for training in (captured, static):
        for until in (2, 11, 20):
            training.run(until)
            training.validate()
        torch.compiler.reset()
    assert torch.equal(captured.losses, static.losses)
    ours, theirs = captured.model.state_dict(), static.model.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_finished_evaluation_keeps_no_memory_of_its_graphs() -> None:
    """Which workers that share the GPU may need."""
    asked = job("EvoNorm-B0", execution={"cuda_graphs": True})
    evaluate(asked, "cuda")
    before = torch.cuda.memory_reserved()
    for _ in range(3):
        evaluate(asked, "cuda")
    assert torch.cuda.memory_reserved() <= before


def test_auto_takes_the_gpu() -> None:
    pool = InProcessPool(job("BN-ReLU").protocol, "auto")
    pool.submit(1, job("BN-ReLU"))
    answered = pool.next(600.0)
    assert answered is not None
    assert answered[1].conditions == conditions("cuda")
