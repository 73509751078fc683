"""The cheap gates and the rungs in an evaluation: what each stops, and what they share."""

import math

import pytest

from evonas.workers.data import load_tasks
from evonas.workers.evaluation import Judged, evaluate
from evonas.workers.gates.quality import Quality
from evonas.workers.gates.rung import Rung
from evonas.workers.outcome import Fitness, Rejection
from evonas.workers.protocol import Threshold
from evonas.workers.training import Training
from tests.workers.conftest import STABLE, graph, images, protocol
from tests.workers.evaluation_cases import QUALITY, SIGNAL, STABILITY, job

GRADIENT = {"gate": "gradient", "norm_min": 1e-9, "norm_max": 1e9}
LOSS = {"gate": "loss", "steps": 2, "max_share": 100.0}


def test_cheap_gates_are_asked_proxy_by_proxy_where_they_share_their_work() -> None:
    answer = evaluate(job(gates=(SIGNAL, GRADIENT, LOSS, {**LOSS, "steps": 3}, STABILITY, QUALITY)))
    assert [(each.gate, each.proxy, each.step) for each in answer.measurements if each.gate != "stability"] == [
        *((gate, proxy, 0) for proxy in ("resnet", "mobilenet") for gate in ("signal", "gradient")),
        *(("loss", proxy, step) for proxy in ("resnet", "mobilenet") for step in (2, 3)),
        ("quality", "resnet", 3),
        ("quality", "mobilenet", 3),
    ]
    assert all(each.passed for each in answer.measurements)
    assert answer.outcome == evaluate(job()).outcome  # none of them changes the training


def test_rejection_by_logits_that_hardly_differ() -> None:
    answer = evaluate(job("1e-6 * x", gates=({"gate": "signal"}, QUALITY)))
    (measured,) = answer.measurements
    assert answer.outcome == Rejection("signal", "resnet", measured.value, 1e-3, 0)
    assert 0 < measured.value < 1e-3
    assert not answer.points


@pytest.mark.parametrize(("text", "bound"), [("1e-6 * x", 1e-3), ("1000 * x", 1e4), ("exp(exp(x * x))", 1e4)])
def test_rejection_by_a_gradient_too_small_or_too_large(text: str, bound: float) -> None:
    answer = evaluate(job(text, gates=({"gate": "gradient"},)))
    assert isinstance(answer.outcome, Rejection)
    assert (answer.outcome.gate, answer.outcome.threshold) == ("gradient", bound)
    assert (answer.outcome.value < bound) == (bound == 1e-3)


def test_logits_that_are_no_numbers_are_stopped_by_the_signal() -> None:
    answer = evaluate(job("exp(exp(x * x))", gates=({"gate": "signal"},)))
    assert answer.outcome == Rejection("signal", "resnet", math.inf, 1e-3, 0)


@pytest.mark.parametrize("name", STABLE)
def test_known_layers_pass_the_cheap_gates(name: str) -> None:
    cheap = ({"gate": "signal"}, {"gate": "gradient"})
    recipe = {"steps": 2}
    assert isinstance(evaluate(job(name, gates=cheap, recipe=recipe)).outcome, Fitness)


def test_rejection_of_what_cannot_learn_a_batch() -> None:
    answer = evaluate(job("x * zero", gates=({"gate": "fit", "steps": 2, "max_share": 0.9}, QUALITY)))
    (measured,) = answer.measurements
    assert answer.outcome == Rejection("fit", "resnet", measured.value, 0.9, measured.step)
    assert 0.9 < measured.value < 1.02  # of ln 10: it learns how often each class is there
    assert not answer.points


def test_fit_leaves_the_training_as_it_is() -> None:
    fit = {"gate": "fit", "steps": 2, "max_share": 10.0}
    answer = evaluate(job(gates=(fit,)))
    assert answer.outcome == evaluate(job()).outcome
    assert [(each.gate, each.proxy) for each in answer.measurements] == [("fit", "resnet"), ("fit", "mobilenet")]
    broken = evaluate(job("x / zero", gates=(fit,)))
    assert broken.outcome == Rejection("fit", "resnet", math.inf, 10.0, 0)


def test_rejection_by_a_loss_that_does_not_fall() -> None:
    answer = evaluate(job("x * zero", gates=({**LOSS, "max_share": 0.9},)))
    (measured,) = answer.measurements
    assert answer.outcome == Rejection("loss", "resnet", measured.value, 0.9, 2)
    assert measured.value == pytest.approx(1.0, abs=0.02)  # of ln 10: it guesses


