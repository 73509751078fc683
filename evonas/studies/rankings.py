"""Signals of short trainings as rankings of layers, beside the ranking of a long one."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan
from statistics import fmean
from types import MappingProxyType
from typing import Any

from evonas.config import Config
from evonas.search_space.wording import counted
from evonas.store.records import columns
from evonas.studies.results import Row
from evonas.studies.validation import figures_by_unit
from evonas.units import IMAGES, Unit, Units

LOOKS = 4  # at the signals, after as many equal parts of the steps
RESAMPLES = 2000  # of the bootstrap
MEAN = "mean"  # over the proxies; losses are not scaled, so that a proxy on which they spread wider weighs more

Points = Sequence[Sequence[float]]  # of a training: step, accuracy, mean training loss since the last point


@dataclass(frozen=True, slots=True)
class FidelityRow:
    """One signal, and Spearman's rank correlation of layers by it with layers by the reference."""

    proxy: str  # or "mean" of all of them
    measure: str  # of MEASURES; of text "bits per byte" in place of "accuracy"
    step: int
    correlation: float | None  # None where a ranking has nothing but ties
    interval: tuple[float, float] | None  # 95 %, by bootstrap over layers
    better_half: float | None  # the correlation over the reference's better half of the layers
    better_half_interval: tuple[float, float] | None
    seconds: float  # core-seconds of a layer until this step, mean
    is_best: bool = False  # no cheaper signal has as high a correlation, and none as cheap a higher one

    @property
    def per_second(self) -> float | None:
        """Correlation per core-second."""
        return self.correlation / self.seconds if self.correlation is not None and self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class FidelityLayer:
    """Mean figures of a layer over seeds, as people read them; a training that failed counts as guessing."""

    layer: str
    reference: float  # over the reference's proxies as well
    by_network: dict[str, float]  # the reference's, by its proxy
    accuracy: dict[str, float]  # by proxy
    failed: int  # trainings, the reference's among them


@dataclass(frozen=True, slots=True, repr=False)
class Fidelity:
    """Signals as rankings of layers, and the layers, the reference's best first."""

    rows: tuple[FidelityRow, ...]
    layers: tuple[FidelityLayer, ...]
    crashed: Mapping[str, str]  # layers that are not compared -> why there is no answer
    conditions: Mapping[str, int]  # where trainings were computed -> how many
    units: Units  # of the proxies
    of_reference: Units

    def __repr__(self) -> str:
        best = max(self.rows, key=lambda row: -inf if row.correlation is None else row.correlation)
        if best.correlation is None:
            return f"<Fidelity on {counted(len(self.layers), 'layer')}: no signal ranks them>"
        signal = f"{best.measure} on {best.proxy} at step {best.step}"
        return f"<Fidelity on {counted(len(self.layers), 'layer')}: {signal} is nearest, {best.correlation:.2f}>"

    def _repr_html_(self) -> str:
        from evonas.report.notebook import table_html  # only a notebook needs it

        layers = [
            {"layer": each.layer, "reference": each.reference, **each.accuracy, "failed": each.failed}
            for each in self.layers
        ]
        return table_html(self.as_json()["signals"]) + table_html(layers)

    def as_json(self) -> dict[str, Any]:
        return {
            "signals": [{**columns(row), "per_second": row.per_second} for row in self.rows],
            "layers": [figures_by_unit(each, self.units) for each in self.layers],
            "crashed": dict(self.crashed),
            "conditions": dict(self.conditions),
            **self.units.as_json(),
            **({"reference_units": self.of_reference.as_json()["units"]} if self.of_reference.in_bits else {}),
        }


