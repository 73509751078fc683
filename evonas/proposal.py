"""The next candidate: a pure function of the config, the birth number and the history (arXiv:2004.02967, section 4)."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from evonas.config import Config
from evonas.history import History
from evonas.search_space.catalog.named import named_graph
from evonas.search_space.graph import Graph
from evonas.search_space.mutation import mutate
from evonas.search_space.sampling import pad
from evonas.search_space.screening import Screening
from evonas.selection import Survivor, tournament
from evonas.store.records import Candidate, Operator
from evonas.workers.gates import screen
from evonas.workers.outcome import Measurement

DRAWS_MAX = 64  # to find a child that no earlier candidate equals


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate as a record and as a graph, and what the screening gates measured of it."""

    candidate: Candidate
    graph: Graph
    measurements: tuple[Measurement, ...]


def propose(config: Config, birth: int, history: History) -> Proposal:
    """The next candidate; the random numbers derive from (seed, birth)."""
    rng = Random(f"{config.seed} {birth}")
    evolution = config.evolution
    winner: Survivor | None = None
    if birth <= len(evolution.warm_start):
        first = named_graph(evolution.warm_start[birth - 1])
        operator = Operator.CATALOG if first.is_known else Operator.TEXT
        screening = Screening(pad(first.graph, config.space.unconstrained, rng))
    else:
        if history.survivors >= evolution.initial and rng.random() >= evolution.random_share:
            winner = tournament(history.population, evolution.tournament_share, evolution.selection, rng)
        operator = Operator.MUTATION if winner else Operator.RANDOM
        screening = _draw_new(config, winner, history, rng)
    equal_to = (
        None if evolution.duplicates == "evaluate" else history.functions.inheritable(screening.probed.fingerprint)
    )
    parent = winner.birth if winner else None
    candidate = Candidate.of(
        screening.graph,
        screening.probed,
        birth,
        seen=history.outcomes,
        operator=operator,
        parent=parent,
        equal_to=equal_to,
        amplifications=screening.amplifications,
    )
    return Proposal(candidate, screening.graph, screen(config.gates, screening))


def _draw_new(config: Config, winner: Survivor | None, history: History, rng: Random) -> Screening:
    """A mutation of the winner, or a random graph; with `mutate_again` one whose function is new, if one is found."""
    parent = base = _parsed(winner.graph) if winner else None
    for draws_left in reversed(range(DRAWS_MAX)):
        drawn = _draw(config, base, rng)
        graph = drawn.graph
        if config.evolution.duplicates != "mutate_again" or not draws_left:
            break
        if parent and graph.digest == parent.digest:
            base = graph  # only dead nodes changed: the drift stays; any other known function is drawn anew
        elif graph.digest not in history.functions:  # a cheap test before the probe
            if drawn.probed.fingerprint not in history.functions:
                return drawn
            if winner and drawn.probed.fingerprint == winner.fingerprint:
                base = graph
    return drawn


def _draw(config: Config, base: Graph | None, rng: Random) -> Screening:
    """A mutation of `base`, or without one a random graph, that the constraints allow."""
    space = config.space
    while True:
        graph = mutate(base, space.unconstrained, rng, config.evolution.mutations) if base else space.draw(rng)
        screening = Screening(graph)
        if space.allows(screening):
            return screening


@lru_cache(maxsize=4096)
def _parsed(graph: str) -> Graph:
    return Graph.parse(graph)
