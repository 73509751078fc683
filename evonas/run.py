"""An opened run. Every query of the command line is a method here; both give the same values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import evonas
from evonas.final import FinalRow, final_table
from evonas.known_layers import named
from evonas.layers.candidate import candidate_source
from evonas.listing import Records, to_frame
from evonas.ranking import Again, ranked, seed_noise, with_figures
from evonas.search_space.errors import InputError, whole
from evonas.search_space.graph import Graph
from evonas.search_space.screening import amplifications
from evonas.search_space.wording import counted
from evonas.store.criteria import Criteria
from evonas.store.database import Database
from evonas.store.dump import dump
from evonas.store.reader import Reader
from evonas.store.records import Figures, Purpose, Record, State
from evonas.views import LayerRow, Status, baseline_accuracy, candidate_rows, layer_rows, status
from evonas.workers.outcome import Evaluation

if TYPE_CHECKING:
    import pandas

    from evonas.layers.export import Format
    from evonas.layers.parity import Parity
    from evonas.report.survey import Survey
    from evonas.studies.funnel import Funnel
    from evonas.studies.operators import OperatorRow
    from evonas.studies.recorded import RecordedValidation
    from evonas.studies.replay import Difference

LISTED_MAX = 10**9  # layers of one answer


class Run:
    """A run as its database holds it, while the search is running and after its end."""

    def __init__(self, reader: Reader, reference: str | Path) -> None:
        self.reader = reader
        self.reference = str(reference)
        self.name = reader.name
        self.config = reader.config
        self.versions = reader.versions  # of evonas, torch ...; "split" identifies the images
        self.folder = reader.address.folder
        self.created = reader.created  # Unix seconds

    @property
    def place(self) -> tuple[str, str]:
        """The database and the name there, the same however the run was named."""
        address = self.reader.address
        return str(address.path.resolve() if address.is_file else address.url), self.name

    @property
    def finished(self) -> bool:
        """Whether the search has ended, final table included."""
        return self.reader.finished

    def status(self) -> Status:
        """Counts by state and gate, the pace and the time left."""
        return status(self.reader)

    def top(self, n: int = 10, by: str | None = None, *, after: int | None = None, every: bool = False) -> Records:
        """The best `n` layers: first those of the final table, by their figures with fresh seeds, then of each other
        family the best: those that the search measured with several seeds, by their means, then those with one. A layer
        that failed with one of its seeds is among the last.

        Args:
            by: rank by the figure on this proxy; by default by the difference to BN-ReLU, mean over proxies.
            after: start after this birth: the next page.
            every: list all members of a family, not only the best.
        """
        return self._listed(n, Criteria(), by=by, after=after, distinct=not every)

    def front(self, n: int = LISTED_MAX) -> Records:
        """The Pareto front in the config's objectives, in the order of `top`."""
        return self._listed(n, Criteria(front=True))

    def find(
        self,
        uses: str | Sequence[str] = (),
        lacks: str | Sequence[str] = (),
        *,
        batch_dependent: bool | None = None,
        max_nodes: int | None = None,
        minimum: Mapping[str, float] | None = None,
        front: bool = False,
        distinct: bool = False,
        by: str | None = None,
        n: int = 10,
    ) -> Records:
        """The best survivors with some properties, in the order of `top`.

        Args:
            uses: for each of these operations, or patterns such as `std_*`, a live node that is one.
            lacks: operations, or patterns, of no live node.
            batch_dependent: only layers that depend on their batch, or only those that do not.
            max_nodes: at most so many live nodes.
            minimum: proxy -> least accuracy, or most bits per byte, of the figures that are listed.
            front: only members of the Pareto front.
            distinct: only the best of each family, and of layers that trained alike, bit for bit.
            by: rank by the figure on this proxy.
        """
        criteria = Criteria.of(uses, lacks, batch_dependent, max_nodes, minimum, front, self.config.units)
        return self._listed(n, criteria, by=by, distinct=distinct)

    def candidate(self, birth: int) -> Record:
        """One candidate. Its amplification is measured here if an older version of evonas did not. Raises InputError if
        there is no such birth."""
        record = self._with_figures([self.reader.candidate(birth)])[0]
        if record.amplification is not None:
            return record
        factors = amplifications(self.graph(birth))
        return replace(
            record,
            amplification=factors["position"],
            amplification_constant=factors["constant"],
            amplification_sample=factors["sample"],
        )

    def graph(self, birth: int) -> Graph:
        """The graph of a candidate. Raises InputError if there is no such birth."""
        return self.reader.graph(birth)

    def runnable(self, birth: int) -> Graph:
        """The graph of a candidate, after the modules of its primitives were run where it has some of a user's own.
        Raises InputError where one is absent, or its source is another than the run's."""
        graph = self.graph(birth)
        if {node.op for node in graph.nodes} & {each.name for each in self.config.space.own}:
            self.config.loaded()
        return graph

    def evaluation(self, birth: int) -> Evaluation | None:
        """The search's measurements of a candidate: gates, learning curves, costs; None while it has none of its own.
        Raises InputError if there is no such birth."""
        return self.reader.evaluation_of(self.candidate(birth).birth)

    def candidates(self, births: Sequence[int]) -> Records:
        """Several candidates, in this order. Raises InputError if one is not there."""
        return self._with_figures(self.reader.named(births))

    def evaluations(self, births: Sequence[int]) -> dict[int, Evaluation]:
        """Birth -> the search's measurements, of the candidates that have their own."""
        return {each.birth: each.evaluation for each in self.reader.trained_in_search(births) if each.birth}

    def lineage(self, birth: int) -> Records:
        """A candidate and its ancestors, the oldest first."""
        return self._with_figures(self.reader.lineage(birth))

    def children(self, birth: int) -> list[int]:
        """The births of a candidate's children. Raises InputError if there is no such birth."""
        return self.reader.children(self.candidate(birth).birth)

    def baseline(self) -> dict[str, float]:
        """BN-ReLU's figure on each proxy with the search's seed; empty before it is trained."""
        return baseline_accuracy(self.reader)

    def spread(self) -> dict[str, tuple[float, int]]:
        """Proxy -> standard deviation of BN-ReLU's figure over seeds, and their number. A real lead exceeds it."""
        return self.reader.spread()

    def seed_noise(self) -> tuple[float, int] | None:
        """The standard deviation over seeds of one layer's difference to BN-ReLU, pooled over the candidates that have
        several seeds, and their number; None without any."""
        return seed_noise(self.reader, [row for row in self.final_table() if row.birth], self.reader.measured_again())

    def final_table(self) -> list[FinalRow]:
        """The best candidates, BN-ReLU and other baselines, retrained with fresh seeds; empty until the search ends."""
        return final_table(self.reader)

    def to_frame(self, records: Sequence[Record] | None = None) -> "pandas.DataFrame":
        """Candidates as a data frame, by default all of the run. Raises InputError where pandas is not installed."""
        if records is None:
            records = self._with_figures(self.reader.candidates())
        return to_frame(records, self.config.units)

    def latex(self, records: Sequence[Record]) -> str:
        """Candidates as a LaTeX table for a paper (amsmath, booktabs), below BN-ReLU with the same seeds."""
        from evonas.report.latex_table import latex_table

        return latex_table(self.rows(records), list(self.config.proxies))

    def rows(self, records: Sequence[Record]) -> list[LayerRow]:
        """Candidates as lines of a table: those retrained and the others, each group below its BN-ReLU."""
        return layer_rows(self.reader, records, self.final_table())

    def candidate_rows(self, records: Sequence[Record]) -> list[LayerRow]:
        """Candidates as lines of a table, without BN-ReLU."""
        return candidate_rows(self.reader, records)

    def funnel(self, within: float | None = None) -> "Funnel":
        """Count what each gate stopped, at what cost, and how often wrongly: a layer that ends at most `within` of
        accuracy (0.02) below BN-ReLU or, where all proxies read text, takes at most so many more bits (0.05)."""
        from evonas.studies.funnel import funnel

        return funnel(self.reader, within)

    def operators(self) -> "list[OperatorRow]":
        """Count what became of each operator's births, beside their parents; their advantage and worker seconds."""
        from evonas.studies.operators import operators

        return operators(self.reader)

    def survey(self) -> "Survey":
        """All candidates as columns, with funnel and operators, from one pass over the records."""
        from evonas.report.survey import survey

        return survey(self.reader)

    def replay(self) -> "list[Difference]":
        """The values that do not follow from the records before them: none in an intact run."""
        from evonas.studies.replay import replay

        return replay(self.reader)

    def validated(self) -> set[int]:
        """The births that the test images of the run have judged."""
        mine = [each.model_dump(mode="json", exclude={"path"}) for each in self.config.protocol.used_data]
        elsewhere = [each for each in self.reader.trainings() if each.judged_on == "test"]
        births = {each.birth for each in elsewhere if each.protocol["data"] in mine}
        return {each for each in births | {e.birth for e in self.reader.evaluations(Purpose.VALIDATE)} if each}

    def validations(self, birth: int) -> "list[RecordedValidation]":
        """The test accuracy of a candidate under settings that the search did not use, as `evonas.validate` recorded
        them: a row for each network and batch size. Raises InputError if there is no such birth."""
        from evonas.studies.recorded import recorded_validations

        return recorded_validations(self.reader, self.candidate(birth).formula)

    def dump(self, *, logical: bool = True) -> Iterator[dict[str, Any]]:
        """All records; `logical` leaves out times, hosts and events. Runs with equal logical dumps are the same."""
        return dump(self.reader, logical_only=logical)

    def export(self, birth: int, path: str | Path, format: "Format" = "python", **options: Any) -> "Parity":
        """Write a candidate as a Python file, an ONNX model or a program, as `evonas.export` does."""
        return evonas.export(f"{self.reference}#{self.candidate(birth).birth}", path, format, **options)

    def source(self, birth: int) -> str:
        """A candidate as a Python file, unchecked."""
        return candidate_source(self.candidate(birth), self.runnable(birth), self.name, self.config)

    def _listed(
        self,
        n: int,
        criteria: Criteria,
        *,
        by: str | None = None,
        after: int | None = None,
        distinct: bool = False,
    ) -> Records:
        n = whole("n", n, 1, LISTED_MAX)
        for proxy in [*criteria.minimum, *([] if by is None else [by])]:
            self.reader.check_proxy(proxy)
        after = None if after is None else self.candidate(after).birth
        retrained = {row.birth: row for row in self.final_table() if row.birth}
        again = self.reader.measured_again()
        order = ranked(self.reader, retrained, again, by, criteria)
        births = self.reader.distinct(order, kept=retrained) if distinct else (birth for birth, _ in order)
        if after is not None and after not in births:  # which goes through them until it is there
            raise InputError(f"{self.name}: birth {after} is not among the layers that are listed")
        return self._with_figures(self.reader.named(list(islice(births, n))), retrained, again)

    def _with_figures(
        self,
        records: Sequence[Record],
        retrained: Mapping[int, Figures] | None = None,
        again: Again | None = None,
    ) -> Records:
        if retrained is None:
            retrained = {row.birth: row for row in self.final_table() if row.birth}
        measured = with_figures(self.reader, records, self.reader.measured_again() if again is None else again)
        return Records(replace(self._told(each), retrained=retrained.get(each.birth)) for each in measured)

    def _told(self, record: Record) -> Record:
        return replace(named(self.reader, record), run=self.reference)

    def __repr__(self) -> str:
        try:
            status = self.status()
        except InputError:  # a debugger shows runs whose database is gone, too
            return f"<Run {self.reference!r}: unreadable>"
        births = "" if status.finished else f", {status.births} of {counted(status.births_wanted, 'birth')}"
        best = self.top(1) if status.by_state.get(State.EVALUATED) else []
        return f"<Run {self.reference!r}: {status.state}{births}{f', best {best[0]!r}' if best else ''}>"

    def _repr_html_(self) -> str:
        """The best layers with their pictures."""
        records = self.top(3) if self.status().by_state.get(State.EVALUATED) else []
        return f"<p>{escape(repr(self)[1:-1])}</p>{''.join(each._repr_html_() for each in records)}"


def open_run(run: str | Path) -> Run:
    """Open a run by its folder, its .db file, or URL#run. Raises InputError if there is none."""
    return Run(Database.open(run).reader(), run)