def looks(steps: int) -> list[int]:
    """The steps at which the signals are looked at; the last is the end."""
    return sorted({steps * part // LOOKS for part in range(1, LOOKS + 1)} - {0})


def compare(
    rows: Sequence[Row],
    config: Config,
    crashed: Mapping[str, str] = MappingProxyType({}),
    of_reference: Units = IMAGES,
) -> Fidelity:
    """The tables over trainings as `fidelity` keeps them. A failed one counts as guessing."""
    units = config.units
    names = list(dict.fromkeys(row["layer"] for row in rows))
    proxies = tuple(config.proxies)
    mine: dict[tuple[str, str], list[Row]] = {}  # by layer and proxy
    long: dict[str, list[Row]] = {}
    for row in rows:
        if row["reference"]:
            long.setdefault(row["layer"], []).append(row)
        else:
            mine.setdefault((row["layer"], row["proxy"]), []).append(row)
    layers = [
        FidelityLayer(
            name,
            _figure(long[name], of_reference.mean),
            {
                proxy: _figure([row for row in long[name] if row["proxy"] == proxy], of_reference.of(proxy))
                for proxy in dict.fromkeys(row["proxy"] for row in long[name])
            },
            {proxy: _figure(mine[name, proxy], units.of(proxy)) for proxy in proxies},
            sum(row["accuracy"] is None for row in rows if row["layer"] == name),
        )
        for name in names
    ]
    reference = [fmean(map(_final, long[name])) for name in names]
    better = sorted(range(len(layers)), key=lambda k: -reference[k])[: (len(layers) + 1) // 2]
    at = looks(config.recipe.steps)
    signals = []
    for label, several in {**{proxy: (proxy,) for proxy in proxies}, MEAN: proxies}.items():
        if label == MEAN and len(proxies) == 1:
            continue
        seconds = sum(_seconds([row for name in names for row in mine[name, proxy]]) for proxy in several)
        for since, step in zip([0, *at], at, strict=False):
            for measure, value in MEASURES.items():
                values = [
                    fmean(fmean(value(row, since, step) for row in mine[name, proxy]) for proxy in several)
                    for name in names
                ]
                everywhere = rank_correlation(values, reference)
                among_better = rank_correlation([values[k] for k in better], [reference[k] for k in better])
                cost = seconds * step / config.recipe.steps
                unit = units.mean if label == MEAN else units.of(label)
                name = str(unit) if measure == Unit.ACCURACY else measure
                signals.append(FidelityRow(label, name, step, *everywhere, *among_better, cost))
    ranked = tuple(sorted(layers, key=lambda each: -of_reference.mean.gain(each.reference)))
    conditions = Counter(row["conditions"] for row in rows)
    return Fidelity(_marked(signals), ranked, crashed, conditions, units, of_reference)


def _guess(row: Row) -> float:
    return 1 / int(row["classes"])


def _final(row: Row) -> float:
    return _guess(row) if row["accuracy"] is None else float(row["accuracy"])


def _figure(rows: Sequence[Row], unit: Unit) -> float:
    """The mean over trainings, of bits per byte over seeds."""
    if unit is not Unit.BITS:
        return fmean(map(_final, rows))
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(_final(row))
    return fmean(unit.read(fmean(each)) for each in by_seed.values())


def accuracy_at(points: Points, step: int, guess: float) -> float:
    """The accuracy at a step; that of guessing if the training had failed by then."""
    return next((accuracy for at, accuracy, _ in points if at == step), guess)


def mean_loss(points: Points, step: int, since: int = 0) -> float:
    """The mean training loss of the steps after `since` until this one; infinite if the training had failed by then."""
    total, last = 0.0, 0.0
    for at, _, loss in points:
        if at <= step:
            total, last = total + loss * max(at - max(last, since), 0), at
    return total / (last - since) if last == step else inf


# The signals of a training at a look, the one before which was at step `since` (0 at the first); a higher one ranks
# higher. With the training loss l(i) of step i, they are
#   accuracy:  on the validation images
#   loss:      1 / step * (l(1) + ... + l(step)), TSE of arXiv:2006.04492
#   late loss: 1 / (step - since) * (l(since + 1) + ... + l(step)), TSE-E there
MEASURES: Mapping[str, Callable[[Row, int, int], float]] = {
    "accuracy": lambda row, since, step: accuracy_at(row["points"], step, _guess(row)),
    "loss": lambda row, since, step: -mean_loss(row["points"], step),
    "late loss": lambda row, since, step: -mean_loss(row["points"], step, since),
}


def _seconds(rows: Sequence[Row]) -> float:
    """Mean core-seconds of a training that did not fail; of any, where all did."""
    return fmean([row["seconds"] for row in rows if row["accuracy"] is not None] or [row["seconds"] for row in rows])


def _marked(rows: Sequence[FidelityRow]) -> tuple[FidelityRow, ...]:
    """The signals, with a mark on the Pareto front of correlation (above 0) and cost."""

    def is_dominated(row: FidelityRow, correlation: float) -> bool:
        return any(
            other.seconds <= row.seconds
            and value >= correlation
            and (other.seconds, -value) != (row.seconds, -correlation)
            for other, value in ((each, rounded(each)) for each in rows)
        )

    def rounded(row: FidelityRow) -> float:
        return -inf if row.correlation is None else round(row.correlation, 9)  # ties are ties

    return tuple(replace(row, is_best=rounded(row) > 0 and not is_dominated(row, rounded(row))) for row in rows)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    """Spearman's, and its 95 % interval by percentiles of the bootstrap over pairs. None where one has only ties."""
    import numpy as np
    from scipy.stats import rankdata  # slow to import

    generator = np.random.default_rng(0)
    drawn = generator.integers(len(a), size=(RESAMPLES, len(a)))

    def spearman(several: Any) -> Any:
        """Pearson's correlation of the ranks, for each row of indices; NaN where one side has only ties."""
        x, y = (rankdata(np.round(each, 12)[several], axis=1) for each in (a, b))  # means of equal accuracies tie
        x, y = (each - each.mean(1, keepdims=True) for each in (x, y))
        norms = np.sqrt((x * x).sum(1) * (y * y).sum(1))
        return np.divide((x * y).sum(1), norms, out=np.full(len(norms), np.nan), where=norms > 0)

    value = float(spearman(np.arange(len(a))[None])[0])
    if isnan(value):
        return None, None
    resampled = spearman(drawn)
    low, high = np.percentile(resampled[~np.isnan(resampled)], [2.5, 97.5])
    return value, (float(low), float(high))
