"""evonas status: how far a run is, once or until it ends."""

import shlex
import time
from collections.abc import Callable

import click

from evonas.cli.formats import print_json
from evonas.cli.layers import seeds_of
from evonas.cli.options import JSON, RUN, watch_option
from evonas.cli.tables import duration, say, terminal
from evonas.search_space.errors import InputError
from evonas.search_space.wording import counted
from evonas.workers.outcome import CrashKind


@click.command()
@RUN
@JSON
@watch_option("Show it until the run ends; a look every second, or as many SECONDS.")
def status(run: str, as_json: bool, watch: float | None) -> int:
    """Show how far RUN (a folder, a .db file, or URL#run) is: counts by state and gate, pace and time left.

    A run that was stopped, or whose driver was killed ("dead"), says how to go on. --watch shows what `evonas search`
    shows, of a run that another process drives, and ends with it: with exit code 1 where the run is not finished.

    \b
    Example: evonas status results/quickstart-000
             evonas status results/quickstart-000 --watch
    """
    if watch is None:
        print_status(run, as_json=as_json)
        return 0
    if as_json:
        raise InputError("--watch: takes no --json")
    return watch_run(run, watch)


def watch_run(run: str, every: float, sleep: Callable[[float], None] = time.sleep) -> int:
    """Show a run until nobody drives it; the exit code is 1 where it is not finished."""
    from evonas.cli.monitor import Monitor
    from evonas.run import open_run

    monitor, opened = Monitor(every=every), open_run(run)
    monitor.start()
    try:
        monitor.follow(opened)
        while monitor.view and monitor.view.is_running:
            sleep(every)
            monitor.look()
    finally:
        monitor.stop()
    status = opened.status()
    if status.finished:
        return 0
    _say_how_to_resume(run, status.state)
    return 1


def print_status(run: str, *, as_json: bool) -> None:
    from evonas.run import open_run
    from evonas.store.records import State, columns

    opened = open_run(run)
    progress = opened.status()
    if as_json:
        surrogate = progress.surrogate
        print_json(columns(progress) | {"surrogate": surrogate.figures() if surrogate else None})
        return
    # All is read before the first line is printed.
    best = opened.candidate_rows(opened.top(1)) if progress.finished else []
    console = terminal()
    wanted = counted(progress.births_wanted, "birth")
    say(console, f"{progress.run}: {progress.births} of {wanted}", style="bold")
    counts: dict[str, int] = {}
    names = [gate.gate for gate in opened.config.gates]
    for state, count in sorted(progress.by_state.items()):
        counts[state] = count
        if state in (State.REJECTED, State.CRASHED):
            mine = [name for name in progress.by_gate if (name in list(CrashKind)) == (state == State.CRASHED)]
            mine.sort(key=lambda name: (names.index(name) if name in names else len(names), name))
            counts |= {f"  by {name}": progress.by_gate[name] for name in mine}
    width, digits = max(map(len, counts), default=0), len(str(max(counts.values(), default=0)))
    for name, count in counts.items():
        console.print(f"{name:{width}}  {count:{digits}}")
    if progress.surrogate:
        say(console, progress.surrogate.text)
    if progress.retrained:
        say(console, f"{counted(progress.retrained, 'training')} for the final table")
    if progress.finished:
        say(console, "finished")
        for row in best:
            seeds = seeds_of(row) + ("" if row.is_fresh else " in the search")
            say(console, f"best: birth {row.birth}, {row.against} with {seeds}")
    elif progress.state.resumable:
        _say_how_to_resume(run, progress.state)
    elif progress.seconds_left is None:
        say(console, "no outcome yet since the last start")
    else:
        rate = progress.outcomes_per_second  # None of a single outcome
        pace = "" if rate is None else f"{rate:.2f} outcomes a second; "
        say(console, f"{pace}about {duration(progress.seconds_left)} left")


def _say_how_to_resume(run: str, state: str) -> None:
    terminal().print(f"{state}; go on with: evonas resume {shlex.quote(run)}", soft_wrap=True)