def test_the_loss_is_the_mean_of_the_last_ten_steps() -> None:
    at = {"gate": "loss", "steps": 14, "max_share": 100.0}
    answer = evaluate(job(gates=(at,), recipe={"steps": 14}, proxies=("resnet",)))
    (measured,) = answer.measurements
    asked = protocol(recipe={"steps": 14})
    training = Training(graph("BN-ReLU"), asked, "resnet", images(asked), 0)
    training.run(14)
    assert measured.value == pytest.approx(float(training.losses[4:].mean()) / math.log(10), rel=1e-6)


def test_a_rung_looks_at_the_mean_over_proxies() -> None:
    rung = {"gate": "rung", "steps": 3}
    free = evaluate(job(gates=(rung,)))
    assert free.outcome == evaluate(job()).outcome  # without a threshold it only measures
    (measured,) = free.measurements
    accuracies = [each.accuracy for each in free.points if each.step == 3]
    assert len(accuracies) == 2
    assert measured.value == pytest.approx(sum(accuracies) / 2)
    assert (measured.proxy, measured.threshold) == ("", 0.0)
    for above, passes in ((0.0, True), (1e-6, False)):
        threshold = Threshold(gate="rung", steps=3, value=measured.value + above)
        other = Threshold(gate="rung", steps=2, value=1.0)
        asked = job(gates=(rung, STABILITY)).model_copy(update={"thresholds": (other, threshold)})
        answer = evaluate(asked)
        assert isinstance(answer.outcome, Fitness) == passes
        assert answer.measurements[0].threshold == threshold.value
        if not passes:
            assert answer.outcome == Rejection("rung", "", measured.value, threshold.value, 3)


def test_neighbours_of_one_work_are_each_asked_once_or_on_every_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Rung, Quality):
        monkeypatch.setattr(kind, "work", "accuracy")
    asked = job(gates=({"gate": "rung", "steps": 2}, QUALITY, {**QUALITY, "min_accuracy": 0.01}))
    run = Judged(asked, graph("BN-ReLU"), load_tasks(asked.protocol))
    run.ask_gates()
    asked_of = [(each.gate, each.proxy) for each in run.measurements]
    quality = [("quality", proxy) for proxy in ("resnet", "resnet", "mobilenet", "mobilenet")]
    assert asked_of == [("rung", ""), *quality]


def test_a_look_at_the_initial_weights_is_forgotten_before_the_next_gate() -> None:
    """It holds every activation of a network."""
    asked = job(gates=({"gate": "signal"},))
    run = Judged(asked, graph("BN-ReLU"), load_tasks(asked.protocol))
    run.ask_gates()
    assert len(run.measurements) == 2
    assert run.passes == {}


def test_a_rung_on_one_proxy_stops_before_the_others_are_trained() -> None:
    """A race: who loses on the first costs nothing on the second."""
    rung = {"gate": "rung", "steps": 3, "proxy": "mobilenet"}
    free = evaluate(job(gates=(rung, QUALITY)))
    (measured, *later) = free.measurements
    assert (measured.proxy, measured.step) == ("mobilenet", 3)
    assert measured.value == next(p.accuracy for p in free.points if (p.proxy, p.step) == ("mobilenet", 3))
    assert {each.proxy for each in later} == {"resnet", "mobilenet"}
    high = Threshold(gate="rung", steps=3, value=measured.value + 0.01)
    stopped = evaluate(job(gates=(rung, QUALITY)).model_copy(update={"thresholds": (high,)}))
    assert stopped.outcome == Rejection("rung", "mobilenet", measured.value, high.value, 3)
    assert {each.proxy for each in stopped.points} <= {"mobilenet"}


def test_a_rung_by_loss_is_the_mean_probability_of_the_right_class() -> None:
    """exp(-mean loss) over all steps so far."""
    asked = job(gates=({"gate": "rung", "steps": 3, "proxy": "resnet", "by": "loss"},))
    (measured,) = evaluate(asked).measurements
    training = Training(graph("BN-ReLU"), asked.protocol, "resnet", images(asked.protocol), asked.seed)
    training.run(3)
    assert measured.value == pytest.approx(math.exp(-float(training.losses[:3].mean())), rel=1e-6)
    assert measured.passed
