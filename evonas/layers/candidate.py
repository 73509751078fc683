"""A candidate of a run as a file, which says where it comes from."""

from collections import Counter
from pathlib import Path

from evonas.config import BASELINE, Config
from evonas.layers.source import write_layer
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.store.records import Record
from evonas.workers.outcome import Fitness


def write_candidate(path: Path, record: Record, run: str, config: Config) -> None:
    """Write a candidate as a file that imports torch alone. Raises InputError where it cannot be written."""
    title, groups = "A normalization-activation layer found by evonas.", judged_groups(config)
    try:
        write_layer(path, Graph.parse(record.graph), title=title, about=provenance(run, record), groups=groups)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def provenance(run: str, record: Record) -> str:
    """The run and birth of a candidate, and its figures: the retrained ones of the final table where it has them."""
    about, row = f"Birth {record.birth} of {run}", record.retrained
    if row is not None and row.difference is not None:
        proxies = ", ".join(row.accuracy)
        return (
            f"{about}; {row.difference * 100:+.2f} points of accuracy against {BASELINE}, mean over "
            f"{len(row.accuracy)} proxies and {row.seeds} fresh seeds (small proxy networks: {proxies})."
        )
    if isinstance(record.outcome, Fitness) and record.advantage is not None:
        return (
            f"{about}; {record.advantage * 100:+.2f} points of accuracy against {BASELINE} with the search's one seed."
        )
    return f"{about}; it was not trained to the full budget."


def judged_groups(config: Config) -> int:
    """The `groups` of most of the proxies."""
    return Counter(proxy.groups for proxy in config.proxies.values()).most_common(1)[0][0]
