"""The figures of candidates over the search's seeds, and the order in which layers are listed.

The maximum of hundreds of accuracies with one seed is a lucky one. So the layers of the final table come first, by
their figures with fresh seeds; then those that the search measured with several seeds, by their means; then those that
it measured once. A layer that failed with one of its seeds comes last.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import inf, sqrt
from statistics import fmean

from evonas.config import Config
from evonas.retraining import BySeed, accuracy_of, figures
from evonas.store.criteria import Criteria
from evonas.store.reader import Reader
from evonas.store.records import Figures, Measured, Purpose, Record, Trained
from evonas.workers.outcome import Fitness

Again = Mapping[int, Sequence[Measured]]  # leaders -> what each seed gave


def ranked(
    reader: Reader, retrained: Mapping[int, Figures], again: Again, by: str | None, criteria: Criteria
) -> Iterator[tuple[int, str]]:
    """Births and families of the survivors that meet the criteria, in the order in which they are listed.

    Args:
        retrained: figures of the final table, by birth.
        again: the leaders that the search measured with several seeds.
        by: rank by the accuracy on this proxy; by default by the difference to BN-ReLU with fresh seeds, else by what
            the search maximised.
    """
    several = {birth: _figures(reader.config, _by_seed(each), {}) for birth, each in again.items()} | dict(retrained)
    matching = {
        birth: family
        for birth, family in reader.matching(several, criteria.without_accuracies).items()
        if all(several[birth].mean_on(proxy) >= least for proxy, least in criteria.minimum.items())
    }

    def key(birth: int) -> tuple[bool, float, int]:
        if by is not None:
            value = several[birth].mean_on(by)
        elif birth in retrained:
            gain = retrained[birth].gain
            value = -inf if gain is None else gain
        else:
            value = fmean(each.advantage or 0.0 for each in again[birth])
        return birth not in retrained, -value, birth

    failed = {birth for birth in matching if several[birth].failed}
    yield from ((birth, matching[birth]) for birth in sorted(matching.keys() - failed, key=key))
    yield from ((birth, family) for birth, family in reader.ranked(by, criteria) if birth not in several)
    yield from ((birth, matching[birth]) for birth in sorted(failed, key=key))


def with_figures(reader: Reader, records: Sequence[Record], again: Again) -> list[Record]:
    """Records whose survivors have their figures over the seeds that the search trained them with."""
    baseline, several = baseline_by_seed(reader), dict[int, BySeed]()
    if reader.config.recipe.seeds > 1:
        births = {each.birth: [m.birth for m in again.get(each.birth, ())] or [each.birth] for each in records}
        trained = {each.birth: each for each in reader.trained_in_search(list(chain(*births.values())))}
        several = {
            birth: dict(pair for mine in of if mine in trained for pair in seeds_of(trained[mine], reader).items())
            for birth, of in births.items()
        }
    known: dict[int, BySeed] = {birth: _by_seed(each) for birth, each in again.items()}
    return [_with_figures(each, several.get(each.birth) or known.get(each.birth), baseline, reader) for each in records]


def _with_figures(record: Record, by_seed: BySeed | None, baseline: BySeed, reader: Reader) -> Record:
    if not record.accuracy or record.seed is None:
        return record
    mine = _figures(reader.config, by_seed or {record.seed: record.accuracy}, baseline)
    if mine.seeds < reader.config.recipe.seeds:  # without curves a mean counts them all
        seeds = reader.config.recipe.seeds
        mine = replace(mine, seeds=seeds, paired=seeds if mine.paired else 0)
    if mine.difference is None and not mine.failed:  # no BN-ReLU of its seed: an inherited or an older outcome
        if reader.config.judged_by == "accuracy":
            mine = _against(mine, record.advantage, advantage_read(record, reader.config), mine.seeds)
        elif reader.config.seed in baseline:
            single = figures({reader.config.seed: record.accuracy}, baseline, reader.config.units)
            mine = _against(mine, single.difference, single.shown.difference, mine.seeds if single.paired else 0)
    return replace(record, in_search=mine)


def _figures(config: Config, by_seed: BySeed, baseline: BySeed) -> Figures:
    """Figures over the search's seeds. Those on the proxies are of the longest trainings: two lengths have no mean."""
    longest = {seed: by_seed[seed] for seed in config.longest_seeds(by_seed)}
    found, long = (figures(each, baseline, config.units) for each in (by_seed, longest))
    in_bits = found.in_bits and replace(found.in_bits, values=long.shown.values)
    return replace(found, accuracy=long.accuracy, in_bits=in_bits)


def _against(mine: Figures, difference: float | None, shown: float | None, paired: int) -> Figures:
    """Figures with another difference to BN-ReLU."""
    in_bits = mine.in_bits and replace(mine.in_bits, difference=shown)
    return replace(mine, difference=difference, paired=paired, in_bits=in_bits)


def advantage_read(record: Record, config: Config) -> float | None:
    """The advantage of a candidate as people read it: a difference to BN-ReLU in what the search maximises."""
    if record.advantage is None or not isinstance(record.outcome, Fitness):
        return record.advantage
    return config.units.mean.difference_of(record.outcome.mean_score(config.judged_by), record.advantage)


def gain_read(record: Record, config: Config) -> float | None:
    """The same, but more is better."""
    difference = advantage_read(record, config)
    return None if difference is None else config.units.mean.gain(difference)


def seed_noise(reader: Reader, final: Iterable[Figures], again: Again) -> tuple[float, int] | None:
    """The standard deviation over seeds of one layer's difference to BN-ReLU, as people read it, pooled over the layers
    that have several seeds, and their number; None without any."""
    baseline, units = baseline_by_seed(reader), reader.config.units
    measured = [*final, *(figures(_by_seed(each), baseline, units) for each in again.values())]
    deviations = [(each.seeds - 1, each.shown.difference_spread) for each in measured]
    spreads = [(count, deviation) for count, deviation in deviations if deviation is not None]
    freedom = sum(count for count, _ in spreads)
    return (sqrt(sum(count * spread**2 for count, spread in spreads) / freedom), len(spreads)) if freedom else None


def baseline_by_seed(reader: Reader) -> BySeed:
    """BN-ReLU's accuracies with each seed of the search; empty before it is trained."""
    by_seed: dict[int, dict[str, float] | None] = {}
    for each in reader.evaluations(Purpose.BASELINE):
        by_seed |= seeds_of(each, reader)
    return by_seed


def seeds_of(trained: Trained, reader: Reader) -> BySeed:
    """The accuracies at the end of one evaluation, with each of the recipe's seeds."""
    recipe, accuracy = reader.config.recipe, accuracy_of(trained.evaluation.outcome)
    if recipe.seeds == 1 or accuracy is None:
        return {trained.seed: accuracy}
    by_seed: dict[int, dict[str, float]] = {}
    points = trained.evaluation.points
    last = max((point.step for point in points), default=0)
    for point in points:
        if point.step == last:
            by_seed.setdefault(trained.seed + point.repeat, {})[point.proxy] = point.accuracy
    whole = {seed: each for seed, each in by_seed.items() if each.keys() == accuracy.keys()}
    return dict(whole) if len(whole) == recipe.seeds else {trained.seed: accuracy}  # an inherited one has no curves


def _by_seed(measured: Sequence[Measured]) -> BySeed:
    return {each.seed: each.accuracy or None for each in measured}
