"""Several runs side by side: their best layers in one table, and what differs between their configs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from evonas.config import Config
from evonas.listing import Records
from evonas.run import LISTED_MAX, Run, open_run
from evonas.search_space.errors import InputError, whole
from evonas.store.records import columns
from evonas.units import Unit, Units
from evonas.views import LayerRow

ABSENT = "not there"
IMAGES = "split"  # among a run's versions, a digest of its images


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """The best layers of several runs, and what differs between their configs."""

    runs: tuple[str, ...]  # as they are named here, in the order in which they were given
    units: Units  # of the proxies of any run
    records: Records  # as they are listed
    rows: tuple[LayerRow, ...]  # the same as lines of a table, with BN-ReLU of each run
    # Key of the configs, with dots, or "images", a digest of them -> its value in each run.
    differences: Mapping[str, tuple[Any, ...]]
    baseline: str  # its name; several, where the runs have several
    comparable: tuple[str, ...]  # proxies on which all runs train the same networks on the same data in the same way

    @property
    def proxies(self) -> tuple[str, ...]:
        return self.units.proxies

    @property
    def is_one_ranking(self) -> bool:
        """Whether all figures were measured alike, so that the layers are ranked together; otherwise each run's follow
        its own BN-ReLU."""
        return self.comparable == self.proxies

    @property
    def text(self) -> str:
        """The figures that are comparable, and those that are not."""
        if self.is_one_ranking:
            return (
                "All runs train the same networks on the same data in the same way: their figures are comparable, and "
                f"rank the layers by {self.units.mean}, whatever each run maximised."
            )
        reason = "the runs differ in networks, data or recipe" + ", or in their baseline" * (" or " in self.baseline)
        if not self.comparable:
            return f"Neither {self._figures} nor differences to {self.baseline} are comparable: {reason}.{self._mixed}"
        alike = f"The {self._figures} on {', '.join(self.comparable)} are comparable"
        others = f"other {self._figures}, and the differences to {self.baseline}, are not"
        return f"{alike}; {others}: {reason}.{self._mixed}"

    @property
    def _figures(self) -> str:
        return "figures" if self.units.in_bits else "accuracies"

    @property
    def _mixed(self) -> str:
        """The unit of each run's differences, where the runs have several."""
        kinds: dict[Unit, dict[str, None]] = {}
        for row in self.rows:
            if row.difference is not None:
                kinds.setdefault(row.unit, {})[row.run] = None
        if len(kinds) < 2:
            return ""
        texts = [f"{unit.of_differences} ({', '.join(runs)})" for unit, runs in kinds.items()]
        return f" Differences are {'; '.join(texts)}."

    def lines(self) -> Iterator[str]:
        """The differences between the configs, a key a line, with the runs that have each value."""
        for key, values in self.differences.items():
            texts = [ABSENT if value is ABSENT else _text(value) for value in values]
            of = {text: [run for run, mine in zip(self.runs, texts, strict=True) if mine == text] for text in texts}
            yield f"{key}: " + "; ".join(f"{text} ({', '.join(runs)})" for text, runs in of.items())

    def latex(self) -> str:
        """The rows as a LaTeX table for a paper (amsmath, booktabs)."""
        from evonas.report.latex_table import latex_table

        return latex_table(self.rows, self.proxies)

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": list(self.runs),
            "comparable": list(self.comparable),
            "layers": [_row_json(row) for row in self.rows],
            "differences": {
                key: {run: value for run, value in zip(self.runs, values, strict=True) if value is not ABSENT}
                for key, values in self.differences.items()
            },
            **self.units.as_json(),
        }

    def __repr__(self) -> str:
        layers = "\n".join(f"{each.run}: {each!r}" for each in self.records) or "<no candidate>"
        return "\n".join([layers, self.text, *self.lines()])

    def _repr_html_(self) -> str:
        from evonas.report.notebook import table_html  # only a notebook needs it

        shown = [
            {
                "run": row.run,
                "birth": row.birth,
                **{proxy: (row.accuracy.get(proxy) or (None,))[0] for proxy in self.proxies},
                **({"unit": row.unit} if self.units.in_bits else {}),
                "difference": row.difference,
                "spread": row.difference_spread,
                "seeds": row.seeds,
                "fresh": row.is_fresh,
                "formula": row.what,
            }
            for row in self.rows
        ]
        differing = [
            {"key": key, **{run: _text(value) for run, value in zip(self.runs, values, strict=True)}}
            for key, values in self.differences.items()
        ]
        return f"{table_html(shown)}<p>{self.text}</p>{table_html(differing)}"


