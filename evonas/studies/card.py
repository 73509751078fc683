"""The card of a layer: all that is known of it, and what it costs on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.cluster import open_pool
from evonas.config import BASELINE
from evonas.config_input import load_config
from evonas.final import FinalRow, table
from evonas.layers.candidate import judged_groups
from evonas.layers.fragility import fragility
from evonas.layers.resolve import named_layer, reference_of
from evonas.listing import figures_json
from evonas.retraining import SEEDS_MAX, Progress, quiet
from evonas.search_space.analysis import batch_dependent
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.known import Known, known
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError, whole
from evonas.search_space.fingerprint import probe
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct
from evonas.search_space.screening import Degenerate, amplifications
from evonas.search_space.wording import counted
from evonas.store.database import Database
from evonas.store.dump import jsonable
from evonas.store.records import Figures, Purpose, Record
from evonas.studies.ablate import Ablation, recorded_ablation
from evonas.studies.half_precision import HalfPrecisionRow, half_precision
from evonas.studies.in_run import InRun
from evonas.studies.layer_speed import GROUPS, ROUNDS, SHAPES, Shape, SpeedRow, measure_speed
from evonas.studies.recorded import RecordedValidation, recorded_validations
from evonas.studies.sweep import Sweep, cheapest, plan_sweep, sweep_of
from evonas.studies.trainings import complete, lost, served
from evonas.workers import machine
from evonas.workers.protocol import Device

if TYPE_CHECKING:
    from evonas.run import Run

CHANNELS = 64  # by which parameters are counted


@dataclass(frozen=True, slots=True)
class Cost:
    """Trainings of the sweep that the run lacks."""

    trainings: int
    steps: int  # of each
    proxy: str
    seconds: float  # of one worker, about; 0: not known


@dataclass(frozen=True, slots=True, repr=False)
class Card:
    """A layer: a candidate of a run, a name of the catalog, or a text. What was not measured is empty or None."""

    name: str  # of the catalog, or the formula
    graph: Graph
    run: str | None  # its name
    reference: str | None  # the run as it was opened: folder, .db file, or URL#run
    birth: int | None
    same_as: str | None  # the known layer of the same function
    affine_of: str | None  # the known layer that it equals up to an affine of each channel
    batch_dependent: bool
    parameters: Mapping[str, str]  # learned: "one a channel", or "one"
    moments: tuple[str, ...]  # running ones, one a channel each
    amplification: Mapping[Degenerate, float]  # of degenerate input
    fragility: float  # amplification of rounding
    figures: Figures | None  # against BN-ReLU in the run
    is_fresh: bool  # whether the figures are those of the final table
    conditions: str  # of the speed
    speed: tuple[SpeedRow, ...]
    half_precision: tuple[HalfPrecisionRow, ...]
    own_test: FinalRow | None  # test images, under the search's own protocol
    validations: tuple[RecordedValidation, ...]
    sweep: Sweep | None
    sweep_cost: Cost | None  # of what is missing; None without a run, and where nothing is
    crashed: Mapping[str, str]  # layers whose training crashed -> why
    ablation: Ablation | None
    baseline: str = BASELINE  # its name in the run
    in_bits: tuple[str, ...] = ()  # proxies of the run whose figure is in bits per byte

    @property
    def title(self) -> str:
        if self.birth is not None:
            return f"Birth {self.birth} of {self.run}"
        return self.name if self.name in LAYERS else "A layer"

    def __repr__(self) -> str:
        batch = "depends" if self.batch_dependent else "does not depend"
        validated = counted(len(self.validations), "validation")
        return f"<Card of {'; '.join(self.name.splitlines())}: {batch} on the batch, {validated}>"

    def _repr_html_(self) -> str:
        from evonas.report.card_page import html  # only a notebook needs it

        return html(self)

    def markdown(self, picture: str | None = None) -> str:
        """A page, with a link to a picture if its path is given."""
        from evonas.report.card_page import markdown

        return markdown(self, picture)

    def save(self, path: str | Path) -> Path:
        """Write the page, and a picture of the graph beside it, under its name with .svg; return the picture's path.
        Raises InputError where one cannot be written."""
        from evonas.report.card_page import save

        return save(self, Path(path))

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        fields = asdict(self)
        del fields["graph"]
        fields |= {
            "figures": self.figures and figures_json(self.figures),
            "own_test": self.own_test and figures_json(self.own_test),
            "validations": [each.as_json() for each in self.validations],
            "sweep": self.sweep and self.sweep.as_json(),
            "ablation": self.ablation and {"layers": [], "seeds": self.ablation.seeds} | self.ablation.as_json(),
        }
        formula = {"formula": self.graph.formula, "digest": self.graph.digest, "live_nodes": self.graph.live_nodes}
        values: dict[str, Any] = jsonable(formula | fields)
        return values


def card(
    layer: "Graph | str | Record",
    *,
    speed: bool = True,
    compiled: bool = False,
    trained: bool = False,
    seeds: int = 3,
    device: Device = "auto",
    shapes: Sequence[Shape] = SHAPES,
    rounds: int = ROUNDS,
    settings: Sequence[str] = (),
    on_progress: Progress = quiet,
) -> Card:
    """Gather what is known of a layer: its formula, parameters and error in half precision; its speed and peak memory
    beside BN-ReLU, GN-ReLU and, where timm is installed, timm's EvoNorms; and, of a run's candidate, its figures,
    validations, ablation, and how it trains at other batch sizes and rates, as far as the run has recorded them.

    Args:
        layer: a record of a run, RUN#BIRTH, a graph, a text, or a name of the catalog.
        speed: time forward and backward on this machine: seconds.
        compiled: with torch.compile, too: minutes.
        trained: train what the run lacks of the sweep over batch sizes 1 to 256 and rates around the recipe's, on the
            run's cheapest proxy; the run records it. `Card.sweep_cost` tells the cost beforehand.
        seeds: trainings at each place of the sweep.
        device: of the speed.
        shapes: (n, c, h, w) of the speed.
        rounds: of the speed; in each the layers take turns.
        settings: overrides of the run's config for the sweep, such as "workers.count=1".
        on_progress: called with the timings, or trainings, done and their total.

    Raises InputError for bad input, and Stopped as `search` does.

    >>> evonas.card("results/quickstart-000#138").save("birth-138.md")
    >>> evonas.card("EvoNorm-B0", compiled=True)
    """
    from evonas.run import open_run  # with the queries of a run

    seeds, rounds = whole("seeds", seeds, 1, SEEDS_MAX), whole("rounds", rounds, 1, 10**6)
    reference = reference_of(layer)
    named = named_layer(f"{reference[0]}#{reference[1]}" if reference else layer).of_one_input()
    place = machine.chosen(device)
    if settings and not trained:
        raise InputError("settings: expected none, since nothing is trained")
    if compiled and not speed:
        raise InputError("compiled: nothing is timed without speed")
    if reference is None:
        if trained:
            raise InputError(f"trained: expected a candidate of a run, since {named.name} is of none")
        made, groups = _from_graph(named, known(probe(named.graph))), GROUPS
    else:
        run, birth = open_run(reference[0]), reference[1]
        made, groups = _of_candidate(named, run, birth), judged_groups(run.config)
        made = _with_records(made, named, trained, seeds, settings, on_progress)
    rows = (
        measure_speed(
            named, groups=groups, device=place, compiled=compiled, shapes=shapes, rounds=rounds, on_progress=on_progress
        )
        if speed
        else []
    )
    return replace(
        made,
        conditions=machine.conditions(place) if rows else "",
        speed=tuple(rows),
        half_precision=tuple(half_precision(named, groups)),
    )


def _from_graph(layer: NamedGraph, repeats: Known) -> Card:
    """The card of a graph, without a run."""
    module = NormAct(layer.graph, CHANNELS)
    parameters = {
        name: "one a channel" if each.numel() == CHANNELS else "one" for name, each in module.named_parameters()
    }
    return Card(
        name=layer.name,
        graph=layer.graph.canonical(),
        run=None,
        reference=None,
        birth=None,
        same_as=repeats.same_as if repeats.same_as != layer.name else None,
        affine_of=repeats.affine_of,
        batch_dependent=batch_dependent(layer.graph),
        parameters=parameters,
        moments=tuple(name for name, _ in module.named_buffers()),
        amplification=amplifications(layer.graph),
        fragility=fragility(layer.graph),
        figures=None,
        is_fresh=False,
        conditions="",
        speed=(),
        half_precision=(),
        own_test=None,
        validations=(),
        sweep=None,
        sweep_cost=None,
        crashed={},
        ablation=None,
    )


def _of_candidate(layer: NamedGraph, run: "Run", birth: int) -> Card:
    """The card of a candidate, with the figures of the search."""
    record = run.candidate(birth)
    return replace(
        _from_graph(layer, Known(same_as=record.same_as, affine_of=record.affine_of)),
        run=run.name,
        reference=run.reference,
        birth=birth,
        figures=record.figures,
        is_fresh=record.retrained is not None,
        baseline=run.config.baseline,
        in_bits=run.config.in_bits,
    )


def _with_records(
    made: Card, layer: NamedGraph, trained: bool, seeds: int, settings: Sequence[str], on_progress: Progress
) -> Card:
    """With what the run has recorded beside its search; `trained`: after the trainings that the sweep lacks."""
    database, formula = Database.open(str(made.reference)), layer.graph.formula
    reader = database.reader()
    proxy, step_seconds = cheapest(reader)
    plan = plan_sweep(reader.config, proxy, layer, seeds)
    in_run, wanted = InRun(database, reader, Purpose.CARD, {formula: int(made.birth or 0)}), list(plan.wanted.values())
    crashed: dict[str, str] = {}
    if trained:
        rows, crashes = complete(wanted, in_run, load_config(reader.config, settings), open_pool, on_progress)
        crashed = lost(wanted, crashes)
    else:
        rows = served(in_run.rows, wanted)
    missing = [key for key, each in plan.wanted.items() if each not in rows]
    cost = Cost(len(missing), reader.config.recipe.steps, proxy, plan.seconds(missing, step_seconds))
    judged = table(reader, reader.evaluations(Purpose.VALIDATE))
    return replace(
        made,
        own_test=next((row for row in judged if row.birth == made.birth), None),
        validations=tuple(recorded_validations(reader, formula)),
        sweep=sweep_of(plan, layer.name, rows),
        sweep_cost=cost if missing else None,
        crashed=crashed,
        ablation=recorded_ablation(reader, layer.graph),
    )
