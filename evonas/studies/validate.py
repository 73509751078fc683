"""Test accuracy of the chosen candidates of a finished search. Nothing else opens the test images."""

from collections.abc import Sequence
from pathlib import Path

from evonas.cluster import open_pool
from evonas.driver import check_images
from evonas.final import FinalRow, final_table, table
from evonas.retraining import SEEDS_MAX, Contender, Progress, baselines, fresh_seeds, quiet, retrain
from evonas.search_space.errors import InputError, whole
from evonas.session import Session, recording, stop_signals
from evonas.store.database import Database
from evonas.store.records import Event, Purpose


def validate(
    run: str | Path, births: int | Sequence[int] = (), *, seeds: int = 3, on_progress: Progress = quiet
) -> list[FinalRow]:
    """Train candidates of a finished search on the training images, and return their accuracies on the test images.

    BN-ReLU and the baselines of the config are trained, too. The seeds are new to the search and to its final table.
    By default `births` is the best candidate of the final table alone: choosing among several by their test accuracy
    would spoil the test. Earlier trainings are not repeated. Raises InputError while the search is not finished, and
    Stopped as `search` does.
    """
    seeds = whole("seeds", seeds, 1, SEEDS_MAX)
    database = Database.open(run)
    reader = database.reader()
    if not reader.finished:
        raise InputError(f"{reader.name}: the search has not ended; its test images stay closed until then")
    best = [row.birth for row in final_table(reader) if row.birth and row.difference is not None][:1]
    chosen = (births if isinstance(births, Sequence) else [births]) or best
    if not chosen:
        raise InputError(f"{reader.name}: the search chose no candidate; name one by its birth")
    candidates = [Contender(birth, None, reader.graph(birth)) for birth in dict.fromkeys(chosen)]
    check_images(reader)
    first = fresh_seeds(reader.config).stop
    contenders, fresh = [*candidates, *baselines(reader.config)], range(first, first + seeds)
    store = database.own(Event.VALIDATING)
    with recording(store), open_pool(reader.config) as pool, stop_signals() as should_stop:
        session = Session(pool, store, should_stop)
        retrain(session, reader, Purpose.VALIDATE, contenders, fresh, on_progress, judged_on="test")
    judged = {each.birth for each in contenders}
    return table(reader, [e for e in reader.evaluations(Purpose.VALIDATE) if e.birth in judged and e.seed in fresh])
