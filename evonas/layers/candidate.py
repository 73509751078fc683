"""A candidate of a run as a Python file that states its origin and figures."""

from collections import Counter

from evonas.config import BASELINE, Config
from evonas.layers.source import layer_source
from evonas.search_space.graph import Graph
from evonas.search_space.wording import counted
from evonas.store.records import Record
from evonas.workers.outcome import Fitness


def candidate_source(record: Record, graph: Graph, run: str, config: Config) -> str:
    """The source of a candidate's layer, with the `groups` that it was judged with."""
    title = "A normalization-activation layer found by evonas."
    if record.same_as:
        title = f"{record.same_as}, a known layer: what a search of evonas came to is the same function."
    about = provenance(run, record, config)
    if record.affine_of:
        about += f"\nUp to a scale and a shift of each channel it is {record.affine_of}, a known layer."
    return layer_source(graph, title=title, about=about, groups=judged_groups(config))


def provenance(run: str, record: Record, config: Config) -> str:
    """The run, the birth and the figures of a candidate: those of the final table if it was retrained, else those of
    the search."""
    about, row = f"Birth {record.birth} of {run}", record.retrained
    if row is not None and row.difference is not None:
        proxies = ", ".join(row.accuracy)
        return (
            f"{about}; {row.difference * 100:+.2f} points of accuracy against {BASELINE}, mean over "
            f"{counted(len(row.accuracy), 'proxy', 'proxies')} and {counted(row.seeds, 'fresh seed')} "
            f"(small proxy networks: {proxies})."
        )
    if isinstance(record.outcome, Fitness) and record.advantage is not None:
        points = "accuracy" if config.judged_by == "accuracy" else "exp(-training loss)"
        return (
            f"{about}; {record.advantage * 100:+.2f} points of {points} against {BASELINE} with "
            f"{counted(config.recipe.seeds, 'seed')} in the search."
        )
    return f"{about}; it was not trained to the full budget."


def judged_groups(config: Config) -> int:
    """The most common `groups` of the proxies."""
    return Counter(proxy.groups for proxy in config.proxies.values()).most_common(1)[0][0]
