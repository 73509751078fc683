"""A run in sentences."""

import time
from collections.abc import Iterator, Mapping

from evonas.conclusion import verdict
from evonas.config import Config
from evonas.ranking import advantage_read
from evonas.report.survey import Survey
from evonas.report.texts import duration
from evonas.run import Run
from evonas.run_state import RunState
from evonas.search_space.wording import counted
from evonas.store.records import State
from evonas.units import Unit
from evonas.views import lengths
from evonas.workers.protocol import Corpus

STATES = {
    RunState.FINISHED: "The search has ended.",
    RunState.RUNNING: "The search is running: these are its records so far.",
    RunState.STOPPED: "The search was stopped before its end: evonas resume goes on with it.",
    RunState.DEAD: "The search has not ended and nothing drives it: its driver was killed, or failed. evonas resume "
    "goes on with it.",
}


def summary(run: Run, state: RunState, by_state: Mapping[str, int], survey: Survey) -> Iterator[str]:
    """The search in sentences: its state, its finds, its space, its counts, its cost and its machine."""
    yield STATES[state]
    yield from _found(run, by_state, survey)
    yield from _searched(run)
    yield from _counts(run, by_state, survey)
    if survey.weights is None:
        yield from _cost(survey)


def _found(run: Run, by_state: Mapping[str, int], survey: Survey) -> Iterator[str]:
    rows = run.final_table()
    if rows:
        yield from verdict(rows, run.config.baseline)
        return
    if not by_state.get(State.EVALUATED):
        yield "No candidate was trained to the full budget, so nothing was found."
        return
    if survey.weights is not None:  # leaders with several seeds are read one by one: a long run has many
        leader = run.reader.top(1)[0]
        difference = f"{run.config.units.mean.amount(advantage_read(leader, run.config) or 0.0)} {_what(run.config)}"
        yield (
            f"No layer was retrained with fresh seeds yet. The search measured the most for birth {leader.birth}: "
            f"{difference} against {run.config.baseline} with its own seed, partly by luck."
        )
        return
    best = next(iter(run.candidate_rows(run.top(1))))
    if best.difference is not None:
        yield (
            f"No layer was retrained with fresh seeds yet. The best so far is birth {best.birth}: "
            f"{best.unit.amount(best.difference)} {best.unit.of_differences} against {run.config.baseline} with "
            f"{counted(best.seeds or 1, 'seed')}. The best of many short trainings is partly a lucky one."
        )


def _what(config: Config) -> str:
    """The unit of advantages, with what it is of."""
    unit, by_loss = config.units.mean, config.judged_by == "loss"
    if unit is Unit.BITS:
        return f"{unit} of the training loss" if by_loss else unit
    return f"points of {'exp(-loss)' if by_loss else unit}"


def _searched(run: Run) -> Iterator[str]:
    config = run.config
    space, recipe = config.space, config.recipe
    used = [(each, "byte" if isinstance(each, Corpus) else "image") for each in config.protocol.used_data]
    trained = " and ".join(f"{counted(each.train, what)} of {each.source}" for each, what in used)
    validated = " and ".join(counted(each.validation, f"validation {what}") for each, what in used)
    networks = ", ".join(f"{name} ({proxy.architecture})" for name, proxy in config.proxies.items())
    yield (
        f"It searched graphs of up to {counted(space.nodes, 'node')}. Each was trained for "
        f"{counted(recipe.steps, 'step')} on {trained} in {networks}, and judged on {validated}."
    )
    if longer := lengths(config):
        yield longer
    if config.evolution.random_share == 1.0:
        yield "Every candidate was drawn at random: a random search."


def _counts(run: Run, states: Mapping[str, int], survey: Survey) -> Iterator[str]:
    births, births_wanted = sum(states.values()), run.config.evolution.births
    wanted, inherited = "" if births == births_wanted else f" of {births_wanted}", survey.funnel.inherited
    parts = [
        f"{states.get(State.EVALUATED, 0)} with a fitness",
        f"{states.get(State.REJECTED, 0)} stopped by a gate",
        *([f"{states[State.CRASHED]} crashed"] if states.get(State.CRASHED) else []),
        *([f"{states[State.PENDING]} without an outcome yet"] if states.get(State.PENDING) else []),
    ]
    took = f" {counted(inherited, 'outcome')} came from an equal candidate." if inherited else ""
    yield f"{counted(births, 'candidate')}{wanted}: {', '.join(parts)}.{took}"


def _cost(survey: Survey) -> Iterator[str]:
    if survey.lasted:
        busy = survey.spent / survey.lasted
        yield (
            f"It took {duration(survey.lasted)} from its begin to the last outcome, and {duration(survey.spent)} of "
            f"workers: {busy:.1f} were busy on average."
        )
    if survey.conditions:
        yield f"Machine: {'; '.join(survey.conditions)}."


def begun(created: float) -> str:
    """The day on which a run began, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(created))
