"""A candidate of a run as a Python file that states its origin and figures."""

from collections import Counter

from evonas.config import Config
from evonas.layers.fragility import fragility
from evonas.layers.source import layer_source
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.graph import Graph
from evonas.search_space.wording import counted, counted_pairs
from evonas.store.records import Record
from evonas.units import Unit


def candidate_source(record: Record, graph: Graph, run: str, config: Config) -> str:
    """The source of a candidate's layer, with the `groups` that it was judged with; its parity is not checked. Raises
    InputError for a layer whose output does not change with x."""
    NamedGraph(f"birth {record.birth}", graph).of_use()
    title, about = described(record, run, config.baseline)
    checks = f"Fragility: {fragility(graph):.3g}. `evonas export` checks the parity of its formats as well."
    return layer_source(graph, title=title, about=about, groups=judged_groups(config), checks=checks)


def described(record: Record, run: str, baseline: str) -> tuple[str, str]:
    """The title and the origin of a candidate, for an exported file."""
    title = "A normalization-activation layer found by evonas."
    if record.same_as:
        title = f"{record.same_as}, a known layer: what a search of evonas came to is the same function."
    about = provenance(run, record, baseline)
    if record.affine_of:
        about += f"\nUp to a scale and a shift of each channel it is {record.affine_of}, a known layer."
    return title, about


def provenance(run: str, record: Record, baseline: str) -> str:
    """The run, the birth and the figures of a candidate: those of the final table if it was retrained, else those of
    the search; with the standard deviation over seeds."""
    about, row = f"Birth {record.birth} of {run}", record.figures
    if row is None:
        return f"{about}; it was not trained to the full budget."
    count = counted_pairs(row.paired, row.seeds, "fresh seed" if record.retrained else "seed")
    seeds = count if record.retrained else f"{count} in the search"
    shown = row.shown
    if shown.difference is None:
        return f"{about}; it failed with {row.failed} of {seeds}."
    difference = shown.unit.with_deviation(shown.difference, shown.difference_spread, "+- ", digits=1)
    unit = "points of accuracy" if shown.unit is Unit.ACCURACY else shown.unit.of_differences
    proxies = f"{counted(len(row.accuracy), 'proxy', 'proxies')} and {seeds}"
    return (
        f"{about}; {difference} {unit} against {baseline}, mean over {proxies} "
        f"(small proxy networks: {', '.join(row.accuracy)})."
    )


def judged_groups(config: Config) -> int:
    """The most common `groups` of the proxies."""
    return Counter(proxy.groups for proxy in config.proxies.values()).most_common(1)[0][0]
