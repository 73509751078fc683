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
    """A bar of births, then one of the retrainings, in a terminal or a notebook."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None

    def started(self, config: Config, reference: str, history: History, workers: int) -> None:
        super().started(config, reference, history, workers)
        self._open(config.name, config.evolution.births, history.outcomes)

    def progress(self, history: History) -> None:
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(self._best(history), refresh=False)
            self._bar.update(history.outcomes - self._bar.n)

    def reranked(self, done: int, total: int) -> None:
        if self._bar is None or self._bar.total != total or self._bar.unit != "training":
            self._open("final table", total, done, "training")
        assert self._bar is not None
        self._bar.update(done - self._bar.n)

    def ended(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _open(self, name: str, total: int, done: int, unit: str = "birth") -> None:
        from tqdm.auto import tqdm

        self.ended()
        is_seen = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._bar = tqdm(desc=name, total=total, initial=done, unit=unit, disable=not is_seen)

    def _best(self, history: History) -> str:
        trained = history.survivors - history.inherited
        best = "" if history.best is None else f", best {history.best.advantage * 100:+.1f} points"
        return f"{trained} trained{best}"
