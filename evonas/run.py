"""A run as a person opens it: every query of the command line is a method here."""

from pathlib import Path

from evonas.final import FinalRow, final_table
from evonas.layers.provenance import provenance
from evonas.layers.source import write_layer
from evonas.search_space.graph import Graph
from evonas.store.queries import Reader
from evonas.store.records import Record


class Run:
    """A run as its database tells it: while it is searched, and long after."""

    def __init__(self, reader: Reader, reference: str | Path) -> None:
        self._reader = reader
        self.reference = str(reference)
        self.name = reader.name
        self.config = reader.config
        self.folder = reader.address.folder

    def top(self, n: int = 10, by: str | None = None) -> list[Record]:
        """The best `n` survivors: by mean accuracy minus BN-ReLU's, or by the accuracy on the proxy `by`."""
        return self._reader.top(n, by)

    def spread(self) -> dict[str, tuple[float, int]]:
        """Proxy -> the standard deviation of BN-ReLU's accuracy over seeds, and how many: what a lead has to exceed."""
        return self._reader.spread()

    def candidate(self, birth: int) -> Record:
        """One candidate; raises InputError where there is no such birth."""
        return self._reader.candidate(birth)

    def final_table(self) -> list[FinalRow]:
        """The best few, BN-ReLU and other baselines retrained with fresh seeds; empty until the search has ended."""
        return final_table(self._reader)

    def export(self, birth: int, path: str | Path) -> None:
        """Write a candidate as a file that imports torch alone."""
        record = self.candidate(birth)
        row = next((row for row in self.final_table() if row.birth == birth), None)
        about = provenance(self.name, record, row)
        title = "A normalization-activation layer found by evonas."
        write_layer(Path(path), Graph.parse(record.graph), title=title, about=about)

    @property
    def finished(self) -> bool:
        return self._reader.finished


def open_run(run: str | Path) -> Run:
    """A run by its folder, its .db file, or URL#run; raises InputError where there is none."""
    return Run(Reader.open(run), run)
