"""Layers judged on test images in settings that their search did not use: accuracies, and paired differences."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evonas.config import BASELINE
from evonas.intervals import Estimate, estimate, spread
from evonas.retraining import Contender
from evonas.search_space.catalog.known import Known
from evonas.search_space.wording import counted
from evonas.store.records import columns
from evonas.studies.results import Row
from evonas.studies.trainings import accuracy
from evonas.units import Figure, Unit, Units

Spread = Figure  # over seeds
Trained = Mapping[tuple[int, str], Row]  # by seed and proxy


@dataclass(frozen=True, slots=True)
class ValidatedLayer:
    """A layer at one batch size, in the units that people read. A training that diverged counts as guessing."""

    birth: int | None
    name: str | None  # of a baseline
    formula: str
    same_as: str | None  # the known layer of the same function
    affine_of: str | None  # the known layer that it equals up to an affine of each channel
    batch_size: int
    seeds: int
    failed: int  # trainings that diverged
    mean: Spread  # of the means over proxies
    accuracy: dict[str, Spread]  # by proxy

    @property
    def label(self) -> str:
        return self.name or str(self.birth)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A layer's accuracy, or bits per byte, less a baseline's with the same seeds, initial weights and batches. Over
    the differences of n seeds, of standard deviation s, the interval is mean +- t(0.975, n - 1) * s / sqrt(n)."""

    birth: int | None
    name: str | None
    baseline: str
    batch_size: int
    mean: Estimate  # of the means over proxies
    by_proxy: dict[str, Estimate]

    @property
    def label(self) -> str:
        return self.name or str(self.birth)


@dataclass(frozen=True, slots=True, repr=False)
class Validation:
    """Layers, the best of each batch size first; and differences: of every layer to BN-ReLU, and of each candidate to
    each other baseline."""

    layers: tuple[ValidatedLayer, ...]
    differences: tuple[PairedDifference, ...]
    crashed: Mapping[str, str]  # layers that are not compared -> why there is no answer
    conditions: Mapping[str, int]  # where trainings were computed -> how many
    units: Units

    def __repr__(self) -> str:
        best, seeds = self.layers[0], counted(self.layers[0].seeds, "seed")
        unit = "" if self.units.mean is Unit.ACCURACY else f" {self.units.mean}"
        figure = f"{best.mean[0]:.3f}{unit}"
        return f"<Validation of {counted(len(self.layers), 'row')}: {best.label} is best, {figure}, {seeds}>"

    def _repr_html_(self) -> str:
        from evonas.report.notebook import table_html  # only a notebook needs it

        return table_html(self._layers_json()) + table_html([columns(each) for each in self.differences])

    def _layers_json(self) -> list[dict[str, Any]]:
        return [figures_by_unit(each, self.units) for each in self.layers]

    def as_json(self) -> dict[str, Any]:
        return {
            "layers": self._layers_json(),
            "differences": [columns(each) for each in self.differences],
            "crashed": dict(self.crashed),
            "conditions": dict(self.conditions),
            **self.units.as_json(),
        }


def compare_layers(
    trained: Mapping[tuple[Contender, int], Trained],
    known_as: Mapping[Contender, Known],
    crashed: Mapping[str, str],
    units: Units,
    baseline: str = BASELINE,
) -> Validation:
    """The tables over trainings of candidates and baselines at some batch sizes, BN-ReLU's among them."""
    layers, differences = list[ValidatedLayer](), list[PairedDifference]()
    for batch_size in dict.fromkeys(batch_size for _, batch_size in trained):
        mine = {contender: rows for (contender, size), rows in trained.items() if size == batch_size}
        named = {contender.name: rows for contender, rows in mine.items() if contender.name}
        at_size = [_layer(each, rows, known_as.get(each), batch_size, units) for each, rows in mine.items()]
        at_size.sort(key=lambda layer: -units.mean.gain(layer.mean[0]))
        layers += at_size
        rank = {(each.birth, each.name): number for number, each in enumerate(at_size)}
        for each in sorted(mine, key=lambda each: rank[each.birth, each.name]):
            others = named if each.birth else {baseline: named[baseline]}
            differences += [
                PairedDifference(each.birth, each.name, name, batch_size, *difference(mine[each], rows, units))
                for name, rows in others.items()
                if name != each.name
            ]
    conditions = Counter(row["conditions"] for rows in trained.values() for row in rows.values())
    return Validation(tuple(layers), tuple(differences), crashed, conditions, units)


def _layer(contender: Contender, rows: Trained, known: Known | None, batch_size: int, units: Units) -> ValidatedLayer:
    mean, by_proxy = spreads(rows, units)
    return ValidatedLayer(
        birth=contender.birth,
        name=contender.name,
        formula=contender.graph.formula,
        same_as=known.same_as if known else None,
        affine_of=known.affine_of if known else None,
        batch_size=batch_size,
        seeds=len({seed for seed, _ in rows}),
        failed=sum(row["accuracy"] is None for row in rows.values()),
        mean=mean,
        accuracy=by_proxy,
    )


def figures_by_unit(of: Any, units: Units) -> dict[str, Any]:
    """The fields of a row by name; its figures by proxy are each under the name of their unit."""
    named = units.named(of.accuracy)
    return {name: each for name, each in columns(of).items() if name != "accuracy" or name in named} | named


def spreads(rows: Trained, units: Units) -> tuple[Spread, dict[str, Spread]]:
    """A layer's figures over seeds: of the means over proxies, and by proxy."""
    mean, *by_proxy = [
        spread([units.of(proxy).read(each) for each in values]) for proxy, values in _by_seed(rows).items()
    ]
    return mean, dict(zip(_proxies(rows), by_proxy, strict=True))


def difference(mine: Trained, its: Trained, units: Units) -> tuple[Estimate, dict[str, Estimate]]:
    """The differences of one layer to another with the same seeds: of the means over proxies, and by proxy."""
    others = _by_seed(its)
    mean, *by_proxy = [
        estimate([units.of(proxy).difference(a, b) for a, b in zip(values, others[proxy], strict=True)])
        for proxy, values in _by_seed(mine).items()
    ]
    return mean, dict(zip(_proxies(mine), by_proxy, strict=True))


def _proxies(rows: Trained) -> list[str]:
    return list(dict.fromkeys(proxy for _, proxy in rows))


def _by_seed(rows: Trained) -> dict[str, list[float]]:
    """Fitnesses in the order of the seeds: their means over proxies under "", then those on each proxy."""
    seeds, proxies = sorted({seed for seed, _ in rows}), _proxies(rows)
    means = [fmean(accuracy(rows[seed, proxy]) for proxy in proxies) for seed in seeds]
    by_proxy = {proxy: [accuracy(rows[seed, proxy]) for seed in seeds] for proxy in proxies}
    return {"": means, **by_proxy}
