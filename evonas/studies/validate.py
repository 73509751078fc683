"""Test accuracy of the chosen candidates of a finished search, under its own protocol or another one's. Nothing else
opens the test images."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import overload

from evonas.cluster import open_pool
from evonas.config import Config
from evonas.config_input import load_config
from evonas.driver import check_images
from evonas.final import FinalRow, final_table, table
from evonas.known_layers import known_layer
from evonas.layers.resolve import Layers, trainable
from evonas.retraining import SEEDS_MAX, Contender, Progress, fresh_seeds, quiet, retrain
from evonas.retraining import baselines as baselines_of
from evonas.search_space.catalog.named import NamedGraph
from evonas.search_space.errors import InputError, short, whole
from evonas.session import Session, recording, stop_signals
from evonas.store.database import Database
from evonas.store.reader import Reader
from evonas.store.records import Event, Purpose
from evonas.studies.in_run import InRun
from evonas.studies.results import Row
from evonas.studies.trainings import Kept, complete, lost, on_test_images, validation_file
from evonas.studies.validation import Validation, compare_layers
from evonas.studies.validation_config import Source, validation_config
from evonas.workers.data import has_test_part_of

COUNT_MAX = 10**9  # of a batch, and of the final table's best


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
    on: Source | None = None,
    data: str | None = None,
    architectures: str | Sequence[str] = (),
    steps: int | None = None,
    batch_sizes: int | Sequence[int] = (),
    settings: Sequence[str] = (),
    baselines: Layers = (),
    top: int | None = None,
    seeds: int = 3,
    out: str | Path | None = None,
    from_files: str | Path | Sequence[str | Path] = (),
    on_progress: Progress = quiet,
) -> Validation: ...


def validate(
    run: str | Path,
    births: int | Sequence[int] = (),
    *,
    on: Source | None = None,
    data: str | None = None,
    architectures: str | Sequence[str] = (),
    steps: int | None = None,
    batch_sizes: int | Sequence[int] = (),
    settings: Sequence[str] = (),
    baselines: Layers = (),
    top: int | None = None,
    seeds: int = 3,
    out: str | Path | None = None,
    from_files: str | Path | Sequence[str | Path] = (),
    on_progress: Progress = quiet,
) -> list[FinalRow] | Validation:
    """Train candidates of a finished search on training images, and judge them on the test images.

    BN-ReLU and the baselines of the search are trained, too. By default the best candidate of the final table is judged
    alone: choosing among several by their test accuracy would spoil the test. Trainings are recorded in the run, and
    not repeated.

    Without any of the options from `on` to `baselines`, the search's own protocol trains, with seeds that are new to
    the search and to its final table. With one, the data, recipe and proxies that they name do, without gates, and
    accuracies are paired with each baseline's. The seeds are those after the config's own; weights and batches are new
    with any seed, since the proxies' names, which a search draws them by, are not used (as in `fidelity`).

    Args:
        births: the candidates.
        on: a config: other networks, other data, more steps; by default that of the search. Its workers train. Its test
            images must be none that the search trained or validated with.
        data: other images: CIFAR10, CIFAR100, SVHN, FashionMNIST, embedded, a folder of images, or MODULE:NAME. Their
            numbers and their size stay as in the config.
        architectures: other networks: proxies of the config by their names, kinds of networks such as vgg and
            efficientnet with their default sizes, or MODULE:NAME.
        steps: of each training.
        batch_sizes: repeat everything at each of these; by default at the config's. The rate stays as it is.
        settings: overrides of the config that results, such as "data.train=45000" or "proxies.vgg.width=16".
        baselines: further ones: graphs, texts, names of the catalog, records, or RUN#BIRTH.
        top: judge so many of the final table's best, instead of `births`.
        seeds: trainings of a layer on each proxy.
        out: a file that keeps the trainings in place of the run, which is only read.
        from_files: files that earlier calls made with `out`: what they hold of it is recorded, not trained.
        on_progress: called with the trainings done and their total.

    Raises InputError for bad input, and while the search is not finished; Stopped as `search` does.

    >>> evonas.validate("results/quickstart-000")
    >>> evonas.validate("results/quickstart-000", data="CIFAR10", architectures=["vgg", "efficientnet"], steps=500)
    >>> evonas.validate("results/cifar10-000", top=5, on="fashion-validation.yaml", seeds=5)
    """
    seeds = whole("seeds", seeds, 1, SEEDS_MAX)
    database = Database.open(run)
    reader = database.reader()
    if not reader.finished:
        raise InputError(f"{reader.name}: the search has not ended; its test images stay closed until then")
    candidates = _chosen(reader, births, top)
    if not any(_given(each) for each in (on, data, architectures, steps, batch_sizes, settings, baselines)):
        for name, value in (("out", out), ("from_files", from_files)):
            if _given(value):
                raise InputError(f"{name}: trainings under the search's own protocol are recorded in the run alone")
        return _under_its_protocol(database, reader, candidates, seeds, on_progress)
    config = validation_config(
        reader.config, on, data=data, architectures=architectures, steps=steps, settings=settings
    )
    sizes = batch_sizes if isinstance(batch_sizes, Sequence) else [batch_sizes]
    configs = _at_batch_sizes(config, sizes)
    further = [Contender(None, each.name, each.graph) for each in trainable(baselines)]
    births_of = {each.graph.formula: each.birth for each in candidates if each.birth}
    in_run = InRun(database, reader, Purpose.VALIDATE, births_of)
    rows = _rows_of(from_files)
    if out is None:
        return _elsewhere(reader, candidates, further, configs, seeds, in_run, rows, on_progress)
    return _elsewhere(
        reader, candidates, further, configs, seeds, validation_file(out), [*in_run.rows, *rows], on_progress
    )


def _given(value: object) -> bool:
    return value not in ((), [], "", None)


def _rows_of(files: str | Path | Sequence[str | Path]) -> list[Row]:
    paths = [files] if isinstance(files, str | Path) else files
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{short(str(path))}: no such file")
    return [row for path in paths for row in validation_file(path).rows]


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
    kept: Kept,
    elsewhere: Sequence[Row],
    on_progress: Progress,
) -> Validation:
    first = configs[0]
    pairs = product(first.protocol.used_data, reader.config.protocol.used_data)
    if any(has_test_part_of(judged, searched) for judged, searched in pairs):
        raise InputError(
            f"{first.name}: its test part is among what {reader.name} trained or validated with; "
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
    rows, crashed = complete(trainings, kept, first, open_pool, on_progress, elsewhere)
    gone = lost(trainings, crashed)
    judged = [each for each, layer in contenders.items() if layer.name not in gone]
    baseline = reader.config.baseline
    if baseline in gone or not any(each.birth for each in judged):
        name = baseline if baseline in gone else next(iter(gone))
        raise InputError(f"{name} could not be trained: {gone[name]}")
    trained: dict[tuple[Contender, int], dict[tuple[int, str], Row]] = {}
    for (seed, batch_size, contender), several in wanted.items():
        if contender in judged:
            trained.setdefault((contender, batch_size), {}).update({(seed, each.proxy): rows[each] for each in several})
    repeated = {each: known_layer(reader, reader.candidate(each.birth)) for each in judged if each.birth}
    return compare_layers(trained, repeated, gone, first.units, baseline)


def _at_batch_sizes(config: Config, batch_sizes: Sequence[int]) -> list[Config]:
    """The config at each batch size."""
    sizes = dict.fromkeys(whole("batch_sizes", each, 1, COUNT_MAX) for each in batch_sizes)
    return [load_config(config, [f"recipe.batch_size={size}"]) for size in sizes] or [config]
