"""The units in which people read fitnesses and their differences: the one place that knows them.

A fitness f in [0, 1] is what is recorded, and maximised. Of a network that classifies images it is an accuracy; of one
that reads text it is 2^-b at b bits per byte, and people read b, of which less is better. A difference of accuracies is
read in points, 100 times it; one of bits per byte as it is. A mean over networks is that of their fitnesses. Where all
networks read text, it is read in bits per byte, too; of networks of both kinds it stays a fitness.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from evonas.search_space.errors import share
from evonas.workers.outcome import bits_per_byte

Value = TypeVar("Value")
Figure = tuple[float, float | None]  # mean and, over seeds, standard deviation
BITS_MAX = 1000.0  # per byte, that a person may ask for


class Unit(StrEnum):
    """The kind of a figure, as its name in words."""

    ACCURACY = "accuracy"
    BITS = "bits per byte"
    FITNESS = "fitness"  # a mean over networks of both kinds

    def read(self, fitness: float) -> float:
        """A fitness as people read it."""
        return bits_per_byte(fitness) if self is Unit.BITS else fitness

    def fitness(self, name: str, figure: Any) -> float:
        """The fitness that people read as a figure. Raises InputError, under this name, where a person gave none."""
        return 2.0 ** -share(name, figure, BITS_MAX) if self is Unit.BITS else share(name, figure)

    def difference(self, fitness: float, other: float) -> float:
        """The difference of two fitnesses as people read it."""
        return self.read(fitness) - self.read(other) if fitness != other else 0.0

    def difference_of(self, fitness: float, advantage: float) -> float:
        """The `difference` of a fitness to one that is smaller by `advantage`."""
        return self.difference(fitness, fitness - advantage) if self is Unit.BITS else advantage

    def gain(self, difference: float) -> float:
        """A difference of which more is better."""
        return -difference if self is Unit.BITS else difference

    @property
    def name_in_data(self) -> str:
        """The name of figures in JSON and CSV."""
        return self.replace(" ", "_")

    @property
    def suffix(self) -> str:
        """The end of the names of differences in JSON and CSV; without one a difference is a share."""
        return "_bits_per_byte" if self is Unit.BITS else ""

    @property
    def of_differences(self) -> str:
        return {Unit.ACCURACY: "points", Unit.BITS: "bits per byte", Unit.FITNESS: "points of fitness"}[self]

    @property
    def data(self) -> str:
        """The kind of the data that a layer is judged on."""
        return {Unit.ACCURACY: "images", Unit.BITS: "text", Unit.FITNESS: "images and text"}[self]

    @property
    def explained(self) -> str:
        """The unit of differences, for the sentence above a table."""
        return {
            Unit.ACCURACY: "points of accuracy",
            Unit.BITS: "bits per byte (less is better)",
            Unit.FITNESS: "points of fitness (accuracy, or of text 2^-bits)",
        }[self]

    def amount(self, difference: float, *, sign: str = "+", digits: int = 0) -> str:
        """A difference, or its deviation: the number alone, with further digits if asked for."""
        factor, places = (1, 3) if self is Unit.BITS else (100, 1)
        return f"{difference * factor:{sign}.{places + digits}f}"

    def with_deviation(self, difference: float, deviation: float | None, plus_minus: str = "±", digits: int = 0) -> str:
        """A difference with its standard deviation over seeds."""
        spread = "" if deviation is None else f" {plus_minus}{self.amount(deviation, sign='', digits=digits)}"
        return f"{self.amount(difference, digits=digits)}{spread}"

    def with_interval(self, difference: tuple[float, tuple[float, float] | None]) -> str:
        """A difference with its interval."""
        mean, interval = difference
        return self.amount(mean) + (f" [{', '.join(map(self.amount, interval))}]" if interval else "")


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a config's figures."""

    proxies: tuple[str, ...]
    in_bits: tuple[str, ...] = ()  # the proxies that read text

    @classmethod
    def union(cls, several: Iterable["Units"]) -> "Units":
        """The units of several configs side by side."""
        every = list(several)
        proxies = dict.fromkeys(proxy for each in every for proxy in each.proxies)
        return cls(tuple(proxies), tuple(dict.fromkeys(proxy for each in every for proxy in each.in_bits)))

    def of(self, proxy: str) -> Unit:
        """The unit of figures on a proxy; for "", which is no proxy's name, the unit of their mean."""
        return (Unit.BITS if proxy in self.in_bits else Unit.ACCURACY) if proxy else self.mean

    @property
    def mean(self) -> Unit:
        """The unit of means over the proxies, and of the differences between layers."""
        if not self.in_bits:
            return Unit.ACCURACY
        return Unit.BITS if set(self.proxies) <= set(self.in_bits) else Unit.FITNESS

    @property
    def text(self) -> str:
        """The units of figures on the proxies."""
        if self.mean is not Unit.FITNESS:
            return self.mean
        return f"{Unit.ACCURACY}, on {', '.join(self.in_bits)} {Unit.BITS}"

    def named(self, figures: Mapping[str, Value], in_bits: Unit = Unit.BITS) -> dict[str, dict[str, Value]]:
        """Figures by proxy as JSON holds them, each under the name of its unit; those of text under that of
        `in_bits`."""
        named: dict[str, dict[str, Value]] = {} if self.mean is Unit.BITS else {Unit.ACCURACY.name_in_data: {}}
        for proxy, figure in figures.items():
            name = in_bits if proxy in self.in_bits else Unit.ACCURACY
            named.setdefault(name.name_in_data, {})[proxy] = figure
        return named

    def read(self, fitnesses: Mapping[str, float]) -> dict[str, float]:
        """Fitnesses by proxy as people read them."""
        return {proxy: self.of(proxy).read(each) for proxy, each in fitnesses.items()}

    def as_json(self) -> dict[str, Any]:
        """Under `units` the unit of each proxy, and of means and differences; empty of images alone."""
        if not self.in_bits:
            return {}
        return {"units": {**{proxy: self.of(proxy) for proxy in self.proxies}, "difference": self.mean}}


IMAGES = Units(())  # of networks that classify images alone


@dataclass(frozen=True, slots=True)
class Shown:
    """Figures in the units in which people read them."""

    values: dict[str, Figure | None]  # proxy -> mean, spread
    difference: float | None
    difference_spread: float | None
    units: Units

    @property
    def unit(self) -> Unit:
        """The unit of the difference."""
        return self.units.mean
