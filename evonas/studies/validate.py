"""After a search: what was chosen, judged on the test images. Nothing else opens them."""

from collections.abc import Sequence
from pathlib import Path

from evonas.cluster import open_pool
from evonas.driver import check_images
from evonas.final import Contender, FinalRow, Progress, baselines, final_table, fresh_seeds, quiet, retrain, table
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.session import Session, stop_signals
from evonas.store.database import Database
from evonas.store.records import Event, Purpose


def validate(
    run: str | Path, births: Sequence[int] = (), *, seeds: int = 3, on_progress: Progress = quiet
) -> list[FinalRow]:
    """Train candidates of a finished search, BN-ReLU and the baselines that its config names on the training images,
    with seeds that neither the search nor its final table used, and answer their accuracies on the test images.

    Only these figures say how good a layer is on images that chose nothing; so `births` is by default the best of the
    final table alone: who picks among several by their test accuracy has none left. What was trained before is not
    trained again. Raises InputError while the search is not finished, and Stopped as `search` does.
    """
    database = Database.open(run)
    reader = database.reader()
    if not reader.finished:
        raise InputError(f"{reader.name}: the search has not ended; until it has, its test images stay sealed")
    judged = births or [row.birth for row in final_table(reader) if row.birth and row.difference is not None][:1]
    if not judged:
        raise InputError(f"{reader.name}: the search chose no candidate; name one by its birth")
    mine = [Contender(birth, None, Graph.parse(reader.candidate(birth).graph)) for birth in dict.fromkeys(judged)]
    check_images(reader)
    first = fresh_seeds(reader.config).stop
    trained, fresh = [*mine, *baselines(reader.config)], range(first, first + seeds)
    store = database.own(Event.VALIDATING)
    try:
        with open_pool(reader.config) as pool, stop_signals() as should_stop:
            session = Session(pool, store, should_stop)
            retrain(session, reader, Purpose.VALIDATE, trained, fresh, on_progress, judged_on="test")
    finally:
        store.close()
    trained_births = {each.birth for each in trained}
    return table(
        reader, [e for e in reader.evaluations(Purpose.VALIDATE) if e.birth in trained_births and e.seed in fresh]
    )
