"""The next candidate: a pure function of the config, the birth number and the history (arXiv:2004.02967, section 4)."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from evonas.config import Config
from evonas.enumeration import Edited, enumerated
from evonas.evolution_config import Surrogate as SurrogateOptions
from evonas.history import History
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.graph import Graph
from evonas.search_space.mutation import mutate
from evonas.search_space.sampling import pad
from evonas.search_space.screening import Screening
from evonas.selection import Survivor, tournament
from evonas.store.records import Candidate, Operator
from evonas.surrogate import Surrogate
from evonas.workers.gates import screen
from evonas.workers.outcome import Measurement

DRAWS_MAX = 64  # to find a child that no earlier candidate equals


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate as a record and as a graph, and what the screening gates measured of it."""

    candidate: Candidate
    graph: Graph
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graph that was drawn, and its origin."""

    screening: Screening
    operator: str
    parent: int | None = None  # birth
    mate: int | None = None  # birth of the second parent
    parent_fitness: float | None = None

    @property
    def graph(self) -> Graph:
        return self.screening.graph


def propose(config: Config, birth: int, history: History) -> Proposal:
    """The next candidate; the random numbers derive from (seed, birth)."""
    rng = Random(f"{config.seed} {birth}")
    evolution = config.evolution
    again = pool = predicted = None
    if birth <= len(evolution.warm_start):
        drawn = _warm_start(config, birth, rng)
    elif edited := _edited(config, birth):
        graph = pad(edited.graph, config.space.unconstrained, rng)
        drawn = Drawn(Screening(graph), edited.operator, edited.parent)
    elif again := _leader(config, birth, history):
        drawn = Drawn(Screening(_parsed(again.graph)), Operator.AGAIN, again.birth)
    elif evolution.surrogate and history.surrogate and history.surrogate.ready:
        drawn, pool, predicted = _chosen(config, evolution.surrogate, history, history.surrogate, rng)
    else:
        drawn = _draw(config, history, _parent(config, history, rng), rng)
    screening = drawn.screening
    equal_to = again.function if again else None
    if not again and evolution.duplicates != "evaluate":
        equal_to = history.functions.inheritable(screening.probed.fingerprint)
    candidate = Candidate.of(
        screening.graph,
        screening.probed,
        birth,
        seen=history.outcomes,
        operator=drawn.operator,
        parent=drawn.parent,
        equal_to=equal_to,
        amplifications=screening.amplifications,
        second_parent=drawn.mate,
        pool=pool,
        predicted=predicted,
    )
    return Proposal(candidate, screening.graph, screen(config.gates, screening))


def _warm_start(config: Config, birth: int, rng: Random) -> Drawn:
    first = named_graph(config.evolution.warm_start[birth - 1])
    operator = Operator.CATALOG if first.is_known else Operator.TEXT
    return Drawn(Screening(pad(first.graph, config.space.unconstrained, rng)), operator)


def _edited(config: Config, birth: int) -> Edited | None:
    """The single edit that this birth is, of those of `neighbours_of`; None after the last."""
    place = birth - len(config.evolution.warm_start) - 1
    edits = enumerated(config) if config.evolution.neighbours_of else ()
    return edits[place] if place < len(edits) else None


def _leader(config: Config, birth: int, history: History) -> Survivor | None:
    """A leader to measure again, for a share of the trainings; the last births give each leader its seeds."""
    remeasure, leaders = config.evolution.remeasure, history.leaders
    if remeasure is None or leaders is None:
        return None
    is_due = sum(leaders.again.values()) < remeasure.share * history.trained
    if is_due or config.evolution.births - birth < leaders.lacking:
        return leaders.next({each.equal_to for each in history.pending.values() if each.again}, history.front)
    return None


def _chosen(
    config: Config, options: SurrogateOptions, history: History, surrogate: Surrogate, rng: Random
) -> tuple[Drawn, int | None, float]:
    """The child of a parent that the surrogate ranks first in a pool, the pool's size and the fitness it expects; for
    the unranked share the first that was drawn. Children that a screening gate stops are left out, and so are those
    that start to train as an earlier layer does, of which the model expects what it knows; where all do, the first is
    trained. In a pool of the children of several parents those of the best would come first, and the search would stay
    with one family."""
    ranked = rng.random() >= options.unranked
    parent = _parent(config, history, rng)
    drawn = [_draw(config, history, parent, rng) for _ in range(options.pool)]
    passed = {each.graph.digest: each for each in drawn if _passes(config, each)}
    children = list(passed.values()) or drawn[:1]
    expected = surrogate.predict([each.graph for each in children], [each.parent_fitness for each in children])
    order = sorted(range(len(children)), key=expected.__getitem__, reverse=True) if ranked else range(len(children))
    distances = (surrogate.starts.distance(str(children[place].graph)) for place in order)
    first = next((n for n, distance in zip(order, distances, strict=True) if distance >= options.novelty), order[0])
    return children[first], len(children) if ranked else None, expected[first]


def _passes(config: Config, drawn: Drawn) -> bool:
    return all(each.passed for each in screen(config.gates, drawn.screening))


def _parent(config: Config, history: History, rng: Random) -> Survivor | None:
    """A tournament's winner, or a founder; None for a random graph."""
    evolution, members = config.evolution, history.population.members
    if not members or history.survivors < evolution.initial or rng.random() < evolution.random_share:
        return None
    if history.founders.members and rng.random() < evolution.founders_share:
        return rng.choice(history.founders.members)
    return _winner(config, history, rng)


def _winner(config: Config, history: History, rng: Random) -> Survivor:
    evolution, weights = config.evolution, history.entrant_weights()
    return tournament(history.population.members, evolution.tournament_share, evolution.selection, rng, weights)


def _draw(config: Config, history: History, winner: Survivor | None, rng: Random) -> Drawn:
    """A child of a tournament's winner, or a random graph; with `mutate_again` one whose function is new, if one is
    found."""
    evolution = config.evolution
    mate = _winner(config, history, rng) if winner and evolution.operators.get("cross") else None
    parent = base = _parsed(winner.graph) if winner else None
    for draws_left in reversed(range(DRAWS_MAX)):
        screening, operator = _draw_allowed(config, base, _parsed(mate.graph) if mate else None, rng)
        drawn = Drawn(screening, operator)
        if winner:
            second = mate.birth if mate and "cross" in operator else None
            drawn = Drawn(screening, operator, winner.birth, second, winner.fitness)
        if evolution.duplicates != "mutate_again" or not draws_left:
            break
        if parent and drawn.graph.digest == parent.digest:
            base = drawn.graph  # only dead nodes changed: the drift stays; any other known function is drawn anew
        elif drawn.graph.digest not in history.functions:  # a cheap test before the probe
            if screening.probed.fingerprint not in history.functions:
                return drawn
            if winner and screening.probed.fingerprint == winner.fingerprint:
                base = drawn.graph
    return drawn


def _draw_allowed(config: Config, base: Graph | None, mate: Graph | None, rng: Random) -> tuple[Screening, str]:
    """A child of `base`, or without one a random graph, that the constraints allow; and its operator."""
    space, evolution = config.space, config.evolution
    while True:
        if base is None:
            graph, operator = space.draw(rng), str(Operator.RANDOM)
        else:
            graph, edits = mutate(base, space.unconstrained, rng, evolution.mutations, evolution.operators, mate)
            operator = str(Operator.MUTATION) if set(edits) <= {"redraw"} else "+".join(edits)
        screening = Screening(graph)
        if space.allows(screening):
            return screening, operator


@lru_cache(maxsize=4096)
def _parsed(graph: str) -> Graph:
    return Graph.parse(graph)
