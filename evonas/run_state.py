"""The state of a run: whether it is driven, has ended, or waits for a resume."""

from enum import StrEnum

from evonas.store.reader import Reader
from evonas.store.records import OPENING, Event


class RunState(StrEnum):
    """The state of a run."""

    FINISHED = "finished"
    RUNNING = "running"  # a driver owns it
    STOPPED = "stopped"  # by Ctrl-C or SIGTERM
    DEAD = "dead"  # its driver ended without a word: killed, or an error
    OLDER = "older version"  # its database is upgraded when it is opened
    UNREADABLE = "unreadable"

    @property
    def resumable(self) -> bool:
        return self in (RunState.STOPPED, RunState.DEAD)


def run_state(reader: Reader) -> RunState:
    """The state of a run that can be read."""
    if reader.driver() is not None:
        return RunState.RUNNING
    if reader.finished:
        return RunState.FINISHED
    return RunState.STOPPED if reader.last_event((*OPENING, Event.STOPPED)) == Event.STOPPED else RunState.DEAD
