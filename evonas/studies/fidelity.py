"""How far the proxies of a config rank layers as a long training of larger networks does, and at what cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_input import load_config
from evonas.layers.resolve import Layers, trainable
from evonas.retraining import SEEDS_MAX, Progress, quiet, train
from evonas.search_space.catalog import LAYERS
from evonas.search_space.errors import InputError, whole
from evonas.session import Session, Ticket, stop_signals
from evonas.studies.results import ResultFile, Row
from evonas.workers.gates.quality import Quality
from evonas.workers.outcome import Evaluation, Fitness
from evonas.workers.protocol import Job

LAYERS_MIN = 5  # of a rank correlation
SHARES = (0.25, 0.5, 0.75)  # of the budget, at which early signals are looked at
RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True, slots=True)
class FidelityRow:
    """One signal, as a ranking of layers: Spearman's rank correlation with the reference, over its layers.

    signal: a proxy, or "mean" of all of them.
    measure: accuracy, or loss: the mean training loss so far, negated.
    """

    signal: str
    measure: str
    step: int
    correlation: float
    low: float  # of the 95 % interval, by bootstrap over layers
    high: float
    seconds: float  # core-seconds of one layer, mean


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The table, and what it was made of."""

    rows: list[FidelityRow]
    reference: dict[str, float]  # layer -> mean accuracy over the reference's proxies and seeds; guessing if it failed
    proxies: dict[str, dict[str, float]]  # layer -> proxy -> mean accuracy over seeds


def fidelity(
    config: Config | Mapping[str, Any] | str | Path,
    reference: Config | Mapping[str, Any] | str | Path,
    layers: Layers = (),
    *,
    seeds: int = 1,
    settings: Sequence[str] = (),
    reference_settings: Sequence[str] = (),
    out: str | Path | None = None,
    on_progress: Progress = quiet,
) -> Fidelity:
    """Train known layers on the proxies of a config, and on those of a longer one, and compare the rankings.

    A training that fails counts with the accuracy of guessing. Gates are not asked.

    Args:
        config: the config whose proxies are asked.
        reference: what they should predict: more steps, larger images, wider networks.
        layers: by default every layer of the catalog that takes one input.
        seeds: trainings of a layer on each proxy.
        settings: overrides of the config, such as "recipe.steps=100".
        reference_settings: overrides of the reference.
        out: a file that keeps each training; a later call with the same arguments goes on.
        on_progress: called with the trainings done and their total.

    Raises InputError for bad input, and Stopped on Ctrl-C or SIGTERM.
    """
    loaded, long = load_config(config, settings), load_config(reference, reference_settings)
    seeds = whole("seeds", seeds, 1, SEEDS_MAX)
    named = trainable(layers or [name for name in LAYERS.graphs if LAYERS[name].inputs == 1])
    if len(named) < LAYERS_MIN:
        raise InputError(f"layers: a ranking takes at least {LAYERS_MIN}, got {len(named)}")
    file = ResultFile(Path(out), loaded, long) if out is not None else None
    rows: list[Row] = list(file.rows) if file else []
    done = {(row["layer"], row["reference"], row["proxy"], row["seed"]) for row in rows}
    jobs = [
        (each, is_reference, proxy, of.seed + n)
        for n in range(seeds)
        for is_reference, of in ((False, loaded), (True, long))
        for each in named
        for proxy in of.proxies
    ]
    tickets = {
        Ticket(_job(long if is_reference else loaded, proxy, str(each.graph), seed), name=each.name): (
            each.name,
            is_reference,
            proxy,
            seed,
        )
        for each, is_reference, proxy, seed in jobs
        if (each.name, is_reference, proxy, seed) not in done
    }
    on_progress(len(jobs) - len(tickets), len(jobs))
    if tickets:
        with open_pool(long) as pool, stop_signals() as should_stop:
            for ticket, evaluation in train(Session(pool, should_stop=should_stop), tickets):
                row = _row(*tickets[ticket], evaluation)
                rows.append(row)
                if file:
                    file.keep(row)
                on_progress(len(rows), len(jobs))
    wanted = {(name.name, is_reference, proxy, seed) for name, is_reference, proxy, seed in jobs}
    return compare([r for r in rows if (r["layer"], r["reference"], r["proxy"], r["seed"]) in wanted], loaded)


