"""A search at one moment: what is stopped, what leads, how far it is, and how long it takes.

All of it is read from the database. So whoever drives a run and whoever watches it see the same.
"""

from dataclasses import dataclass

from evonas.run import Run
from evonas.run_state import RunState
from evonas.store.records import Operator, State
from evonas.units import Units
from evonas.views import LayerRow, Status, final_row
from evonas.workers.outcome import DIVERGED, CrashKind, JudgedBy

SEARCHING, RETRAINING = "searching", "retraining the best"
CRASHED = "crashed"  # in the counts of what is stopped


@dataclass(frozen=True, slots=True)
class Leading:
    """The layers that lead, and what their figures are worth."""

    trained: tuple[int, int, int]  # candidates, BN-ReLU, layers of the final table: so many trainings were read
    leader: LayerRow | None  # the first layer of `Run.top`
    baseline: LayerRow | None  # BN-ReLU as the leader is compared with it; None before it is trained
    control: LayerRow | None  # the best of the other known layers that the config names
    noise: tuple[float, int] | None  # standard deviation over seeds of a layer's difference, and of how many layers


@dataclass(frozen=True, slots=True)
class Overview:
    """What a person sees of a search at a glance."""

    status: Status
    activity: str  # "searching", or what else the driver does; the state of a run that is not driven
    judged_by: JudgedBy
    units: Units
    baseline: str  # its name
    stopped: dict[str, int]  # by each gate of the protocol, in its order; then diverged, and crashed
    has_surrogate: bool
    core_seconds: float
    minutes: float | None  # after which no candidate is proposed
    leading: Leading
    busy: int | None = None  # workers; None where another process drives the run
    workers: int | None = None

    @property
    def proxies(self) -> tuple[str, ...]:
        return self.units.proxies

    @property
    def judged_by_text(self) -> str:
        """The measure that decides which layer is better, as people call it."""
        return self.units.mean if self.judged_by == "accuracy" else self.judged_by

    @property
    def outcomes(self) -> int:
        return self.status.births - self.status.by_state.get(State.PENDING, 0)

    @property
    def trained(self) -> int:
        return self.status.by_state.get(State.EVALUATED, 0)

    @property
    def is_running(self) -> bool:
        return self.status.state == RunState.RUNNING and not self.status.finished

    @property
    def is_retraining(self) -> bool:
        return self.activity == RETRAINING


def overview(run: Run, before: Overview | None = None, *, is_brief: bool = False) -> Overview:
    """Read a run's overview. What leads is taken from an earlier one if no layer was trained since, or with
    `is_brief`: reading it takes most of the time."""
    status, config = run.status(), run.config
    names = list(dict.fromkeys(gate.gate for gate in config.gates))
    stopped = {name: status.by_gate.get(name, 0) for name in (*names, DIVERGED)}
    stopped[CRASHED] = sum(status.by_gate.get(kind, 0) for kind in CrashKind)
    is_old = before is None or (before.leading.trained != _trained(status) and not is_brief)
    leading = _leading(run, status) if before is None or is_old else before.leading
    return Overview(
        status=status,
        activity=_activity(status, leading, config.baseline),
        judged_by=config.judged_by,
        units=config.units,
        baseline=config.baseline,
        stopped=stopped,
        has_surrogate=config.evolution.surrogate is not None,
        core_seconds=status.worker_seconds * config.workers.cpus,
        minutes=config.evolution.minutes,
        leading=leading,
    )


def _trained(status: Status) -> tuple[int, int, int]:
    return status.by_state.get(State.EVALUATED, 0), status.baselines, status.retrained


def _leading(run: Run, status: Status) -> Leading:
    rows = run.rows(run.top(1))
    return Leading(
        trained=_trained(status),
        leader=next((row for row in rows if row.birth), None),
        baseline=next((row for row in rows if row.birth is None), None),
        control=_control(run, status.births),
        noise=run.seed_noise(),
    )


def _activity(status: Status, leading: Leading, baseline: str) -> str:
    if status.finished:
        return str(RunState.FINISHED)
    if status.state != RunState.RUNNING:
        return str(status.state)
    return RETRAINING if status.evolved else SEARCHING if leading.baseline else f"training {baseline}"


def _control(run: Run, births: int) -> LayerRow | None:
    """The best known layer beside BN-ReLU: of the final table, or else of the first births."""
    config, baseline = run.config, run.config.baseline
    rows = [final_row(row, config) for row in run.final_table() if row.birth is None and row.name != baseline]
    if not rows:
        first = run.candidates(range(1, min(births, len(config.evolution.warm_start)) + 1))
        rows = run.candidate_rows([each for each in first if each.operator == Operator.CATALOG])
    gains = [(row.gain, row) for row in rows if row.gain is not None and row.known_as != baseline]
    return max(gains, key=lambda each: each[0], default=(0.0, None))[1]
