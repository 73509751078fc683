"""Trainings beside the search: BN-ReLU's own, and those without gates and with several seeds.

The final table, `validate`, `evaluate` and `noise` are made of the latter.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from evonas.config import Config
from evonas.history import History
from evonas.intervals import spread
from evonas.search_space.catalog import LAYERS
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.errors import InputError
from evonas.search_space.graph import Graph
from evonas.search_space.wording import counted
from evonas.session import Session, Ticket
from evonas.shared import further_seed
from evonas.store.reader import Reader
from evonas.store.records import Figures, Purpose
from evonas.units import Figure, Shown, Units
from evonas.workers.outcome import Crash, Evaluation, Fitness, Outcome, Rejection
from evonas.workers.protocol import Job, JudgedOn, Protocol
from evonas.workers.trial import try_networks

Progress = Callable[[int, int], None]  # (trainings done, their total)
SEEDS_MAX = 1000  # of a study
BySeed = Mapping[int, dict[str, float] | None]  # seed -> proxy -> fitness; None if the training failed
TRIES = 2  # attempts at an evaluation that crashes


def quiet(done: int, total: int) -> None:
    pass


def try_own_networks(config: Config) -> list[str]:
    """Try the networks of a user's own before anything is trained, and return their names. Raises InputError where one
    fails, and where its channels do not fit `groups`."""
    sites = try_networks(config.protocol)
    for proxy, channels in sites.items():
        config.check_groups(proxy, channels)
    return list(sites)


def train_baseline(session: Session, reader: Reader, history: History) -> None:
    """Train BN-ReLU before the search: under the protocol; with the further seeds of leaders; and with fresh seeds for
    its spread. What the store holds is not trained again. Raises InputError where the protocol rejects BN-ReLU, and
    Stopped."""
    evaluate_baseline(session, history, Purpose.BASELINE)
    train_for_leaders(session, reader, history)
    config = reader.config
    retrain(session, reader, Purpose.RERANK, baselines(config)[:1], fresh_seeds(config))


def train_for_leaders(session: Session, reader: Reader, history: History) -> None:
    """Train BN-ReLU with each seed with which leaders are measured again: there they are compared with it. A seed with
    which it fails compares nobody, and so does none in a run that an older version began. Raises InputError where it
    fails with more steps than the search's, for then nothing compares."""
    config = reader.config
    if history.births:  # earlier means were not compared
        return
    trained = {each.seed for each in reader.evaluations(Purpose.BASELINE)}
    seeds = [further_seed(config, number) for number in range(1, config.evolution.seeds_of_leaders)]
    protocol, graph = config.leaders_protocol.ungated(), LAYERS[config.baseline].text
    jobs = [Job(graph=graph, protocol=protocol, seed=seed) for seed in seeds if seed not in trained]
    for ticket, evaluation in train(session, [Ticket(job, Purpose.BASELINE, name=config.baseline) for job in jobs]):
        if isinstance(evaluation.outcome, Fitness):
            history.baselines[ticket.job.seed] = evaluation.outcome
    if config.trains_leaders_longer and not history.baselines.keys() >= set(seeds):
        steps = counted(protocol.recipe.steps, "step")
        raise InputError(f"evolution.remeasure.steps: {config.baseline} fails with {steps}")