def _job(config: Config, proxy: str, graph: str, seed: int) -> Job:
    """A training on one proxy, with looks at its accuracy on the way."""
    steps = config.recipe.steps
    looks = tuple(Quality(steps=at, min_accuracy=0.0) for share in SHARES if (at := round(share * steps)) > 0)
    protocol = config.protocol.ungated(seeds=1).model_copy(
        update={"proxies": {proxy: config.proxies[proxy]}, "gates": looks}
    )
    return Job(graph=graph, protocol=protocol, seed=seed)


def _row(layer: str, is_reference: bool, proxy: str, seed: int, evaluation: Evaluation) -> Row:
    outcome = evaluation.outcome
    return {
        "layer": layer,
        "reference": is_reference,
        "proxy": proxy,
        "seed": seed,
        "accuracy": outcome.accuracy[proxy] if isinstance(outcome, Fitness) else None,
        "points": [[each.step, each.accuracy, each.loss] for each in evaluation.points],
        "seconds": evaluation.seconds,
    }


def compare(rows: Sequence[Row], config: Config, guess: float = 0.1) -> Fidelity:
    """The table over trainings as `fidelity` keeps them."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    long = {name: _mean(rows, name, None, _final(guess)) for name in layers}
    names = [*config.proxies, *(["mean"] if len(config.proxies) > 1 else [])]
    steps = config.recipe.steps
    table = []
    for name in names:
        of = tuple(config.proxies) if name == "mean" else (name,)
        seconds = sum(fmean(r["seconds"] for r in rows if not r["reference"] and r["proxy"] == p) for p in of)
        signals: list[tuple[str, int, Callable[[Row], float]]] = []
        for share in SHARES:
            at = round(share * steps)
            signals += [("accuracy", at, _accuracy_at(at, guess)), ("loss", at, _loss_until(at))]
        signals += [("loss", steps, _loss_until(steps)), ("accuracy", steps, _final(guess))]
        for measure, at, value in signals:
            mine = [fmean(_mean(rows, layer, proxy, value) for proxy in of) for layer in layers]
            correlation, low, high = rank_correlation(mine, [long[layer] for layer in layers])
            table.append(FidelityRow(name, measure, at, correlation, low, high, seconds * at / steps))
    proxies = {each: {p: _mean(rows, each, p, _final(guess)) for p in config.proxies} for each in layers}
    return Fidelity(table, long, proxies)


def _mean(rows: Sequence[Row], layer: str, proxy: str | None, value: Callable[[Row], float]) -> float:
    """Over the seeds on a proxy, or on all proxies of the reference."""
    mine = [r for r in rows if r["layer"] == layer and r["reference"] == (proxy is None)]
    return fmean(value(row) for row in mine if proxy is None or row["proxy"] == proxy)


def _final(guess: float) -> Callable[[Row], float]:
    return lambda row: guess if row["accuracy"] is None else float(row["accuracy"])


def _accuracy_at(step: int, guess: float) -> Callable[[Row], float]:
    return lambda row: next((accuracy for at, accuracy, _ in row["points"] if at == step), guess)


def _loss_until(step: int) -> Callable[[Row], float]:
    """The mean training loss of the steps so far, negated; that of a failed training is the worst."""

    def value(row: Row) -> float:
        total, last = 0.0, 0
        for at, _, loss in row["points"]:
            if at <= step:
                total, last = total + loss * (at - last), at
        return -total / last if last == step else -100.0

    return value


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Spearman's, with its 95 % interval by percentiles of the bootstrap over pairs."""
    import numpy as np
    from scipy.stats import spearmanr  # slow to import

    x, y = np.array(a), np.array(b)
    generator = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(x), size=len(x))
        if np.ptp(x[drawn]) > 0 and np.ptp(y[drawn]) > 0:
            values.append(float(spearmanr(x[drawn], y[drawn]).statistic))
    low, high = np.percentile(values, [2.5, 97.5]) if values else (float("nan"), float("nan"))
    whole = float(spearmanr(x, y).statistic) if np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")
    return whole, float(low), float(high)
