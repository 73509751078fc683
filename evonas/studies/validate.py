"""Test accuracy of the chosen candidates of a finished search, under its own protocol or another one's. Nothing else
opens the test images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from evonas.cluster import open_pool
from evonas.config import BASELINE, Config
from evonas.config_input import load_config
from evonas.driver import check_images
from evonas.final import FinalRow, final_table, table
from evonas.known_layers import known_layer
from evonas.layers.resolve import Layers, trainable
from evonas.retraining import SEEDS_MAX, Contender, Progress, fresh_seeds, quiet, retrain
from evonas.retraining import baselines as baselines_of
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError, texts, whole
from evonas.session import Session, recording, stop_signals
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Event, Purpose
from evonas.studies.results import Row
from evonas.studies.trainings import complete, lost, on_test_images, validation_file
from evonas.studies.validation import Validation, compare_layers
from evonas.workers.data import has_test_images_of

COUNT_MAX = 10**9  # of a batch, and of the final table's best

Source = Config | Mapping[str, Any] | str | Path


@overload
def validate(
    run: str | Path,
    births: int | Sequence[int] = (),
    *,
    top: int | None = None,
    seeds: int = 3,
    on_progress: Progress = quiet,
) -> list[FinalRow]: ...


@overload
def validate(
    run: str | Path,
    births: int | Sequence[int] = (),
    *,
    on: Source,
    top: int | None = None,
    settings: Sequence[str] = (),
    baselines: Layers = (),
    batch_sizes: int | Sequence[int] = (),
    seeds: int = 3,
    out: str | Path | None = None,
    on_progress: Progress = quiet,
) -> Validation: ...


def validate(
    run: str | Path,
    births: int | Sequence[int] = (),
    *,
    on: Source | None = None,
    top: int | None = None,
    settings: Sequence[str] = (),
    baselines: Layers = (),
    batch_sizes: int | Sequence[int] = (),
    seeds: int = 3,
    out: str | Path | None = None,
    on_progress: Progress = quiet,
) -> list[FinalRow] | Validation:
    """Train candidates of a finished search on training images, and judge them on the test images.

    BN-ReLU and the baselines of the search are trained, too. By default the best candidate of the final table is judged
    alone: choosing among several by their test accuracy would spoil the test. Earlier trainings are not repeated.

    Without `on` the search's own protocol trains, with seeds that are new to the search and to its final table, and the
    run records them. With `on` another config's data, recipe and proxies do, without its gates, and accuracies are
    paired with each baseline's. Its seeds are those after the config's own; weights and batches are new with any seed,
    since the proxies' names, which a search draws them by, are not used (as in `fidelity`). The run is only read.

    Args:
        births: the candidates.
        on: a config: other networks, other data, more steps. Its workers train. Its test images must be none that the
            search trained or validated with.
        top: judge so many of the final table's best, instead of `births`.
        settings: overrides of `on`, such as "recipe.steps=1500".
        baselines: further ones: graphs, texts, names of the catalog, records, or RUN#BIRTH.
        batch_sizes: repeat everything at each of these; by default at the config's. The rate stays as it is.
        seeds: trainings of a layer on each proxy.
        out: a file that keeps each training with `on`; a later call trains what is missing.
        on_progress: called with the trainings done and their total.

    Raises InputError for bad input, and while the search is not finished; Stopped as `search` does.

    >>> evonas.validate("results/quickstart-000")
    >>> evonas.validate("results/cifar10-000", top=5, on="fashion-validation.yaml", seeds=5, out="validation.jsonl")
    """
    seeds = whole("seeds", seeds, 1, SEEDS_MAX)
    database = Database.open(run)
    reader = database.reader()
    if not reader.finished:
        raise InputError(f"{reader.name}: the search has not ended; its test images stay closed until then")
    candidates = _chosen(reader, births, top)
    if on is None:
        for name, given in (
            ("settings", settings),
            ("baselines", baselines),
            ("batch_sizes", batch_sizes),
            ("out", out),
        ):
            if given not in ((), [], None):
                raise InputError(f"{name}: given without `on`, the config that they are for")
        return _under_its_protocol(database, reader, candidates, seeds, on_progress)
    sizes = batch_sizes if isinstance(batch_sizes, Sequence) else [batch_sizes]
    configs = _configs(on, settings, sizes)
    further = [Contender(None, each.name, each.graph) for each in trainable(baselines)]
    return _elsewhere(reader, candidates, further, configs, seeds, out, on_progress)


def _chosen(reader: Reader, births: int | Sequence[int], top: int | None) -> list[Contender]:
    """The candidates of these births; without any, the best of the final table."""
    asked = births if isinstance(births, Sequence) else [births]
    if asked and top is not None:
        raise InputError("births: expected none beside top")
    count = 1 if top is None else whole("top", top, 1, COUNT_MAX)
    best = [row.birth for row in final_table(reader) if row.birth and row.difference is not None][:count]
    if not (asked or best):
        raise InputError(f"{reader.name}: the search chose no candidate; name one by its birth")
    return [Contender(birth, None, reader.graph(birth)) for birth in dict.fromkeys(asked or best)]


def _under_its_protocol(
    database: Database, reader: Reader, candidates: list[Contender], seeds: int, on_progress: Progress
) -> list[FinalRow]:
    check_images(reader)
    first = fresh_seeds(reader.config).stop
    contenders, fresh = [*candidates, *baselines_of(reader.config)], range(first, first + seeds)
    store = database.own(Event.VALIDATING)
    with recording(store), open_pool(reader.config) as pool, stop_signals() as should_stop:
        session = Session(pool, store, should_stop)
        retrain(session, reader, Purpose.VALIDATE, contenders, fresh, on_progress, judged_on="test")
    judged = {each.birth for each in contenders}
    return table(reader, [e for e in reader.evaluations(Purpose.VALIDATE) if e.birth in judged and e.seed in fresh])


def _elsewhere(
    reader: Reader,
    candidates: list[Contender],
    further: list[Contender],
    configs: list[Config],
    seeds: int,
    out: str | Path | None,
    on_progress: Progress,
) -> Validation:
    first = configs[0]
    if has_test_images_of(first.data, reader.config.data):
        raise InputError(
            f"{first.name}: its test images are among those that {reader.name} trained or validated with; "
            "expected other data, or the split of that search"
        )
    known = {str(each.name): each for each in [*baselines_of(reader.config), *further]}
    contenders = {
        each: NamedGraph(each.name or each.graph.formula, each.graph) for each in [*candidates, *known.values()]
    }
    wanted = {
        (seed, config.recipe.batch_size, contender): list(on_test_images(config, layer, seed))
        for seed in fresh_seeds(first, seeds)
        for config in configs
        for contender, layer in contenders.items()
    }
    trainings = [each for several in wanted.values() for each in several]
    file = validation_file(out) if out is not None else None
    rows, crashed = complete(trainings, file, first, open_pool, on_progress)
    gone = lost(trainings, crashed)
    judged = [each for each, layer in contenders.items() if layer.name not in gone]
    if BASELINE in gone or not any(each.birth for each in judged):
        name = BASELINE if BASELINE in gone else next(iter(gone))
        raise InputError(f"{name} could not be trained: {gone[name]}")
    trained: dict[tuple[Contender, int], dict[tuple[int, str], Row]] = {}
    for (seed, batch_size, contender), several in wanted.items():
        if contender in judged:
            trained.setdefault((contender, batch_size), {}).update({(seed, each.proxy): rows[each] for each in several})
    repeated = {each: known_layer(reader, reader.candidate(each.birth)) for each in judged if each.birth}
    return compare_layers(trained, repeated, gone)


def _configs(on: Source, settings: Sequence[str], batch_sizes: Sequence[int]) -> list[Config]:
    """The config at each batch size."""
    given = texts("settings", settings)
    sizes = dict.fromkeys(whole("batch_sizes", each, 1, COUNT_MAX) for each in batch_sizes)
    return [load_config(on, [*given, f"recipe.batch_size={size}"]) for size in sizes] or [load_config(on, given)]