def compare(runs: Sequence[str | Path | Run], n: int = 10, by: str | None = None) -> Comparison:
    """Compare runs by the best `n` layers of each, which `Run.top` gives: together where their figures are
    comparable, else run by run.

    Args:
        runs: at least two runs, or what `open_run` takes.
        n: how many layers of each run.
        by: rank by the figure on this proxy, which all runs must have.
    """
    if isinstance(runs, str | Path | Run) or len(runs) < 2:
        raise InputError("runs: expected at least two")
    opened = [each if isinstance(each, Run) else open_run(each) for each in runs]
    places = [each.place for each in opened]
    for place, each in zip(places, opened, strict=True):
        if places.count(place) > 1:
            raise InputError(f"runs: {each.reference} is there more than once")
    n, names = whole("n", n, 1, LISTED_MAX), short_names([each.reference for each in opened])
    units = Units.union(each.config.units for each in opened)
    comparable = tuple(proxy for proxy in units.proxies if _is_alike(proxy, opened))
    best = [each.top(n, by) for each in opened]
    rows = [
        [replace(row, run=name) for row in each.rows(records)]
        for name, each, records in zip(names, opened, best, strict=True)
    ]
    listed = list(chain.from_iterable(rows))
    if comparable == units.proxies:
        listed = _ranked_together(listed, by)
    of = {(name, each.birth): replace(each, run=name) for name, some in zip(names, best, strict=True) for each in some}
    return Comparison(
        runs=tuple(names),
        units=units,
        records=Records(of[row.run, row.birth] for row in listed if row.birth),
        rows=tuple(listed),
        differences=_differences(opened),
        baseline=" or ".join(dict.fromkeys(each.config.baseline for each in opened)),
        comparable=comparable,
    )


def _row_json(row: LayerRow) -> dict[str, Any]:
    if not row.in_bits:
        return columns(row)
    names = {name: f"{name}{row.unit.suffix}" for name in ("difference", "difference_spread")}
    fields = {names.get(name, name): value for name, value in columns(row).items() if name != "accuracy"}
    return fields | row.units.named(row.accuracy)


def _ranked_together(rows: Sequence[LayerRow], by: str | None) -> list[LayerRow]:
    """Layers of all runs by one measure, those of one kind below each run's BN-ReLU; those that failed last."""

    def key(row: LayerRow) -> tuple[bool, tuple[bool, bool], bool, float]:
        figure = None if by is None else row.accuracy.get(by)
        value = row.gain if by is None else figure and row.units.of(by).gain(figure[0])
        is_fresh, is_repeated = row.kind
        return row.failed > 0, (not is_fresh, not is_repeated), row.birth is not None, -(value or 0.0)

    return sorted(rows, key=key)


def short_names(references: Sequence[str]) -> list[str]:
    """The end of each reference, as much of it as tells the runs apart."""
    parts = [reference.replace("#", "/").rstrip("/").split("/") for reference in references]
    for depth in range(1, max(map(len, parts))):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(references)


def _is_alike(proxy: str, runs: Sequence[Run]) -> bool:
    """Whether all runs train the same network of this name, on the same images, by the same recipe."""
    if any(proxy not in each.config.proxies for each in runs):
        return False

    def task(config: Config) -> tuple[Any, ...]:
        data = config.protocol.data_of(proxy)
        data = data.model_copy(update={"path": None})  # they are the same, or not, wherever they lie
        return config.proxies[proxy], config.recipe, data, config.execution.dtype, config.baseline

    tasks, images = [task(each.config) for each in runs], {each.versions.get(IMAGES) for each in runs} - {None}
    return len(images) < 2 and all(each == tasks[0] for each in tasks)


def _differences(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    flat = [
        {**dict(_dotted(each.config.model_dump(mode="json"))), "images": each.versions.get(IMAGES, ABSENT)}
        for each in runs
    ]
    keys = dict.fromkeys(chain.from_iterable(flat))
    values = {key: tuple(each.get(key, ABSENT) for each in flat) for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def _dotted(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config. A list of gates is their names in order, and the options of each under its name."""
    prefix = f"{key}." if key else ""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _dotted(each, f"{prefix}{name}")
    elif isinstance(value, list) and value and all(isinstance(each, dict) and "gate" in each for each in value):
        names = [each["gate"] for each in value]
        yield key, names
        for place, each in enumerate(value):
            number = names[: place + 1].count(names[place])
            name = names[place] + (f"#{number}" if names.count(names[place]) > 1 else "")
            yield from _dotted({option: v for option, v in each.items() if option != "gate"}, f"{prefix}{name}")
    else:
        yield key, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