def evaluate_baseline(session: Session, history: History, purpose: Purpose | None = None) -> None:
    """Train BN-ReLU under the protocol, unless `history` has it. Raises InputError where the protocol rejects it."""
    if history.baseline:
        return
    config = history.config
    job = Job(graph=LAYERS[config.baseline].text, protocol=config.protocol, seed=config.seed)
    session.submit(Ticket(job, purpose, name=config.baseline))
    ticket, evaluation = session.next()
    match evaluation.outcome:
        case Fitness():
            session.record(ticket, evaluation)
            history.set_baseline(evaluation)
        case Rejection(gate, proxy, value, threshold):
            raise InputError(
                f"the protocol rejects {config.baseline}: {gate} on {proxy} measured {value:g}, threshold {threshold:g}"
            )
        case Crash(kind, message):
            raise InputError(f"{config.baseline} cannot be trained: {kind}: {message}")


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate with its birth, or a baseline with its name (the catalog's, or its formula)."""

    birth: int | None
    name: str | None
    graph: Graph


def baselines(config: Config) -> list[Contender]:
    """BN-ReLU, and the baselines that the config names."""
    names = dict.fromkeys((config.baseline, *config.evolution.rerank.baselines))
    return [Contender(None, name, named_graph(name).graph) for name in names]


def fresh_seeds(config: Config, count: int | None = None) -> range:
    """`count` seeds that the search did not use; by default as many as the final table takes."""
    first = config.seed + config.recipe.seeds
    return range(first, first + (config.evolution.rerank.seeds if count is None else count))


def ungated(config: Config) -> Protocol:
    """The protocol of studies: without gates, and with one seed an evaluation."""
    return config.protocol.ungated(seeds=1)


def train(session: Session, tickets: Iterable[Ticket]) -> Iterator[tuple[Ticket, Evaluation]]:
    """Evaluate all tickets, as many at once as the pool accepts; record each beside the search, and yield it when it
    ends. A crash is yielded, tried once more, and yielded again. Raises Stopped."""
    waiting, tries = list(tickets), dict[Ticket, int]()
    while waiting or session.running:
        while waiting and session.has_room:
            session.check_stop()
            session.submit(waiting.pop(0))
        ticket, evaluation = session.next()
        session.record(ticket, evaluation)
        tries[ticket] = tries.get(ticket, 0) + 1
        if isinstance(evaluation.outcome, Crash) and tries[ticket] < TRIES:
            waiting.append(ticket)
        yield ticket, evaluation


def retrain(
    session: Session,
    reader: Reader,
    purpose: Purpose,
    chosen: Sequence[Contender],
    seeds: Sequence[int],
    on_progress: Progress = quiet,
    judged_on: JudgedOn = "validation",
) -> None:
    """Train contenders without gates, unless the store holds their outcomes. Crashes are tried again, and anew at each
    resume. Raises Stopped when the user asks to stop."""
    tickets = missing(reader, purpose, chosen, seeds, judged_on)
    total = len(chosen) * len(seeds)
    ended = total - len(tickets)
    on_progress(ended, total)
    for _, evaluation in train(session, tickets):
        ended += not isinstance(evaluation.outcome, Crash)
        on_progress(ended, total)
    on_progress(total, total)


def missing(
    reader: Reader,
    purpose: Purpose,
    chosen: Sequence[Contender],
    seeds: Sequence[int],
    judged_on: JudgedOn = "validation",
) -> list[Ticket]:
    """The trainings of which the store holds no outcome, or only crashes."""
    protocol = reader.config.final_protocol
    done = {
        (each.birth, each.name, each.seed)
        for each in reader.evaluations(purpose)
        if not isinstance(each.evaluation.outcome, Crash)
    }
    return [
        Ticket(
            Job(graph=str(each.graph), protocol=protocol, seed=seed, judged_on=judged_on),
            purpose,
            each.birth,
            each.name,
        )
        for seed in seeds
        for each in chosen
        if (each.birth, each.name, seed) not in done
    ]


def accuracy_of(outcome: Outcome) -> dict[str, float] | None:
    return outcome.accuracy if isinstance(outcome, Fitness) else None


def figures(by_seed: BySeed, baseline: BySeed, units: Units) -> Figures:
    """Mean and spread of a layer over its seeds, on each proxy and against BN-ReLU with the same seeds."""
    proxies, scores = units.proxies, [each for each in by_seed.values() if each]
    pairs = [(mine, its) for seed, mine in by_seed.items() if mine and (its := baseline.get(seed))]
    complete = len(scores) == len(by_seed) and bool(pairs)
    difference = _spread([fmean(a[p] - b[p] for p in proxies) for a, b in pairs if complete])
    accuracy = {p: _spread([each[p] for each in scores]) for p in proxies}
    shown = None
    if units.in_bits:
        means = [(fmean(a[p] for p in proxies), fmean(b[p] for p in proxies)) for a, b in pairs if complete]
        values = {p: _spread([units.of(p).read(each[p]) for each in scores]) for p in proxies}
        read, deviation = _spread([units.mean.difference(*each) for each in means]) or (None, None)
        shown = Shown(values, read, deviation, units)
    return Figures(
        seeds=len(by_seed),
        failed=len(by_seed) - len(scores),
        accuracy=accuracy,
        difference=difference and difference[0],
        difference_spread=difference and difference[1],
        paired=len(pairs) if complete else 0,
        in_bits=shown,
    )


def _spread(values: Sequence[float]) -> Figure | None:
    return spread(values) if values else None
