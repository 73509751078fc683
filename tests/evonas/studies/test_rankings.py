"""How far the signals of short trainings rank layers as a reference does."""

import json
from math import inf
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap, spearmanr

from evonas.config import Config
from evonas.config_file import parse_config
from evonas.studies.rankings import accuracy_at, compare, looks, mean_loss, rank_correlation

PROXIES = ("resnet", "mobilenet")


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])[0] == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert rank_correlation([1, 2, 3, 4, 50], [1, 4, 9, 16, 25]) == (pytest.approx(1.0), pytest.approx((1.0, 1.0)))
    assert rank_correlation([1, 2, 3, 4, -inf], [-1, -2, -3, -4, 0])[0] == pytest.approx(-1.0)
    assert rank_correlation([0.1] * 5, [1, 2, 3, 4, 5]) == (None, None)
    assert rank_correlation([0.1 + 0.2, 0.3, 0.3, 0.3, 0.3], [1, 2, 3, 4, 5]) == (
        None,
        None,
    )  # all alike but for rounding


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_scipys_with_ties(seed: int) -> None:
    rng = Random(seed)
    a = [rng.randrange(12) for _ in range(22)]
    b = [each + rng.randrange(8) for each in a]
    correlation, interval = rank_correlation(a, b)
    assert correlation == pytest.approx(spearmanr(a, b).statistic)
    oracle = bootstrap(
        (a, b), lambda x, y: spearmanr(x, y).statistic, paired=True, vectorized=False, n_resamples=500,
        method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert interval == pytest.approx((oracle.low, oracle.high), abs=0.08)  # both are drawn


# --------------------------------------------------------------------------- signals


@pytest.mark.parametrize(("steps", "expected"), [(250, [62, 125, 187, 250]), (4, [1, 2, 3, 4]), (2, [1, 2]), (1, [1])])
def test_signals_are_looked_at_after_quarters_of_the_steps(steps: int, expected: list[int]) -> None:
    assert looks(steps) == expected


def test_a_training_that_diverges_counts_as_guessing_only_from_then_on() -> None:
    points = [[25, 0.3, 2.0], [50, 0.4, 1.0]]
    assert [accuracy_at(points, step, 0.1) for step in (25, 50, 75, 100)] == [0.3, 0.4, 0.1, 0.1]
    assert [mean_loss(points, step) for step in (25, 50, 75, 100)] == [2.0, 1.5, inf, inf]
    assert mean_loss([[10, 0.3, 2.0], [40, 0.4, 1.0]], 40) == pytest.approx(1.25)  # each step counts once


def test_the_late_loss_is_that_of_the_steps_since_the_look_before() -> None:
    points = [[1, 0.3, 8.0], [2, 0.3, 4.0], [4, 0.4, 1.0]]  # losses 8, 4, 1, 1
    assert [mean_loss(points, 4, since) for since in (0, 1, 2)] == pytest.approx([14 / 4, 6 / 3, 2 / 2])
    assert mean_loss(points, 2, 1) == 4.0
    assert mean_loss(points[:2], 4, 2) == inf  # failed by then


def row(layer: str, proxy: str, accuracy: float | None, points: list[list[float]], **more: Any) -> dict[str, Any]:
    row = {"layer": layer, "reference": False, "proxy": proxy, "seed": 0, "accuracy": accuracy, "points": points}
    return row | {"seconds": 8.0, "classes": 10, "conditions": "cpu"} | more


def by_hand() -> list[dict[str, Any]]:
    """Five layers on one proxy of 4 steps; the last diverged after two."""
    rows = []
    for k, name in enumerate("abcde"):
        curve = [
            [step, 0.1 * (k + 1 if step < 3 else 5 - k), 2.0 + (-0.1 * k if step < 4 else 0.2 * k)]
            for step in (1, 2, 3, 4)
        ]
        rows.append(row(name, "resnet", 0.1 * (5 - k), curve) if k < 4 else row(name, "resnet", None, curve[:2]))
        rows.append(row(name, "wide", 0.9 - 0.1 * k, [], reference=True, seconds=1000.0, conditions="cuda"))
    rows[-2]["seconds"] = 1.0  # it ended early, so that it says nothing of the cost
    return rows


def test_the_tables_by_hand(tiny: dict[str, Any]) -> None:
    del tiny["proxies"]["mobilenet"]
    tiny["recipe"]["steps"] = 4
    config = parse_config(json.dumps(tiny))
    measured = compare(by_hand(), config)
    assert [(r.proxy, r.measure, r.step) for r in measured.rows] == [
        ("resnet", measure, step) for step in (1, 2, 3, 4) for measure in ("accuracy", "loss", "late loss")
    ]
    table = {(r.measure, r.step): r for r in measured.rows}
    assert [table["accuracy", step].correlation for step in (1, 2, 3, 4)] == pytest.approx([-1, -1, 1, 1])
    # the reference ranks a b c d e; the loss d c b a at the end, and e last: 1 - 6 (9 + 1 + 1 + 9) / 120 = 0
    assert [table["loss", step].correlation for step in (1, 2, 3, 4)] == pytest.approx([-1, -1, 0, 0])
    # the loss of the last step alone ranks a b c d e
    assert [table["late loss", step].correlation for step in (1, 2, 3, 4)] == pytest.approx([-1, -1, 0, 1])
    # a b c are the better half: the loss ranks them c b a at every step
    assert [table["loss", step].better_half for step in (1, 2, 3, 4)] == pytest.approx([-1, -1, -1, -1])
    assert [table["late loss", step].better_half for step in (1, 2, 3, 4)] == pytest.approx([-1, -1, -1, 1])
    assert table["accuracy", 4].better_half_interval == pytest.approx((1.0, 1.0))
    assert [table["loss", step].seconds for step in (1, 2, 3, 4)] == [2.0, 4.0, 6.0, 8.0]
    assert table["accuracy", 3].per_second == pytest.approx(1 / 6)
    assert [(r.measure, r.step) for r in measured.rows if r.is_best] == [("accuracy", 3)]
    assert [each.layer for each in measured.layers] == list("abcde")
    assert [each.reference for each in measured.layers] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    assert [each.accuracy["resnet"] for each in measured.layers] == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])
    assert [each.failed for each in measured.layers] == [0, 0, 0, 0, 1]
    assert measured.conditions == {"cpu": 5, "cuda": 5}


