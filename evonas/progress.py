"""What a search tells while it runs, and the bar that `evonas.search` shows to a person in Python."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evonas.config import Config
from evonas.history import History

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclass
class Watcher:
    """Told of a search while it runs; the command line's display is one."""

    history: History | None = None

    def started(self, config: Config, reference: str, history: History, workers: int) -> None:
        self.history = history

    def progress(self, history: History) -> None:
        pass

    def reranked(self, done: int, total: int) -> None:
        pass

    def ended(self) -> None:
        pass


class ProgressBar(Watcher):
    """A bar of births, then one of retrainings; where neither a terminal nor a notebook would show it, nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._retrains = False

    def started(self, config: Config, reference: str, history: History, workers: int) -> None:
        super().started(config, reference, history, workers)
        self._open(config.name, config.evolution.births, "birth")
        self.progress(history)

    def progress(self, history: History) -> None:
        if self._bar is not None and not self._retrains:
            best = "" if history.best is None else f", best {history.best.advantage * 100:+.1f} points"
            self._bar.set_postfix_str(f"{history.survivors - history.inherited} trained{best}", refresh=False)
            self._bar.update(history.outcomes - self._bar.n)

    def reranked(self, done: int, total: int) -> None:
        if not self._retrains:
            self._retrains = True
            self._open("final table", total, "training")
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def ended(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _open(self, name: str, total: int, unit: str) -> None:
        self.ended()
        if sys.stderr.isatty() or "ipykernel" in sys.modules:
            from tqdm.auto import tqdm

            self._bar = tqdm(desc=name, total=total, unit=unit)