def test_means_are_over_seeds_and_proxies(config: Config) -> None:
    rows = []
    for k, name in enumerate("abcde"):
        for seed in (0, 1):
            for proxy, accuracy in (("resnet", 0.1 * k + 0.2 * seed), ("mobilenet", 0.5 - 0.2 * k)):
                rows.append(row(name, proxy, accuracy, [[6, accuracy, 1.0]], seed=seed))
            rows.append(row(name, "wide", 0.1 * k, [], reference=True, seed=seed))
            rows.append(row(name, "deep", 0.1 * seed, [], reference=True, seed=seed))
    measured = compare(rows, config)
    at_the_end = {r.proxy: r for r in measured.rows if (r.measure, r.step) == ("accuracy", 6)}
    assert {proxy: r.correlation for proxy, r in at_the_end.items()} == pytest.approx(
        {"resnet": 1.0, "mobilenet": -1.0, "mean": -1.0}
    )
    assert [at_the_end[proxy].seconds for proxy in ("resnet", "mean")] == [8.0, 16.0]
    assert measured.layers[0].layer == "e"
    assert measured.layers[0].accuracy == pytest.approx({"resnet": 0.5, "mobilenet": -0.3})
    assert measured.layers[0].by_network == pytest.approx({"wide": 0.4, "deep": 0.05})
    assert measured.layers[0].reference == pytest.approx((0.4 + 0.05) / 2)


def test_a_reference_in_which_every_layer_is_alike_ranks_none(config: Config) -> None:
    rows = [row(name, proxy, 0.5, [[6, 0.5, 1.0]]) for name in "abcde" for proxy in PROXIES]
    rows += [row(name, "wide", None, [], reference=True) for name in "abcde"]
    measured = compare(rows, config)
    assert {(r.correlation, r.interval, r.per_second, r.is_best) for r in measured.rows} == {(None, None, None, False)}
    assert repr(measured) == "<Fidelity on 5 layers: no signal ranks them>"
